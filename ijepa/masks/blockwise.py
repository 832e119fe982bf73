"""Blockwise masks (BEiT, arXiv 2106.08254, Algorithm 1; data2vec and iBOT use them too).

Rectangles are hidden one after the other, anywhere and possibly overlapping, until a share of the
patches is hidden; the hidden patches are the one target, and all the rest is context. A
rectangle's area is uniform between ``block_patches`` and what is still to be hidden, its aspect
ratio log-uniform. One as high or as wide as the grid, or more (the released code), or that would
hide nothing or too much, is drawn again.

BEiT gives up after ten misses in a row and hides fewer patches than asked for. Here the share is
exact: after ten misses in a row the patches that are still missing are a uniformly random part of
the next rectangle that has enough of them. So equal images hide equally many patches.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.masks import Keys, Masks, between, indices, rectangles, subset
from ijepa.strict import integer, interval, once, real

_MISSES = 10  # in a row, before a rectangle is hidden in part (BEiT: before it gives up)
_ROUNDS = 1000  # rectangles of an image before the missing patches are drawn one by one


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The scale is the share of an image's patches that is hidden; aspect is height over width."""

    target_scale: tuple[float, float] = interval(0, 1)  # data2vec: 120 of 196; iBOT: 0.1 to 0.5
    target_aspect: tuple[float, float] = interval(0)  # BEiT: 0.3 to 1 / 0.3
    block_patches: int = integer(1)  # of the smallest rectangle (BEiT, data2vec: 16 of 196)
    unmasked: float = real(0, 1)  # probability that an image hides nothing (iBOT: 0.5)


def check(grid: tuple[int, int], options: Options) -> None:
    """Refuse options that the grid cannot hold.

    Raises:
        ValueError: no patch is hidden, or none is visible, or the smallest rectangle never fits.
    """
    (rows, columns), (flat, tall) = grid, options.target_aspect
    patches, least = rows * columns, options.block_patches
    for scale in options.target_scale:
        if not 0 < round(scale * patches) < patches:
            raise ValueError(
                f"target_scale: {scale:g} is {round(scale * patches)} hidden patches of a grid of"
                f" {rows} x {columns}; from 1 to {patches - 1} are possible"
            )
    # aspect ratios at which its width, and its height, are rounded to less than the grid's
    if max(flat, least / (columns - 0.5) ** 2) > min(tall, (rows - 0.5) ** 2 / least):
        raise ValueError(
            f"block_patches: a block of {least} patches with target_aspect [{flat:g}, {tall:g}]"
            f" is not smaller than a grid of {rows} x {columns} in both directions"
        )


def sample(keys: Keys, grid: tuple[int, int], options: Options) -> Masks:
    """Draw the masks of a global batch.

    Returns:
        Masks with M = 1; an image has exactly its share times N targets, rounded, or none at all
        with probability ``unmasked``.
    """
    size, patches = len(keys.samples), grid[0] * grid[1]
    u = seeds.uniforms(keys.seed, "mask/blockwise", keys.epochs, keys.samples, 2)
    wanted = np.round(between(options.target_scale, u[:, 0]) * patches).astype(np.int64)
    wanted[u[:, 1] < options.unmasked] = 0
    hidden, misses = np.zeros((size, patches), bool), np.zeros(size, np.int64)
    for number in range(_ROUNDS):
        rows = np.flatnonzero(hidden.sum(1) < wanted)
        if not len(rows):
            break
        missing = wanted[rows] - hidden[rows].sum(1)
        u = _uniforms(keys, rows, f"mask/blockwise/{number}", 4)
        fresh = _rectangles(u, missing, grid, options) & ~hidden[rows]
        count = fresh.sum(1)
        too_many = (count > missing) & (misses[rows] >= _MISSES)
        if too_many.any():
            order = _uniforms(keys, rows[too_many], f"mask/blockwise/{number}/part", patches)
            fresh[too_many] = subset(fresh[too_many], missing[too_many], order)
        hit = (count > 0) & ((count <= missing) | too_many)
        hidden[rows[hit]] |= fresh[hit]
        misses[rows] = np.where(hit, 0, misses[rows] + 1)
    rows = np.flatnonzero(hidden.sum(1) < wanted)
    if len(rows):  # what is asked for is nearly the whole grid, or hardly any rectangle fits it
        order = _uniforms(keys, rows, "mask/blockwise/rest", patches)
        hidden[rows] |= subset(~hidden[rows], wanted[rows] - hidden[rows].sum(1), order)
    return Masks(*indices(~hidden), *indices(hidden[:, None]))


def _uniforms(
    keys: Keys, rows: NDArray[np.int64], purpose: str, count: int
) -> NDArray[np.float64]:
    """``count`` uniform numbers of each of some images, (rows, count)."""
    return seeds.uniforms(keys.seed, purpose, keys.epochs[rows], keys.samples[rows], count)


def _rectangles(
    u: NDArray[np.float64], missing: NDArray[np.int64], grid: tuple[int, int], options: Options
) -> NDArray[np.bool_]:
    """A rectangle for each image as chosen patches (B, N); none where it spans the grid or more.

    Args:
        u: uniform numbers for area, aspect ratio, row and column, (B, 4).
        missing: patches still to be hidden, (B,).
        grid: rows and columns of patches.
        options: the smallest rectangle and the aspect ratios.
    """
    least, (flat, tall) = options.block_patches, options.target_aspect
    area = least + u[:, 0] * (missing - least)
    aspect = np.exp(between((np.log(flat), np.log(tall)), u[:, 1]))
    height = np.round(np.sqrt(area * aspect)).astype(np.int64)
    width = np.round(np.sqrt(area / aspect)).astype(np.int64)
    fits = (height >= 1) & (width >= 1) & (height < grid[0]) & (width < grid[1])
    height, width = np.where(fits, height, 0), np.where(fits, width, 0)
    top = (u[:, 2] * (grid[0] - height + 1)).astype(np.int64)
    left = (u[:, 3] * (grid[1] - width + 1)).astype(np.int64)
    return rectangles(top, left, height, width, grid)
