"""CLEVR v1.0 (Johnson et al. 2017, 1612.06890) as it unpacks: count the objects, find the nearest.

Under ``data.path``, for train and val (test has no scenes, and is left alone)::

    images/train/CLEVR_train_000000.png
    scenes/CLEVR_train_scenes.json       {"scenes": [{"image_filename": ..., "objects": ...}, ...]}

The tasks are those of VTAB (Zhai et al. 2019, 1910.04867) and of the paper's Tables 4 and 5:

- ``count``: number of objects, 3 to 10.
- ``distance``: depth of the nearest object, the least ``pixel_coords[2]`` of a scene, in units of
  the renderer and in six bins.

Images come in the order of the scenes; one without a scene has no label, is left out and counted.
"""

import functools
import reprlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ijepa.datasets import (
    DISTANCES,
    Item,
    Source,
    Split,
    distance_bin,
    hidden,
    left_out,
    unread,
)
from ijepa.runtime import files
from ijepa.strict import once, text

SPLITS = ("train", "val")  # VTAB and VISSL report val
COUNTS = range(3, 11)
FARTHEST = 100.0  # upper edge of the last bin

_Scene = tuple[str, int, int]  # image file, class of count, class of distance


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where CLEVR is."""

    path: str = text()  # folder under IJEPA_DATA_ROOT


def load(options: Options, root: Path) -> Source:
    """Read the scenes of both splits; the images are read when a split is iterated.

    Raises:
        ValueError: no such folder or file, scenes that are not CLEVR's, or an image is missing.
    """
    folder = root / options.path
    if not folder.is_dir():
        raise ValueError(f"data.path: {options.path}: no such folder in IJEPA_DATA_ROOT {root}")
    splits: dict[str, Split] = {}
    others: list[tuple[str, str]] = []
    for name in SPLITS:
        images, path = f"images/{name}", f"scenes/CLEVR_{name}_scenes.json"
        for place, there in ((images, Path.is_dir), (path, Path.is_file)):
            if not there(folder / place):
                deeper = sorted(inside.parent.name for inside in folder.glob("*/scenes"))
                hint = f"; its folder {deeper[0]} looks like CLEVR" if deeper else ""
                raise ValueError(f"data.path: {options.path}: no {place} in {folder}{hint}")
        scenes = _scenes(folder / path, folder / images)
        splits[name] = Split(len(scenes), functools.partial(_items, folder / images, scenes))
        others += _others(folder / images, {file for file, _, _ in scenes})
    others += _others(folder / "images/test", set())
    tasks = {
        "count": tuple(str(count) for count in COUNTS),
        "distance": tuple(f"{name} units" for name in DISTANCES),
    }
    about = {"form": "clevr", "path": options.path}
    return Source(splits, tasks, about, [folder], left_out(others))


def _others(images: Path, labelled: Collection[str]) -> Iterator[tuple[str, str]]:
    """What else is in a folder of images, each file with what it is."""
    for name in sorted(place.name for place in images.iterdir()) if images.is_dir() else ():
        if name not in labelled:
            image = name.endswith(".png") and not hidden(name)
            what = f"images of {images.name} without a scene" if image else unread(name)
            yield what, f"images/{images.name}/{name}"


def _scenes(path: Path, images: Path) -> list[_Scene]:
    """The images of a split with their labels, in the order of the file."""
    tree = files.read_json(path)
    scenes = tree.get("scenes") if isinstance(tree, dict) else None
    if not isinstance(scenes, list) or not scenes:
        raise ValueError(f"{path}: has no list 'scenes', or an empty one")
    first: dict[str, int] = {}  # image file -> its scene
    labelled, there = [], {place.name for place in images.iterdir()}
    for number, scene in enumerate(scenes):
        try:
            file, count, distance = _labels(scene)
            if file in first:
                raise ValueError(f"image_filename: {file!r} is of scene {first[file]} too")
            if file not in there:
                raise ValueError(f"image_filename: {file!r} is not in {images}")
        except ValueError as error:
            raise ValueError(f"{path}: scene {number}: {error}") from None
        first[file] = number
        labelled.append((file, count, distance))
    return labelled


def _labels(scene: Any) -> _Scene:
    if not isinstance(scene, dict):
        raise ValueError(f"{reprlib.repr(scene)} is not a mapping")
    file, objects = scene.get("image_filename"), scene.get("objects")
    if not isinstance(file, str):
        raise ValueError(f"image_filename: {reprlib.repr(file)} is not the name of a file")
    if not isinstance(objects, list) or len(objects) not in COUNTS:
        count = len(objects) if isinstance(objects, list) else reprlib.repr(objects)
        raise ValueError(f"objects: {count}; a list of {COUNTS[0]} to {COUNTS[-1]} is needed")
    nearest = min(_depth(number, thing) for number, thing in enumerate(objects))
    return file, len(objects) - COUNTS[0], int(distance_bin(np.array(nearest)))


def _depth(number: int, thing: Any) -> float:
    """Distance of an object from the camera, along its axis."""
    place = thing.get("pixel_coords") if isinstance(thing, dict) else None
    if not isinstance(place, list) or len(place) != 3:
        raise ValueError(
            f"object {number}: pixel_coords: {reprlib.repr(place)} is not [x, y, depth]"
        )
    depth = place[2]
    if type(depth) not in (int, float) or not 0 < depth <= FARTHEST:  # NaN fails too
        raise ValueError(
            f"object {number}: pixel_coords: depth {reprlib.repr(depth)} is not a number in"
            f" (0, {FARTHEST:g}]"
        )
    return float(depth)


def _items(images: Path, scenes: Sequence[_Scene]) -> Iterator[Item]:
    for file, count, distance in scenes:
        labels = {"count": count, "distance": distance}
        yield Item(images / file, labels, f"{images.name}/{file}")
