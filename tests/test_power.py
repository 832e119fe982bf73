"""Numbers of seeds: against published power, and against simulated pilots."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from ijepa.study import power
from ijepa.study.statistics import spread


@pytest.mark.parametrize(
    ("n", "effect", "level", "expected"),
    # statsmodels 0.15.0: TTestPower().power(effect, n, level, alternative="larger")
    [(6, 1.0, 0.05, 0.67694), (12, 1.0, 0.05, 0.94469), (12, 0.5, 0.05, 0.49188),
     (24, 0.5, 0.0218, 0.62641), (10, -0.3, 0.05, 0.00575)],
)  # fmt: skip
def test_power_is_statsmodels(n: int, effect: float, level: float, expected: float) -> None:
    assert power.one_sided(n, effect, level) == pytest.approx(expected, abs=6e-6)


@pytest.mark.parametrize("effect", [0.5, 1.0, 1.7, 2.6, 3.3, 5.0, 10.0])
def test_power_grows_with_the_seeds_also_far_out(effect: float) -> None:
    """SciPy's noncentral t is NaN at scattered points there."""
    powers = [power.one_sided(n, effect, 0.02) for n in range(6, 1001)]
    assert all(0 <= p <= 1 for p in powers)
    assert all(after >= before - 1e-9 for before, after in pairwise(powers))


def test_the_interval_is_around_the_number() -> None:
    rng = np.random.default_rng(1)
    for goal, margin, mean in [("no difference", 1.0, 0.0), ("holds", None, 1.3)] * 100:
        pilot = spread(rng.normal(mean, 0.65, 6).tolist())
        needed = power.seeds(goal, pilot, margin, 0.0218, 0.8)
        low, n, high = (power.MOST + 1 if size is None else size
                        for size in (needed.low, needed.n, needed.high))  # fmt: skip
        assert low <= n <= high


def test_the_number_is_the_smallest_with_the_power() -> None:
    pilot = spread([1.2, -0.3, 0.9, 0.1, 1.5, 0.4, 0.2])
    needed = power.seeds("holds", pilot, None, 0.02, 0.8)
    assert needed.n is not None
    assert pilot.mean is not None
    assert pilot.std is not None
    effect = pilot.mean / pilot.std
    below, at = (power.one_sided(n, effect, 0.02) for n in (needed.n - 1, needed.n))
    assert below < 0.8 <= at


def test_two_tests_at_the_margin_have_the_power_by_simulation() -> None:
    pilot = spread([0.5, -0.5, 0.6, -0.4, 0.3, -0.3])  # mean 0.033
    needed = power.seeds("no difference", pilot, 0.6, 0.02, 0.8)
    assert needed.n is not None
    rng = np.random.default_rng(0)
    draws = rng.normal(pilot.mean, pilot.std, (20_000, needed.n))
    low = stats.ttest_1samp(draws, -0.6, axis=1, alternative="greater").pvalue
    high = stats.ttest_1samp(draws, 0.6, axis=1, alternative="less").pvalue
    assert 0.79 < np.mean((low <= 0.02) & (high <= 0.02)) < 0.88


def test_the_interval_has_the_true_number_in_nine_of_ten_pilots() -> None:
    rng, effect = np.random.default_rng(5), 0.9
    true = power.seeds("holds", spread(effect + stats.zscore(rng.normal(size=6), ddof=1)),
                       None, 0.02, 0.8).n  # fmt: skip
    assert true is not None
    inside = []
    for _ in range(400):
        needed = power.seeds("holds", spread(rng.normal(effect, 1, 6).tolist()), None, 0.02, 0.8)
        low, high = needed.low or power.MOST + 1, needed.high or power.MOST + 1
        inside.append(low <= true <= high)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)


def test_what_points_the_other_way_is_out_of_reach_and_what_does_not_scatter_at_once() -> None:
    away = power.seeds("holds", spread([-1.0, -1.2, -0.7, -1.1, -0.9, -1.0]), None, 0.02, 0.8)
    assert (away.n, away.high) == (None, None)
    same = power.seeds("holds", spread([0.1] * 6), None, 0.02, 0.8)
    assert (same.n, same.low, same.high) == (6, 6, 6)
    outside = power.seeds("no difference", spread([3.0, 3.1, 2.9, 3.0, 3.2, 2.8]), 1.0, 0.02, 0.8)
    assert outside.n is None
