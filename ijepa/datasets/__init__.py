"""Data sets: one file each, with ``Options`` and ``load(options, root) -> Source``.

``Options`` is a frozen dataclass of the keys of ``params.yaml``'s ``data`` section that the data
set uses. ``load`` opens the raw data under ``root`` (``IJEPA_DATA_ROOT``) and reads no more than
it needs to count; the images are read when a split is iterated. ``ijepa.store.write`` packs a
source into the immutable form that training reads.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The task "distance" (VTAB's Clevr/Dist), which CLEVR and the rendered scenes have: upper edges,
# included, of all bins but the last.
EDGES = (8.0, 8.5, 9.0, 9.5, 10.0)
DISTANCES = ("<= 8.0", "8.0-8.5", "8.5-9.0", "9.0-9.5", "9.5-10.0", "> 10.0")


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled image.

    Attributes:
        image: decoded pixels (H, W, 3) uint8 RGB, the bytes of an encoded file, or the path of
            one that holds this image alone: it is then read in parallel, and may stay in place.
        labels: class index for each task of the source.
        origin: file and index, for error messages.
    """

    image: NDArray[np.uint8] | bytes | Path
    labels: Mapping[str, int]
    origin: str


@dataclass(frozen=True, slots=True)
class Split:
    """``count`` items, in a fixed order; ``items()`` starts a new pass over them."""

    count: int
    items: Callable[[], Iterator[Item]]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files or rows of the raw data that are no items.

    Attributes:
        what: they are, in a few words, and why they are left out.
        count: of them.
        examples: names of the first few.
    """

    what: str
    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A raw data set.

    Attributes:
        splits: ``train`` and at least one of ``val`` and ``test``. Numbers are reported on
            ``test`` where there is one, else on ``val``.
        tasks: the class names of each label, ``{"class": ("cat", "dog"), ...}``. The first task is
            the headline of the report.
        origin: where the data came from (plain JSON, no absolute paths), for the manifest.
        raw: the files that the images are read from, or folders of them; none where they are made.
        left_out: what was seen under ``raw`` and is not in ``splits``, for the manifest.
    """

    splits: Mapping[str, Split]
    tasks: Mapping[str, tuple[str, ...]]
    origin: Mapping[str, Any]
    raw: Sequence[Path] = ()
    left_out: Sequence[LeftOut] = ()


def hidden(path: str) -> bool:
    """Whether a path below a data set's folder has a part that begins with a dot."""
    return any(part.startswith(".") for part in path.split("/"))


def left_out(files: Iterable[tuple[str, str]], most: int = 3) -> list[LeftOut]:
    """Files by what they are: pairs of ``LeftOut.what`` and name, the first of a kind as examples.

    ``most`` is of examples.
    """
    names: dict[str, list[str]] = {}
    counts = Counter[str]()
    for what, name in files:
        counts[what] += 1
        if len(shown := names.setdefault(what, [])) < most:
            shown.append(name)
    return [LeftOut(what, counts[what], tuple(names[what])) for what in sorted(names)]


def unread(path: str) -> str:
    """What a file that is no image is called: ``hidden files``, ``files ending in .heic``.

    Hidden are ``.DS_Store``, ``._001.jpg`` and all below ``.ipynb_checkpoints``.
    """
    if hidden(path):
        return "hidden files"
    if path.endswith("/"):
        return "links to folders"
    suffix = PurePosixPath(path).suffix.lower()
    return f"files ending in {suffix}" if suffix else "files without a suffix"


def distance_bin(depth: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin, 0 to 5, of each depth; a bin includes its upper edge."""
    return np.searchsorted(np.array(EDGES), depth, side="left").astype(np.int64)
