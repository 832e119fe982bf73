"""A study's accuracy against the FLOPs and the device-hours of pretraining."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ijepa.pages import look, marks, style, verdict
from ijepa.pages.figure import Words
from ijepa.pages.text import number, scaled
from ijepa.study.numbers import Cell, Study

_APART = 1.05  # budgets that differ by less are one


def needs(study: Study) -> bool:
    """FLOPs that differ enough to be an axis, of so many variants as marks can tell apart."""
    return marks.few(study) and differ(study.cells)


def differ(cells: Sequence[Cell]) -> bool:
    """Whether the cells' FLOPs are known, and those of the most are more than of the least."""
    count = marks.operations(cells)
    told = [getattr(cell.cost, count) for cell in cells if cell.spread.mean is not None]
    known = [flops for flops in told if flops]
    return len(known) > 1 and max(known) > _APART * min(known)


def groups(study: Study) -> list[list[str | None]]:
    """Names of points whose runs learn from the same data, in the page's order.

    Accuracies are compared with each other along a line, so a line stays within one data set.
    """
    by_data: dict[str, list[str | None]] = {}
    for point in study.points:
        by_data.setdefault(repr(point.data), []).append(point.name)
    return list(by_data.values()) or [[None]]


def words(study: Study) -> Words:
    """FLOPs and accuracy of each cell."""
    count = marks.operations(study.cells)
    listed = "; ".join(
        f"{verdict.row(study, cell)} {scaled(getattr(cell.cost, count), 'FLOP')},"
        f" {number(cell.spread.mean)}"
        for cell in study.cells
    )
    which = "without padding" if count == "flops_useful" else "padding included"
    return Words(
        "Accuracy against the cost of pretraining",
        f"Total FLOPs and accuracy in percent: {listed}.",
        "Mean over seeds with one standard deviation to each side; a line joins a variant's points"
        " on one data set. Grey lines: the same probe on a random encoder and on raw pixels; where"
        " variants start from encoders of their own, a dash in each one's colour. FLOPs"
        f" are analytic, forward and backward, teacher included, {which}. Device-hours are wall"
        " time of the training loop times devices, without start-up, health readings and"
        " checkpoints, on the machines that the table of runs names; other work there is in them.",
    )


def draw(study: Study, path: Path) -> None:
    """A row of panels for each data set with results: against FLOPs, and against device-hours."""
    told = {cell.point for cell in study.cells if cell.spread.mean is not None}
    every = groups(study)
    data = [points for points in every if told.intersection(points)]
    scales = [(marks.operations(study.cells), 1.0, "FLOPs of pretraining")]
    if any(cell.cost.device_seconds for cell in study.cells):
        scales.append(("device_seconds", 3600.0, "device-hours of pretraining"))
    size = 3.5 * len(scales) + 0.6, 2.9 * len(data)
    with style.figure(path, marks.with_legend(size, study)) as figure:
        grid = figure.subplots(len(data), len(scales), squeeze=False, sharey="row")
        for row, points in zip(grid, data, strict=True):
            for axes, (key, unit, text) in zip(row, scales, strict=True):
                _lines(axes, study, points, key, unit)
                axes.set_xlabel(text)
            if len(every) > 1:
                row[0].set_title(look.wrapped(verdict.place(study, str(points[0])), 40))
            row[0].set_ylabel(f"{verdict.metric(study.metric)} (%)")
        look.legend(figure, grid.ravel(), marks.names(study))


def _lines(axes: Axes, study: Study, points: Sequence[str | None], key: str, unit: float) -> None:
    """A line for each variant through its points; a variant of one point is a mark."""
    starts = [b for b in study.baselines if b.point in points and b.encoder == "random_init"]
    own = not all(start.shared for start in starts)
    costs: list[float] = []
    for variant, (name, colour, marker) in zip(study.variants, marks.variants(study), strict=True):
        cells = [c for c in study.cells if c.variant == variant.name and c.point in points]
        known = sorted(
            (getattr(c.cost, key) / unit, c.spread.mean, c.spread.std, c.random_init)
            for c in cells
            if getattr(c.cost, key) and c.spread.mean is not None
        )
        xs, means = [x for x, *_ in known], [mean for _, mean, *_ in known]
        costs += xs
        axes.plot(xs, means, color=colour, lw=1.3, alpha=0.8, zorder=2)
        for x, mean, std, start in known:
            if own and start is not None:
                axes.plot(x, start, "_", color=colour, ms=14, mew=1.6, zorder=2)
            axes.errorbar(
                x, mean, yerr=std, fmt=marker, color=colour, ms=6.5, mec="white", mew=0.6,
                elinewidth=1.1, zorder=3, label=name,
            )  # fmt: skip
    for encoder, name, _, dashes in marks.BASELINES:
        for one in study.baselines:
            level = one.spread.mean
            if (one.point, one.encoder) != (points[0], encoder) or level is None:
                continue
            if encoder == "random_init" and own:
                axes.plot([], [], "_", color=marks.SOFT, ms=14, mew=1.6, label=name)
            else:
                axes.axhline(level, color=marks.SOFT, lw=1.0, ls=dashes, zorder=1, label=name)
    look.logarithmic(axes, costs)
    axes.margins(x=0.1)
