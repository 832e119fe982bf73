"""A study's accuracy against the context that the encoder really saw."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ijepa.pages import look, marks, style, verdict
from ijepa.pages.figure import Words
from ijepa.study.numbers import Cell, Study

_APART = 1.05  # contexts that differ by less are one


def needs(study: Study) -> bool:
    """Contexts that differ enough to be an axis, of so many variants as marks can tell apart."""
    known = [cell.context_ratio for cell in study.cells if cell.spread.n and cell.context_ratio]
    return marks.few(study) and len(known) > 1 and max(known) > _APART * min(known)


def words(study: Study) -> Words:
    """The realised context of each cell."""
    listed = verdict.listed(study, lambda cell: cell.context_ratio, 3)
    return Words(
        "Accuracy against the realised context",
        "Scatter plot: share of patches that the context encoder saw, against accuracy."
        f" {listed}.",
        "Each small mark is a run, each large one the mean of a variant. A variant that also"
        " changes how much context there is differs in two things: the factor and this ratio, the"
        " mean share of an image's patches that the context encoder saw in pretraining.",
    )


def draw(study: Study, path: Path) -> None:
    """A panel for each point, a colour and a mark for each variant."""
    drawn = [cell for cell in study.cells if cell.spread.n and cell.context_ratio]
    points = [point for point in study.places if any(cell.point == point for cell in drawn)]
    columns = min(2, len(points))
    lines = math.ceil(len(points) / columns)
    size = (6.4, 3.2) if columns == 1 else (7.6, 2.4 * lines)
    with style.figure(path, marks.with_legend(size, study)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, point in zip(panels, points, strict=False):
            _panel(axes, study, [cell for cell in drawn if cell.point == point])
            if point is not None:
                axes.set_title(look.wrapped(verdict.place(study, point), 44))
        for axes in panels[len(points) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("accuracy (%)")
        for axes in panels[len(points) - columns : len(points)]:
            axes.set_xlabel("realised context (share of an image's patches)")
            axes.tick_params(labelbottom=True)
        look.legend(figure, panels, marks.names(study))


def _panel(axes: Axes, study: Study, cells: Sequence[Cell]) -> None:
    looks = dict(zip((v.name for v in study.variants), marks.variants(study), strict=True))
    for cell in cells:
        name, colour, marker = looks[cell.variant]
        how = {"color": colour, "mec": "white", "mew": 0.5}
        for run in (r for r in study.runs_of(cell) if r.done and r.context_ratio):
            _mark(axes, run.context_ratio, study.value(run), marker, ms=4, alpha=0.5, **how)
        _mark(axes, cell.context_ratio, cell.spread.mean, marker, ms=8, label=name, **how)
    axes.margins(0.08)


def _mark(axes: Axes, x: float | None, y: float | None, marker: str, **how: Any) -> None:
    assert x is not None
    assert y is not None
    axes.plot(x, y, marker, **how)
