"""Which images are labelled when few are: draws that keep the classes' shares, and folds.

A draw is the beginning of a random order of each class's images, so a smaller draw lies within a
larger one of the same order, and no class with an image is without a label.
"""

import numpy as np
from numpy.typing import NDArray


def places(labels: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each image's place among those of its class.

    Args:
        labels: class of each image, (n,).
        order: a permutation of the images, (n,).

    Returns:
        Numbers from 0, (n,).
    """
    places = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        places[members] = np.arange(len(members))
    return places


def fraction(
    labels: NDArray[np.int64], share: float, order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """A share of each class's images, at least one of each.

    Args:
        labels: class of each image, (n,).
        share: in (0, 1].
        order: a permutation of the images, (n,).

    Returns:
        Indices of the labelled images, ascending.
    """
    wanted = np.maximum(1, np.rint(share * np.bincount(labels)))
    return np.flatnonzero(places(labels, order) < wanted[labels])


def shots(labels: NDArray[np.int64], count: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
    """``count`` images of each class, or all of a class that has fewer: ascending indices."""
    return np.flatnonzero(places(labels, order) < count)


def folds(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The fold of each image, (n,): of equal size and equal shares of every class, give or take 1.

    Args:
        labels: class of each image, (n,).
        count: number of folds, at most n.
    """
    folds = np.empty(len(labels), np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % count
    return folds
