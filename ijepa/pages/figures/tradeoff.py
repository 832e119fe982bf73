"""A study's metric against further ones of other tasks: what a variant gains and what it loses."""

from pathlib import Path

from matplotlib.axes import Axes

from ijepa.pages import look, marks, style, verdict
from ijepa.pages.figure import Words
from ijepa.pages.text import number
from ijepa.study.numbers import Study


def needs(study: Study) -> bool:
    """Accuracies of two tasks of one encoder, of so many variants as marks can tell apart."""
    return marks.few(study) and all(panels(study))


def panels(study: Study) -> tuple[list[str | None], list[str]]:
    """Points, and further metrics of other tasks, that have numbers: rows and columns."""
    task = study.metric.partition(".")[0]
    both = [
        (cell.point, metric)
        for cell in study.cells
        for metric in study.also
        if metric.partition(".")[0] != task
        and cell.spread.mean is not None
        and cell.also[metric].mean is not None
    ]
    return (
        [point for point in study.places if any(point == p for p, _ in both)],
        [metric for metric in study.also if any(metric == m for _, m in both)],
    )


def words(study: Study) -> Words:
    """All accuracies of the panels."""
    points, metrics = panels(study)
    listed = "; ".join(
        f"{verdict.row(study, cell)} {number(cell.spread.mean)}, "
        + ", ".join(number(cell.also[metric].mean) for metric in metrics)
        for cell in study.cells
        if cell.point in points
    )
    here = verdict.metric(study.metric)
    others = " and ".join(verdict.metric(metric) for metric in metrics)
    return Words(
        "Semantic against low-level tasks",
        f"Accuracy in percent of {here} against {others}: {listed}.",
        "Each mark is a variant, mean over seeds with one standard deviation to each side; grey:"
        " the same probe on a random encoder, where all variants start from the same, and on raw"
        f" pixels. Right is better at {here}, up is"
        f" better at {others}.",
    )


def draw(study: Study, path: Path) -> None:
    """A row of panels for each point, a column for each further metric."""
    points, metrics = panels(study)
    size = 3.5 * len(metrics) + 0.4, 2.9 * len(points)
    with style.figure(path, marks.with_legend(size, study)) as figure:
        grid = figure.subplots(len(points), len(metrics), squeeze=False, sharex=True, sharey="col")
        for row, point in zip(grid, points, strict=True):
            for axes, metric in zip(row, metrics, strict=True):
                _marks(axes, study, point, metric)
                if point is not None:
                    axes.set_title(look.wrapped(verdict.place(study, point), 36))
                axes.set_ylabel(f"{verdict.metric(metric)} (%)")
        for axes in grid[-1]:
            axes.set_xlabel(f"{verdict.metric(study.metric)} (%)")
        look.legend(figure, grid.ravel(), marks.names(study))


def _marks(axes: Axes, study: Study, point: str | None, metric: str) -> None:
    for (name, colour, marker), cell in zip(marks.variants(study), study.at(point), strict=True):
        marks.mark(axes, cell.spread, cell.also[metric], name, colour, marker)
    for encoder, name, marker, _ in marks.BASELINES:
        for one in study.baselines:
            if (one.point, one.encoder) == (point, encoder) and one.shared:
                marks.mark(axes, one.spread, one.also[metric], name, marks.SOFT, marker)
    axes.margins(0.12)
