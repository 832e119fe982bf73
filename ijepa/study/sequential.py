"""Looks at the data while seeds are added, at one error over all of them.

A test that is read again after every few seeds decides too often: at one-sided 5 % and looks at 6,
12 and 24 seeds a true null hypothesis falls in 10 %. With Pocock's design (1977) every look uses
one nominal level, so small that all looks together keep the error. The p values of the looks are
of paired t tests; their joint law is taken to be that of normal sums with independent increments
(the significance-level approach, Jennison and Turnbull 2000, 2.6 and 11.3).
``benchmarks/decisions.py`` shows what that costs at six seeds.
"""

import itertools
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

LOOKS, ERROR = (6, 12, 24), 0.05  # what an experiment plans if its file does not say it

_NODES = 128  # of a quadrature: the probability is then right to 1e-8, for 40 looks too
_FAR = 7.0  # standard deviations below 0 that a path hardly comes back from: 1e-12
_UNIT = np.polynomial.legendre.leggauss(_NODES)  # points and weights on [-1, 1]


def overall(p: float, looks: Sequence[int]) -> float:
    """Chance, under the null hypothesis, that the p value of any planned look is so small.

    A function of the smallest p value so far gives a p value that is valid whenever one stops:
    it is at most alpha with probability alpha.

    Args:
        p: one-sided nominal p value, the smallest of the looks so far.
        looks: seeds at all planned looks, ascending, those to come too.
    """
    return 1.0 if p >= 1 else _crossing(float(p), tuple(looks)) if p > 0 else 0.0


@cache
def nominal(error: float, looks: tuple[int, ...]) -> float:
    """The one-sided level of each look at which all of them together have the ``error``."""
    low, high = 0.0, error  # bisection: the chance grows with the level
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _crossing(middle, looks) > error else (middle, high)
    return low


def _crossing(p: float, looks: tuple[int, ...]) -> float:
    """That sums of normals cross the boundary at one of the looks.

    The recursion of Armitage, McPherson and Rowe (1969): the density of the sums that have not
    crossed yet is carried from look to look on Gauss-Legendre nodes.
    """
    boundary = -float(ndtri(p))
    sizes = np.asarray(looks, dtype=float)
    crossed = float(ndtr(-boundary))
    points, weights = _nodes(math.sqrt(sizes[0]), boundary)
    density = weights * _normal(points / math.sqrt(sizes[0])) / math.sqrt(sizes[0])
    for before, now in itertools.pairwise(sizes):
        step = math.sqrt(now - before)
        crossed += float(density @ ndtr((points - boundary * math.sqrt(now)) / step))
        following, weights = _nodes(math.sqrt(now), boundary)
        moved = _normal((following[:, None] - points[None, :]) / step) / step
        density, points = weights * (moved @ density), following
    return min(1.0, crossed)


def _nodes(scale: float, boundary: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points and weights between what is far below and the boundary."""
    points, weights = _UNIT
    half = (boundary + _FAR) / 2 * scale
    return half * (points + 1) - _FAR * scale, weights * half


def _normal(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))
