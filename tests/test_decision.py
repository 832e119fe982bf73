"""Verdicts: what decides which, at which look, and how often they are false."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ijepa.study import decision, power, sequential, statistics
from ijepa.study.decision import (
    FAILS,
    HOLDS,
    NOTHING_CLAIMED,
    SAME,
    UNDECIDED,
    Contrast,
    Design,
    Verdict,
)
from ijepa.study.statistics import Sample

NOISE = np.array([0.3, -0.2, 0.1, -0.4, 0.25, -0.05])
MANY = stats.zscore(np.random.default_rng(0).normal(size=(8, 24)), axis=1, ddof=1)


def judge(
    differences: Sequence[NDArray[np.float64] | Sequence[float]],
    margin: float = 1.0,
    design: Design | None = None,
    parts: int = 1,
) -> tuple[list[decision.Test], Verdict]:
    """Of pairs with these differences in each seed."""
    contrasts = [
        Contrast(Sample(dict(enumerate(map(float, d)))), Sample(dict.fromkeys(range(len(d)), 0.0)),
                 margin)
        for d in differences
    ]  # fmt: skip
    described = [statistics.compare(c.better, c.worse, range(50)) for c in contrasts]
    return decision.judge(contrasts, described, design or Design(), range(50), parts)


@pytest.mark.parametrize(
    ("shifts", "margin", "expected"),
    [
        ([3, 4, 5], 1.0, (HOLDS, 6, False)),
        ([3, 0.0, 5], 1.0, (UNDECIDED, None, False)),  # one of all is missing
        ([3, -3, 5], 1.0, (FAILS, 6, False)),  # one against is enough
        ([0.0, 0.1, -0.1], 1.0, (SAME, 6, False)),
        ([0.0, 0.1, -2], 1.0, (FAILS, 6, False)),
        ([0.0, 0.1, -0.1], 0.3, (UNDECIDED, None, False)),  # too wide for so small a margin
        ([0.6, 0.7], 2.0, (HOLDS, 6, True)),  # it holds, by less than matters
        ([0.6, -0.7], 2.0, (FAILS, 6, True)),
    ],
)
def test_four_verdicts(
    shifts: list[float], margin: float, expected: tuple[str, int | None, bool]
) -> None:
    _, verdict = judge([NOISE + shift for shift in shifts], margin)
    assert (verdict.decision, verdict.look, verdict.negligible) == expected


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_nothing_is_decided_below_the_first_look(n: int) -> None:
    tests, verdict = judge([NOISE[:n] + 9.0])
    assert (verdict.decision, verdict.looks, verdict.p) == (UNDECIDED, (), None)
    assert (tests[0].decision, tests[0].p, tests[0].needed) == (UNDECIDED, None, None)


def test_nothing_claimed() -> None:
    assert judge([]) == ([], Verdict(NOTHING_CLAIMED, None, False, (), None, None, None))


def test_to_hold_and_to_be_alike_take_every_pair_at_the_look() -> None:
    for shift, decided in ((9.0, HOLDS), (0.0, SAME)):
        few, some, many = (d + shift for d in (NOISE[:5], NOISE, MANY[0]))
        assert judge([many, some, few])[1].decision == UNDECIDED
        _, verdict = judge([many, some])
        assert (verdict.decision, verdict.look) == (decided, 6)
        assert [look.n for look in verdict.looks] == [6, 12, 24]
        assert [look.decision for look in verdict.looks[1:]] == [UNDECIDED, UNDECIDED]


@pytest.mark.parametrize("late", [0, 1, 2, 5])
def test_one_pair_refutes_before_the_others_have_run(late: int) -> None:
    """Corrected for all that are claimed, so that what comes later takes nothing back."""
    few = NOISE[:late] - 50  # lower still, and no look of its own
    _, early = judge([NOISE - 3, few, NOISE[:late] + 9])
    assert (early.decision, early.look, early.deciding) == (FAILS, 6, 0)
    _, whole = judge([NOISE - 3, NOISE + 9, NOISE + 9])
    assert (whole.decision, whole.look, whole.deciding) == (FAILS, 6, 0)
    assert early.p is not None
    assert whole.p is not None
    assert early.p.below == whole.p.below
    assert (early.p.above, early.p.same) == (1.0, 1.0)
    # p of 0.015 is enough for one pair at a look and not for the first of three
    edge = stats.zscore(NOISE, ddof=1) - stats.t.isf(0.015, 5) / 6**0.5
    assert judge([edge])[1].decision == FAILS
    assert judge([edge, few, few])[1].decision == UNDECIDED


def test_no_seed_stands_in_for_a_missing_one() -> None:
    """Else the look would change when that one came, and a look that decided counts for good."""
    values = dict(enumerate(map(float, NOISE + 9)))
    for seeds, looks in (((0, 1, 2, 3, 4, 5), 1), ((0, 1, 2, 3, 4, 6), 0), (range(6, 12), 0)):
        shown = Sample(dict(zip(seeds, values.values(), strict=True)))
        pair = Contrast(shown, Sample(dict.fromkeys(seeds, 0.0)), 1.0)
        described = statistics.compare(pair.better, pair.worse, range(24))
        assert described.spread.n == 6
        (test,), verdict = decision.judge([pair], [described], Design(), range(24))
        assert len(verdict.looks) == looks
        assert (test.p is None) == (looks == 0)


def test_what_lies_between_two_looks_changes_nothing() -> None:
    d = MANY[0] + 0.2
    at_six = judge([d[:6]])[1]
    for n in range(7, 12):
        between = judge([d[:n]])[1]
        assert (between.looks, between.decision, between.p) == (
            at_six.looks, at_six.decision, at_six.p)  # fmt: skip
    assert len(judge([d[:12]])[1].looks) == 2


def test_the_look_that_decides_is_final() -> None:
    d = np.concatenate([NOISE + 3, np.full(18, -3.0) + MANY[0][:18]])
    _, verdict = judge([d])
    assert (verdict.decision, verdict.look) == (HOLDS, 6)
    decisions = [look.decision for look in verdict.looks]
    assert decisions == [HOLDS, UNDECIDED, FAILS], "later seeds point the other way, in vain"


def test_a_later_look_decides_what_an_earlier_did_not() -> None:
    d = MANY[1] + 0.75
    _, verdict = judge([d], margin=0.3)
    assert [look.decision for look in verdict.looks[:1]] == [UNDECIDED]
    assert verdict.decision == HOLDS
    assert verdict.look in (12, 24)


def test_the_level_of_a_look_is_pococks() -> None:
    """p is between the level that one look would have and the level of each of three."""
    design = Design()
    t = stats.t.isf([design.level * 0.99, design.level * 1.01], 5)
    unit = stats.zscore(NOISE, ddof=1)
    for statistic, expected in zip(t, (HOLDS, UNDECIDED), strict=True):
        assert judge([unit + statistic / 6**0.5])[1].decision == expected
        alone = Design(looks=(6,))
        assert judge([unit + statistic / 6**0.5], design=alone)[1].decision == HOLDS
    assert 0.0215 < design.level < 0.0221


def test_p_values_of_a_claim_by_hand() -> None:
    differences = [MANY[0] + 0.5, MANY[1] + 0.7, MANY[2] - 0.1]
    _, verdict = judge(differences)
    above, below, same = [], [], []
    for look, n in zip(verdict.looks, (6, 12, 24), strict=True):
        cut = [d[:n] for d in differences]
        above.append(max(stats.ttest_1samp(d, 0, alternative="greater").pvalue for d in cut))
        below.append(min(stats.ttest_1samp(d, 0, alternative="less").pvalue for d in cut))
        same.append(max(
            max(stats.ttest_1samp(d, -1, alternative="greater").pvalue,
                stats.ttest_1samp(d, 1, alternative="less").pvalue) for d in cut
        ))  # fmt: skip
        assert (look.p.above, look.p.below, look.p.same) == pytest.approx(
            (above[-1], below[-1], same[-1]), rel=1e-6
        )
    assert verdict.p is not None
    worth = [sequential.overall(min(ps), (6, 12, 24)) for ps in (above, below, same)]
    expected = worth[0], min(1.0, 3 * worth[1]), worth[2]
    assert (verdict.p.above, verdict.p.below, verdict.p.same) == pytest.approx(expected, rel=1e-6)


def test_pairs_as_findings_of_their_own_are_corrected_for_each_other() -> None:
    tests, verdict = judge([MANY[i] + 0.6 for i in range(4)])
    for question in ("above", "below", "same"):
        alone = [getattr(test.p, question) for test in tests]
        assert [getattr(t.adjusted, question) for t in tests] == pytest.approx(
            statistics.holm(alone)
        )
    assert verdict.p is not None
    least = min(test.adjusted.below for test in tests if test.adjusted)
    assert verdict.p.below == pytest.approx(least)


def test_a_pair_by_itself_is_decided_after_the_correction_for_the_others() -> None:
    unit, level = stats.zscore(NOISE, ddof=1), Design().level
    shown = unit + stats.t.isf(0.4 * level, 5) / 6**0.5  # 2 % over the looks
    assert judge([shown])[0][0].decision == HOLDS
    for others in ([NOISE] * 3, [NOISE[:0]] * 3):  # those that have not run count too
        test = judge([shown, *others])[0][0]
        assert test.p is not None
        assert test.adjusted is not None
        assert test.adjusted.above == pytest.approx(4 * test.p.above)
        assert test.decision == UNDECIDED
    assert judge([shown] * 4)[1].decision == HOLDS, "all of them: none is corrected"


def test_the_seeds_a_pair_needs_are_those_of_the_corrected_test() -> None:
    pairs = [MANY[i][:6] + 0.8 for i in range(5)]
    for differences, test in zip(pairs, judge(pairs, 0.1)[0], strict=True):
        level = sequential.nominal(0.05 / 5, Design().looks)
        goal = power.seeds(HOLDS, statistics.spread(differences.tolist()), None, level, 0.8)
        assert test.needed == goal


def test_parts_share_the_error() -> None:
    unit, design = stats.zscore(NOISE, ddof=1), Design()
    level = sequential.nominal(0.05 / 4, design.looks)
    for factor, expected in ((0.98, HOLDS), (1.02, UNDECIDED)):
        d = unit + stats.t.isf(level * factor, 5) / 6**0.5
        assert judge([d], parts=4)[1].decision == expected


def test_the_verdict_hangs_on_the_pair_furthest_from_it() -> None:
    assert judge([NOISE + 3, NOISE + 2, NOISE + 4])[1].deciding == 1
    assert judge([NOISE + 3, NOISE - 2, NOISE - 1])[1].deciding == 1
    assert judge([NOISE + 0.05, NOISE - 0.1, NOISE])[1].deciding == 1
    assert judge([NOISE + 0.0, NOISE[:0]])[1].deciding == 0


def test_furthest_is_by_the_limit_that_tells_and_against_its_own_margin() -> None:
    wide = np.concatenate([4 * NOISE - 2.3, 4 * NOISE - 2.3])  # lower, and less surely below 0
    narrow = np.concatenate([NOISE - 2, NOISE - 2])
    _, verdict = judge([wide, narrow])
    assert (verdict.decision, verdict.deciding) == (FAILS, 1)
    pairs = [Contrast(Sample(dict(enumerate(map(float, NOISE + shift)))),
                      Sample(dict.fromkeys(range(6), 0.0)), margin)
             for shift, margin in ((0.2, 1.0), (0.3, 4.0))]  # fmt: skip
    described = [statistics.compare(c.better, c.worse, range(6)) for c in pairs]
    _, verdict = decision.judge(pairs, described, Design(), range(6))
    assert (verdict.decision, verdict.deciding) == (SAME, 0), "0.2 of 1 is more than 0.3 of 4"


def test_seeds_needed_go_for_what_the_means_point_to() -> None:
    wide = 4 * MANY
    goals = {
        HOLDS: [wide[0] + 2.5, wide[1] + 3],
        FAILS: [wide[0] + 2.5, wide[1] - 3],
        SAME: [wide[0] + 0.1, wide[1] - 0.1],
    }
    for goal, differences in goals.items():
        cut = [d[:6] - d[:6].mean() + d.mean() for d in differences]
        _, verdict = judge(cut, margin=2.0)
        assert verdict.decision == UNDECIDED
        assert verdict.needed is not None
        assert verdict.needed.goal == goal
        assert verdict.needed.n is not None
        assert verdict.needed.n > 6
    assert judge([NOISE[:5], NOISE])[1].needed is None, "a pilot of five says nothing"
    assert judge([NOISE + 9])[1].needed is None, "it is decided"


def decisions(differences: NDArray[np.float64], margin: float) -> list[str]:
    """Verdicts of experiments: (experiments, pairs, seeds)."""
    return [judge(list(pairs), margin)[1].decision for pairs in differences]


@pytest.mark.parametrize("pairs", [1, 5])
def test_a_false_verdict_of_either_kind_is_as_rare_as_said(pairs: int) -> None:
    """All pairs share the reference and no variant differs; three looks."""
    draws = np.random.default_rng(pairs).normal(size=(400, pairs + 1, 24))
    verdicts = decisions(draws[:, :1] - draws[:, 1:], margin=0.05)
    for kind in (HOLDS, FAILS):
        assert verdicts.count(kind) / 400 < 0.05 + 3 * 0.011
    one_pair = verdicts.count(FAILS) / 400
    assert pairs > 1 or one_pair > 0.02, "not by being too strict"


def test_at_the_margin_no_difference_is_rarely_found() -> None:
    """Where 0 is far away; nearer, "holds" or "does not hold" comes first."""
    draws = np.random.default_rng(7).normal(1.0, 0.6, size=(400, 1, 24))
    same = [
        judge([pairs[0]], 1.0)[1].p.same <= 0.05  # type: ignore[union-attr]
        for pairs in draws
    ]
    assert 0.02 < np.mean(same) < 0.05 + 3 * 0.011


def test_seeds_needed_pay_for_several_pairs() -> None:
    """Each of three that must hold has 0.8 ^ (1/3) power; one of three against is corrected."""
    design = Design()
    pairs = [2 * MANY[i][:6] - 2 * MANY[i][:6].mean() for i in range(3)]
    along = judge([d + 1.2 for d in pairs], margin=0.1)[1].needed
    alone = [power.seeds(HOLDS, statistics.spread((d + 1.2).tolist()), None, design.level,
                         0.8 ** (1 / 3)) for d in pairs]  # fmt: skip
    assert along == power.most(alone)
    level = sequential.nominal(0.05 / 3, design.looks)
    against = [power.seeds(FAILS, statistics.spread((d + 1.2).tolist()), None, level, 0.8)
               for d in pairs]  # fmt: skip
    assert judge([d - 1.2 for d in pairs], margin=0.1)[1].needed == power.least(against)
