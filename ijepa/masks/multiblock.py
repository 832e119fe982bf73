"""Multi-block masks (Section 3, "Targets" and "Context"; Appendix A.1).

M target blocks of random scale and aspect ratio, which may overlap, and one context block of unit
aspect ratio from which the targets are removed.

``geometry: paper`` (the default) draws every block of every image for itself: scale, aspect ratio,
row and column are independent, every position is possible, and nothing is truncated.

``geometry: official`` has the distribution of the released sampler, which differs:
one number sets a block's scale *and* its aspect ratio, all target blocks of a batch have one size,
blocks are at most one patch smaller than the grid and never touch its last row or column, and
every context is cut, in raster order, to the shortest of its group: ``truncate_group`` images that
follow each other in the global batch, or all of them. In the released code the group is the images
of one GPU, 128 of the 2,048; here it is an option and no hardware, so that hardware cannot change
a mask. On a 16 x 16 grid contexts have .267 of the patches in groups of 128 and .222 in one of
2,048 (means of 200 batches, standard errors .002 and .003).

``context_ratio`` (ours) holds the context of every image at one number of patches: a uniformly
random subset of the visible ones is kept. Without it the size and number of targets and the scale
of the context also set how much context is left, so that Tables 8-10 vary two things at once. An
image with too little context is redrawn, which favours small and overlapping targets: far below
the ratio that ``check`` still admits, redraws are rare and the targets keep their distribution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.masks import (
    Keys,
    Masks,
    between,
    block_size,
    blocks,
    check_blocks,
    indices,
    rectangles,
    subset,
)
from ijepa.strict import choice, integer, interval, maybe, once, real

_ATTEMPTS = 20  # draws of an image's blocks before the one with the largest context is taken


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Scales are shares of the patches of an image, aspect ratios are height over width."""

    geometry: str = choice("paper", "official")
    num_targets: int = integer(1, 64)
    target_scale: tuple[float, float] = interval(0, 1)
    target_aspect: tuple[float, float] = interval(0)
    context_scale: tuple[float, float] = interval(0, 1)
    min_context: int = integer(1)  # patches (the paper's code: 10)
    context_ratio: float | None = maybe(real(0, 1, above=True))  # share of the patches
    truncate_group: int | None = maybe(integer(1))  # images; with geometry official


def check(grid: tuple[int, int], options: Options) -> None:
    """Refuse options that the grid cannot hold.

    Raises:
        ValueError: a target block is larger than the grid, or too little context is left.
    """
    rows, columns = grid
    official, ratio = options.geometry == "official", options.context_ratio
    if official and ratio is not None:
        raise ValueError(
            f"context_ratio: {ratio:g} with geometry official, which cuts every context to the"
            " shortest of the batch: null is possible, or geometry paper"
        )
    if not official and options.truncate_group is not None:
        raise ValueError(
            f"truncate_group: {options.truncate_group} with geometry paper, which cuts no context:"
            " null is possible, or geometry official"
        )
    # official blocks are smaller than the grid
    check_blocks(grid, options.target_scale, options.target_aspect, int(official))
    trial = Keys(0, 0, np.zeros(512, np.int64), np.arange(512))
    draw = _official if official else _paper
    shortest = int(draw(trial, grid, options)[0].sum(1).min())
    if shortest < options.min_context:
        raise ValueError(
            f"min_context: {options.min_context} context patches of a {rows} x {columns} grid are"
            f" more than {options.num_targets} targets of scale {list(options.target_scale)} and a"
            f" context of scale {list(options.context_scale)} leave ({shortest})"
        )
    kept = _kept(grid, options)
    if ratio is not None and not options.min_context <= kept <= shortest:
        raise ValueError(
            f"context_ratio: {ratio:g} is {kept} patches of a {rows} x {columns} grid; from"
            f" {options.min_context} (min_context) to {shortest} are possible with"
            f" {options.num_targets} targets of scale {list(options.target_scale)} and a context"
            f" of scale {list(options.context_scale)}"
        )


def sample(keys: Keys, grid: tuple[int, int], options: Options) -> Masks:
    """Draw the masks of a global batch.

    Returns:
        Masks with M = ``num_targets``; T is the largest target block of the batch.
    """
    if options.geometry == "official":
        context, targets = _official(keys, grid, options)
    elif options.context_ratio is None:
        context, targets = _paper(keys, grid, options)
    else:
        visible, targets = _paper(keys, grid, options, _ATTEMPTS**2)
        u = seeds.uniforms(
            keys.seed, "mask/context_ratio", keys.epochs, keys.samples, visible.shape[1]
        )
        kept = _kept(grid, options)
        context = subset(visible, kept, u)
        # check() saw 512 images get there within _ATTEMPTS draws: here none fails in a lifetime
        assert (context.sum(1) == kept).all()
    return Masks(*indices(context), *indices(targets))


def _kept(grid: tuple[int, int], options: Options) -> int:
    """Patches that ``context_ratio`` leaves in every context; 0 when it is null."""
    return round((options.context_ratio or 0) * grid[0] * grid[1])


def _paper(
    keys: Keys, grid: tuple[int, int], options: Options, attempts: int = _ATTEMPTS
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Visible patches (B, N) and target patches (B, M, N), each image for itself."""
    size, count, patches = len(keys.samples), options.num_targets, grid[0] * grid[1]
    context = np.zeros((size, patches), bool)
    targets = np.zeros((size, count, patches), bool)
    needed = max(options.min_context, _kept(grid, options))
    open_rows = np.arange(size)  # images whose best context so far is below what is needed
    for attempt in range(attempts):
        u = seeds.uniforms(
            keys.seed,
            f"mask/{attempt}",
            keys.epochs[open_rows],
            keys.samples[open_rows],
            4 * count + 3,
        )
        t, c = u[:, : 4 * count].reshape(-1, count, 4), u[:, 4 * count :]
        drawn = blocks(t, options.target_scale, options.target_aspect, grid)
        square = c[:, [0, 0, 1, 2]]  # an aspect ratio of 1 uses up no number
        visible = blocks(square, options.context_scale, (1.0, 1.0), grid) & ~drawn.any(1)
        better = visible.sum(1) > context[open_rows].sum(1)
        context[open_rows[better]], targets[open_rows[better]] = visible[better], drawn[better]
        open_rows = open_rows[context[open_rows].sum(1) < needed]
        if not len(open_rows):
            break
    assert context.any(1).all(), "check() admits no options that leave an image without context"
    return context, targets


def _official(
    keys: Keys, grid: tuple[int, int], options: Options
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The released sampler's law: chosen context (B, N), truncated, and targets (B, M, N)."""
    size, count = len(keys.samples), options.num_targets
    one = seeds.uniforms(keys.seed, "mask/size", 0, np.array([keys.step]), 2)[0]
    patches = grid[0] * grid[1]
    scale = np.floor(between(options.target_scale, one[0]) * patches) / patches
    height, width = block_size(scale, between(options.target_aspect, one[0]), grid, 1)
    u = seeds.uniforms(keys.seed, "mask/official", keys.epochs, keys.samples, 2 * count)
    t = u.reshape(size, count, 2)
    top = (t[..., 0] * (grid[0] - height)).astype(np.int64)  # exclusive: never the last position
    left = (t[..., 1] * (grid[1] - width)).astype(np.int64)
    targets = rectangles(top, left, height, width, grid)

    scale = np.floor(between(options.context_scale, one[1]) * patches) / patches
    height, width = block_size(scale, np.ones(()), grid, 1)
    context = np.zeros((size, patches), bool)
    open_rows = np.arange(size)
    for dropped in range(count + 1):  # when retries fail, target exclusions fall one by one
        kept: NDArray[np.bool_] = np.any(targets[:, : count - dropped], axis=1)
        for attempt in range(_ATTEMPTS):
            if not len(open_rows):
                break
            purpose = f"mask/official/{dropped}/{attempt}"
            c = seeds.uniforms(
                keys.seed, purpose, keys.epochs[open_rows], keys.samples[open_rows], 2
            )
            top = (c[:, 0] * (grid[0] - height)).astype(np.int64)
            left = (c[:, 1] * (grid[1] - width)).astype(np.int64)
            block = rectangles(top, left, height, width, grid)
            context[open_rows] = np.logical_and(block, ~kept[open_rows])
            open_rows = open_rows[context[open_rows].sum(1) <= options.min_context]
    group = options.truncate_group or size
    shortest = np.minimum.reduceat(context.sum(1), np.arange(0, size, group))
    kept_patches = np.repeat(shortest, group)[:size, None]
    return context & (np.cumsum(context, axis=1) <= kept_patches), targets
