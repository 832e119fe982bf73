"""Data sets: one file each, with ``Options`` and ``load(options, root) -> Source``.

``Options`` is a frozen dataclass of the keys of ``params.yaml``'s ``data`` section that the data
set uses. ``load`` opens the raw data under ``root`` (``IJEPA_DATA_ROOT``) and reads no more than
it needs to count; the images are read when a split is iterated. ``ijepa.store.write`` packs a
source into the immutable form that training reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
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


def distance_bin(depth: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin, 0 to 5, of each depth; a bin includes its upper edge."""
    return np.searchsorted(np.array(EDGES), depth, side="left").astype(np.int64)
