import math

import numpy as np
import pytest
from scipy import stats

from ijepa.study.statistics import (
    FAILS,
    HOLDS,
    NOTHING_CLAIMED,
    UNDECIDED,
    compare,
    holm,
    seeds_needed,
    seeds_to_decide,
    spread,
    verdict,
)


def by_seed(values: object) -> dict[int, float]:
    return dict(enumerate(np.asarray(values, dtype=float).tolist()))


def test_spread_equals_scipy() -> None:
    values = [45.1, 44.0, 47.2, 45.5]
    found = spread(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.n == 4
    assert (found.mean, found.std) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_one_seed_has_no_spread_and_none_no_mean() -> None:
    one, nothing = spread([3.0]), spread([])
    assert (one.n, one.mean, one.std, one.low, one.high) == (1, 3.0, None, None, None)
    assert (nothing.n, nothing.mean, nothing.std, nothing.low) == (0, None, None, None)


@pytest.mark.parametrize("n", [2, 3, 6, 11])
def test_paired_test_equals_scipy(n: int) -> None:
    rng = np.random.default_rng(n)
    first = rng.normal(50, 3, n)
    second = first + rng.normal(0.8, 1, n)
    (found,) = compare([(by_seed(first), by_seed(second))])
    expected = stats.ttest_rel(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    limits = expected.confidence_interval(0.95)
    assert (found.spread.low, found.spread.high) == pytest.approx(tuple(limits), abs=1e-6)
    assert found.adjusted == found.p


def test_the_margin_shifts_the_test() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(52, 1, 8), rng.normal(50, 1, 8)
    (found,) = compare([(by_seed(first), by_seed(second))], margin=1.5)
    assert found.p == pytest.approx(stats.ttest_1samp(first - second, 1.5).pvalue, rel=1e-6)
    assert found.against == np.sum(first - second < 1.5)


@pytest.mark.parametrize(("mean", "decision"), [
    (3.0, HOLDS), (1.5, UNDECIDED), (0.8, FAILS), (-3.0, FAILS),
])  # fmt: skip
def test_a_margin_is_a_shift_of_the_second(mean: float, decision: str) -> None:
    """To exceed 1.5 is to exceed 0 when the second has 1.5 more; better by 0.8 is not enough."""
    noise = np.array([0.3, -0.2, 0.1, -0.4, 0.25, -0.05])
    first, second = by_seed(50 + mean + noise), by_seed(np.full(6, 50.0))
    more = by_seed(np.full(6, 51.5))
    for pairs in (1, 3):
        found, *_ = compare([(first, second)] * pairs, margin=1.5)
        shifted, *_ = compare([(first, more)] * pairs)
        assert found.decision == shifted.decision == decision
        assert (found.p, found.adjusted) == pytest.approx((shifted.p, shifted.adjusted))
        assert (found.against, found.needed) == (shifted.against, shifted.needed)


def test_holm_by_hand() -> None:
    # sorted .005 .01 .03 .04 -> x4 .02, x3 .03, x2 .06, x1 .04 -> kept from falling: .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, None, 0.7]) == [1.0, None, 1.0]  # two tests, both capped
    assert holm([]) == []


def test_seeds_that_only_one_has_are_left_out() -> None:
    first, second = {0: 5.0, 1: 7.0, 4: 9.0}, {1: 4.0, 2: 1.0, 4: 8.0}
    (found,) = compare([(first, second)])
    assert (found.seeds, found.differences, found.against) == ((1, 4), (3.0, 1.0), 0)
    (nothing,) = compare([({0: 1.0}, {1: 1.0})])
    assert (nothing.seeds, nothing.p, nothing.needed) == ((), None, None)
    assert nothing.decision == UNDECIDED


@pytest.mark.parametrize(
    ("n", "shift", "decision"),
    [
        (5, 9.0, UNDECIDED),
        (6, 9.0, HOLDS),
        (6, -9.0, FAILS),
        (5, -9.0, UNDECIDED),
        (6, 0.0, UNDECIDED),
    ],
)
def test_nothing_is_decided_below_six_seeds(n: int, shift: float, decision: str) -> None:
    noise = [0.3, -0.2, 0.1, -0.4, 0.25, -0.05][:n]
    (found,) = compare([(by_seed(np.array(noise) + shift), by_seed(np.zeros(n)))])
    assert found.decision == decision
    assert (found.p < 0.05) == (shift != 0)  # it is not the p value that holds it back


def test_equal_in_every_seed() -> None:
    # 45.1 - 45.0 is not 46.1 - 46.0 in floating point; it is here
    first, second = [45.1, 46.1, 47.1, 48.1, 49.1, 50.1], [45.0, 46.0, 47.0, 48.0, 49.0, 50.0]
    better, same, exact = compare(
        [(by_seed(first), by_seed(second)), (by_seed(second), by_seed(second)), ({}, {})],
    )
    assert (better.spread.std, better.p, better.decision, better.needed) == (0.0, 0.0, HOLDS, 6)
    assert (same.p, same.decision, same.needed) == (1.0, UNDECIDED, None)
    assert exact.p is None
    (at_margin,) = compare([(by_seed(first), by_seed(second))], margin=0.1)
    assert (at_margin.decision, at_margin.against) == (UNDECIDED, 0)


def test_a_difference_that_one_test_decides_and_many_do_not() -> None:
    rng = np.random.default_rng(5)
    zero = by_seed(np.zeros(6))
    close = by_seed(stats.zscore(rng.normal(size=6), ddof=1) * 1.0 + 1.2)  # p about 0.03
    noise = [(by_seed(rng.normal(size=6)), zero) for _ in range(4)]
    (alone,) = compare([(close, zero)])
    among = compare([(close, zero), *noise])[0]
    assert alone.decision == HOLDS
    assert (among.decision, among.p) == (UNDECIDED, alone.p)
    assert among.spread.low > 0  # the interval is not corrected, the decision is
    # five comparisons need more seeds than the six that did not decide it
    assert among.needed is not None
    assert among.needed > 6


@pytest.mark.parametrize(("distance", "std"), [(1.0, 1.0), (-0.7, 2.0), (0.2, 2.5), (5.0, 0.1)])
def test_seeds_needed_is_the_smallest_number(distance: float, std: float) -> None:
    def half(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1) * std / math.sqrt(n))

    n = seeds_needed(distance, std)
    assert n is not None
    assert half(n) < abs(distance)
    assert n == 6 or half(n - 1) >= abs(distance)


def test_hopeless_numbers_of_seeds() -> None:
    assert seeds_needed(0.001, 1.0) is None
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, 15.9) == pytest.approx((1.962 * 15.9) ** 2, abs=3)
    assert seeds_needed(1.0, 16.2) is None  # 1010


def test_verdict_of_several_pairs() -> None:
    rng = np.random.default_rng(3)
    zero = by_seed(np.zeros(6))

    def at(mean: float) -> tuple[dict[int, float], dict[int, float]]:
        return by_seed(rng.normal(mean, 0.5, 6)), zero

    assert verdict(compare([at(5), at(6)])) == HOLDS
    assert verdict(compare([at(5), at(0.2)])) == UNDECIDED
    assert verdict(compare([at(5), at(0.2), at(-6)])) == FAILS
    assert verdict([]) == NOTHING_CLAIMED


def test_one_pair_against_is_enough_to_decide_a_claim_all_are_needed_to_keep_it() -> None:
    def at(mean: float, n: int = 3) -> tuple[dict[int, float], dict[int, float]]:
        return by_seed(mean + np.array([1.0, -1.0, 0.0])[:n]), by_seed(np.zeros(n))

    near, far, against, wide = at(0.5), at(2.0), at(-1.5), at(-0.1)
    for pairs, index in (([near, far], 0), ([near, far, against, wide], 2)):
        found = compare(pairs)
        assert seeds_to_decide(found) == found[index].needed is not None
    assert seeds_to_decide(compare([far, at(3.0, n=1)])) is None  # nobody knows its spread
    assert seeds_to_decide([]) is None


@pytest.mark.parametrize("n", [2, 3, 6])
def test_intervals_cover(n: int) -> None:
    draws = np.random.default_rng(n).normal(50, 2, (3000, n))
    covered = np.mean([s.low <= 50 <= s.high for s in map(spread, draws.tolist())])
    assert covered == pytest.approx(0.95, abs=0.012)  # three standard errors


def test_false_decisions_in_a_whole_table_are_as_rare_as_promised() -> None:
    # five variants that do not differ, all against one reference: any decision is a false one
    draws = np.random.default_rng(9).normal(50, 2, (1000, 6, 6))
    wrong = [
        any(
            one.decision != UNDECIDED
            for one in compare([(by_seed(table[0]), by_seed(row)) for row in table[1:]])
        )
        for table in draws
    ]
    assert 0.015 < np.mean(wrong) < 0.06  # Holm is on the safe side; uncorrected: about 0.17
