"""Rasterized masks (Table 6): of the four quadrants one is the context, three are targets.

Which one is drawn uniformly for every image. On a grid of odd side the lower and the right
quadrants have the row and the column more.
"""

from dataclasses import dataclass

import numpy as np

from ijepa import seeds
from ijepa.masks import Keys, Masks, indices
from ijepa.strict import once

_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])  # quadrants, in raster order


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """There is nothing to choose."""


def check(grid: tuple[int, int], options: Options) -> None:
    """Refuse a grid that has no four quadrants.

    Raises:
        ValueError: the grid has one row or one column.
    """
    if min(grid) < 2:
        raise ValueError(
            f"name: rasterized cannot split a grid of {grid[0]} x {grid[1]} patches in quadrants;"
            " 2 x 2 is the least"
        )


def sample(keys: Keys, grid: tuple[int, int], options: Options) -> Masks:
    """Draw the masks of a global batch.

    Returns:
        Masks with M = 3, the targets in raster order.
    """
    row, column = np.arange(grid[0]) >= grid[0] // 2, np.arange(grid[1]) >= grid[1] // 2
    quadrant = (2 * row[:, None] + column).ravel()
    u = seeds.uniforms(keys.seed, "mask/rasterized", keys.epochs, keys.samples, 1)[:, 0]
    drawn = (4 * u).astype(np.int64)
    context, targets = quadrant == drawn[:, None], quadrant == _OTHERS[drawn][..., None]
    return Masks(*indices(context), *indices(targets))
