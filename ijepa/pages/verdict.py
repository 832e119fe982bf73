"""What the decisions of a study mean, in words: the same on its page, in Markdown and LaTeX."""

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ijepa.pages.text import NOTHING, interval, number, points, spoken
from ijepa.study.decision import FAILS, HOLDS, NOTHING_CLAIMED, SAME, UNDECIDED
from ijepa.study.numbers import Cell, Change, Pair, Study
from ijepa.study.power import MOST, Needed
from ijepa.study.statistics import Spread

SIGNS = {HOLDS: "▲", FAILS: "▼", SAME: "≈", UNDECIDED: "◇", NOTHING_CLAIMED: "·"}
MARKS = {decision: f"{sign} {decision}" for decision, sign in SIGNS.items()}
PAIRS = {  # what a pair is by itself
    HOLDS: "▲ better", FAILS: "▼ worse", SAME: "≈ alike", UNDECIDED: "◇ undecided",
}  # fmt: skip
CLASSES = {
    HOLDS: "better", FAILS: "worse", SAME: "same", UNDECIDED: "undecided",
    NOTHING_CLAIMED: "undecided",
}  # fmt: skip
COLLAPSED = "✕"  # a run whose representation collapsed
_NO_ALARM = "no alarm"


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


def data(study: Study) -> str:
    """The data sets that a study's runs learn from."""
    return ", ".join(study.data) or str(study.preset or study.scale)


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
    spreads: Sequence[Spread] = [p.comparison.spread for p in claimed(study)]
    numbers = sorted({s.n for s in spreads or [cell.spread for cell in study.cells]}) or [0]
    return f"n = {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")


def points_of(margin: float) -> str:
    """A margin in points."""
    return f"{margin:g} point" + ("" if margin == 1 else "s")


def sentence(study: Study) -> str:
    """The verdict on the claim, as one text that can stand alone: effect, interval, seeds."""
    verdict = study.verdict
    if verdict.decision == NOTHING_CLAIMED:
        reference = study.label(study.claim.reference)
        return f"Nothing is claimed: the variants are compared with “{reference}”."
    text = {HOLDS: _holds, FAILS: _fails, SAME: _same, UNDECIDED: _undecided}[verdict.decision]
    return ("" if study.as_registered else "Exploratory. ") + text(study)


def deciding(study: Study) -> Pair:
    """The pair that the verdict hangs on."""
    return study.pairs[study.verdict.deciding or 0]


def effect(one: Pair) -> str:
    """``+2.1 points [+0.9, +3.3]``."""
    return difference(one.comparison.spread)


def difference(spread: Spread, unit: str = " points") -> str:
    """The same of any difference; without a unit ``+2.1 [+0.9, +3.3]``."""
    return f"{points(spread.mean)}{unit} {interval(spread.low, spread.high, signed=True)}"


def over(study: Study) -> str:
    """What the interval of the deciding pair is, in words."""
    one = deciding(study).comparison
    return f"95 % interval over {one.over}, n = {one.spread.n}"


def claimed(study: Study) -> list[Pair]:
    """The pairs that the verdict is on: without those that were added after the first run."""
    return [one for one in study.pairs if not one.exploratory]


def _all(study: Study) -> str:
    """``both pairs``, ``all 5 pairs``; empty for one."""
    count = len(claimed(study))
    return "" if count < 2 else "both pairs" if count == 2 else f"all {count} pairs"


def _when(study: Study) -> str:
    """When it was decided, and of how many seeds the numbers after it are, if of more."""
    look, n = study.verdict.look, deciding(study).comparison.spread.n
    later = f"; with {n}" if n != look else ""
    return f"at {study.scale} scale, at the look of {look} seeds{later}"


def _holds(study: Study) -> str:
    one = deciding(study)
    among = f"the weakest of {_all(study)}, " if _all(study) else ""
    return (
        f"Holds {_when(study)}: {among}{pair(study, one)}, by {effect(one)}"
        f" ({over(study)}).{_negligible(study)}{_untrained(study)}"
    )


def _fails(study: Study) -> str:
    one = deciding(study)
    count = len(claimed(study))
    among = f"; one of {count} pairs is enough" if count > 1 else ""
    return (
        f"Does not hold {_when(study)}: {pair(study, one)} is {effect(one)}"
        f" ({over(study)}){among}.{_negligible(study)}{_untrained(study)}{_kinds(study)}"
        f"{_early(study)}"
    )


def _kinds(study: Study) -> str:
    """How many of several pairs are what: ``4 are ▼ worse, 3 are ◇ undecided``."""
    decisions = [one.test.decision for one in claimed(study)]
    counts = {mark: decisions.count(kind) for kind, mark in PAIRS.items()}
    told = [f"{n} {'is' if n == 1 else 'are'} {mark}" for mark, n in counts.items() if n]
    return f" By themselves {', '.join(told)}." if len(decisions) > 1 else ""


def _early(study: Study) -> str:
    """Which pairs the verdict did not wait for; empty where all have reached the first look."""
    first = study.design.looks[0]
    late = sum(one.test.p is None for one in claimed(study))
    if not late:
        return ""
    have = f"{late} of the pairs has" if late == 1 else f"{late} of the pairs have"
    return f" {have} not reached the first look, the first {first} seeds."


def _untrained(study: Study) -> str:
    """That variants differ before training, and whether training is shown to add to it."""
    one = deciding(study)
    if not one.apart_untrained:
        return ""
    before, after = difference(one.untrained), difference(one.gained)
    shown = "not shown to come from training" if one.inborn else "more than that"
    return (
        f" Between their random initialisations it is {before} (95 % interval over seeds): the"
        f" trained ones' difference is {shown} ({after} beyond it)."
    )


def _negligible(study: Study) -> str:
    if not study.verdict.negligible:
        return ""
    return f" It is by less than the margin that matters, {margins(study)}."


def _same(study: Study) -> str:
    one = deciding(study)
    among = f"the furthest out of {_all(study)}, " if _all(study) else ""
    return (
        f"No difference beyond {margins(study)} {_when(study)}: {among}{pair(study, one)} is"
        f" {effect(one)} ({over(study)}).{_steps(study)}"
    )


def margins(study: Study) -> str:
    """``1 point``; of pairs with several ``its pair's 1 or 3 points``."""
    *fewer, most = sorted({one.test.margin for one in claimed(study)} or {study.claim.margin})
    each = "its pair's " if fewer else ""
    return f"{each}{''.join(f'{one:g} or ' for one in fewer)}{points_of(most)}"


def _steps(study: Study) -> str:
    """That no pair is of the ends, where each is a step of an order."""
    point = deciding(study).point
    here = [one for one in claimed(study) if one.point == point]
    steps = [after.better == before.worse for before, after in pairwise(here)]
    return " Each pair is a step: the ends may be further apart." if steps and all(steps) else ""


def _undecided(study: Study) -> str:
    counts, looks = [one.comparison.spread.n for one in claimed(study)], study.design.looks
    n, most = min(counts, default=0), max(counts, default=0)
    some = f"{n} to {most}" if n < most else str(n)
    after = f"{some} of up to {looks[-1]}" if n < looks[-1] else f"all {n}"
    start = f"Undecided at {study.scale} scale after {after} seeds"
    if study.verdict.deciding is None:
        return f"{start}: no pair has a seed in common."
    one = deciding(study)
    weakest = "the weakest pair, " if _all(study) else ""
    text = f"{start}: {weakest}{pair(study, one)} is {effect(one)} ({over(study)})"
    reached = [pair.test.p is not None for pair in claimed(study)]
    if not any(reached) and n >= looks[0]:
        text += "; one of the first seeds is missing, so no look is reached."
    elif not any(reached):
        text += f"; the first look is at {looks[0]} seeds."
    elif not all(reached):
        text += f".{_early(study)}"
    elif n >= looks[-1]:
        text += f"; the plan ends here, and {needed(study, 'another one would take')}."
    else:
        text += f"; {needed(study)}."
    known = found(study)
    return f"{text} Of the other pairs, {known}." if known else text


def found(study: Study) -> str:
    """Of the pairs on which no verdict hangs: those that are better or worse as findings, counted.

    An undecided claim of several pairs may hide a large effect in another one.
    """
    others = [one for one in claimed(study) if one is not deciding(study)]
    parts = []
    for decision in (HOLDS, FAILS):
        these = [one for one in others if one.test.decision == decision]
        if these:
            most = max(these, key=lambda one: abs(one.comparison.spread.mean or 0.0))
            first = f"{pair(study, most)} is {PAIRS[decision]} by itself, {effect(most)}"
            parts.append(first + (f", as {len(these) - 1} more" if len(these) > 1 else ""))
    return "; ".join(parts)


def needed(study: Study, start: str = "") -> str:
    """How many seeds a decision takes, in words."""
    seeds = study.verdict.needed
    if seeds is None:
        return "how many seeds it takes cannot be told"
    count = ("about " if seeds.n else "more than ") + seeds_of(seeds).removeprefix("> ")
    return f"{start} {count} seeds for 80 % power to say “{seeds.goal}”".strip()


def seeds_of(seeds: Needed) -> str:
    """``30 [14, > 1,000]``: a number of seeds with its 90 % interval."""

    def shown(n: int | None) -> str:
        return f"> {MOST:,}" if n is None else str(n)

    return f"{shown(seeds.n)} [{shown(seeds.low)}, {shown(seeds.high)}]"


def coverage(study: Study) -> str:
    """What of the plan there is, and what else a reader must know before the numbers."""
    states = [run.status for run in study.runs]
    lost = " and ".join(f"{states.count(k)} {k}" for k in ("failed", "missing") if k in states)
    text = f"All {len(states)} planned runs are done."
    if lost:
        text = f"Of {len(states)} planned runs {states.count('done')} are done, {lost}."
    collapsed = sum(len(cell.collapsed) for cell in study.cells)
    if collapsed:
        text += (
            f" {collapsed} of them ended in a collapsed representation ({COLLAPSED}): they count,"
            " and the mean of the healthy ones stands beside."
        )
    known = [cell.learned for cell in study.cells if cell.learned.low is not None]
    told = sum((one.low or 0.0) > 0 for one in known)
    below = sum((one.high or 0.0) < 0 for one in known)
    if told < len(known):
        under = f", and {below} below it" if below else ""
        text += (
            f" The probe finds {told} of {len(known)} variants above their random"
            f" initialisation{under} (95 % interval over seeds); of the others it is not shown"
            " that they have learned."
        )
    if study.strays:
        text += (
            f" The lock file also has {len(study.strays)} results of no run of this plan:"
            f" {', '.join(study.strays)}."
        )
    return text


def design(study: Study) -> str:
    """What was fixed before the first run, or that nothing was; empty where nothing is claimed."""
    if not study.claim.pairs:
        return ""
    *before, last = study.design.looks
    looks = f"{', '.join(map(str, before))} and {last}" if before else str(last)
    plan = (
        f"metric {study.metric}; margin that matters {margins(study)}; looks at"
        f" {looks} seeds; each kind of verdict is false with {100 * study.design.error:g} % at"
        " most, over all looks"
    )
    if study.registered is None:
        return f"Not registered before the first run, so all of it is exploratory: {plan}."
    known = next((one.registered for one in study.exploratory if one.key == "known"), 0)
    if known:
        when = f"when {known} results of its claimed pairs were known"
        return f"Registered ({study.registered[:10]}) {when}: {plan}."
    return f"Registered before the first run ({study.registered[:10]}): {plan}."


def changes(study: Study) -> list[str]:
    """What is not as it was registered, a text for each change; exploratory."""
    return [_change(one) for one in study.exploratory]


def _change(one: Change) -> str:
    what = f"{one.key} {one.name}".strip()
    if one.key == "known":
        return (
            f"{one.registered} results of its claimed pairs were known before it was registered,"
            " from other tables or an earlier version of this one"
        )
    if one.key == "replaced":
        return (
            f"{one.registered} of its results were replaced by others, of other code or settings,"
            " after they had been there to be seen"
        )
    if one.registered is None:
        return f"{what}: added after the first run"
    if one.today is None:
        return f"{what}: left out after the first run; the verdict still has it"
    if one.key == "variant":  # of its settings there is a hash alone
        return f"{what}: its settings were changed after the first run"
    return f"{what}: registered as {_value(one.registered)}, now {_value(one.today)}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def health(cell: Cell) -> str:
    """Each run's alarm if it is one for all, or else ``2 of 3 without an alarm``."""
    words = [alarm(text).partition(":")[0] for text in cell.health if text]
    names = list(dict.fromkeys(words))
    if len(names) < 2:
        return "".join(names) or NOTHING
    return f"{words.count(_NO_ALARM)} of {len(words)} without an alarm"


def alarm(recorded: str) -> str:
    """A run's health as a person reads it: an untrained network raises no alarm either."""
    word, colon, numbers = recorded.partition(":")
    return (_NO_ALARM if word == "healthy" else word) + colon + numbers


def listed(study: Study, value: Callable[[Cell], float | None], digits: int = 1) -> str:
    """``row value; row value``: a number of each cell, for who cannot see a figure."""
    return "; ".join(f"{row(study, cell)} {number(value(cell), digits)}" for cell in study.cells)
