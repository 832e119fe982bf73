import math

import numpy as np
import pytest
from scipy.stats import binomtest

from ijepa.evaluation.intervals import paired_difference, wilson


@pytest.mark.parametrize(
    ("right", "count"), [(0, 10), (1, 10), (81, 263), (4210, 10000), (10, 10)]
)
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_equals_scipy(right: int, count: int, level: float) -> None:
    expected = binomtest(right, count).proportion_ci(level, method="wilson")
    assert wilson(right, count, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_equals_a_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, Table I: 81 of 263, and 0 of 20
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_paired_difference_equals_a_published_example() -> None:
    # Bentur et al. 2009 in Fagerland et al. 2014: 21 children, discordant 1 and 7
    assert paired_difference(1, 7, 21) == pytest.approx((-0.508, -0.013), abs=6e-4)


def test_paired_difference_is_antisymmetric_and_bounded() -> None:
    low, high = paired_difference(30, 12, 200)
    assert paired_difference(12, 30, 200) == pytest.approx((-high, -low))
    assert paired_difference(1, 0, 1)[1] <= 1
    assert paired_difference(0, 1, 1)[0] >= -1


def test_paired_difference_approaches_the_wald_interval() -> None:
    n, b, c = 10**6, 60_000, 50_000
    difference = (b - c) / n
    half = 1.959964 * math.sqrt(((b + c) / n - difference**2) / n)
    expected = (difference - half, difference + half)
    assert paired_difference(b, c, n) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("p", "n"), [(0.1, 200), (0.45, 200), (0.97, 500)])
def test_wilson_covers(p: float, n: int) -> None:
    draws = np.random.default_rng(1).binomial(n, p, 4000)
    limits = {k: wilson(int(k), n) for k in np.unique(draws)}
    covered = np.mean([limits[k][0] <= p <= limits[k][1] for k in draws])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("p", [(0.5, 0.10, 0.06), (0.6, 0.2, 0.2), (0.3, 0.02, 0.01)])
def test_paired_difference_covers(p: tuple[float, float, float]) -> None:
    """p: both right, only the first, only the second."""
    n = 500
    draws = np.random.default_rng(2).multinomial(n, [*p, 1 - sum(p)], 4000)
    inside = 0
    for _, first, second, _ in draws.tolist():
        low, high = paired_difference(first, second, n)
        inside += low <= p[1] - p[2] <= high
    assert 0.935 <= inside / len(draws) <= 0.97


def test_an_independent_interval_would_be_wider() -> None:
    """Pairing is the point: the same accuracies, the same images."""
    low, high = paired_difference(60, 20, 1000)
    first, second = wilson(560, 1000), wilson(520, 1000)
    independent = math.hypot((first[1] - first[0]) / 2, (second[1] - second[0]) / 2)
    assert (high - low) / 2 < 0.5 * independent
    assert low > 0 > (560 - 520) / 1000 - independent
