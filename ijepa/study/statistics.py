"""What several seeds say: intervals, and differences of two variants paired by seed.

A seed fixes the initial weights, the order of the images and the random numbers behind the masks
for all variants alike, so two variants are compared within each seed. Where the lock file keeps
which test images each run got right, the images are a sample too (``ijepa.study.crossed``).
``ijepa.study.decision`` says what may be concluded.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t, without the second that scipy.stats takes

from ijepa.study import crossed

LEVEL = 0.95
SEEDS, BOTH = "seeds", "seeds and images"  # what an interval is over
_EXACT = 40  # differences of which all changes of sign can be counted

Right = NDArray[np.bool_]  # of each test image, whether a run got it right


@dataclass(frozen=True)
class Sample:
    """What the runs of a variant at a point gave."""

    values: Mapping[int, float]  # seed -> accuracy, percent
    right: Mapping[int, Right] = field(default_factory=dict)  # of the same metric
    collapsed: frozenset[int] = frozenset()  # seeds whose representation collapsed


@dataclass(frozen=True)
class Spread:
    """Mean of one value a seed, and how far it would move with other seeds.

    ``std`` is the sample's (n - 1). What needs more seeds than there are is None.
    """

    n: int
    mean: float | None
    std: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Share:
    """A probability and its 95 % interval, of 1."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """First minus second, paired by seed."""

    seeds: tuple[int, ...]  # those that both have, in the order in which they are added
    differences: tuple[float, ...]  # first minus second, points, one a seed
    spread: Spread  # of the differences; its interval is over what `over` says
    over: str  # seeds, or seeds and images
    against: int  # seeds in which the first is below the second
    collapsed: tuple[int, ...]  # seeds in which one of the two collapsed
    wins: Share | None  # probability that the first is above the second with a new seed
    flips: float | None  # two-sided p of the sign-flip test, which needs no normality


@dataclass(frozen=True)
class Tails:
    """One-sided p values of three questions about a difference, or about a claim."""

    above: float  # of "it is 0 or less": small where the first is better
    below: float  # of "it is 0 or more": small where the first is worse
    same: float  # of "it is the margin or more, to either side": small where they are alike


def spread(values: Sequence[float], level: float = LEVEL) -> Spread:
    """Mean, standard deviation and t interval of one value a seed.

    Args:
        values: any number of finite values.
        level: probability that such intervals cover the true mean, if the values are normal.
    """
    n = len(values)
    if n < 2:
        return Spread(n, values[0] if n else None, None, None, None)
    # rounded: equal values must have no spread at all
    mean, std = round(float(np.mean(values)), 12), round(float(np.std(values, ddof=1)), 12)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * std / math.sqrt(n)
    return Spread(n, mean, std, mean - half, mean + half)


def turned(of: Spread) -> Spread:
    """The spread of second minus first."""
    low, high = (None if limit is None else -limit for limit in (of.high, of.low))
    return Spread(of.n, None if of.mean is None else -of.mean, of.std, low, high)


def compare(first: Sample, second: Sample, order: Sequence[int]) -> Comparison:
    """Describe how much the first is above the second.

    Args:
        first: the better one as claimed.
        second: the other one.
        order: all seeds, in the order in which they are added. Seeds that only one of the two has
            are left out.
    """
    seeds = tuple(s for s in order if s in first.values and s in second.values)
    differences = paired(first, second, seeds)
    around, over = spread(differences), SEEDS
    if table := _images(first, second, seeds):
        over, wide = BOTH, crossed.error(table)
        half = float(stdtrit(wide.freedom, (1 + LEVEL) / 2)) * wide.size
        mean = around.mean or 0.0
        around = Spread(around.n, mean, around.std, mean - half, mean + half)
    return Comparison(
        seeds, differences, around, over, sum(d < 0 for d in differences),
        tuple(s for s in seeds if s in first.collapsed | second.collapsed),
        wins(differences), flips(differences),
    )  # fmt: skip


def paired(first: Sample, second: Sample, seeds: Sequence[int]) -> tuple[float, ...]:
    """First minus second for each of the seeds, in points."""
    # rounded: 45.1 - 45.0 and 46.1 - 46.0 are the same difference of two percentages
    return tuple(round(first.values[seed] - second.values[seed], 9) for seed in seeds)


def tails(first: Sample, second: Sample, seeds: Sequence[int], margin: float) -> Tails:
    """The one-sided t tests of a difference against 0 and against a margin to either side.

    ``same`` is that of the two one-sided tests (Schuirmann 1987): the larger p of the two.

    Args:
        first: the better one as claimed.
        second: the other one.
        seeds: two at least, which both have.
        margin: the smallest difference that matters, > 0, points.
    """
    around = spread(paired(first, second, seeds))
    assert around.mean is not None
    assert around.std is not None
    wide = crossed.Error(around.std / math.sqrt(around.n), around.n - 1)
    if table := _images(first, second, seeds):
        wide = crossed.error(table)
    return Tails(
        above=_beyond(around.mean, wide),
        below=_beyond(-around.mean, wide),
        same=max(_beyond(margin + side * around.mean, wide) for side in (-1, 1)),
    )


def _beyond(distance: float, wide: crossed.Error) -> float:
    """p of "the true distance is 0 or less"."""
    distance = round(distance, 9)
    if wide.size == 0:  # equal in every seed: the limit of the test
        return float(distance <= 0)
    return float(stdtr(wide.freedom, -distance / wide.size))


def _images(first: Sample, second: Sample, seeds: Sequence[int]) -> list[NDArray[np.float64]]:
    """Differences seed by image, points; nothing unless all runs answered the same images."""
    if len(seeds) < 2 or not all(s in first.right and s in second.right for s in seeds):
        return []
    sides = [(first.right[s], second.right[s]) for s in seeds]
    if len({len(one) for pair in sides for one in pair}) > 1 or len(sides[0][0]) < 2:
        return []
    return [100 * (one.astype(np.float64) - other) for one, other in sides]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979) of p values.

    The chance that any true null hypothesis is rejected stays below the level, whatever the
    dependence of the tests: here all share the reference.
    """
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def wins(differences: Sequence[float]) -> Share | None:
    """Probability that the first beats the second with a new seed, from the seeds that there are.

    The share of positive differences, ties half, with Wilson's score interval (1927).
    """
    n = len(differences)
    if not n:
        return None
    z = float(stdtrit(math.inf, (1 + LEVEL) / 2))
    share = sum(d > 0 for d in differences) / n + sum(d == 0 for d in differences) / (2 * n)
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return Share(share, max(0.0, centre - half) / scale, min(scale, centre + half) / scale)


def flips(differences: Sequence[float]) -> float | None:
    """Two-sided p of the sign-flip test: how many changes of signs give so large a sum.

    It is exact if the differences scatter alike to both sides of 0, whatever their law. All 2^n
    changes of sign are counted: sums of either half of the differences, one half sorted.

    Returns:
        The p value; None for fewer than two differences or more than 40.
    """
    if not 2 <= len(differences) <= _EXACT:
        return None
    least = abs(sum(differences)) - 1e-9  # the sum itself must count
    half = len(differences) // 2
    one, other = _signed(differences[:half]), np.sort(_signed(differences[half:]))
    above = len(other) - np.searchsorted(other, least - one, side="left")
    below = np.searchsorted(other, -least - one, side="right")
    return min(1.0, float((above + below).sum()) / 2.0 ** len(differences))


def _signed(values: Sequence[float]) -> NDArray[Any]:
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums
