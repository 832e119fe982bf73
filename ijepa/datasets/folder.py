"""Folders of image files, one for each class: ImageNet's layout.

Under ``data.path``: ``train/<class>/*.JPEG``, and ``val/<class>/...`` or ``test/<class>/...`` or
both, at any depth below the class. Classes are the sorted names of the folders, images come in the
sorted order of their paths. Files that are hidden, in a hidden folder, or no images by their names
are left out and counted.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ijepa.datasets import Item, Source, Split, hidden, left_out, unread
from ijepa.strict import once, text

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the folders are."""

    path: str = text()  # folder under IJEPA_DATA_ROOT


def load(options: Options, root: Path) -> Source:
    """List the images of a folder tree.

    Raises:
        ValueError: no such folder, no splits, no images, or splits of different classes.
    """
    folder = root / options.path
    if not folder.is_dir():
        raise ValueError(f"data.path: {options.path}: no such folder in IJEPA_DATA_ROOT {root}")
    trees, names = {}, ("train", "val", "test")
    beside = sorted(place.name for place in folder.iterdir() if place.name not in names)
    others = [("files and folders beside train, val and test", place) for place in beside]
    for name in names:
        trees[name], unpacked = _classes(folder / name)
        others += [(what, f"{name}/{path}") for what, path in unpacked]
    # ImageNet's test images have no class folders: nothing can be measured on them
    files = {name: classes for name, classes in trees.items() if classes}
    if "train" not in files or len(files) == 1:
        raise ValueError(f"data.path: {options.path}: {_what_is_wrong(folder, files)}")
    train = files["train"]
    for name, classes in files.items():
        if odd := sorted(set(classes) ^ set(train)):
            which = "only in" if odd[0] in classes else "not in"
            raise ValueError(f"{folder / name}: the class {odd[0]!r} is {which} {name}")
        for label, paths in classes.items():
            if not paths:
                raise ValueError(f"{folder / name / label}: a folder without images")
    splits = {
        name: Split(
            sum(map(len, classes.values())),
            functools.partial(_items, folder / name, list(classes.values())),
        )
        for name, classes in files.items()
    }
    return Source(
        splits,
        {"class": tuple(train)},
        {"form": "folder", "path": options.path},
        [folder],
        left_out(others),
    )


def _classes(folder: Path) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """The images of each class folder, and all other files with what they are.

    Paths are below ``folder``; both are empty where there is none.
    """
    classes: dict[str, list[str]] = {}
    others: list[tuple[str, str]] = []
    places = sorted(folder.iterdir(), key=lambda place: place.name) if folder.is_dir() else []
    for place in places:
        images = []
        for path in _files(folder, place.name) if place.is_dir() else [place.name]:
            if hidden(path) or not path.lower().endswith(SUFFIXES):
                others.append((unread(path), path))
            elif place.is_dir():
                images.append(path)
            else:
                others.append((f"images of {folder.name} in no class folder", path))
        if place.is_dir() and not hidden(place.name):
            classes[place.name] = sorted(images)
    return classes, others


def _files(folder: Path, name: str) -> list[str]:
    """Every file below ``folder / name`` in a fixed order; links to folders, as ``link/``, too."""

    def fail(error: OSError) -> None:
        raise ValueError(f"{error.filename}: cannot be read: {error.strerror}")

    paths = []
    for place, folders, names in os.walk(folder / name, onerror=fail):
        folders.sort()
        above = os.path.relpath(place, folder)
        links = [f"{link}/" for link in folders if Path(place, link).is_symlink()]
        paths += [f"{above}/{file}" for file in sorted(names + links)]
    return paths


def _what_is_wrong(folder: Path, files: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    wanted = f"{folder} needs train/<class>/ and val/<class>/ or test/<class>/ with images"
    inside = sorted(place.name for place in folder.iterdir() if place.is_dir())
    if not inside:
        return f"a folder without images; {wanted}"
    if not files and not {"train", "val", "test"} & set(inside):
        return (
            f"{wanted}; it has {', '.join(inside[:5])}; if they are classes, move them into train/"
            " and val/"
        )
    flat = [name for name in ("val", "test") if name in inside and name not in files]
    hint = (
        f"; {' and '.join(flat)} has files but no class folders, as ImageNet's val is published:"
        " sort them into class folders"
        if files and flat
        else ""
    )
    return f"{wanted}; it has classes in {', '.join(files) or 'none of them'}{hint}"


def _items(folder: Path, classes: Sequence[Sequence[str]]) -> Iterator[Item]:
    for label, paths in enumerate(classes):
        for path in paths:
            yield Item(folder / path, {"class": label}, f"{folder.name}/{path}")
