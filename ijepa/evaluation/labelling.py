"""Which labels an evaluation may use, and whether its probes can do with them."""

import itertools

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds, variants
from ijepa.config import Config
from ijepa.store.read import Store


def labelled(config: Config, data: Store) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The training images whose labels are used, and the rows of them that select."""
    settings, count = config.evaluate, len(data.splits["train"])
    return split(
        config.seeds.labels, settings.train_fraction, settings.held_out, settings.folds, count
    )


def split(
    seed: int, fraction: float, share: float, folds: int, count: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """Which of the ``count`` training images are used, and which of them select.

    Args:
        seed: of the draw.
        fraction: of all images, how many are used; the paper's ablations use 0.01.
        share: of the images used, how many are in one fold.
        folds: how many folds select; ``folds * share`` is at most 1.
        count: training images.

    Returns:
        The images used, ascending indices (n,), and for each fold ascending rows of these; folds
        are disjoint, none is empty and none has all.

    Raises:
        ValueError: fewer than two images, or fewer than folds.
    """
    used = round(fraction * count)
    if used < max(2, folds):
        raise ValueError(
            f"{used} of {count} training images with evaluate.train_fraction"
            f" {fraction:g}; a probe needs at least {max(2, folds)}"
        )
    order = seeds.generator(seed, "held-out").permutation(count).astype(np.int64)[:used]
    # a fold that would be empty gets one image
    ends = [min(used, max(fold, round(fold * share * used))) for fold in range(folds + 1)]
    images = np.sort(order)
    return images, [
        np.searchsorted(images, np.sort(order[first:end]))
        for first, end in itertools.pairwise(ends)
    ]


def check(config: Config, data: Store, width: int | None = None) -> list[str]:
    """Ask every probe whether the labels suffice (its ``check``); nothing is computed.

    Args:
        config: seeds and evaluate are used.
        data: its training labels are used.
        width: of a token, where the encoder is known.

    Returns:
        What the probes will leave out, a line each.

    Raises:
        ValueError: a probe cannot do with them; one line.
    """
    used, folds = labelled(config, data)
    labels = {task: values[used] for task, values in data.splits["train"].labels.items()}
    notes: list[str] = []
    for probe in config.evaluate.probes:
        ask = variants.declared("probes", probe, "check")
        if ask is not None:
            options = config.evaluate.options[probe]
            notes += ask(options, labels, folds, config.seeds.probe, width)
    return notes
