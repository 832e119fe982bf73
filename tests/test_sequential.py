"""Looks at growing data: Pocock's published boundaries, another library's law, and simulation."""

import numpy as np
import pytest
from scipy import stats

from ijepa.study import sequential
from ijepa.study.sequential import nominal, overall

LOOKS = (6, 12, 24)


@pytest.mark.parametrize(
    ("looks", "constant"),
    # Jennison and Turnbull 2000, Table 2.1: two-sided 5 %, equal groups
    [(2, 2.178), (3, 2.289), (4, 2.361), (5, 2.413), (10, 2.555)],
)
def test_pococks_constants(looks: int, constant: float) -> None:
    level = nominal(0.025, tuple(range(1, looks + 1)))
    assert stats.norm.isf(level) == pytest.approx(constant, abs=6e-4)


@pytest.mark.parametrize(
    ("looks", "constant"), [(2, 1.875), (3, 1.992), (4, 2.067), (5, 2.122)]
)  # the same table, 10 %: one-sided 5 %
def test_pococks_constants_at_ten_percent(looks: int, constant: float) -> None:
    level = nominal(0.05, tuple(range(1, looks + 1)))
    assert stats.norm.isf(level) == pytest.approx(constant, abs=6e-4)


@pytest.mark.parametrize("looks", [LOOKS, (6, 7), (6, 9, 10, 40)])
@pytest.mark.parametrize("p", [0.4, 0.05, 0.02, 0.001])
def test_the_chance_of_a_crossing_is_scipys(looks: tuple[int, ...], p: float) -> None:
    n = np.array(looks, dtype=float)
    law = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))
    bound = np.full(len(n), stats.norm.isf(p))
    inside = stats.multivariate_normal.cdf(
        bound, cov=law, abseps=1e-8, releps=1e-8, maxpts=10**6, rng=np.random.default_rng(0)
    )
    assert overall(p, looks) == pytest.approx(1 - inside, abs=2e-6)


def test_one_look_costs_nothing_and_more_cost_at_most_their_number() -> None:
    for p in (1e-12, 1e-6, 0.01, 0.3, 0.99):
        assert overall(p, (9,)) == pytest.approx(p, rel=1e-9)
        assert p < overall(p, (6, 12)) < overall(p, LOOKS) < min(1.0, 3 * p)
    assert (overall(0.0, LOOKS), overall(1.0, LOOKS)) == (0.0, 1.0)


def test_what_a_look_is_worth_grows_with_its_p() -> None:
    ps = np.geomspace(1e-9, 0.999, 60)
    worth = [overall(p, LOOKS) for p in ps]
    assert np.all(np.diff(worth) > 0)
    assert overall(nominal(0.05, LOOKS), LOOKS) == pytest.approx(0.05, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_t_tests_at_the_looks_err_together_as_often_as_said(alpha: float) -> None:
    """The law is of normal sums; t tests from six differences on are close to it."""
    draws = np.random.default_rng(1).normal(size=(40_000, LOOKS[-1]))
    at = [stats.ttest_1samp(draws[:, :n], 0, axis=1, alternative="greater").pvalue for n in LOOKS]
    level = nominal(alpha, LOOKS)
    wrong = np.mean(np.min(at, axis=0) <= level)
    assert wrong == pytest.approx(alpha, rel=0.1, abs=0.0005)  # 2 to 5 % more, and chance
    assert sequential.overall(level, LOOKS) == pytest.approx(alpha)
