"""Every claim with runs in one frame: its differences against the compute of pretraining."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ijepa.pages import look, style, verdict
from ijepa.pages.figure import Words
from ijepa.pages.text import interval, points
from ijepa.study.decision import FAILS, HOLDS, SAME, UNDECIDED
from ijepa.study.numbers import Pair, Study

MARKERS = {HOLDS: "^", FAILS: "v", SAME: "s", UNDECIDED: "D"}
_COLUMNS = 3
_LINES = ("-", "--", ":", "-.")  # that join the budgets of a pair


def needs(studies: Sequence[Study]) -> bool:
    """A claimed pair with an interval, whose runs count their FLOPs."""
    return any(_drawn(study) for study in studies)


def words(studies: Sequence[Study]) -> Words:
    """The differences of all claimed pairs."""
    listed = "; ".join(
        f"{_title(group)}, {data(study)}, {verdict.pair(study, pair)}:"
        f" {points(pair.comparison.spread.mean)}"
        f" {interval(pair.comparison.spread.low, pair.comparison.spread.high, signed=True)}"
        for group in _panels(studies)
        for study in group
        for pair in _drawn(study)
    )
    return Words(
        "Each claim against compute",
        f"Paired differences in points: {listed}.",
        "A panel for each claim with runs, a mark for each of its pairs: mean difference paired"
        " by seed, with its 95 % interval, above 0 where it is as claimed; shaded: within the"
        " margin that matters. ▲ better, ▼ worse, ■ alike within the margin, ◆ undecided, each"
        " pair within its experiment. Colours are data sets; a line joins a pair's budgets. The"
        " horizontal axis is the pair's FLOPs of pretraining without padding; pairs of nearly the"
        " same stand side by side. The paper's own runs would stand far to the right.",
    )


def draw(studies: Sequence[Study], path: Path) -> None:
    """A panel for each claim, all over one axis of compute."""
    panels = list(_panels(studies))
    colours = dict(zip(sorted({data(study) for group in panels for study in group}),
                       (colour for colour, _ in look.looks(7)), strict=False))  # fmt: skip
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    with style.figure(path, (2.9 * columns + 0.5, 2.35 * lines + 0.9)) as figure:
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
        xs = [pair.compute or 0.0 for group in panels for study in group for pair in _drawn(study)]
        for axes, group in zip(grid.flat, panels, strict=False):
            _panel(axes, group, colours, xs)
        look.logarithmic(grid[0][0], xs)  # of all: the panels share it
        for axes in grid.flat[len(panels) :]:
            axes.set_visible(False)
        for axes in grid.flat[max(0, len(panels) - columns) : len(panels)]:
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("FLOPs of pretraining")
        for row in grid:
            row[0].set_ylabel("points, above 0 as claimed")
        figure.legend(handles=list(_key(colours)), loc="outside lower center", ncols=6)


def data(study: Study) -> str:
    """The data sets that a study's runs learn from."""
    return ", ".join(study.data) or str(study.preset or study.scale)


def _panels(studies: Sequence[Study]) -> Iterator[list[Study]]:
    """Studies with something to draw: together those of one table of the paper."""
    shown = [study for study in studies if _drawn(study)]

    def key(study: Study) -> tuple[int, str]:
        return (study.table, "") if study.table else (99, study.name)

    for _, group in groupby(sorted(shown, key=key), key):
        yield list(group)


def _title(group: Sequence[Study]) -> str:
    first = group[0]
    return (f"Table {first.table}. " if first.table else "") + first.title.partition(", on")[0]


def _drawn(study: Study) -> list[Pair]:
    """Claimed pairs that have an interval and FLOPs."""
    return [
        pair for pair in study.pairs
        if pair.compute and study.compute == "flops_useful" and not pair.exploratory
        and pair.comparison.spread.low is not None
    ]  # fmt: skip


def _panel(
    axes: Axes, group: Sequence[Study], colours: Mapping[str, str], axis: Sequence[float]
) -> None:
    """Draw a claim's pairs; ``axis`` has the FLOPs of all panels."""
    axes.set_title(look.wrapped(_title(group), 34))
    axes.axhline(0, color=style.INK, lw=0.9)
    told = [(study, pair) for study in group for pair in _drawn(study)]
    xs = look.apart([pair.compute or 0.0 for _, pair in told], axis)
    margins = [pair.test.margin for _, pair in told]
    if len(set(margins)) == 1:
        axes.axhspan(-margins[0], margins[0], color=style.INK, alpha=0.08, lw=0)
    else:  # each pair before its own
        for x, margin in zip(xs, margins, strict=True):
            around = [x / 1.13, x * 1.13]
            axes.fill_between(around, -margin, margin, color=style.INK, alpha=0.08, lw=0)
    lines = dict[tuple[str, str, str], list[tuple[float, float]]]()
    for x, (study, pair) in zip(xs, told, strict=True):
        spread, colour = pair.comparison.spread, colours[data(study)]
        mean, low, high = spread.mean or 0.0, spread.low or 0.0, spread.high or 0.0
        axes.plot([x, x], [low, high], color=colour, lw=1.6, zorder=3)
        axes.plot(x, mean, MARKERS[pair.test.decision], color=colour, ms=6.5,
                  mec="white", mew=0.6, zorder=4)  # fmt: skip
        lines.setdefault((study.name, pair.better, pair.worse), []).append((x, mean))
    joined = {pair: line for pair, line in lines.items() if len(line) > 1}
    for ((name, _, worse), line), dashes in zip(joined.items(), cycle(_LINES)):
        study = next(one for one in group if one.name == name)
        axes.plot(*zip(*sorted(line), strict=True), dashes, color=colours[data(study)], lw=0.9,
                  label=f"over {study.label(worse)}")  # fmt: skip
    if len(joined) > 1:
        axes.legend(loc="best", fontsize=7, handlelength=2.2)
    axes.margins(x=0.2, y=0.12)


def _key(colours: Mapping[str, str]) -> Iterator[Line2D]:
    for name, colour in colours.items():
        yield Line2D([], [], color=colour, lw=3, label=name)
    for decision, marker in MARKERS.items():
        label = verdict.PAIRS[decision].partition(" ")[2]
        yield Line2D([], [], color=style.GREY, marker=marker, ls="", label=label)
