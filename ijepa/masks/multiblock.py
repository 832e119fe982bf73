"""Multi-block masks (Section 3, "Targets" and "Context"; Appendix A.1).

M target blocks of random scale and aspect ratio, which may overlap, and one context block of unit
aspect ratio from which the targets are removed.

``geometry: paper`` (the default) draws every block of every image for itself: scale, aspect ratio,
row and column are independent, every position is possible, and nothing is truncated.

``geometry: official`` has the distribution of the released sampler, which differs (paper-facts 3):
one number sets a block's scale *and* its aspect ratio, all target blocks of a batch have one size,
blocks are at most one patch smaller than the grid and never touch its last row or column, and
every context is cut, in raster order, to the shortest of the batch. The released code does so for
the images of one GPU; here it is the global batch, so that hardware cannot change a mask.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.masks import Keys, Masks, indices
from ijepa.strict import choice, integer, interval

_ATTEMPTS = 20  # draws of an image's blocks before the one with the largest context is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Scales are shares of the patches of an image, aspect ratios are height over width."""

    geometry: str = choice("paper", "official")
    num_targets: int = integer(1, 64)
    target_scale: tuple[float, float] = interval(0, 1)
    target_aspect: tuple[float, float] = interval(0)
    context_scale: tuple[float, float] = interval(0, 1)
    min_context: int = integer(1)  # patches (the paper's code: 10)


def check(grid: tuple[int, int], options: Options) -> None:
    """Refuse options that the grid cannot hold.

    Raises:
        ValueError: a target block is larger than the grid, or too little context is left.
    """
    rows, columns = grid
    scale, (flat, tall) = options.target_scale[1], options.target_aspect
    height, width = (scale * rows * columns * tall) ** 0.5, (scale * rows * columns / flat) ** 0.5
    limit = 0 if options.geometry == "paper" else 1  # official blocks are smaller than the grid
    if round(height) > rows - limit or round(width) > columns - limit:
        raise ValueError(
            f"target_scale: {scale:g} with target_aspect [{flat:g}, {tall:g}] is a block of up to"
            f" {height:.1f} x {width:.1f} patches; the grid has {rows} x {columns}"
        )
    trial = Keys(0, 0, np.zeros(512, np.int64), np.arange(512))
    shortest = int(sample(trial, grid, options).context_valid.sum(1).min())
    if shortest < options.min_context:
        raise ValueError(
            f"min_context: {options.min_context} context patches of a {rows} x {columns} grid are"
            f" more than {options.num_targets} targets of scale {list(options.target_scale)} and a"
            f" context of scale {list(options.context_scale)} leave ({shortest})"
        )


def sample(keys: Keys, grid: tuple[int, int], options: Options) -> Masks:
    """Draw the masks of a global batch.

    Returns:
        Masks with M = ``num_targets``; T is the largest target block of the batch.
    """
    draw = _official if options.geometry == "official" else _paper
    context, targets = draw(keys, grid, options)
    return Masks(*indices(context), *indices(targets))


def _size(
    scale: NDArray[np.float64],
    aspect: NDArray[np.float64] | float,
    grid: tuple[int, int],
    most: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Height and width in patches of blocks of the given scale and aspect ratio."""
    area = scale * (grid[0] * grid[1])
    height = np.clip(np.round(np.sqrt(area * aspect)), 1, grid[0] - most).astype(np.int64)
    width = np.clip(np.round(np.sqrt(area / aspect)), 1, grid[1] - most).astype(np.int64)
    return height, width


def _blocks(
    top: NDArray[np.int64],
    left: NDArray[np.int64],
    height: NDArray[np.int64],
    width: NDArray[np.int64],
    grid: tuple[int, int],
) -> NDArray[np.bool_]:
    """Rectangles of shape (...) as chosen patches of shape (..., N)."""
    row, column = np.arange(grid[0]), np.arange(grid[1])
    in_rows = (row >= top[..., None]) & (row < (top + height)[..., None])
    in_columns = (column >= left[..., None]) & (column < (left + width)[..., None])
    inside = in_rows[..., :, None] & in_columns[..., None, :]
    return inside.reshape(*top.shape, grid[0] * grid[1])


def _between(bounds: tuple[float, float], u: NDArray[np.float64]) -> NDArray[np.float64]:
    return bounds[0] + u * (bounds[1] - bounds[0])


def _paper(
    keys: Keys, grid: tuple[int, int], options: Options
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Chosen context patches (B, N) and target patches (B, M, N), each image for itself."""
    size, blocks, patches = len(keys.samples), options.num_targets, grid[0] * grid[1]
    context = np.zeros((size, patches), bool)
    targets = np.zeros((size, blocks, patches), bool)
    open_rows = np.arange(size)  # images whose best context so far is below min_context
    for attempt in range(_ATTEMPTS):
        u = seeds.uniforms(
            keys.seed,
            f"mask/{attempt}",
            keys.epochs[open_rows],
            keys.samples[open_rows],
            4 * blocks + 3,
        )
        t = u[:, : 4 * blocks].reshape(-1, blocks, 4)
        height, width = _size(
            _between(options.target_scale, t[..., 0]),
            _between(options.target_aspect, t[..., 1]),
            grid,
            0,
        )
        top = (t[..., 2] * (grid[0] - height + 1)).astype(np.int64)
        left = (t[..., 3] * (grid[1] - width + 1)).astype(np.int64)
        drawn = _blocks(top, left, height, width, grid)
        c = u[:, 4 * blocks :]
        height, width = _size(_between(options.context_scale, c[:, 0]), 1.0, grid, 0)
        top = (c[:, 1] * (grid[0] - height + 1)).astype(np.int64)
        left = (c[:, 2] * (grid[1] - width + 1)).astype(np.int64)
        visible = _blocks(top, left, height, width, grid) & ~drawn.any(1)
        better = visible.sum(1) > context[open_rows].sum(1)
        context[open_rows[better]], targets[open_rows[better]] = visible[better], drawn[better]
        open_rows = open_rows[context[open_rows].sum(1) < options.min_context]
        if not len(open_rows):
            break
    assert context.any(1).all(), "check() admits no options that leave an image without context"
    return context, targets


def _official(
    keys: Keys, grid: tuple[int, int], options: Options
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The released sampler's law: chosen context (B, N), truncated, and targets (B, M, N)."""
    size, blocks = len(keys.samples), options.num_targets
    one = seeds.uniforms(keys.seed, "mask/size", 0, np.array([keys.step]), 2)[0]
    patches = grid[0] * grid[1]
    scale = np.floor(_between(options.target_scale, one[0]) * patches) / patches
    height, width = _size(scale, _between(options.target_aspect, one[0]), grid, 1)
    u = seeds.uniforms(keys.seed, "mask/official", keys.epochs, keys.samples, 2 * blocks)
    t = u.reshape(size, blocks, 2)
    top = (t[..., 0] * (grid[0] - height)).astype(np.int64)  # exclusive: never the last position
    left = (t[..., 1] * (grid[1] - width)).astype(np.int64)
    targets = _blocks(top, left, height, width, grid)

    scale = np.floor(_between(options.context_scale, one[1]) * patches) / patches
    height, width = _size(scale, 1.0, grid, 1)
    context = np.zeros((size, patches), bool)
    open_rows = np.arange(size)
    for dropped in range(blocks + 1):  # when retries fail, target exclusions fall one by one
        kept: NDArray[np.bool_] = np.any(targets[:, : blocks - dropped], axis=1)
        for attempt in range(_ATTEMPTS):
            if not len(open_rows):
                break
            purpose = f"mask/official/{dropped}/{attempt}"
            c = seeds.uniforms(
                keys.seed, purpose, keys.epochs[open_rows], keys.samples[open_rows], 2
            )
            top = (c[:, 0] * (grid[0] - height)).astype(np.int64)
            left = (c[:, 1] * (grid[1] - width)).astype(np.int64)
            block = _blocks(top, left, height, width, grid)
            context[open_rows] = np.logical_and(block, ~kept[open_rows])
            open_rows = open_rows[context[open_rows].sum(1) <= options.min_context]
    shortest = context.sum(1).min()
    return context & (np.cumsum(context, axis=1) <= shortest), targets
