"""A study's claimed differences at points that are budgets, against compute."""

import math
from pathlib import Path

from matplotlib.axes import Axes

from ijepa.pages import look, marks, style, verdict
from ijepa.pages.figure import Words
from ijepa.pages.figures import compute
from ijepa.pages.text import number
from ijepa.study.decision import FAILS, HOLDS, SAME, UNDECIDED
from ijepa.study.numbers import Pair, Study

_DECISION = {  # of a pair, after Holm over all pairs -> colour and mark
    HOLDS: (style.GREEN, "^"), FAILS: (style.RED, "v"), SAME: (style.BLUE, "s"),
    UNDECIDED: (style.GREY, "D"),
}  # fmt: skip
_COMPUTE = {
    "flops_useful": "FLOPs of pretraining without padding, the mean of the two",
    "flops": "FLOPs of pretraining, forward and backward, the mean of the two",
    "patches": "approximate compute of pretraining, 6 × encoder parameters × patches × images",
    "images": "approximate compute of pretraining, encoder parameters × images seen",
}


def needs(study: Study) -> bool:
    """Points that are budgets of one thing: not other data, nor other lengths for each variant."""
    budgets = len(compute.groups(study)) == 1 and not any(p.equal_compute for p in study.points)
    return bool(study.points and study.pairs and budgets and axis(study))


def axis(study: Study) -> str | None:
    """What the points are drawn against: compute where runs tell it, else the points' own x."""
    if study.compute is not None:
        return _COMPUTE[study.compute]
    return "x as the experiment's file has it" if all(p.x for p in study.points) else None


def words(study: Study) -> Words:
    """The differences of all claimed pairs."""
    listed = "; ".join(
        f"{verdict.pair(study, pair)} {number(pair.comparison.spread.mean, signed=True)}"
        for pair in study.pairs
    )
    return Words(
        "Claimed differences against compute",
        f"Paired differences of each claimed pair at each point. {listed}.",
        "Mean difference paired by seed with its 95 % interval over seeds; above the zero line the"
        " claim points the right way; shaded: within the margin that matters. Each pair by itself:"
        " ▲ better, ▼ worse, ■ alike within the margin, ◆ undecided. An interval that meets the"
        " frame goes on beyond; points of nearly the same"
        f" compute stand side by side. The horizontal axis: {axis(study)}.",
    )


def draw(study: Study, path: Path) -> None:
    """A panel for each claimed pair: difference with interval against compute."""
    claimed = study.claim.pairs
    columns = min(3, len(claimed))
    lines = math.ceil(len(claimed) / columns)
    width = max(2.9 * columns, 4.4) + 0.4
    above = 9.0 * max(_place(study, point.name).count("\n") + 1 for point in study.points) + 6
    with style.figure(path, (width, (2.6 + above / 72) * lines + 0.2)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=True).ravel()
        inside, xs = [0.0], list[float]()
        for axes, (better, worse) in zip(panels, claimed, strict=False):
            sides = study.label(better), f"over {study.label(worse)}"
            axes.set_title("\n".join(look.wrapped(side, 36) for side in sides), pad=above)
            at, values = _panel(axes, study, better, worse)
            xs += at
            inside += values
        look.logarithmic(panels[0], xs)  # of all: the panels share it
        for axes in panels[len(claimed) :]:
            axes.set_visible(False)
        beyond = 0.06 * (max(inside) - min(inside) or 1.0)
        panels[0].set_ylim(min(inside) - beyond, max(inside) + beyond)
        for axes in panels[::columns]:
            axes.set_ylabel("difference (points)")
        figure.supxlabel(look.wrapped(str(axis(study)), int(13 * width)), fontsize=8.5)


def _panel(axes: Axes, study: Study, better: str, worse: str) -> tuple[list[float], list[float]]:
    """Draw a pair's points; returns where they are, and what must lie within the frame."""
    places = {point.name: point.x for point in study.points}
    pairs = [p for p in study.pairs if (p.better, p.worse) == (better, worse)]
    pairs = [p for p in pairs if p.comparison.seeds]
    axes.axhline(0, color=style.INK, lw=0.9)
    margins = {pair.test.margin for pair in pairs}
    if len(margins) == 1:  # a band is of one margin
        axes.axhspan(-min(margins), min(margins), color=style.INK, alpha=0.07, lw=0)
    given = [p.compute if study.compute else places[str(p.point)] for p in pairs]
    xs = look.apart([x or 0.0 for x in given])
    inside: list[float] = []
    for x, pair in zip(xs, pairs, strict=True):
        _mark(axes, x, pair)
        axes.annotate(
            _place(study, str(pair.point)), (x, 1.0), fontsize=7,
            xycoords=axes.get_xaxis_transform(), xytext=(0, 2), color=marks.SOFT,
            textcoords="offset points", ha="center", va="bottom",
        )  # fmt: skip
        inside += [*pair.comparison.differences, *marks.limits(pair.comparison.spread)]
    axes.margins(x=0.16)
    return xs, inside


def _place(study: Study, point: str) -> str:
    """A point's label, in lines so short that four stand side by side over a panel."""
    return look.wrapped(verdict.place(study, point), 10)


def _mark(axes: Axes, x: float, pair: Pair) -> None:
    values = pair.comparison.differences
    marks.seeds(axes, [x] * len(values), values)
    colour, marker = _DECISION[pair.test.decision]
    marks.interval(axes, pair.comparison.spread, x, colour, upright=True, marker=marker)
