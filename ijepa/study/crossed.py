"""Seeds and images as two crossed samples: how far a difference would move with others of both.

Seeds alone treat the test images as if there were no others: what a variant does better on these
very images is then "decided" with enough seeds. The outcome of every run on every image tells the
two apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW = 6  # seeds


@dataclass(frozen=True, slots=True)
class Error:
    """Standard error of a mean, and its degrees of freedom."""

    size: float
    freedom: float


def error(differences: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> Error:
    """Standard error of the mean of a table, seeds by images, if both are samples.

    Two-way random effects without replication: from the mean squares of seeds, images and what is
    left, var(mean) = (MS_seed + MS_image - MS_rest) / (seeds x images), with Satterthwaite's
    degrees of freedom (1946; Searle, Casella and McCulloch 1992, 5.2). It is never taken to be
    less than seeds alone or images alone would give. Of fewer than ``FEW`` seeds their mean square
    may be small by chance, and the many degrees of freedom of the images would hide that: there
    those of the seeds count (two seeds cover 87 % else, three 92 %).

    Args:
        differences: one row a seed, one column an image, two of each at least.
    """
    table = np.asarray(differences, dtype=np.float64)
    seeds, images = table.shape
    total = table.mean()
    rows, columns = table.mean(1), table.mean(0)
    of_seeds = images * float(((rows - total) ** 2).sum()) / (seeds - 1)
    of_images = seeds * float(((columns - total) ** 2).sum()) / (images - 1)
    rest = table - rows[:, None] - columns[None, :] + total
    freedom = (seeds - 1) * (images - 1)
    of_rest = float((rest**2).sum()) / freedom
    most = seeds - 1.0 if seeds < FEW else math.inf
    both = of_seeds + of_images - of_rest
    alone = max((of_seeds, seeds - 1), (of_images, images - 1))
    if both <= alone[0]:
        return Error(math.sqrt(alone[0] / (seeds * images)), min(most, float(alone[1])))
    parts = of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1) + of_rest**2 / freedom
    return Error(math.sqrt(both / (seeds * images)), min(most, both**2 / parts))
