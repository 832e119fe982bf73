"""The prepared data set: immutable, checksummed files, checked where they are read.

``ijepa.store.write`` packs a ``Source`` (``ijepa.datasets``); ``open_store`` reads it back. Its
files::

    manifest.json           counts, classes, origin, skipped images, each file's bytes and SHA-256
    SHA256SUMS              of manifest.json, as `sha256sum` writes it: the data hash
    train/images-00000.bin  images one after another, at most SHARD_BYTES in a file
    train/index.bin         a ROW for each image: its place in the file, its bytes, its CRC-32
    train/labels.npy        (tasks, n), in the order of the manifest's tasks, the smallest integers

Every image is compared with its CRC-32 whenever it is read, so that damage is found where it would
be used, and no process reads a whole shard to find it. A split whose images all have one small
size is stored decoded, (n, H, W, 3) uint8, so that reading is a copy; any other split keeps the
encoded files' own bytes. Stored in place (``IJEPA_STORAGE``), ``paths.bin`` stands for the images:
their files' paths below ``IJEPA_DATA_ROOT``, each ended by a NUL, and a row says where its path
starts. Equal sources give equal bytes, so the SHA-256 of ``manifest.json`` names the data.
"""

import bisect
import functools
import hashlib
import itertools
import os
import struct
import weakref
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa.runtime import environment, files
from ijepa.store import pictures

PREPARED = Path("data/prepared")
FORMAT = 2
SPLITS = ("train", "val", "test")
ROW = struct.Struct("<qII")


class Images:
    """The images and labels of one split, read-only; ``pickle`` carries the path, not the pixels.

    A process holds neither index nor labels in memory until it asks for them: workers read a row
    of the index for each image, and no label.
    """

    def __init__(
        self, folder: Path, record: Mapping[str, Any], tasks: Sequence[str], root: Path
    ) -> None:
        self._arguments = (folder, record, tasks, root)
        self._folder, self._record, self._tasks = folder, record, tasks
        self._root = root  # of the files that are stored in place
        self._files = [shard["file"] for shard in record["shards"]]
        self._first = [0, *itertools.accumulate(shard["count"] for shard in record["shards"])]
        self._shape: tuple[int, ...] | None = tuple(record["shape"]) if record["shape"] else None
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Images, self._arguments

    def __len__(self) -> int:
        return int(self._record["count"])

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A copy of one image, (H, W, 3) uint8 RGB.

        Raises:
            ValueError: its bytes are not those that were packed; names the file.
        """
        data = self.stored(index)
        if self._shape is not None:
            return np.frombuffer(data, np.uint8).reshape(self._shape).copy()
        return pictures.decode(bytes(data))

    def stored(self, index: int) -> bytes | memoryview:
        """The bytes of one image as they are stored, compared with their checksum."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        start, size, checksum = ROW.unpack(os.pread(self._index, ROW.size, index * ROW.size))
        data: bytes | memoryview
        if self._record["stored"] == "in_place":
            path = self._root / self._path(start)
            try:
                data = path.read_bytes()
            except OSError as error:
                self.check_index()
                raise ValueError(
                    f"{path}: cannot be read: {error.strerror}; {self._folder.parent} holds an"
                    f" index into IJEPA_DATA_ROOT: put the file back, or {_again(self._folder)}"
                ) from None
        else:
            shard = bisect.bisect_right(self._first, index) - 1
            path = self._folder / self._files[shard]
            data = self._map(shard)[start : start + size].data
        if len(data) != size or zlib.crc32(data) != checksum:
            self.check_index()
            if self._record["stored"] == "in_place":
                raise ValueError(f"{path}: changed since it was prepared; {_again(self._folder)}")
            raise ValueError(
                f"{path}: damaged: image {index} of {self._folder.name}; {_again(self._folder)}"
            )
        return data

    @functools.cached_property
    def labels(self) -> Mapping[str, NDArray[np.int64]]:
        """Class index for each task, (n,) int64.

        Raises:
            ValueError: the file is damaged.
        """
        entry = self._record["labels"]
        path = self._folder / entry["file"]
        _check_file(path, entry, content=True)
        values = np.load(path, mmap_mode="r")
        return {task: v.astype(np.int64) for task, v in zip(self._tasks, values, strict=True)}

    @functools.cached_property
    def _index(self) -> int:
        """The open index: its rows are read one by one, and stay the kernel's."""
        self.check_index()
        descriptor = os.open(self._folder / self._record["index"]["file"], os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _path(self, start: int) -> str:
        """The path at a place of ``paths.bin``, relative to the root."""
        with (self._folder / self._record["paths"]["file"]).open("rb") as file:
            file.seek(start)
            return os.fsdecode(file.read(4096).partition(b"\0")[0])

    def check_index(self) -> None:
        """Refuse a damaged index, rather than the image that it describes.

        Raises:
            ValueError: a file of it is damaged.
        """
        for name in ("index", "paths"):
            if entry := self._record.get(name):
                _check_file(self._folder / entry["file"], entry, content=True)

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
    """Open a prepared data set: the manifest is checked now, files where they are first read.

    Args:
        path: the folder that ``write_store`` wrote.
        verify: read every image and label too.

    Raises:
        ValueError: there is no data set, or a file of it is missing or damaged; names the file.
    """
    manifest = _manifest(path)
    tasks = {task["name"]: tuple(task["classes"]) for task in manifest["tasks"]}
    splits = {}
    for name in (name for name in SPLITS if name in manifest["splits"]):
        record = manifest["splits"][name]
        for entry in (*record["shards"], record["labels"], record["index"], record["paths"]):
            if entry is not None:
                _check_file(path / name / entry["file"], entry)
        folder = (path / name).resolve()
        splits[name] = Images(folder, record, tuple(tasks), environment.data_root())
        if verify:
            _verify(splits[name], path / name, record)
    return Store(manifest, tasks, splits, files.sha256(path / "manifest.json"))


def _manifest(path: Path) -> dict[str, Any]:
    text = path / "manifest.json"
    if not text.is_file():
        raise ValueError(f"{path}: no prepared data set here; `dvc repro prepare`")
    if (path / files.SUMS).is_file():
        _check_sums(path)
    manifest: dict[str, Any] = files.read_json(text)  # an older format has no sums
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise ValueError(f"{text}: not a manifest; {_again(path)}")
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{path}: format {manifest['format']}, this code reads {FORMAT}; {_again(path)}"
        )
    _check_sums(path)
    return manifest


def _check_sums(path: Path) -> None:
    for line in files.differing(path, ["manifest.json"]):
        raise ValueError(f"{line}; {_again(path)}")


def _again(place: Path) -> str:
    """What is to be done about a damaged data set: the pipeline's own, or one of the cache."""
    cache = environment.home() / "datasets"
    if place.resolve().is_relative_to(cache):
        name = place.resolve().relative_to(cache).parts[0]
        return f"remove {cache / name}: it is prepared again"
    return "`dvc repro -f prepare` writes it again"


def _check_file(path: Path, entry: Mapping[str, Any], content: bool = False) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: missing; {_again(path)}")
    if path.stat().st_size != entry["bytes"]:
        size = path.stat().st_size
        raise ValueError(f"{path}: damaged: {size} bytes, not {entry['bytes']}; {_again(path)}")
    if content and files.sha256(path) != entry["sha256"]:
        raise ValueError(f"{path}: damaged: its SHA-256 is not the manifest's; {_again(path)}")


def _verify(images: Images, folder: Path, record: Mapping[str, Any]) -> None:
    """Read everything of a split."""
    assert images.labels.keys()
    content = hashlib.sha256()
    for index in range(len(images)):
        content.update(images.stored(index))
    if content.hexdigest() != record["sha256"]:
        raise ValueError(f"{folder}: damaged: its images are not the manifest's; {_again(folder)}")
