"""Every claim with runs in one frame: its differences against the compute of pretraining."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ijepa.pages import look, style, verdict
from ijepa.pages.figure import Words
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
        f"{_title([study])}, {verdict.data(study)}, {verdict.pair(study, pair)}:"
        f" {verdict.difference(pair.comparison.spread, '')}"
        for group in _panels(studies)
        for study in group
        for pair in _drawn(study)
    )
    return Words(
        "Each claim against compute",
        f"Paired differences in points: {listed}.",
        "A panel for each of the paper's tables that has runs, and for each claim of our own; a"
        " mark for each pair: mean difference paired by seed, with its 95 % interval, above 0"
        " where it is as claimed; shaded: within the margin that matters. ▲ better, ▼ worse,"
        " ■ alike within the margin, ◆ undecided, each pair within its experiment. Dash: the same"
        " difference between the random initialisations, where these are told apart. Colours are"
        " data sets; a line joins a pair's budgets. The horizontal axis is the pair's FLOPs of"
        " pretraining without padding; pairs of nearly the same stand side by side around them."
        " The paper's own runs would stand far to the right.",
    )


def draw(studies: Sequence[Study], path: Path) -> None:
    """A panel for each table of the paper, all over one axis of compute."""
    panels = list(_panels(studies))
    names = sorted({verdict.data(study) for group in panels for study in group})
    colours = dict(zip(names, look.colours(len(names)), strict=True))
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
        figure.legend(handles=list(_key(colours)), loc="outside lower center", ncols=7)


def _panels(studies: Sequence[Study]) -> Iterator[list[Study]]:
    """Studies with something to draw: together those of one table of the paper."""
    shown = [study for study in studies if _drawn(study)]

    def key(study: Study) -> tuple[int, str]:
        return (study.table, "") if study.table else (99, study.name)

    for _, group in groupby(sorted(shown, key=key), key):
        yield list(group)


def _title(group: Sequence[Study]) -> str:
    """``Table 1. Size of the encoder; Resolution``: what each study varies, once."""
    titles = dict.fromkeys(study.title.partition(", on")[0] for study in group)
    number = f"Table {group[0].table}. " if group[0].table else ""
    return number + "; ".join(titles)


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
        spread, colour = pair.comparison.spread, colours[verdict.data(study)]
        mean, low, high = spread.mean or 0.0, spread.low or 0.0, spread.high or 0.0
        axes.plot([x, x], [low, high], color=colour, lw=1.6, zorder=3)
        axes.plot(x, mean, MARKERS[pair.test.decision], color=colour, ms=6.5,
                  mec="white", mew=0.6, zorder=4)  # fmt: skip
        if pair.apart_untrained:
            axes.plot(
                x, pair.untrained.mean or 0.0, "_", color=style.INK, ms=11, mew=1.4, zorder=5
            )
        lines.setdefault((study.name, pair.better, pair.worse), []).append((x, mean))
    joined = {pair: line for pair, line in lines.items() if len(line) > 1}
    for ((name, _, worse), line), dashes in zip(joined.items(), cycle(_LINES)):
        study = next(one for one in group if one.name == name)
        axes.plot(*zip(*sorted(line), strict=True), dashes, color=colours[verdict.data(study)],
                  lw=0.9, label=f"over {study.label(worse)}")  # fmt: skip
    if len(joined) > 1:
        axes.legend(loc="best", fontsize=7, handlelength=2.2)
    axes.margins(x=0.2, y=0.12)


def _key(colours: Mapping[str, str]) -> Iterator[Line2D]:
    for name, colour in colours.items():
        yield Line2D([], [], color=colour, lw=3, label=name)
    yield Line2D([], [], color=style.INK, marker="_", ls="", ms=11, mew=1.4, label="untrained")
    for decision, marker in MARKERS.items():
        label = verdict.PAIRS[decision].partition(" ")[2]
        yield Line2D([], [], color=style.GREY, marker=marker, ls="", label=label)
