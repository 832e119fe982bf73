"""Parquet files with an image column, the form of Hugging Face data sets.

``data.path`` is the folder of the files ``train-*.parquet`` and ``test-*.parquet`` or
``validation-*.parquet`` (or ``val``; ``train.parquet`` does too). The image column holds encoded
files, as ``{bytes, path}`` or as plain bytes. Each of ``data.label_columns`` is a task: whole
numbers or texts. Class names come from the Hugging Face schema where it has them, else they are
the sorted values that occur.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ijepa.datasets import Item, Source, Split
from ijepa.strict import once, text

_SPLITS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_ROWS = 256  # rows read at once: some tens of megabytes of full-size photographs


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the files are and what their columns mean."""

    path: str = text()  # folder under IJEPA_DATA_ROOT
    image_column: str = text()
    label_columns: tuple[str, ...]


def load(options: Options, root: Path) -> Source:
    """Open the files of a folder.

    Raises:
        ValueError: no such folder, files or columns, or labels that cannot be classes.
    """
    folder = root / options.path
    if not folder.is_dir():
        raise ValueError(f"data.path: {options.path}: no such folder in IJEPA_DATA_ROOT {root}")
    if not options.label_columns or len(set(options.label_columns)) < len(options.label_columns):
        raise ValueError(
            f"data.label_columns: {list(options.label_columns)}: one or more different columns"
        )
    files = _find(folder, options.path)
    columns = (options.image_column, *options.label_columns)
    counts = {split: sum(_check(path, columns) for path in files[split]) for split in files}
    first = _open(files["train"][0])[0]
    tasks, codes = {}, {}
    for column in options.label_columns:
        known = _class_names(first.schema_arrow, column)
        if known:
            tasks[column], codes[column] = known, {index: index for index in range(len(known))}
        else:
            values = _values(files, column)
            tasks[column] = tuple(str(value) for value in values)
            codes[column] = {value: index for index, value in enumerate(values)}
    splits = {
        split: Split(counts[split], functools.partial(_items, paths, options.image_column, codes))
        for split, paths in files.items()
    }
    names = {split: [path.name for path in paths] for split, paths in files.items()}
    return Source(
        splits, tasks, {"form": "parquet", "path": options.path, "files": names}, [folder]
    )


def _find(folder: Path, name: str) -> dict[str, list[Path]]:
    """The files of each split, train first, each split's in the order of their names."""
    splits: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for path in sorted(folder.glob("*.parquet")):
        word = re.split(r"[-_.]", path.name)[0].lower()
        if word in _SPLITS:
            splits[_SPLITS[word]].append(path)
    if not splits["train"] or not (splits["val"] or splits["test"]):
        inside = sorted(
            {str(path.parent.relative_to(folder)) for path in folder.rglob("*.parquet")}
        )
        inside = [place for place in inside if place != "."]
        hint = f"; there are parquet files in its {', '.join(inside[:3])}" if inside else ""
        raise ValueError(
            f"data.path: {name}: {folder} needs train-*.parquet and test-*.parquet or"
            f" validation-*.parquet{hint}"
        )
    return {split: paths for split, paths in splits.items() if paths}


def _open(path: Path) -> tuple[pq.ParquetFile, str]:
    """An opened file, and the short name that messages use."""
    short = f"{path.parent.name}/{path.name}"
    try:
        return pq.ParquetFile(path), short
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a parquet file, or damaged: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _check(path: Path, columns: Sequence[str]) -> int:
    """Check the columns of a file and return its number of rows."""
    file, short = _open(path)
    schema = file.schema_arrow
    for column in columns:
        if column not in schema.names:
            key = "data.image_column" if column == columns[0] else "data.label_columns"
            raise ValueError(f"{key}: {column}: not in {short}; it has {', '.join(schema.names)}")
    kind = schema.field(columns[0]).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ValueError(
            f"data.image_column: {columns[0]}: {kind} in {short}; encoded images as bytes or as"
            " {bytes, path} are needed"
        )
    for column in columns[1:]:
        kind = schema.field(column).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
            raise ValueError(
                f"data.label_columns: {column}: {kind} in {short}; whole numbers or texts"
                " are needed"
            )
    return int(file.metadata.num_rows)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """The names of a Hugging Face ClassLabel, () where the schema has none."""
    if not pa.types.is_integer(schema.field(column).type):
        return ()
    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = described.get("info", {}).get("features", {}).get(column, {})
    return tuple(feature.get("names", ())) if isinstance(feature, dict) else ()


def _values(files: Mapping[str, Sequence[Path]], column: str) -> list[Any]:
    """The sorted values of a label column; the training files must have every one of them."""
    seen: dict[str, set[Any]] = {split: set() for split in files}
    for split, paths in files.items():
        for path in paths:
            file, _ = _open(path)
            for group in range(file.num_row_groups):
                chunk = file.read_row_group(group, columns=[column]).column(column)
                seen[split].update(pc.unique(chunk).to_pylist())
    for split, values in seen.items():
        if None in values:
            raise ValueError(f"data.label_columns: {column}: the split {split} has empty labels")
        if unknown := values - seen["train"]:
            raise ValueError(
                f"data.label_columns: {column}: the split {split} has the class"
                f" {min(unknown)!r}, which the split train has not"
            )
    return sorted(seen["train"])


def _items(
    paths: Sequence[Path], image_column: str, codes: Mapping[str, Mapping[Any, int]]
) -> Iterator[Item]:
    for path in paths:
        file, short = _open(path)
        row = 0
        try:
            for batch in file.iter_batches(_ROWS, columns=[image_column, *codes]):
                images = batch.column(image_column)
                if pa.types.is_struct(images.type):
                    images = images.field("bytes")
                labels = {column: batch.column(column).to_pylist() for column in codes}
                for index, image in enumerate(images):
                    origin = f"{short}: row {row}"
                    values = {
                        column: _code(codes[column], column, labels[column][index], origin)
                        for column in codes
                    }
                    yield Item(image.as_py() or b"", values, origin)  # null: an empty image
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: damaged after row {row}: {_line(error)}") from None


def _code(codes: Mapping[Any, int], column: str, value: Any, origin: str) -> int:
    if value not in codes:
        raise ValueError(
            f"{origin}: the label {column} is {value!r}, not a class from 0 to {len(codes) - 1}"
        )
    return codes[value]
