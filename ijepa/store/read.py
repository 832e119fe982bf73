"""The prepared data set: immutable, memory-mapped, checksummed files, and nothing of the source.

``ijepa.store.write`` packs a ``Source`` (``ijepa.datasets``); ``open_store`` reads it back. Its
files::

    manifest.json           counts, classes, origin, skipped images, each file's bytes and SHA-256
    train/images-00000.bin  images one after another, at most SHARD_BYTES in a file
    train/offsets.npy       (n + 1,) int64, where each encoded image starts; none when decoded
    train/labels.npy        (tasks, n) int64, in the order of the manifest's tasks

A split whose images all have one small size is stored decoded, (n, H, W, 3) uint8, so that reading
is a copy. Any other split keeps the encoded files' own bytes. Equal sources give equal bytes, so
the SHA-256 of ``manifest.json`` names the data.
"""

import bisect
import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa.runtime import files
from ijepa.store import pictures

PREPARED = Path("data/prepared")
FORMAT = 1
SPLITS = ("train", "val", "test")


class Images:
    """The images and labels of one split, read-only; ``pickle`` carries the path, not the pixels.

    Attributes:
        labels: class index for each task, (n,) int64.
    """

    def __init__(self, folder: Path, record: Mapping[str, Any], tasks: Sequence[str]) -> None:
        self._arguments = (folder, record, tasks)
        self._folder = folder
        self._files = [shard["file"] for shard in record["shards"]]
        self._first = [0, *itertools.accumulate(shard["count"] for shard in record["shards"])]
        self._shape: tuple[int, ...] | None = tuple(record["shape"]) if record["shape"] else None
        self._size = math.prod(self._shape or ())  # bytes of a decoded image
        self._maps: dict[int, NDArray[np.uint8]] = {}
        self._offsets: NDArray[np.int64] | None = None
        values = np.load(folder / record["labels"]["file"])
        self.labels: dict[str, NDArray[np.int64]] = dict(zip(tasks, values, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return Images, self._arguments

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A copy of one image, (H, W, 3) uint8 RGB."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        shard = bisect.bisect_right(self._first, index) - 1
        first, data = self._first[shard], self._map(shard)
        if self._shape is not None:
            start = (index - first) * self._size
            return data[start : start + self._size].reshape(self._shape).copy()
        if self._offsets is None:
            self._offsets = np.load(self._folder / "offsets.npy", mmap_mode="r")
        start, end = self._offsets[index : index + 2] - self._offsets[first]
        return pictures.decode(data[start:end].tobytes())

    def _map(self, shard: int) -> NDArray[np.uint8]:
        if shard not in self._maps:
            path = self._folder / self._files[shard]
            # a plain array over the mapping: reading from numpy.memmap itself takes 4 x as long
            self._maps[shard] = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        return self._maps[shard]


@dataclass(frozen=True, slots=True)
class Store:
    """An opened data set.

    Attributes:
        manifest: the content of ``manifest.json``.
        tasks: the class names of each label; the first task is the headline.
        splits: ``train`` and at least one of ``val`` and ``test``.
        hash: the data hash, SHA-256 of ``manifest.json``.
    """

    manifest: dict[str, Any]
    tasks: dict[str, tuple[str, ...]]
    splits: dict[str, Images]
    hash: str

    @property
    def report_split(self) -> str:
        """The split whose numbers are reported."""
        return "test" if "test" in self.splits else "val"


def open_store(path: Path = PREPARED, verify: bool = False) -> Store:
    """Open a prepared data set; the images are mapped when they are first read.

    Args:
        path: the folder that ``write_store`` wrote.
        verify: compare every file's SHA-256 too, not its size alone.

    Raises:
        ValueError: there is no data set, or a file of it is missing or damaged; names the file.
    """
    try:
        text = (path / "manifest.json").read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no prepared data set here; `dvc repro prepare`") from None
    try:
        manifest = json.loads(text)
    except ValueError:
        raise ValueError(f"{path / 'manifest.json'}: damaged; `dvc repro -f prepare`") from None
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{path}: format {manifest['format']}, this code reads {FORMAT};"
            " `dvc repro -f prepare` writes it"
        )
    tasks = {task["name"]: tuple(task["classes"]) for task in manifest["tasks"]}
    splits = {}
    for name in (name for name in SPLITS if name in manifest["splits"]):
        record = manifest["splits"][name]
        for entry in (*record["shards"], record["labels"], record["offsets"]):
            if entry is not None:
                _check_file(path / name / entry["file"], entry, verify)
        splits[name] = Images((path / name).resolve(), record, tuple(tasks))
    return Store(manifest, tasks, splits, hashlib.sha256(text).hexdigest())


def _check_file(path: Path, entry: Mapping[str, Any], verify: bool) -> None:
    again = "`dvc repro -f prepare` writes it again"
    if not path.is_file():
        raise ValueError(f"{path}: missing; {again}")
    if path.stat().st_size != entry["bytes"]:
        size = path.stat().st_size
        raise ValueError(f"{path}: damaged: {size} bytes, not {entry['bytes']}; {again}")
    if verify and files.sha256(path) != entry["sha256"]:
        raise ValueError(f"{path}: damaged: its SHA-256 is not the manifest's; {again}")
