"""Pack a source into the files of a store: check every image, decide how to keep it, write."""

import dataclasses
import itertools
import shutil
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ijepa.datasets import Item, Source, Split
from ijepa.runtime import environment, files
from ijepa.store import duplicates
from ijepa.store.ahead import Encoded, examined
from ijepa.store.read import FORMAT, PREPARED, SPLITS
from ijepa.store.shards import Shards

SHARD_BYTES = 2**29  # 512 MiB: small enough to hash and copy one by one, big enough to be few
_SAMPLE = 1000  # files whose sizes stand for those of all


@dataclass(frozen=True, slots=True)
class Policy:
    """What a bad image does, the most bytes of images in one file, and what images stay.

    ``root`` is the folder below which images are stored in place, or None to copy them.
    """

    skip: bool
    max_bad_fraction: float
    shard_bytes: int
    root: Path | None


class _Unequal(Exception):
    """A split that began with small images of one size has others too: store it encoded."""


def write_split(
    name: str,
    split: Split,
    tasks: Mapping[str, tuple[str, ...]],
    folder: Path,
    policy: Policy,
    census: duplicates.Census,
) -> dict[str, Any]:
    """Write a split into a new folder and return its record for the manifest.

    Raises:
        ValueError: a bad image (names file and index), too many of them, a label out of range, or
            no images.
    """
    if split.count == 0:
        raise ValueError(f"the split {name} has no images")
    try:
        return _pack(name, split, tasks, folder, policy, census, decoded=policy.root is None)
    except _Unequal:
        shutil.rmtree(folder)
        return _pack(name, split, tasks, folder, policy, census, decoded=False)


def _pack(
    name: str,
    split: Split,
    tasks: Mapping[str, tuple[str, ...]],
    folder: Path,
    policy: Policy,
    census: duplicates.Census,
    *,
    decoded: bool,
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    labels, prints, modes, shape = array("i"), array("Q"), Counter[str](), None
    skipped = _Skipped(name, split.count, policy)
    with Shards(folder, policy.shard_bytes) as shards:
        for index, (item, data, seen) in enumerate(examined(name, split)):
            if isinstance(seen, str):
                skipped.add(index, item.origin, seen)
                continue
            labels.extend(_labels(item, tasks))
            prints.append(seen.fingerprint)
            modes[seen.mode] += 1
            if decoded:
                shape = shape or (*seen.size, 3)
                if seen.pixels is None or seen.pixels.shape != shape:
                    raise _Unequal
                shards.add(seen.pixels.tobytes())
                continue
            assert isinstance(data, bytes), f"{item.origin}: arrays need one shape"
            if policy.root is None:
                shards.add(data)
            else:
                assert isinstance(item.image, Path), item.origin  # write_store has looked
                shards.point(item.image.relative_to(policy.root), data)
    if not shards.count:
        raise ValueError(f"the split {name} has no good image")
    columns = np.frombuffer(labels, dtype=np.int32).reshape(-1, len(tasks)).T
    census.add(name, prints, columns)
    counts = {
        task: np.bincount(column, minlength=len(names)).tolist()
        for (task, names), column in zip(tasks.items(), columns, strict=True)
    }
    smallest = np.min_scalar_type(max(map(len, tasks.values())) - 1)
    np.save(folder / "labels.npy", np.ascontiguousarray(columns, dtype=smallest))
    return {
        "count": shards.count,
        "stored": "decoded" if decoded else "encoded" if policy.root is None else "in_place",
        "shape": shape,
        "modes": dict(sorted(modes.items())),
        "class_counts": counts,
        "skipped": {"count": len(skipped.images), "images": skipped.images},
        "bytes": shards.bytes,
        "sha256": shards.content.hexdigest(),  # of all images, one after another
        "shards": shards.records,
        "paths": _entry(folder / "paths.bin") if policy.root else None,
        "index": _entry(folder / "index.bin"),
        "labels": _entry(folder / "labels.npy"),
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


def _entry(path: Path) -> dict[str, Any]:
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": files.sha256(path),
    }


def write_store(
    source: Source,
    path: Path = PREPARED,
    *,
    bad_images: str = "fail",
    max_bad_fraction: float = 0.0,
    equal_images: str = "report",
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Check every image of a source and pack it; the folder appears complete or not at all.

    Args:
        source: the raw data set.
        path: the folder to write; a data set there is replaced.
        bad_images: ``fail`` at the first bad image, or ``skip`` them, listed in the manifest.
        max_bad_fraction: with ``skip``, the share of a split above which writing fails.
        equal_images: in two splits or two classes: ``report`` them in the manifest, or ``refuse``.
        shard_bytes: the most bytes of images in one file.

    Raises:
        ValueError: a bad image (names file and index), too many of them, a label out of range, a
            split without images, too little free disk, images that cannot stay in place, or
            equal images with ``refuse``.
        OSError: the disk refused; names the folder.
    """
    assert "train" in source.splits
    assert {"val", "test"} & set(source.splits)
    partial = path.with_name(f"{path.name}.partial")
    root = environment.data_root() if environment.storage() == "in_place" else None
    policy = Policy(bad_images == "skip", max_bad_fraction, shard_bytes, root)
    _remove(partial)  # what a killed run left behind
    _check_room(source, path, policy)
    try:
        splits, census = {}, duplicates.Census()
        for name, split in source.splits.items():
            assert name in SPLITS
            splits[name] = write_split(name, split, source.tasks, partial / name, policy, census)
        tasks = [{"name": name, "classes": names} for name, names in source.tasks.items()]
        equal = census.count()
        if equal_images == "refuse":
            duplicates.refuse(equal)
        manifest = {"format": FORMAT, "origin": source.origin, "tasks": tasks, "splits": splits,
                    "left_out": [dataclasses.asdict(entry) for entry in source.left_out],
                    "duplicates": equal}  # fmt: skip
        files.write_json(partial / "manifest.json", manifest)
        files.write_sums(partial, ["manifest.json"])
        for file in (file for file in partial.rglob("*") if file.is_file()):
            file.chmod(0o444)  # DVC deletes and replaces read-only files, an editor does not
        _remove(path)
        partial.rename(path)
    except OSError as error:
        raise files.named(error, path) from error
    finally:
        _remove(partial)


def _check_room(source: Source, path: Path, policy: Policy) -> None:
    """Say before hours of packing that the images cannot stay, or that the disk cannot hold them.

    What will be written is known from the sizes of files: of a sample of them, where each holds
    one image.
    """
    first = {name: next(iter(split.items())).image for name, split in source.splits.items()
             if split.count}  # fmt: skip
    if policy.root is not None:
        if not all(isinstance(image, Path) for image in first.values()):
            raise ValueError(
                "IJEPA_STORAGE: in_place needs a file for each image; this data set has none"
                " (parquet compresses images inside its pages): use copy"
            )
        return
    if all(isinstance(image, bytes) for image in first.values()):
        need = sum(file.stat().st_size for file in source.raw if file.is_file())
    else:
        need = sum(_size(source.splits[name], image) for name, image in first.items())
    there = next(place for place in path.resolve().parents if place.exists())
    free = shutil.disk_usage(there).free
    if need > free:
        raise ValueError(
            f"{path}: about {need / 1e9:.3g} GB will be written, and {free / 1e9:.3g} GB are free;"
            " IJEPA_STORAGE=in_place keeps the images of folders where they are"
        )


def _size(split: Split, first: Path | Encoded) -> int:
    """About how many bytes the images of a split have, from its first or from a sample."""
    if not isinstance(first, Path):
        return split.count * (first.nbytes if isinstance(first, np.ndarray) else 0)
    step = -(-split.count // _SAMPLE)
    images = [item.image for item in itertools.islice(split.items(), 0, None, step)]
    sizes = [image.stat().st_size for image in images if isinstance(image, Path)
             and image.is_file()]  # fmt: skip  # reading will name the one that is not
    return sum(sizes) * split.count // max(1, len(sizes))


def _remove(path: Path) -> None:
    if path.is_symlink():  # DVC with cache.type symlink
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
