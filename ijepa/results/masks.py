"""How much of an image is context, and how much one target has, over many drawn masks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import variants
from ijepa.config import Config, as_tree, grid
from ijepa.masks import Keys, Masks


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of an image's patches; ``counts[i]`` lie from ``edges[i]`` to ``edges[i + 1]``."""

    mean: float
    smallest: float
    largest: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """Of ``masks`` images; ``target_scale`` is what was asked for, where the strategy has that."""

    masks: int
    context: Histogram
    target: Histogram
    target_scale: tuple[float, float] | None


def draw(settings: Config, step: int, size: int) -> Masks:
    """Masks of ``size`` images that are numbered one after another, in epoch 0."""
    samples = np.arange(size, dtype=np.int64) + step * size
    keys = Keys(settings.seeds.mask, step, np.zeros(size, dtype=np.int64), samples)
    masks: Masks = variants.load("masks", settings.mask.name).sample(
        keys, grid(settings), settings.mask.options
    )
    return masks


def shares(settings: Config, images: int = 2048) -> Shares:
    """The shares of ``images`` images, rounded down to whole batches (but at least one)."""
    size = settings.train.batch_size
    drawn = [draw(settings, step, size) for step in range(max(1, images // size))]
    patches = grid(settings)[0] * grid(settings)[1]
    context = np.concatenate([m.context_valid.sum(1).numpy() for m in drawn])
    target = np.concatenate([m.targets_valid.sum(2).numpy().ravel() for m in drawn])
    wanted = as_tree(settings.mask).get("target_scale")
    return Shares(
        masks=len(context),
        context=_histogram(context, patches),
        target=_histogram(target, patches),
        target_scale=(wanted[0], wanted[1]) if wanted else None,
    )


def _histogram(counted: NDArray[np.int64], patches: int) -> Histogram:
    share = counted / patches
    # a bin for each possible number of patches up to 64 of them, so that bars cannot alias
    width = max(1, patches // 64) / patches
    low = np.floor(share.min() / width) - 1
    edges = (np.arange(low, np.ceil(share.max() / width) + 2) - 0.5) * width
    counts = np.histogram(share, edges)[0]
    return Histogram(
        float(share.mean()), float(share.min()), float(share.max()),
        edges=tuple(edges.tolist()), counts=tuple(counts.tolist()),
    )  # fmt: skip
