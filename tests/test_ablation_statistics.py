"""Spreads, paired comparisons and their tests, against scipy and by hand."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ijepa.runtime.bits import pack, unpack
from ijepa.study import crossed, statistics
from ijepa.study.statistics import BOTH, SEEDS, Sample, compare, flips, holm, spread, tails, wins


def sample(values: object, **more: object) -> Sample:
    by_seed = dict(enumerate(np.asarray(values, dtype=float).tolist()))
    return Sample(by_seed, **more)  # type: ignore[arg-type]


def test_spread_equals_scipy() -> None:
    values = [45.1, 44.0, 47.2, 45.5]
    around = spread(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert around.n == 4
    assert (around.mean, around.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (around.low, around.high) == pytest.approx((low, high), abs=1e-9)


def test_one_seed_has_no_spread_and_none_no_mean() -> None:
    one, nothing = spread([3.0]), spread([])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 3.0, None, None, None)
    assert (nothing.n, nothing.mean, nothing.std, nothing.low) == (0, None, None, None)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_intervals_cover(n: int) -> None:
    draws = np.random.default_rng(n).normal(50, 2, (3000, n))
    covered = np.mean([s.low <= 50 <= s.high for s in map(spread, draws.tolist())])
    assert covered == pytest.approx(0.95, abs=0.012)  # three standard errors


@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_tails_and_interval_equal_scipys_paired_tests(n: int) -> None:
    rng = np.random.default_rng(n)
    first = rng.normal(50, 3, n)
    second = first + rng.normal(0.8, 1, n)
    p = tails(sample(first), sample(second), range(n), 1.5)
    one_sided = (stats.ttest_rel(first, second, alternative=a) for a in ("greater", "less"))
    assert (p.above, p.below) == pytest.approx([t.pvalue for t in one_sided], rel=1e-6)
    d = first - second
    both = (stats.ttest_1samp(d, -1.5, alternative="greater").pvalue,
            stats.ttest_1samp(d, 1.5, alternative="less").pvalue)  # fmt: skip
    assert p.same == pytest.approx(max(both), rel=1e-6)
    around = compare(sample(first), sample(second), range(n)).spread
    limits = stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (around.low, around.high) == pytest.approx(tuple(limits), abs=1e-6)


@pytest.mark.parametrize(("margin", "expected"), [(1.0, 0.000151863), (0.3, 0.0583876)])
def test_two_one_sided_tests_are_those_of_statsmodels(margin: float, expected: float) -> None:
    # statsmodels 0.15.0: ttost_paired(x, y, -margin, margin)[0]
    x = sample([4.2, 5.1, 3.9, 4.8, 5.0, 4.4, 4.7])
    y = sample([4.0, 5.3, 3.5, 4.9, 5.2, 4.6, 4.1])
    assert tails(x, y, range(7), margin).same == pytest.approx(expected, rel=1e-4)


def test_a_look_uses_its_seeds_alone() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(51, 1, 12), rng.normal(50, 1, 12)
    early = tails(sample(first[:6]), sample(second[:6]), range(6), 1.0)
    assert tails(sample(first), sample(second), range(6), 1.0) == early


def test_seeds_are_paired_in_the_order_in_which_they_are_added() -> None:
    first, second = Sample({0: 5.0, 1: 7.0, 4: 9.0}), Sample({1: 4.0, 2: 1.0, 4: 8.5})
    found = compare(first, second, (4, 2, 1, 0))
    assert (found.seeds, found.differences, found.against) == ((4, 1), (0.5, 3.0), 0)
    assert compare(second, first, (4, 2, 1, 0)).against == 2
    nothing = compare(Sample({0: 1.0}), Sample({1: 1.0}), (0, 1))
    assert (nothing.seeds, nothing.spread.mean) == ((), None)
    assert (nothing.wins, nothing.flips) == (None, None)


def test_a_collapse_on_either_side_is_kept_and_counted() -> None:
    first = sample([1.0, 2.0, 3.0], collapsed=frozenset({2, 9}))
    second = sample([0.0, 0.0, 0.0], collapsed=frozenset({0}))
    found = compare(first, second, range(3))
    assert (found.differences, found.collapsed) == ((1.0, 2.0, 3.0), (0, 2))


def test_equal_in_every_seed() -> None:
    # 45.1 - 45.0 is not 46.1 - 46.0 in floating point; it is here
    first, second = sample([45.1, 46.1, 47.1, 48.1]), sample([45.0, 46.0, 47.0, 48.0])
    p = tails(first, second, range(4), 0.2)
    assert (p.above, p.below, p.same) == (0.0, 1.0, 0.0)
    at_margin = tails(first, second, range(4), 0.1)
    assert at_margin.same == 1.0
    zero = tails(second, second, range(4), 0.1)
    assert (zero.above, zero.below, zero.same) == (1.0, 1.0, 0.0)


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 -> x4 .02, x3 .03, x2 .06, x1 .04 -> kept from falling: .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("n", [2, 3, 7, 10])
def test_sign_flips_are_all_counted(n: int) -> None:
    d = np.round(np.random.default_rng(n).normal(0.4, 1, n), 1)  # with ties
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=n)]
    assert flips(d.tolist()) == pytest.approx(np.mean(np.array(sums) >= abs(d.sum()) - 1e-9))


def test_sign_flips_equal_scipys_and_their_ends() -> None:
    d = np.random.default_rng(0).normal(0.5, 1, 12)
    exact = stats.permutation_test(
        (d,), np.sum, permutation_type="samples", n_resamples=2**13, alternative="two-sided"
    ).pvalue
    assert flips(d.tolist()) == pytest.approx(exact)
    assert flips([1.0] * 24) == pytest.approx(2 / 2**24)
    assert flips([0.0] * 8) == 1.0
    assert (flips([1.0]), flips([1.0] * 41)) == (None, None)


def test_the_chance_to_win_is_wilsons_with_half_ties() -> None:
    found = wins([1.0, 2.0, -1.0, 0.5, 0.1, 3.0])
    low, high = stats.binomtest(5, 6).proportion_ci(method="wilson")
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((5 / 6, low, high))
    tie, always = wins([0.0, 1.0]), wins([1.0] * 6)
    assert tie is not None
    assert always is not None
    assert tie.mean == 0.75
    assert (always.mean, always.high) == (1.0, pytest.approx(1.0))


def answers(rng: np.random.Generator, seeds: int, shares: NDArray[np.float64]) -> Sample:
    right = {seed: rng.random(len(shares)) < shares for seed in range(seeds)}
    return Sample({seed: 100 * float(bits.mean()) for seed, bits in right.items()}, right)


def test_images_are_a_sample_too_where_every_run_tells_them() -> None:
    rng = np.random.default_rng(3)
    first, second = (answers(rng, 6, rng.beta(1, 1, 500)) for _ in range(2))
    found = compare(first, second, range(6))
    table = np.array([100.0 * (first.right[s].astype(int) - second.right[s]) for s in range(6)])
    wide = crossed.error(table)
    half = stats.t.ppf(0.975, wide.freedom) * wide.size
    assert found.over == BOTH
    assert (found.spread.low, found.spread.high) == pytest.approx(
        (table.mean() - half, table.mean() + half), abs=1e-6
    )
    p = tails(first, second, range(6), 1.0)
    assert p.above == pytest.approx(stats.t.sf(table.mean() / wide.size, wide.freedom), rel=1e-6)
    assert found.spread.std == pytest.approx(table.mean(1).std(ddof=1)), "of seeds, as ever"
    alone = compare(Sample(first.values), second, range(6))
    assert alone.over == SEEDS
    assert alone.spread.low > found.spread.low
    fewer = Sample(second.values, {s: bits[:-1] for s, bits in second.right.items()})
    assert compare(first, fewer, range(6)).over == SEEDS, "other images: they cannot be paired"


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_what_was_right_survives_a_lock_file(count: int) -> None:
    right = np.random.default_rng(count).random(count) < 0.3
    text = pack(right)
    assert np.array_equal(unpack(text), right)
    assert len(text) < count / 6 + 12
    assert statistics.Sample({}, {0: unpack(text)}).right[0].dtype == np.bool_
