"""Label columns of parquet files: the classes that they have, and each file's codes for them.

The names of a Hugging Face ``ClassLabel`` come first: files agree by name, so one that lists the
same names in another order keeps its labels' meaning. Without names the classes are the sorted
values that occur.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Values = Mapping[str, Mapping[Path, set[Any]]]  # split -> file -> values of a label column


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a label column.

    Attributes:
        names: of the classes, no two alike.
        codes: for each file, value -> class index.
    """

    names: tuple[str, ...]
    codes: Mapping[Path, Mapping[Any, int]]


def opened(path: Path) -> tuple[pq.ParquetFile, str]:
    """An opened file, and the short name that messages use."""
    try:
        return pq.ParquetFile(path), f"{path.parent.name}/{path.name}"
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a parquet file, or damaged: {line(error)}") from None


def line(error: Exception) -> str:
    """The start of an error's text as one line."""
    return " ".join(str(error).split())[:200]


def values(files: Mapping[str, Sequence[Path]], column: str) -> Values:
    """The values of a label column in every file; no image is read."""
    return {
        split: {path: set(pc.unique(_column(path, column)).to_pylist()) for path in paths}
        for split, paths in files.items()
    }


def _column(path: Path, column: str) -> pa.ChunkedArray:
    file, _ = opened(path)
    try:
        return file.read(columns=[column]).column(column)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: {column}: damaged: {line(error)}") from None


def unlabelled(columns: Sequence[Values], split: str) -> bool:
    """Whether no row of a split has a label: all are null or -1, which no training image is."""
    return all(
        (of := set().union(*column[split].values())) <= {None, -1}
        and not of & set().union(*column["train"].values())
        for column in columns
    )


def classes(column: str, present: Values) -> Classes:
    """The classes of a label column of all files.

    Args:
        column: its name.
        present: its values.

    Raises:
        ValueError: damaged metadata, files that name other classes, a label that is no class, or
            a class that train has not.
    """
    paths = [path for files in present.values() for path in files]
    names = {path: class_names(path, column) for path in paths}
    if not any(names.values()):
        return _of_values(column, present)
    train = next(iter(present["train"]))
    codes = {path: _codes(column, train, names[train], path, names[path]) for path in paths}
    for files in present.values():
        for path, of in files.items():
            if strange := of - set(codes[path]):
                _refuse(path, column, strange, len(names[train]))
    return Classes(_told_apart(names[train]), codes)


def _of_values(column: str, present: Values) -> Classes:
    """Without names: the sorted values of train, which must have those of every other split."""
    of = {split: set().union(*files.values()) for split, files in present.items()}
    for split in of:
        if None in of[split]:
            raise ValueError(f"data.label_columns: {column}: the split {split} has empty labels")
        if unknown := of[split] - of["train"]:
            raise ValueError(
                f"data.label_columns: {column}: the split {split} has the class"
                f" {min(unknown)!r}, which the split train has not"
            )
    ordered = sorted(of["train"])
    codes = {value: index for index, value in enumerate(ordered)}
    names = tuple(str(value) for value in ordered)
    return Classes(names, {path: codes for files in present.values() for path in files})


def _codes(
    column: str, train: Path, wanted: tuple[str, ...], path: Path, names: tuple[str, ...]
) -> dict[Any, int]:
    """Index in the file's list of names -> index in the first training file's."""
    if names == wanted:
        return {index: index for index in range(len(wanted))}
    place = f"{path.parent.name}/{path.name}: {column}"
    if not names or not wanted:
        without = "no class names" if wanted else "class names"
        raise ValueError(f"{place}: has {without}, unlike {train.name}")
    if odd := sorted(set(names) ^ set(wanted)):
        which = f"only here, not in {train.name}" if odd[0] in names else f"only in {train.name}"
        raise ValueError(f"{place}: the class {odd[0]!r} is {which}")
    for listed in (names, wanted):
        name, count = Counter(listed).most_common(1)[0]
        if count > 1:
            raise ValueError(
                f"{place}: not in the order of {train.name}, and {count} classes are named"
                f" {name!r}: which is which cannot be told"
            )
    return {index: wanted.index(name) for index, name in enumerate(names)}


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that occur twice, such as ImageNet's bird and machine "crane", get their numbers."""
    count = Counter(names)
    return tuple(
        f"{name} ({index})" if count[name] > 1 else name for index, name in enumerate(names)
    )


def _refuse(path: Path, column: str, strange: set[Any], count: int) -> None:
    """Name the first row whose label is no class."""
    for row, value in enumerate(_column(path, column).to_pylist()):
        if value in strange:
            raise ValueError(
                f"{path.parent.name}/{path.name}: row {row}: the label {column} is {value!r}, not"
                f" a class from 0 to {count - 1}"
            )


def class_names(path: Path, column: str) -> tuple[str, ...]:
    """The names of a Hugging Face ClassLabel, () where the file has none."""
    file, short = opened(path)
    schema = file.schema_arrow
    if not pa.types.is_integer(schema.field(column).type):
        return ()
    place = f"{short}: its Hugging Face metadata"
    try:
        tree = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError as error:  # not UTF-8 is one too
        raise ValueError(f"{place}: not JSON ({line(error)}); write the file again") from None
    for key in ("info", "features", column):
        if not isinstance(tree, dict):
            raise ValueError(f"{place}: not a mapping where {key!r} belongs; write the file again")
        tree = tree.get(key, {})
    names = tree.get("names", []) if isinstance(tree, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{place}: {column}: no list of class names; write the file again")
    return tuple(names)
