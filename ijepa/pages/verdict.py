"""What the comparisons of a study mean, in words: the same on its page, in Markdown and LaTeX."""

from collections.abc import Callable, Sequence

from ijepa.pages.text import NOTHING, interval, number, points, probability, spoken
from ijepa.study.claims import FIRST as ENOUGH
from ijepa.study.decision import FAILS, HOLDS, NOTHING_CLAIMED, SAME, UNDECIDED
from ijepa.study.numbers import Cell, Pair, Study
from ijepa.study.power import MOST
from ijepa.study.statistics import Spread

MARKS = {
    HOLDS: "▲ holds", FAILS: "▼ does not hold", UNDECIDED: "◇ undecided",
    SAME: "= no difference", NOTHING_CLAIMED: "explores, claims nothing",
}  # fmt: skip
BANDS = {
    HOLDS: "▲ in", FAILS: "▼ out", UNDECIDED: "◇ undecided", SAME: "= no difference",
}  # fmt: skip
CLASSES = {
    HOLDS: "better", FAILS: "worse", UNDECIDED: "undecided", NOTHING_CLAIMED: "undecided",
    SAME: "undecided",
}  # fmt: skip


def metric(name: str, beside: str | None = None) -> str:
    """A metric as a reader says it: ``class, linear``; beside another, only what differs."""
    task, probe, which = name.rsplit(".", 2)
    text = spoken(task)
    if beside is None or beside.rsplit(".", 2)[1:] != [probe, which]:
        text += f", {spoken(probe)}" + (", held out" if which == "held_out" else "")
    return text


def place(study: Study, point: str) -> str:
    """A point as the charts call it."""
    return next(p.label for p in study.points if p.name == point)


def row(study: Study, cell: Cell) -> str:
    """A cell's variant, and its point."""
    at = f", {place(study, cell.point)}" if cell.point is not None else ""
    return study.label(cell.variant) + at


def pair(study: Study, claimed: Pair) -> str:
    """A claimed pair: the better over the worse, and where."""
    text = f"“{study.label(claimed.better)}” over “{study.label(claimed.worse)}”"
    return text + (f" at “{place(study, claimed.point)}”" if claimed.point is not None else "")


def counted(study: Study) -> str:
    """``n = 3``, or ``n = 2 to 3``: the paired seeds of the claim, or else the seeds of a cell."""
    spreads: Sequence[Spread] = [p.comparison.spread for p in study.pairs]
    numbers = sorted({s.n for s in spreads or [cell.spread for cell in study.cells]}) or [0]
    return f"n = {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")


def sentence(study: Study) -> str:
    """The verdict on the claim, as one sentence that can stand alone."""
    pairs, decision = study.pairs, study.verdict.decision
    if decision == NOTHING_CLAIMED:
        reference = study.label(study.claim.reference)
        return f"Nothing is claimed: the variants are compared with “{reference}”."
    where = f"at {study.scale} scale and {counted(study)}"
    if decision == HOLDS:
        least = min(pairs, key=_mean)
        text = f"{pair(study, least)} is {_size(least)}."
        if len(pairs) == 1:
            return f"The claim holds {where}: {text}"
        return (
            f"The claim holds {where}: all {len(pairs)} differences are decided in its favour;"
            f" the smallest, {pair(study, least)}, is {_size(least)}."
        )
    if decision == FAILS:
        against = [one for one in pairs if one.test.decision == FAILS]
        worst = min(against, key=_mean)
        more = f"; of {len(pairs)} differences {len(against)} are decided against it"
        return (
            f"The claim does not hold {where}: {pair(study, worst)} is {_size(worst)}"
            f"{more if len(pairs) > 1 else ''}."
        )
    if not any(one.comparison.spread.n for one in pairs):
        return f"The claim is undecided {where}: there is no seed to compare a pair with."
    return f"The claim is undecided {where}; {_direction(study)}; {_needed(study)}."


def _mean(one: Pair) -> float:
    return one.comparison.spread.mean or 0.0


def _size(one: Pair) -> str:
    spread = one.comparison.spread
    return (
        f"{points(spread.mean)} points (95 % interval"
        f" {interval(spread.low, spread.high, signed=True)}, adjusted p"
        f" {probability(one.comparison.flips)})"
    )


def _direction(study: Study) -> str:
    """Which way the differences point, when they decide nothing."""
    told = [one for one in study.pairs if one.comparison.spread.n]
    total, margin = len(study.pairs), 0.0
    worst = min(told, key=lambda one: (_mean(one) - margin, -one.comparison.against))
    if total == 1:
        return f"the difference {_way(worst)}"
    along = sum(_mean(one) > margin for one in told)
    verb = "points" if along == 1 else "point"
    text = f"{along} of {total} differences {verb} the claimed way on average"
    if margin:
        text = f"{along} of {total} differences are above the margin on average"
    held = sum(one.test.decision == HOLDS for one in told)
    if held:
        text += f", {held} of them decided"
    if worst.comparison.against:
        far = "the one furthest from it" if along < len(told) else "the weakest"
        text += f" ({far}, {pair(study, worst)}, {_way(worst)})"
    return text


def _way(one: Pair) -> str:
    n, against, margin = one.comparison.spread.n, one.comparison.against, 0.0
    along = sum(difference > margin for difference in one.comparison.differences)
    claimed = "exceeds the margin" if margin else "points the claimed way"
    other = "is below the margin" if margin else "points the other way"
    seeds = "the only seed" if n == 1 else f"all {n} seeds"
    if max(along, against) == n:
        return f"{claimed if along else other} in {seeds}"
    if against:
        return f"{other} in {against} of {n} seeds"
    return f"{claimed} in {along} of {n} seeds" if along else f"is {margin:g} in {seeds}"


def _needed(study: Study) -> str:
    needed = study.verdict.needed
    if needed is not None and needed.n is not None:
        return f"about {needed.n} seeds would decide it"
    if any(one.comparison.spread.n < 2 for one in study.pairs):
        return "how many seeds would decide it cannot be told without two seeds of every pair"
    return f"more than {MOST:,} seeds would be needed to decide it"


def coverage(study: Study) -> str:
    """What of the plan there is, and what else a reader must know before the numbers."""
    states = [run.status for run in study.runs]
    lost = " and ".join(f"{states.count(k)} {k}" for k in ("failed", "missing") if k in states)
    text = f"All {len(states)} planned runs are done."
    if lost:
        text = f"Of {len(states)} planned runs {states.count('done')} are done, {lost}."
    collapsed = sum(len(cell.collapsed) for cell in study.cells)
    if collapsed:
        text += f" {collapsed} of them ended in a collapsed representation."
    if min((one.comparison.spread.n for one in study.pairs), default=ENOUGH) < ENOUGH:
        text += f" With fewer than {ENOUGH} paired seeds nothing is called decided."
    if len(study.codes) > 1:
        text += " Some variants mix runs of different versions of the code."
    if study.strays:
        text += (
            f" The lock file also has {len(study.strays)} results of no run of this plan:"
            f" {', '.join(study.strays)}."
        )
    return text


def standing(study: Study) -> str:
    """Of which code the results are, as far as somebody has looked; or nothing."""
    known = [run.standing for run in study.runs if run.done and run.standing is not None]
    if not known:
        return ""
    words = {"today": "of today's code", "vouched": "vouched for", "older": "of older code"}
    counts = {text: known.count(name) for name, text in words.items()}
    parts = [f"{n} {'is' if n == 1 else 'are'} {text}" for text, n in counts.items() if n]
    if len(parts) == 1:
        return f"All results are {words[known[0]]}."
    return f"Of {len(known)} results {', '.join(parts)}."


def health(cell: Cell) -> str:
    """The first word of each run's verdict if it is one, or else ``2 of 3 healthy``."""
    words = [str(text).partition(":")[0] for text in cell.health if text]
    names = list(dict.fromkeys(words))
    if len(names) < 2:
        return "".join(names) or NOTHING
    return f"{words.count('healthy')} of {len(words)} healthy"


def listed(study: Study, value: Callable[[Cell], float | None], digits: int = 1) -> str:
    """``row value; row value``: a number of each cell, for who cannot see a figure."""
    return "; ".join(f"{row(study, cell)} {number(value(cell), digits)}" for cell in study.cells)
