"""Mask strategies: one file each, with ``Options``, ``check(grid, options)`` and ``sample``.

``sample(keys, grid, options) -> Masks`` draws the masks of a whole global batch at once and is a
pure function of its arguments. ``check`` raises ``ValueError`` ("<key>: ...") when the grid
cannot hold such masks. Patches are numbered in raster order.
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
    """

    context: Tensor
    context_valid: Tensor
    targets: Tensor
    targets_valid: Tensor

    def rows(self, start: int, stop: int) -> "Masks":
        """The masks of images ``start`` to ``stop``."""
        return Masks(*(tensor[start:stop] for tensor in self))

    def to(self, device: torch.device) -> "Masks":
        """The same masks on another device."""
        return Masks(*(tensor.to(device, non_blocking=True) for tensor in self))


def indices(chosen: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Turn chosen patches (..., N) into padded indices (..., L) and their validity (..., L).

    L is the largest number of patches chosen in any row, so nothing is thrown away.
    """
    lengths = chosen.sum(-1)
    longest = max(int(lengths.max()), 1)
    order = np.argsort(~chosen, axis=-1, kind="stable")[..., :longest]
    valid = np.arange(longest) < lengths[..., None]
    return torch.from_numpy(np.where(valid, order, 0)), torch.from_numpy(valid)
