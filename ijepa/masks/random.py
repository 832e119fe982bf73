"""Random masks (Table 6: Random(0.6)): patches chosen one by one, and all the rest is context."""

from dataclasses import dataclass

import numpy as np

from ijepa import seeds
from ijepa.masks import Keys, Masks, between, indices, subset
from ijepa.strict import interval, once


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The scale is the share of the patches of an image that are targets."""

    target_scale: tuple[float, float] = interval(0, 1)


def check(grid: tuple[int, int], options: Options) -> None:
    """Refuse options that the grid cannot hold.

    Raises:
        ValueError: no patch is a target, or no patch is context.
    """
    patches = grid[0] * grid[1]
    for scale in options.target_scale:
        if not 0 < round(scale * patches) < patches:
            raise ValueError(
                f"target_scale: {scale:g} is {round(scale * patches)} targets of a grid of"
                f" {grid[0]} x {grid[1]} patches; from 1 to {patches - 1} are possible"
            )


def sample(keys: Keys, grid: tuple[int, int], options: Options) -> Masks:
    """Draw the masks of a global batch.

    Returns:
        Masks with M = 1; an image has exactly its scale times N targets, rounded.
    """
    patches = grid[0] * grid[1]
    u = seeds.uniforms(keys.seed, "mask/random", keys.epochs, keys.samples, patches + 1)
    scale = between(options.target_scale, u[:, 0])
    count = np.round(scale * patches).astype(np.int64)
    target = subset(np.ones((len(u), patches), bool), count, u[:, 1:])
    return Masks(*indices(~target), *indices(target[:, None]))
