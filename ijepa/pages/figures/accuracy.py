"""Accuracies of a study's variants, their differences to the reference, the paper's numbers."""

from collections.abc import Collection, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ijepa.pages import look, marks, style, verdict
from ijepa.pages.figure import Words
from ijepa.pages.text import number
from ijepa.study.numbers import Cell, Study

_BELOW = 0.26  # rows: the seeds stand under their mean
_BASELINES = (("random_init", style.ORANGE, "random init"), ("pixels", style.GREY, "raw pixels"))


def needs(study: Study) -> bool:
    """A number, here or in the paper."""
    return any(_told(study, point) for point in study.places)


def _told(study: Study, point: str | None) -> bool:
    """Whether a point has a number, here or in the paper: it has a row of panels then."""
    return any(c.spread.mean is not None or c.paper is not None for c in study.at(point))


def words(study: Study) -> Words:
    """The accuracies and the published numbers."""
    paper = [cell for cell in study.cells if cell.paper is not None]
    published = "; ".join(f"{study.label(cell.variant)} {number(cell.paper)}" for cell in paper)
    here = verdict.listed(study, lambda cell: cell.spread.mean)
    empty = [verdict.place(study, p) for p in study.places if p and not _told(study, p)]
    return Words(
        "Accuracy of the variants" + (", here and in the paper" if paper else ""),
        f"Accuracies in percent. Here: {here}."
        + (f" In the paper: {published}." if paper else ""),
        "First panel: here, mean over seeds (large) with its 95 % interval, each seed (small),"
        " and the seeds of neighbouring variants joined"
        + ("; dashed: the probe on a random encoder and on raw pixels" if study.baselines else "")
        + ". Second: the difference to"
        f" {study.label(study.claim.reference)} (bold), paired by seed."
        + (" Shaded: within the margin that matters." if study.pairs else "")
        + (" A cross: a run that collapsed." if any(c.collapsed for c in study.cells) else "")
        + (" Third: the paper's numbers on an axis of their own." if paper else "")
        + (f" Without a result: {', '.join(empty)}." if empty else "")
        + " An interval that meets the frame goes on beyond; a hollow mark is one seed.",
    )


def draw(study: Study, path: Path) -> None:
    """A row of panels for each point: accuracies, paired differences, the paper's numbers."""
    paper = any(cell.paper is not None for cell in study.cells)
    labels = [look.wrapped(v.label) for v in study.variants]
    places = [point for point in study.places if _told(study, point)]
    lines = sum(max(label.count("\n") + 1, 1.6) for label in labels)
    high = 0.21 * lines + (0.75 if len(places) == 1 else 0.55)
    size = (9.0 if paper else 7.6, 0.35 + high * len(places))
    with style.figure(path, size) as figure:
        panels = figure.subplots(
            len(places), 3 if paper else 2, squeeze=False, sharey=True, sharex="col",
            width_ratios=[1.25, 1, 0.8][: 3 if paper else 2],
        )  # fmt: skip
        means: list[float] = []
        differences = [0.0]
        for row, point in zip(panels, places, strict=True):
            cells = study.at(point)
            means += _means(row[0], study, cells, point)
            margins = {one.test.margin for one in study.pairs if one.point == point}
            differences += _differences(row[1], cells, margins)
            if paper:
                _published(row[2], cells)
            row[0].set_yticks(range(len(cells)), labels)
            row[0].set_ylim(len(cells) - 0.5, -0.5)
            for axes in row:
                axes.tick_params(axis="y", length=0)
            for variant, tick in zip(study.variants, row[0].get_yticklabels(), strict=True):
                reference = variant.name == study.claim.reference
                tick.set_fontweight("bold" if reference else "normal")
            if point is not None:
                row[0].set_title(verdict.place(study, point))
        _frame(panels[0][0], means)
        _frame(panels[0][1], differences)
        titles = ("Here", "Difference to the reference", "In the paper")
        for axes, title in zip(panels[0], titles, strict=False):
            at = f": {axes.get_title(loc='left')}" if axes.get_title(loc="left") else ""
            axes.set_title(title + at)
        units = ("accuracy (%)", "points", "accuracy (%)")
        for column, text in zip(panels.T, units, strict=False):
            lowest = [axes for axes in column if axes.get_visible()][-1]
            lowest.set_xlabel(text)
            lowest.tick_params(labelbottom=True)
        look.legend(figure, panels[:, 0], [name for *_, name in _BASELINES])


def _means(axes: Axes, study: Study, cells: Sequence[Cell], point: str | None) -> list[float]:
    """Draw one point's accuracies; returns what must lie within the frame."""
    places = {cell.variant: y for y, cell in enumerate(cells)}
    rows = [r for r in study.rows if r.point == point and r.metric == study.metric]
    rows = [r for r in rows if r.encoder == "trained"]
    for seed in study.seeds:
        mine = sorted((places[r.variant] + _BELOW, r.value) for r in rows if r.seed == seed)
        heights, values = [y for y, _ in mine], [value for _, value in mine]
        axes.plot(values, heights, color=style.SKY, lw=0.7, alpha=0.7, zorder=1)
        marks.seeds(axes, values, heights)
    inside = [r.value for r in rows]
    for y, cell in enumerate(cells):
        lost = [r.value for r in rows if r.variant == cell.variant and r.seed in cell.collapsed]
        marks.collapsed(axes, lost, [y + _BELOW] * len(lost))
        for kind, colour, name in _BASELINES:
            value = getattr(cell, kind)
            if value is not None:
                ends = [y - 0.5, y + 0.5]
                axes.plot([value] * 2, ends, color=colour, lw=1.2, ls=(0, (3, 2)), label=name)
                inside.append(value)
        if cell.spread.mean is None:
            look.nothing(axes, y, "no result")
        else:
            marks.interval(axes, cell.spread, y, style.BLUE)
            inside += marks.limits(cell.spread)
    return inside


def _differences(axes: Axes, cells: Sequence[Cell], margins: Collection[float]) -> list[float]:
    """Draw one point's differences to the reference; returns what must lie within the frame."""
    axes.axvline(0, color=style.INK, lw=0.9)
    for margin in margins:
        axes.axvspan(-margin, margin, color=style.INK, alpha=0.07, lw=0)
    inside: list[float] = []
    for y, cell in enumerate(cells):
        if cell.difference is None and cell.spread.n:
            axes.plot(0, y, "s", color=style.INK, ms=4)
        elif cell.difference and cell.difference.seeds:
            values = cell.difference.differences
            marks.seeds(axes, values, [y + _BELOW] * len(values))
            marks.interval(axes, cell.difference.spread, y, style.BLUE)
            inside += [*values, *marks.limits(cell.difference.spread)]
    return inside


def _published(axes: Axes, cells: Sequence[Cell]) -> None:
    top = max(cell.paper or 0 for cell in cells)
    if not top:  # of these runs the paper has none
        axes.set_visible(False)
        return
    for y, cell in enumerate(cells):
        if cell.paper is None:
            look.nothing(axes, y, "no number")
            continue
        axes.plot([0, cell.paper], [y, y], color="#D9D9D9", lw=1.2, zorder=1)
        axes.plot(cell.paper, y, "D", color=style.INK, ms=5, clip_on=False)
        axes.annotate(
            number(cell.paper), (cell.paper, y), xytext=(7, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    axes.set_xlim(0, top * 1.25)
    axes.grid(visible=False, axis="y")


def _frame(axes: Axes, inside: Sequence[float]) -> None:
    """Limits around what must be seen; an interval of two seeds may go on beyond."""
    low, high = (min(inside), max(inside)) if inside else (0.0, 100.0)
    pad = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(5))
