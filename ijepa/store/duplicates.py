"""Equal images, in two splits or two classes: counted while a data set is packed.

Two images are equal when their bytes are: of the encoded file where the source has one, else of
the pixels. The same picture saved twice by different programs is not found. Images are compared by
64-bit hashes, 8 bytes of memory each: among n different ones a false pair has the probability
n^2 / 2^65, which is 5e-6 for 14 million.
"""

import hashlib
import itertools
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXAMPLES = 5  # pairs that the manifest names


def fingerprint(image: NDArray[np.uint8] | bytes) -> int:
    """64 bits of BLAKE2b of an encoded file, or of the pixels (H, W, 3) and their shape."""
    digest = hashlib.blake2b(digest_size=8)
    if isinstance(image, np.ndarray):
        digest.update(repr(image.shape).encode())
        image = image.tobytes()
    digest.update(image)
    return int.from_bytes(digest.digest(), "little")


class Census:
    """The fingerprints and labels of every split."""

    def __init__(self) -> None:
        self._prints: dict[str, NDArray[np.uint64]] = {}
        self._labels: dict[str, NDArray[np.int32]] = {}

    def add(self, split: str, prints: "array[int]", labels: NDArray[np.int32]) -> None:
        """Take a split.

        Args:
            split: its name.
            prints: the fingerprint of each image, ``array("Q")`` of length n.
            labels: class index for each task, (tasks, n).
        """
        self._prints[split] = np.frombuffer(prints, dtype=np.uint64)
        self._labels[split] = labels

    def count(self) -> dict[str, Any]:
        """What is equal, as plain JSON for the manifest.

        Returns:
            ``within``: split -> images of it that equal an earlier one of it; ``across``:
            ``"test in train"`` -> images of test that train has too, for every pair of splits;
            ``classes``: different images that occur under more than one label; ``examples``: the
            first few pairs of equal images in two splits or two classes, each
            ``[[split, index], [split, index]]``, counted from 0 as they are packed.
        """
        names = list(self._prints)
        every = np.concatenate([self._prints[name] for name in names])
        every.sort()
        repeated = np.unique(every[1:][every[1:] == every[:-1]])
        del every
        rows = {name: np.flatnonzero(_isin(self._prints[name], repeated)) for name in names}
        prints = {name: self._prints[name][rows[name]] for name in names}
        pairs = itertools.combinations(names, 2)
        return {
            "within": {name: len(prints[name]) - len(np.unique(prints[name])) for name in names},
            "across": {
                f"{second} in {first}": int(_isin(prints[second], np.unique(prints[first])).sum())
                for first, second in pairs
            },
            **self._conflicts(rows, prints),
        }

    def _conflicts(
        self, rows: Mapping[str, NDArray[np.int64]], prints: Mapping[str, NDArray[np.uint64]]
    ) -> dict[str, Any]:
        """Among images that are not unique: how many have two labels, and pairs to look at."""
        split = np.repeat(np.arange(len(rows)), [len(places) for places in rows.values()])
        index = np.concatenate(list(rows.values()))
        value = np.concatenate(list(prints.values()))
        labels = np.concatenate([self._labels[name][:, rows[name]] for name in rows], axis=1)
        order = np.argsort(value, kind="stable")  # by split and index already
        split, index, value, labels = split[order], index[order], value[order], labels[:, order]
        equal = value[1:] == value[:-1]
        relabelled = equal & (labels[:, 1:] != labels[:, :-1]).any(0)
        odd = np.flatnonzero(relabelled | (equal & (split[1:] != split[:-1])))
        names = list(rows)
        pairs = sorted(
            [[int(split[k]), int(index[k])] for k in (row, row + 1)] for row in odd.tolist()
        )
        return {
            "classes": len(np.unique(value[1:][relabelled])),
            "examples": [[[names[s], i] for s, i in pair] for pair in pairs[:_EXAMPLES]],
        }


def _isin(values: NDArray[np.uint64], ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which values are among the ordered ones; faster than ``np.isin``, which sorts the values."""
    if not len(ordered):
        return np.zeros(len(values), bool)
    place = np.searchsorted(ordered, values)
    place[place == len(ordered)] = 0
    present: NDArray[np.bool_] = ordered[place] == values
    return present


def said(counts: Mapping[str, Any]) -> list[str]:
    """A line for everything of ``Census.count`` that is not zero."""
    lines = []
    for pair, count in counts["across"].items():
        second, first = pair.split(" in ")
        lines.append((count, f"of {second} in {first} too"))
    lines.append((counts["classes"], "in two classes or more"))
    for name, count in counts["within"].items():
        lines.append((count, f"of {name} that {name} has already"))
    return [
        f"{count} {'image' if count == 1 else 'images'} {place}" for count, place in lines if count
    ]


def refuse(counts: Mapping[str, Any]) -> None:
    """Refuse equal images in two splits or two classes; copies within a split are no leak.

    Raises:
        ValueError: there are some; names the first pair.
    """
    if not counts["examples"]:
        return
    (first, one), (second, other) = counts["examples"][0]
    raise ValueError(
        f"data.duplicates: refuse: {'; '.join(said(counts))}; the first: image {one} of {first} is"
        f" image {other} of {second}; remove them from the raw data, or data.duplicates: report"
    )
