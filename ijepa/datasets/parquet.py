"""Parquet files with an image column, the form of Hugging Face data sets.

``data.path`` is the folder of the files ``train-*.parquet`` and ``test-*.parquet`` or
``validation-*.parquet`` (or ``val``; ``train.parquet`` does too). The image column holds encoded
files, as ``{bytes, path}`` or as plain bytes. Each of ``data.label_columns`` is a task: whole
numbers or texts. Class names come from the Hugging Face schema where it has them, else they are
the sorted values that occur. Of numbered files (``train-00000-of-00003.parquet``) all must be
there. A test split in which no row has a label (-1 or null) is left out where there is a
validation split.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ijepa.datasets import (
    Item,
    LeftOut,
    Source,
    Split,
    _columns,
    _shards,
    hidden,
    left_out,
    unread,
)
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
    """Open the files of a folder and read their labels; images are read when a split is iterated.

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
    files, others = _find(folder, options.path)
    columns = (options.image_column, *options.label_columns)
    counts = {split: sum(_check(path, columns) for path in files[split]) for split in files}
    values = {column: dict(_columns.values(files, column)) for column in options.label_columns}
    unlabelled = []
    if "test" in files and _columns.unlabelled(list(values.values()), "test"):
        if "val" not in files:
            raise ValueError(
                f"data.path: {options.path}: the split test has no label, each is -1 or null, and"
                " there is no validation-*.parquet"
            )
        names = tuple(path.name for path in files.pop("test"))
        what = "rows of the split test, none of which has a label"
        unlabelled = [LeftOut(what, counts.pop("test"), names[:3])]
        for column in values.values():
            del column["test"]
    classes = {column: _columns.classes(column, of) for column, of in values.items()}
    splits = {
        split: Split(
            counts[split], functools.partial(_items, paths, options.image_column, classes)
        )
        for split, paths in files.items()
    }
    listed = {split: [path.name for path in paths] for split, paths in files.items()}
    return Source(
        splits,
        {column: of.names for column, of in classes.items()},
        {"form": "parquet", "path": options.path, "files": listed},
        [folder],
        [*unlabelled, *left_out(others)],
    )


def _find(folder: Path, name: str) -> tuple[dict[str, list[Path]], list[tuple[str, str]]]:
    """The files of each split, train first, in the order of their names; and all others."""
    splits: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    others = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = path.relative_to(folder).as_posix()
        word = re.split(r"[-_.]", path.name)[0].lower()
        if hidden(place) or path.suffix != ".parquet":
            others.append((unread(place), place))
        elif path.parent != folder:
            others.append(("parquet files in folders below", place))
        elif word in _SPLITS:
            splits[_SPLITS[word]].append(path)
        else:
            others.append(("parquet files of no split", place))
    if not splits["train"] or not (splits["val"] or splits["test"]):
        below = (place for what, place in others if what == "parquet files in folders below")
        inside = sorted({str(Path(place).parent) for place in below})
        hint = f"; there are parquet files in its {', '.join(inside[:3])}" if inside else ""
        raise ValueError(
            f"data.path: {name}: {folder} needs train-*.parquet and test-*.parquet or"
            f" validation-*.parquet{hint}"
        )
    for paths in splits.values():
        _shards.check(paths)
    return {split: paths for split, paths in splits.items() if paths}, others


def _check(path: Path, columns: Sequence[str]) -> int:
    """Check the columns of a file and return its number of rows."""
    file, short = _columns.opened(path)
    schema = file.schema_arrow
    for column in columns:
        if column not in schema.names:
            key = "data.image_column" if column == columns[0] else "data.label_columns"
            raise ValueError(f"{key}: {column}: not in {short}; it has {', '.join(schema.names)}")
    kind = schema.field(columns[0]).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        if _all_null(file, f"{columns[0]}.bytes"):
            raise ValueError(
                f"data.image_column: {columns[0]}: in {short} the column holds paths, not images;"
                " write the images into the file"
            )
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        hint = "; paths are not read" if _is_text(kind) else ""
        raise ValueError(
            f"data.image_column: {columns[0]}: {kind} in {short}; encoded images as bytes or as"
            f" {{bytes, path}} are needed{hint}"
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


def _all_null(file: pq.ParquetFile, leaf: str) -> bool:
    """Whether a column has no value at all, as the file's statistics have it."""
    about = file.metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    chunks = [
        chunk
        for group in groups
        for chunk in map(group.column, range(group.num_columns))
        if chunk.path_in_schema == leaf
    ]
    # num_values of a nested column counts its nulls too
    return bool(chunks) and all(
        chunk.statistics is not None and chunk.statistics.null_count == chunk.num_values
        for chunk in chunks
    )


def _items(
    paths: Sequence[Path], image_column: str, classes: Mapping[str, _columns.Classes]
) -> Iterator[Item]:
    for path in paths:
        file, short = _columns.opened(path)
        row = 0
        try:
            for batch in file.iter_batches(_ROWS, columns=[image_column, *classes]):
                images = batch.column(image_column)
                if pa.types.is_struct(images.type):
                    images = images.field("bytes")
                labels = {
                    column: [of.codes[path][value] for value in batch.column(column).to_pylist()]
                    for column, of in classes.items()
                }
                for index, image in enumerate(images):
                    values = {column: labels[column][index] for column in classes}
                    # null: an empty image
                    yield Item(image.as_py() or b"", values, f"{short}: row {row}")
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}: damaged after row {row}: {_columns.line(error)}") from None
