"""Mask strategies: one file each, with ``Options``, ``check(grid, options)`` and ``sample``.

``sample(keys, grid, options) -> Masks`` draws the masks of a whole global batch at once and is a
pure function of its arguments. ``check`` raises ``ValueError`` ("<key>: ...") when the grid
cannot hold such masks. Patches are numbered in raster order.

What two strategies share is here and not in one of them: a run depends on this file and on its own
strategy's (``dvc.yaml``).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Keys:
    """What the masks of a global batch are a function of.

    Attributes:
        seed: the run's seed.
        step: the global step; only strategies that tie the images of a batch together use it.
        epochs: the epoch of each image, shape (B,).
        samples: the index of each image in the data set, shape (B,).
    """

    seed: int
    step: int
    epochs: NDArray[np.int64]
    samples: NDArray[np.int64]


class Masks(NamedTuple):
    """Patch indices of a batch; rows of different lengths are padded with index 0.

    Attributes:
        context: patches the context encoder sees, (B, C) int64.
        context_valid: False where ``context`` is padding, (B, C) bool.
        targets: patches to predict, (B, M, T) int64.
        targets_valid: False where ``targets`` is padding, (B, M, T) bool.
        context_count: how many patches all contexts have, counted before the masks went to a GPU,
            which would have to finish all other work to tell; None elsewhere.
        target_count: the same of all targets.
    """

    context: Tensor
    context_valid: Tensor
    targets: Tensor
    targets_valid: Tensor
    context_count: int | None = None
    target_count: int | None = None

    def lengths(self, padding: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of each context (B,) and of each target block (B, M).

        Args:
            padding: all that there is room for, a function of shapes alone; otherwise those that
                name a patch.
        """
        if padding:
            (images, blocks, block), context = self.targets.shape, self.context.shape[1]
            return np.full(images, context), np.full((images, blocks), block)
        return self.context_valid.sum(-1).numpy(), self.targets_valid.sum(-1).numpy()

    def rows(self, start: int, stop: int) -> "Masks":
        """The masks of images ``start`` to ``stop``."""
        context, context_valid, targets, targets_valid = (part[start:stop] for part in self[:4])
        return Masks(context, context_valid, targets, targets_valid)

    def to(self, device: torch.device) -> "Masks":
        """The same masks on another device."""
        seen = asked = None
        if device.type == "cuda":
            seen, asked = int(self.context_valid.sum()), int(self.targets_valid.sum())
        context, context_valid, targets, targets_valid = (
            part.to(device, non_blocking=True) for part in self[:4]
        )
        return Masks(context, context_valid, targets, targets_valid, seen, asked)


def indices(chosen: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Turn chosen patches (..., N) into padded indices (..., L) and their validity (..., L).

    L is the largest number of patches chosen in any row, so nothing is thrown away.
    """
    lengths = chosen.sum(-1)
    longest = max(int(lengths.max()), 1)
    order = np.argsort(~chosen, axis=-1, kind="stable")[..., :longest]
    valid = np.arange(longest) < lengths[..., None]
    return torch.from_numpy(np.where(valid, order, 0)), torch.from_numpy(valid)


def between(bounds: tuple[float, float], u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform numbers of [0, 1) stretched over the bounds."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def block_size(
    scale: NDArray[np.float64], aspect: NDArray[np.float64], grid: tuple[int, int], margin: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Height and width in patches of blocks of the given scale and aspect ratio.

    They are rounded to whole patches and lie from 1 to the grid's side less ``margin``.
    """
    area = scale * (grid[0] * grid[1])
    height = np.clip(np.round(np.sqrt(area * aspect)), 1, grid[0] - margin).astype(np.int64)
    width = np.clip(np.round(np.sqrt(area / aspect)), 1, grid[1] - margin).astype(np.int64)
    return height, width


def rectangles(
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


def blocks(
    u: NDArray[np.float64],
    scale: tuple[float, float],
    aspect: tuple[float, float],
    grid: tuple[int, int],
) -> NDArray[np.bool_]:
    """Blocks of independent scale, aspect ratio, row and column, at every possible position.

    Args:
        u: the blocks' uniform numbers for these four, (..., 4).
        scale: range of the share of the patches.
        aspect: range of height over width.
        grid: rows and columns of patches.

    Returns:
        Chosen patches, (..., N).
    """
    height, width = block_size(between(scale, u[..., 0]), between(aspect, u[..., 1]), grid)
    top = (u[..., 2] * (grid[0] - height + 1)).astype(np.int64)
    left = (u[..., 3] * (grid[1] - width + 1)).astype(np.int64)
    return rectangles(top, left, height, width, grid)


def subset(
    chosen: NDArray[np.bool_], count: NDArray[np.int64] | int, u: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """A uniformly random subset of the chosen patches (..., N); all of them where they are fewer.

    Args:
        chosen: the patches to choose from, (..., N).
        count: patches wanted in each row, shape (...), or one number for all.
        u: a uniform number for every patch, (..., N).
    """
    order = np.argsort(np.where(chosen, u, 1.0), axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    return chosen & (rank < np.asarray(count)[..., None])


def check_blocks(
    grid: tuple[int, int],
    scale: tuple[float, float],
    aspect: tuple[float, float],
    margin: int = 0,
) -> None:
    """Refuse target blocks that the grid, less ``margin``, cannot hold.

    Raises:
        ValueError: the largest block is larger than the grid.
    """
    rows, columns = grid
    most, (flat, tall) = scale[1], aspect
    height, width = (most * rows * columns * tall) ** 0.5, (most * rows * columns / flat) ** 0.5
    if round(height) > rows - margin or round(width) > columns - margin:
        raise ValueError(
            f"target_scale: {most:g} with target_aspect [{flat:g}, {tall:g}] is a block of up to"
            f" {height:.1f} x {width:.1f} patches; the grid has {rows} x {columns}"
        )
