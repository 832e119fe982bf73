"""Block masks (Table 6: Block(0.6)): one target block, and all the rest is context.

A block that is higher and wider than half the grid covers the grid's centre wherever it lies, so
with the paper's 0.6 the patches there are never context.
"""

from dataclasses import dataclass

from ijepa import seeds
from ijepa.masks import Keys, Masks, blocks, check_blocks, indices
from ijepa.strict import interval, once


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The scale is a share of the patches of an image, the aspect ratio is height over width."""

    target_scale: tuple[float, float] = interval(0, 1)
    target_aspect: tuple[float, float] = interval(0)


def check(grid: tuple[int, int], options: Options) -> None:
    """Refuse options that the grid cannot hold.

    Raises:
        ValueError: the block is larger than the grid, or can cover all of it.
    """
    check_blocks(grid, options.target_scale, options.target_aspect)
    (rows, columns), (flat, tall) = grid, options.target_aspect
    area = options.target_scale[1] * rows * columns
    # aspect ratios at which the largest block's height, and its width, are rounded to the grid's
    if max(flat, (rows - 0.5) ** 2 / area) <= min(tall, area / (columns - 0.5) ** 2):
        raise ValueError(
            f"target_scale: {options.target_scale[1]:g} with target_aspect [{flat:g}, {tall:g}] is"
            f" a block that can cover all {rows} x {columns} patches of the grid and leave no"
            " context"
        )


def sample(keys: Keys, grid: tuple[int, int], options: Options) -> Masks:
    """Draw the masks of a global batch.

    Returns:
        Masks with M = 1; T is the largest block of the batch.
    """
    u = seeds.uniforms(keys.seed, "mask/block", keys.epochs, keys.samples, 4)
    target = blocks(u, options.target_scale, options.target_aspect, grid)
    return Masks(*indices(~target), *indices(target[:, None]))
