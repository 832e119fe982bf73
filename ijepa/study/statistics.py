"""What several seeds say: intervals, differences paired by seed, and what may be concluded.

The sample is the seeds. A seed fixes the initial weights, the order of the images and the random
numbers behind the masks for all variants alike, so two variants are compared within each seed.
With fewer than ``ENOUGH`` paired seeds nothing is called decided: at n = 3 a t interval exists,
but one odd seed makes or breaks it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit  # Student's t, without the second that scipy.stats takes

LEVEL = 0.95
ENOUGH = 6  # paired seeds
MOST = 1000  # seeds that anybody could think of running

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NOTHING_CLAIMED = "nothing is claimed"


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
class Comparison:
    """First minus second, paired by seed, against a margin by which the first should be better.

    ``needed`` is the number of seeds at which the mean and standard deviation seen here would be
    decided; None if that is more than ``MOST``, or if fewer than two seeds tell.
    """

    seeds: tuple[int, ...]  # those that both have, in order
    differences: tuple[float, ...]  # first minus second, one a seed
    spread: Spread  # of the differences
    margin: float  # what the difference should exceed
    against: int  # seeds in which the difference is below the margin
    p: float | None  # two-sided paired t test of the mean being the margin; None below two seeds
    adjusted: float | None  # p after Holm's correction for all comparisons of the table
    decision: str  # holds, does not hold, or undecided
    needed: int | None


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
    half = float(_half_widths(1 - level, n, n)[0]) * std
    return Spread(n, mean, std, mean - half, mean + half)


def compare(
    pairs: Sequence[tuple[Mapping[int, float], Mapping[int, float]]], margin: float = 0.0
) -> list[Comparison]:
    """Compare the first with the second of each pair; all pairs are one table for Holm.

    A pair is decided when it has ``ENOUGH`` seeds and its adjusted p is below 0.05, to either side
    of the margin. As the adjusted p is never below the plain one, the 95 % interval of a decided
    difference leaves the margin out.

    Args:
        pairs: seed -> value, of the better and of the worse as claimed. Seeds that only one has
            are left out.
        margin: what the difference should exceed.
    """
    found = [_compare(first, second, margin, len(pairs)) for first, second in pairs]
    adjusted = holm([one.p for one in found])
    return [
        replace(one, adjusted=p, decision=_decision(one.spread, margin, p))
        for one, p in zip(found, adjusted, strict=True)
    ]


def _compare(
    first: Mapping[int, float], second: Mapping[int, float], margin: float, family: int
) -> Comparison:
    seeds = tuple(sorted(first.keys() & second.keys()))
    # rounded: 45.1 - 45.0 and 46.1 - 46.0 are the same difference of two percentages
    differences = tuple(round(first[seed] - second[seed], 9) for seed in seeds)
    around = spread(differences)
    p = needed = None
    if around.mean is not None and around.std is not None:
        distance = round(around.mean - margin, 9)
        p = _p(distance, around.std, around.n)
        needed = seeds_needed(distance, around.std, (1 - LEVEL) / family)
    against = sum(difference < margin for difference in differences)
    # of the whole table: adjusted, and with it the decision
    return Comparison(seeds, differences, around, margin, against, p, None, UNDECIDED, needed)


def _p(distance: float, std: float, n: int) -> float:
    if std == 0:  # equal in every seed: the limit of the test
        return float(distance == 0)
    return float(2 * stdtr(n - 1, -abs(distance) / std * math.sqrt(n)))


def _decision(around: Spread, margin: float, adjusted: float | None) -> str:
    if around.n < ENOUGH or adjusted is None or adjusted >= 1 - LEVEL:
        return UNDECIDED
    assert around.mean is not None
    return HOLDS if around.mean > margin else FAILS


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) of the p values there are; None stays None.

    The chance that any true null hypothesis is rejected stays below the level, whatever the
    dependence of the tests: here all share the reference.
    """
    order = sorted((i for i, p in enumerate(ps) if p is not None), key=lambda i: ps[i] or 0.0)
    adjusted: list[float | None] = [None] * len(ps)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * (ps[i] or 0.0)))
        adjusted[i] = highest
    return adjusted


def seeds_needed(distance: float, std: float, alpha: float = 1 - LEVEL) -> int | None:
    """Smallest n >= ``ENOUGH`` whose t half-width for ``std`` is below the distance; or None.

    Args:
        distance: of the mean difference from the margin, of either sign.
        std: standard deviation of the differences.
        alpha: 1 - level. 0.05 / m is enough for Holm's correction of m comparisons.
    """
    halves = _half_widths(alpha, ENOUGH, MOST) * std
    below = halves < abs(distance)
    return ENOUGH + int(np.argmax(below)) if below.any() else None


@cache
def _half_widths(alpha: float, first: int, last: int) -> NDArray[Any]:
    """Half the width of the t interval in standard deviations, at n = first, ..., last."""
    n = np.arange(first, last + 1)
    return np.asarray(stdtrit(n - 1, 1 - alpha / 2) / np.sqrt(n))


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Of a claim: it holds if all its pairs hold, and does not if one is decided against it."""
    decisions = {one.decision for one in comparisons}
    if not decisions:
        return NOTHING_CLAIMED
    return FAILS if FAILS in decisions else HOLDS if decisions == {HOLDS} else UNDECIDED


def seeds_to_decide(comparisons: Sequence[Comparison]) -> int | None:
    """How many seeds would decide the claim, if means and standard deviations stayed as they are.

    One pair that points against the claim is enough to decide it; else all pairs have to hold.

    Returns:
        A number of seeds, or None: more than ``MOST``, or too few seeds to tell.
    """
    against = [one for one in comparisons if (one.spread.mean or 0.0) < one.margin]
    numbers = [one.needed for one in against or comparisons if one.spread.n > 1]
    if against:
        return min((n for n in numbers if n is not None), default=None)
    known = [n for n in numbers if n is not None]
    return max(known) if known and len(known) == len(comparisons) else None
