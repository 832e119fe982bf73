"""Folders of image files, one for each class: ImageNet's layout.

Under ``data.path``: ``train/<class>/*.JPEG``, and ``val/<class>/...`` or ``test/<class>/...`` or
both. Any image format that Pillow reads will do, at any depth below the class. Classes are the
sorted names of the folders, images come in the sorted order of their paths, and hidden files and
files that are not images by their names are left alone.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ijepa.datasets import Item, Source, Split
from ijepa.strict import once, text

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)


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
    trees = {name: _classes(folder / name) for name in ("train", "val", "test")}
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
        splits, {"class": tuple(train)}, {"form": "folder", "path": options.path}, [folder]
    )


def _classes(folder: Path) -> dict[str, list[str]]:
    """The images of each class folder, as paths below ``folder``; {} where it has no class."""
    if not folder.is_dir():
        return {}
    names = sorted(
        place.name for place in folder.iterdir() if place.is_dir() and place.name[0] != "."
    )
    return {
        name: sorted(
            str(path.relative_to(folder))
            for path in (folder / name).rglob("*")
            if path.suffix.lower() in SUFFIXES and path.name[0] != "."
        )
        for name in names
    }


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
    return f"{wanted}; it has classes in {', '.join(files) or 'none of them'}"


def _items(folder: Path, classes: Sequence[Sequence[str]]) -> Iterator[Item]:
    for label, paths in enumerate(classes):
        for path in paths:
            yield Item(folder / path, {"class": label}, f"{folder.name}/{path}")
