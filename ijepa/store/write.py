"""Pack a source into the files of a store: check every image, decide how to keep it, write."""

import hashlib
import itertools
import shutil
from array import array
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ijepa.datasets import Item, Source, Split
from ijepa.runtime import environment, files
from ijepa.store import pictures
from ijepa.store.read import FORMAT, PREPARED, SPLITS

SHARD_BYTES = 2**29  # 512 MiB: small enough to hash and copy one by one, big enough to be few
SMALL = 96  # pixels: the longest side of an image that is stored decoded (STL-10's size)
_CHUNK = 16  # images that a thread checks at once: keeps what is in memory to tens of megabytes


@dataclass(frozen=True, slots=True)
class Policy:
    """What a bad image does, and the most bytes of images in one file."""

    skip: bool
    max_bad_fraction: float
    shard_bytes: int


class _Unequal(Exception):
    """A split that began with small images of one size has others too: store it encoded."""


def write_split(
    name: str, split: Split, tasks: Mapping[str, tuple[str, ...]], folder: Path, policy: Policy
) -> dict[str, Any]:
    """Write a split into a new folder and return its record for the manifest.

    Raises:
        ValueError: a bad image (names file and index), too many of them, a label out of range, or
            no images.
    """
    if split.count == 0:
        raise ValueError(f"the split {name} has no images")
    try:
        return _pack(name, split, tasks, folder, policy, decoded=True)
    except _Unequal:
        shutil.rmtree(folder)
        return _pack(name, split, tasks, folder, policy, decoded=False)


def _pack(
    name: str,
    split: Split,
    tasks: Mapping[str, tuple[str, ...]],
    folder: Path,
    policy: Policy,
    *,
    decoded: bool,
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    labels, modes, shape = array("q"), Counter[str](), None
    skipped = _Skipped(name, split.count, policy)
    with _Shards(folder, policy.shard_bytes) as shards:
        for index, (item, seen) in enumerate(_examined(name, split)):
            if isinstance(seen, str):
                skipped.add(index, item.origin, seen)
                continue
            labels.extend(_labels(item, tasks))
            modes[seen.mode] += 1
            if decoded:
                shape = shape or (*seen.size, 3)
                if seen.pixels is None or seen.pixels.shape != shape:
                    raise _Unequal
                shards.add(seen.pixels.tobytes())
            else:
                assert isinstance(item.image, bytes), f"{item.origin}: arrays need one shape"
                shards.add(item.image)
    if not shards.records:
        raise ValueError(f"the split {name} has no good image")
    columns = np.frombuffer(labels, dtype=np.int64).reshape(-1, len(tasks)).T
    counts = {
        task: np.bincount(column, minlength=len(names)).tolist()
        for (task, names), column in zip(tasks.items(), columns, strict=True)
    }
    offsets = np.cumsum([0, *shards.lengths], dtype=np.int64)
    return {
        "count": len(shards.lengths),
        "stored": "decoded" if decoded else "encoded",
        "shape": shape,
        "modes": dict(sorted(modes.items())),
        "class_counts": counts,
        "skipped": {"count": len(skipped.images), "images": skipped.images},
        "shards": shards.records,
        "offsets": None if decoded else _save(folder / "offsets.npy", offsets),
        "labels": _save(folder / "labels.npy", np.ascontiguousarray(columns)),
    }


@dataclass
class _Skipped:
    """The bad images of a split, as far as the policy bears them."""

    split: str
    count: int
    policy: Policy
    images: list[dict[str, Any]] = field(default_factory=list)

    def add(self, index: int, origin: str, reason: str) -> None:
        where = f"{origin} (image {index} of {self.split})"
        if not self.policy.skip:
            raise ValueError(f"{where}: {reason}; data.bad_images: skip leaves such images out")
        self.images.append({"index": index, "origin": origin, "reason": reason})
        if len(self.images) > self.policy.max_bad_fraction * self.count:
            raise ValueError(
                f"{where}: {reason}; with it {len(self.images)} of {self.count} images are bad,"
                f" more than data.max_bad_fraction {self.policy.max_bad_fraction:g}"
            )


def _labels(item: Item, tasks: Mapping[str, tuple[str, ...]]) -> list[int]:
    for task, names in tasks.items():
        if not 0 <= item.labels[task] < len(names):
            raise ValueError(
                f"{item.origin}: the label {task} is {item.labels[task]}, not a class from 0 to"
                f" {len(names) - 1}"
            )
    return [item.labels[task] for task in tasks]


def _save(path: Path, values: NDArray[np.int64]) -> dict[str, Any]:
    np.save(path, values)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
    }


def _examined(name: str, split: Split) -> Iterator[tuple[Item, pictures.Picture | str]]:
    """Items in order, each with what its check found, checked on all cores a few chunks ahead."""
    threads = environment.cores()
    waiting: deque[Future[list[tuple[Item, pictures.Picture | str]]]] = deque()
    items = iter(tqdm(split.items(), total=split.count, desc=name, unit="img", disable=None))
    count = 0
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(itertools.islice(items, _CHUNK)):
            count += len(chunk)
            waiting.append(pool.submit(_examine, chunk))
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        for future in waiting:
            yield from future.result()
    assert count == split.count, f"{name}: {count} images, {split.count} promised"


def _examine(chunk: list[Item]) -> list[tuple[Item, pictures.Picture | str]]:
    return [(item, pictures.examine(item.image, SMALL)) for item in chunk]


class _Shards:
    """Writes images one after another into files of a limited size."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.records: list[dict[str, Any]] = []
        self.lengths = array("q")  # bytes of each image
        self._folder, self._limit = folder, limit
        self._file: BinaryIO | None = None
        self._count = self._bytes = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> "_Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def add(self, data: bytes) -> None:
        """Write one image; an image bigger than the limit has a file for itself."""
        if self._file is None or (self._count and self._bytes + len(data) > self._limit):
            self._finish()
            self._file = (self._folder / f"images-{len(self.records):05d}.bin").open("wb")
        self._file.write(data)
        self._hash.update(data)
        self.lengths.append(len(data))
        self._count += 1
        self._bytes += len(data)

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self.records.append(
            {
                "file": Path(self._file.name).name,
                "count": self._count,
                "bytes": self._bytes,
                "sha256": self._hash.hexdigest(),
            }
        )
        self._file, self._count, self._bytes, self._hash = None, 0, 0, hashlib.sha256()


def write_store(
    source: Source,
    path: Path = PREPARED,
    *,
    bad_images: str = "fail",
    max_bad_fraction: float = 0.0,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Check every image of a source and pack it; the folder appears complete or not at all.

    Args:
        source: the raw data set.
        path: the folder to write; a data set there is replaced.
        bad_images: ``fail`` at the first bad image, or ``skip`` them, listed in the manifest.
        max_bad_fraction: with ``skip``, the share of a split above which writing fails.
        shard_bytes: the most bytes of images in one file.

    Raises:
        ValueError: a bad image (names file and index), too many of them, a label out of range, or
            a split without images.
    """
    assert "train" in source.splits
    assert {"val", "test"} & set(source.splits)
    partial = path.with_name(f"{path.name}.partial")
    policy = Policy(bad_images == "skip", max_bad_fraction, shard_bytes)
    _remove(partial)  # what a killed run left behind
    try:
        splits = {}
        for name, split in source.splits.items():
            assert name in SPLITS
            splits[name] = write_split(name, split, source.tasks, partial / name, policy)
        tasks = [{"name": name, "classes": names} for name, names in source.tasks.items()]
        manifest = {"format": FORMAT, "origin": source.origin, "tasks": tasks, "splits": splits}
        files.write_json(partial / "manifest.json", manifest)
        for file in partial.rglob("*.*"):
            file.chmod(0o444)  # DVC deletes and replaces read-only files, an editor does not
        _remove(path)
        partial.rename(path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_symlink():  # DVC with cache.type symlink
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
