"""The paper's claims at a scale on one board, with one error over all of them.

Each experiment's verdict may be false in 5 %; of many, some will be. The board asks three
questions of every claim of the paper (does it hold, does it not, is there no difference) and
corrects their p values together by Holm's method: whatever is true, any false decision on the
whole board has probability ``ERROR`` at most. Two of the three can be false at once, as where a
difference is exactly 0, so all three count: with k claims the family is 3 k, those without a run
included, so that it does not depend on what was run.

A claim that is exploratory has no valid p value: to the registered ones it is one that shows
nothing, and what the board says of it is said without that guarantee.

A claim's p values are over all looks that it has reached, so seeds beyond the look that decided it
alone still count here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ijepa.study import statistics
from ijepa.study.decision import FAILS, HOLDS, NOTHING_CLAIMED, SAME, UNDECIDED
from ijepa.study.numbers import Pair, Study
from ijepa.study.sequential import ERROR
from ijepa.study.statistics import Spread, Tails


@dataclass(frozen=True, slots=True)
class Line:
    """A claim of the paper."""

    name: str  # of the experiment
    table: int | None  # of the paper
    text: str  # what is claimed
    metric: str
    scale: str
    pair: Pair | None  # that the verdict hangs on: its effect, interval and margin
    better: str | None  # labels of its variants and of its point
    worse: str | None
    point: str | None
    learned: tuple[Spread, ...]  # by better and worse, over their own random initialisation
    pairs: int  # that are claimed
    seeds: int  # paired ones that every pair has
    alone: str  # the verdict of the experiment by itself
    look: int | None  # that decided it
    p: Tails | None  # of the claim, over its looks
    adjusted: Tails | None  # after Holm over the board
    decision: str  # on the board
    registered: bool  # before its first run, and nothing of it changed since

    @property
    def negligible(self) -> bool:
        """Whether a difference is told and shown to be less than the margin, on the board."""
        told = self.decision in (HOLDS, FAILS)
        return told and self.adjusted is not None and self.adjusted.same <= ERROR


@dataclass(frozen=True, slots=True)
class Board:
    """All claims of the paper at a scale."""

    scale: str
    error: float  # probability that any decision on a registered claim is false, at most
    lines: tuple[Line, ...]


def headline(study: Study) -> bool:
    """Whether an experiment tests a claim of the paper."""
    return study.claim.by == "paper" and study.verdict.decision != NOTHING_CLAIMED


def build(studies: Sequence[Study]) -> Board:
    """The board of experiments at one scale.

    Args:
        studies: every experiment at the scale, those without a run too.
    """
    claims = [study for study in studies if headline(study)]
    assert len({study.scale for study in claims}) <= 1, "a board is of one scale"
    registered = [study.verdict.p if study.as_registered else None for study in claims]
    of_registered, of_all = _adjusted(registered), _adjusted([s.verdict.p for s in claims])
    lines = [
        _line(study, (of_registered if study.as_registered else of_all)[i])
        for i, study in enumerate(claims)
    ]
    lines.sort(key=lambda line: (line.table or 99, line.name))
    return Board(claims[0].scale if claims else "", ERROR, tuple(lines))


def _adjusted(asked: Sequence[Tails | None]) -> list[Tails | None]:
    """Holm's correction over the three questions of all claims; one without a p counts as 1."""
    known = [p or Tails(1.0, 1.0, 1.0) for p in asked]
    flat = statistics.holm([value for p in known for value in (p.above, p.below, p.same)])
    return [p and Tails(*flat[3 * i : 3 * i + 3]) for i, p in enumerate(asked)]


def _line(study: Study, adjusted: Tails | None) -> Line:
    verdict, pairs = study.verdict, [pair for pair in study.pairs if not pair.exploratory]
    worst = None if verdict.deciding is None else study.pairs[verdict.deciding]
    at = worst.point if worst else None
    sides = [cell for side in ((worst.better, worst.worse) if worst else ())
             for cell in study.at(at) if cell.variant == side]  # fmt: skip
    return Line(
        name=study.name, table=study.table, text=study.claim.text, metric=study.metric,
        scale=study.scale, pair=worst,
        better=study.label(worst.better) if worst else None,
        worse=study.label(worst.worse) if worst else None,
        point=next((p.label for p in study.points if p.name == at), None),
        learned=tuple(cell.learned for cell in sides),
        pairs=len(pairs), seeds=min((pair.comparison.spread.n for pair in pairs), default=0),
        alone=verdict.decision, look=verdict.look,
        p=verdict.p, adjusted=adjusted, decision=decide(adjusted),
        registered=study.as_registered,
    )  # fmt: skip


def decide(adjusted: Tails | None) -> str:
    """The verdict on the board; a claim that holds by less than its margin holds."""
    if adjusted is None:
        return UNDECIDED
    if min(adjusted.above, adjusted.below) <= ERROR:
        return HOLDS if adjusted.above <= adjusted.below else FAILS
    return SAME if adjusted.same <= ERROR else UNDECIDED
