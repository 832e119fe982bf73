"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 images of 32 x 32 pixels, ten classes.

Any of the published forms, in ``IJEPA_DATA_ROOT`` or its folder ``cifar10``: the Python or the
binary archive, unpacked or not, or a pair of parquet files. Archives are read without unpacking,
and the Python form's pickles by an unpickler that builds arrays and plain values, nothing else.
"""

import functools
import io
import pickle
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ijepa.datasets import Item, Source, Split, _columns, _shards
from ijepa.strict import once

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
_PIXELS = 3 * 32 * 32

_Batch = tuple[NDArray[np.uint8], list[int]]  # (n, 3072): planes of red, green, blue; labels
_Read = Callable[[bytes], _Batch]


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """CIFAR-10 has nothing to choose."""


def load(options: Options, root: Path) -> Source:
    """Open whichever published form is under ``root``.

    Raises:
        ValueError: none is; says what was looked for.
    """
    for folder in (root / "cifar10", root):
        for form, suffix, read in (
            ("cifar-10-batches-py", "", _read_pickle),
            ("cifar-10-batches-bin", ".bin", _read_binary),
            ("cifar-10-python.tar.gz", "", _read_pickle),
            ("cifar-10-binary.tar.gz", ".bin", _read_binary),
        ):
            if (folder / form).exists():
                return _batches(folder / form, suffix, read)
        if list(folder.glob("train*.parquet")) and list(folder.glob("test*.parquet")):
            return _parquet(folder)
    raise ValueError(
        f"IJEPA_DATA_ROOT: no CIFAR-10 in {root} or {root / 'cifar10'}; looked for"
        " cifar-10-batches-py, cifar-10-batches-bin, cifar-10-python.tar.gz,"
        " cifar-10-binary.tar.gz, train*.parquet with test*.parquet"
    )


def _parquet(folder: Path) -> Source:
    """The pair of parquet files: encoded images in ``img`` or ``image``, and ``label``."""
    splits, raw = {}, []
    for split in ("train", "test"):
        paths = sorted(folder.glob(f"{split}*.parquet"))
        _shards.check(paths)
        try:
            count = sum(pq.read_metadata(path).num_rows for path in paths)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{folder}: {split}: not parquet, or damaged ({error})") from None
        for path in paths:
            _check_names(path)
        splits[split] = Split(count, functools.partial(_rows, paths))
        raw += paths
    return Source(splits, {"class": CLASSES}, {"form": "parquet"}, raw)


def _check_names(path: Path) -> None:
    """Refuse a file whose labels have other names, or the same in another order."""
    if "label" in pq.read_schema(path).names:
        names = _columns.class_names(path, "label")
        if names and names != CLASSES:
            number = next((k for k, two in enumerate(zip(names, CLASSES, strict=False))
                           if two[0] != two[1]), min(len(names), len(CLASSES)))  # fmt: skip
            named = repr(names[number]) if number < len(names) else "nothing"
            raise ValueError(f"{path}: label: class {number} is {named}, not CIFAR-10's")


def _rows(paths: Sequence[Path]) -> Iterator[Item]:
    for path in paths:
        row = 0
        try:
            for batch in pq.ParquetFile(path).iter_batches(1024):
                table = batch.to_pydict()
                images = table.get("img") or table["image"]
                for image, label in zip(images, table["label"], strict=True):
                    yield Item(image["bytes"] or b"", {"class": label}, f"{path.name}: row {row}")
                    row += 1
        except (pa.ArrowException, OSError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: row {row}: damaged or not CIFAR-10 ({error})") from None


def _batches(place: Path, suffix: str, read: _Read) -> Source:
    """A folder or an archive of batch files."""
    splits = {}
    for split, stems in (("train", TRAIN), ("test", TEST)):
        names = [f"{stem}{suffix}" for stem in stems]
        count = sum(len(labels) for _, (_, labels) in _opened(place, names, read))
        splits[split] = Split(count, functools.partial(_items, place, names, read))
    return Source(splits, {"class": CLASSES}, {"form": place.name}, [place])


def _items(place: Path, names: Sequence[str], read: _Read) -> Iterator[Item]:
    for name, (planes, labels) in _opened(place, names, read):
        images = planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for index, label in enumerate(labels):
            yield Item(images[index], {"class": label}, f"{place.name}/{name}: image {index}")


def _opened(place: Path, names: Sequence[str], read: _Read) -> Iterator[tuple[str, _Batch]]:
    """Each batch with its name, one in memory at a time.

    Raises:
        ValueError: a batch is missing, damaged, or not what CIFAR-10's batches are.
    """
    for name in names:
        try:
            batch = read(_bytes(place, name))
        except (KeyError, OSError) as error:
            raise ValueError(f"{place}: {name}: missing or unreadable ({error})") from None
        except Exception as error:  # a damaged archive or pickle raises any kind of exception
            raise ValueError(f"{place}: {name}: damaged or not CIFAR-10 ({error})") from None
        yield name, batch


def _bytes(place: Path, name: str) -> bytes:
    if place.is_dir():
        return (place / name).read_bytes()
    folder = "cifar-10-batches-bin" if name.endswith(".bin") else "cifar-10-batches-py"
    with tarfile.open(place, "r:gz") as archive:
        member = archive.extractfile(f"{folder}/{name}")  # read in memory: nothing is unpacked
        if member is None:
            raise ValueError("not a file")
        return member.read()


def _read_binary(data: bytes) -> _Batch:
    rows = np.frombuffer(data, dtype=np.uint8)
    if not rows.size or rows.size % (1 + _PIXELS):
        raise ValueError(f"{rows.size} bytes, not a multiple of {1 + _PIXELS}")
    rows = rows.reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0].tolist()


class _Unpickler(pickle.Unpickler):
    """Builds arrays and plain values; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        if (
            module in ("numpy.core.multiarray", "numpy._core.multiarray")
            and name == "_reconstruct"
        ):
            return np.empty(0).__reduce__()[0]  # numpy's function of that name, wherever it lives
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is not allowed")


def _read_pickle(data: bytes) -> _Batch:
    batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    planes, labels = np.asarray(batch[b"data"]), [int(label) for label in batch[b"labels"]]
    if planes.dtype != np.uint8 or planes.shape != (len(labels), _PIXELS):
        raise ValueError(f"{planes.dtype} {planes.shape}, not uint8 ({len(labels)}, {_PIXELS})")
    return planes, labels
