"""What may be concluded of a claim: at planned looks, with one error for each kind of decision.

A claim is a set of pairs, each "the first is better". Of it there are four verdicts:

``holds``: every difference is above 0. All pairs must show it, so none needs a correction
(intersection-union, Berger 1982): its p is the largest of the pairs'.
``does not hold``: some difference is below 0. One pair is enough, so Holm's correction for all.
``no difference``: every difference is within the margin (two one-sided tests, Schuirmann 1987),
again intersection-union. Where the claim holds too, it holds, by less than the margin.
``undecided``: none of these, or fewer seeds than the first look has.

Looks happen at planned numbers of paired seeds, with the seeds in their registered order; what
lies between two looks is not tested. The first look that decides counts for good. Each kind of
verdict is false with probability ``error`` at most, over all looks (``ijepa.study.sequential``);
where a difference is exactly 0, "holds" and "does not hold" are both false. A pair that
has not reached a look counts there as one that shows nothing (p = 1): before all pairs have run
a claim can be refuted, and nothing else can be said of it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ijepa.study import power, sequential, statistics
from ijepa.study.power import Needed
from ijepa.study.statistics import Comparison, Sample, Spread, Tails

HOLDS, FAILS, SAME, UNDECIDED = "holds", "does not hold", "no difference", "undecided"
NOTHING_CLAIMED = "nothing is claimed"


@dataclass(frozen=True, slots=True)
class Design:
    """When a claim is looked at, and how often its verdict may be false."""

    looks: tuple[int, ...] = sequential.LOOKS  # paired seeds
    error: float = sequential.ERROR  # of each kind of verdict, over all looks

    @property
    def level(self) -> float:
        """The one-sided nominal level of every look."""
        return sequential.nominal(self.error, self.looks)


@dataclass(frozen=True)
class Contrast:
    """A claimed pair: what its two sides gave, and the margin that matters there."""

    better: Sample
    worse: Sample
    margin: float  # points, > 0


@dataclass(frozen=True)
class Look:
    """A look that a pair of a claim has reached: nominal p values there, and what it decides."""

    n: int  # paired seeds
    p: Tails
    decision: str


@dataclass(frozen=True)
class Test:
    """What the looks say of one pair; as a finding of its own, after Holm over the pairs.

    p values are over all looks reached, and valid whenever one stops. None below the first look.
    """

    margin: float
    p: Tails | None
    adjusted: Tails | None  # after Holm's correction over the pairs, for each question
    decision: str
    needed: Needed | None


@dataclass(frozen=True)
class Verdict:
    """On a claim."""

    decision: str
    look: int | None  # paired seeds of the look that decided; None: undecided
    negligible: bool  # it holds or not, and every difference is shown to be within the margin
    looks: tuple[Look, ...]  # that any pair has reached; p of the claim there
    p: Tails | None  # of the claim over the looks reached: above "holds", below "does not hold"
    needed: Needed | None
    deciding: int | None  # index of the pair that the verdict hangs on


def judge(
    contrasts: Sequence[Contrast],
    described: Sequence[Comparison],
    design: Design,
    order: Sequence[int],
    parts: int = 1,
) -> tuple[list[Test], Verdict]:
    """Test the pairs of a claim, and the claim.

    Args:
        contrasts: the pairs.
        described: of each pair, ``statistics.compare`` of its samples: the paired seeds count.
        design: looks and error.
        order: all seeds, in the order in which they are added.
        parts: claims that share the error, such as the points of an experiment, one by one.
    """
    if not contrasts:
        return [], Verdict(NOTHING_CLAIMED, None, False, (), None, None, None)
    error = design.error / parts
    nominal = [_nominal(*pair, design, order)
               for pair in zip(contrasts, described, strict=True)]  # fmt: skip
    alone = [_sequential(looks, design) for looks in nominal]
    adjusted = _adjusted(alone)
    tests = [
        Test(contrast.margin, p, corrected, _decide(corrected, design.error, design.error)[0],
             _needed([one], [contrast.margin], design, design.error / len(contrasts)))
        for contrast, one, p, corrected in zip(
            contrasts, described, alone, adjusted, strict=True)
    ]  # fmt: skip
    return tests, _verdict(contrasts, described, nominal, design, error)


def _verdict(
    contrasts: Sequence[Contrast], described: Sequence[Comparison],
    nominal: Sequence[Sequence[Tails]], design: Design, error: float,
) -> Verdict:  # fmt: skip
    """Of the whole claim: at each look that a pair has reached, from its seeds alone."""
    looks, decision, at, negligible = list[Look](), UNDECIDED, None, False
    missing = Tails(1.0, 1.0, 1.0)
    claim = [_together(p) for p in itertools.zip_longest(*nominal, fillvalue=missing)]
    level = sequential.nominal(error, design.looks)
    corrected = sequential.nominal(error / len(contrasts), design.looks)  # one pair is enough
    for n, p in zip(design.looks, claim, strict=False):
        here, small = _decide(p, level, corrected)
        looks.append(Look(n, p, here))
        if at is None and here != UNDECIDED:
            decision, at, negligible = here, n, small
    best = _sequential(claim, design)
    overall = best and Tails(best.above, min(1.0, len(contrasts) * best.below), best.same)
    margins = [one.margin for one in contrasts]
    needed = _needed(described, margins, design, error) if at is None else None
    there: Sequence[int] = range(len(contrasts))
    if decision == FAILS:  # by a pair that has reached a look
        there = [i for i, reached in enumerate(nominal) if reached]
    return Verdict(decision, at, negligible, tuple(looks), overall, needed,
                   _deciding(decision, described, margins, there))  # fmt: skip


def _nominal(
    contrast: Contrast, described: Comparison, design: Design, order: Sequence[int]
) -> list[Tails]:
    """p values at each look that the pair has reached: it has all of the first seeds.

    Others do not stand in for one that is missing, or the look would change when that one came.
    """
    return [
        statistics.tails(contrast.better, contrast.worse, described.seeds[:n], contrast.margin)
        for n in design.looks
        if n <= len(described.seeds) and described.seeds[:n] == tuple(order[:n])
    ]


def _together(pairs: Sequence[Tails]) -> Tails:
    """Of a claim at a look: all pairs above, any below (not yet corrected), all within."""
    return Tails(
        above=max(p.above for p in pairs),
        below=min(p.below for p in pairs),
        same=max(p.same for p in pairs),
    )


def _sequential(looks: Sequence[Tails], design: Design) -> Tails | None:
    """Over the looks reached: what the smallest p of each question is worth."""
    if not looks:
        return None
    smallest = (
        min(p.above for p in looks), min(p.below for p in looks), min(p.same for p in looks)
    )  # fmt: skip
    return Tails(*(sequential.overall(p, design.looks) for p in smallest))


def _adjusted(tests: Sequence[Tails | None]) -> list[Tails | None]:
    """Holm's correction of each question over all pairs; a pair without a p counts as p = 1."""
    known = [Tails(1.0, 1.0, 1.0) if p is None else p for p in tests]
    columns = (
        statistics.holm([p.above for p in known]),
        statistics.holm([p.below for p in known]),
        statistics.holm([p.same for p in known]),
    )
    rows = zip(tests, *columns, strict=True)
    return [None if p is None else Tails(*corrected) for p, *corrected in rows]


def _decide(p: Tails | None, level: float, below: float) -> tuple[str, bool]:
    """The verdict at a level, and whether it is one about a negligible difference."""
    if p is None:
        return UNDECIDED, False
    small = p.same <= level
    if p.above <= level:
        return HOLDS, small
    if p.below <= below:
        return FAILS, small
    return (SAME if small else UNDECIDED), False


def _deciding(
    decision: str, described: Sequence[Comparison], margins: Sequence[float], among: Sequence[int]
) -> int | None:
    """The pair, of those ``among`` which it may be, that a verdict hangs on.

    The one whose interval is the lowest on the side that tells: the upper limit where a claim does
    not hold, else the lower one; for no difference, the limit furthest out for its margin.
    """
    told = [(i, described[i].spread) for i in among if described[i].spread.mean is not None]
    if not told:
        return None

    def limit(around: Spread, name: str) -> float:
        value = getattr(around, name)
        return (around.mean or 0.0) if value is None else float(value)

    if decision == SAME:
        return max(told, key=lambda one: max(-limit(one[1], "low"), limit(one[1], "high"))
                   / margins[one[0]])[0]  # fmt: skip
    side = "high" if decision == FAILS else "low"
    return min(told, key=lambda one: limit(one[1], side))[0]


def _needed(
    described: Sequence[Comparison], margins: Sequence[float], design: Design, error: float
) -> Needed | None:
    """Seeds for 80 % power of what the means point to; None where a pilot is too small.

    The decision that takes least is the goal. Of several pairs each gets the power whose product
    is 80 %; pairs that share a variant are related, which only helps (Slepian 1962).
    """
    spreads = [one.spread for one in described]
    if any(one.n < power.PILOT for one in spreads):
        return None
    means = [one.mean or 0.0 for one in spreads]
    level, pairs = sequential.nominal(error, design.looks), len(spreads)
    each = power.POWER ** (1 / pairs)
    goals = []
    if min(means) > 0:
        goals.append(power.most([
            power.seeds(HOLDS, one, None, level, each) for one in spreads
        ]))  # fmt: skip
    if min(means) < 0:
        corrected = sequential.nominal(error / pairs, design.looks)
        goals.append(power.least([
            power.seeds(FAILS, statistics.turned(one), None, corrected, power.POWER)
            for one in spreads if (one.mean or 0.0) < 0
        ]))  # fmt: skip
    if all(abs(mean) < margin for mean, margin in zip(means, margins, strict=True)):
        goals.append(power.most([
            power.seeds(SAME, one, margin, level, each)
            for one, margin in zip(spreads, margins, strict=True)
        ]))  # fmt: skip
    return power.least(goals) if goals else None
