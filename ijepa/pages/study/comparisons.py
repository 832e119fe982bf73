"""The figures of an experiment that compares objectives: the trade-off, and accuracy per cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ijepa.pages import style
from ijepa.pages.look import logarithmic, looks, wrapped
from ijepa.pages.study import captions, words
from ijepa.study import costs

Tree = Mapping[str, Any]
_BASELINES = (
    ("random_init", "random init", "P", (0, (4, 2))),
    ("pixels", "raw pixels", "X", (0, (1, 2))),
)
_GREY = "#555555"


def tradeoff(results: Tree, path: Path) -> None:
    """The metric against each further one: a row of panels a point, a column a further metric."""
    places, metrics = captions.tradeoffs(results)
    size = 3.5 * len(metrics) + 0.4, 2.9 * len(places)
    with style.figure(path, _with_legend(size, results)) as figure:
        panels = figure.subplots(
            len(places), len(metrics), squeeze=False, sharex=True, sharey="col"
        )
        for row, point in zip(panels, places, strict=True):
            for axes, metric in zip(row, metrics, strict=True):
                _marks(axes, results, point, metric)
                if point is not None:
                    axes.set_title(wrapped(words.place(results, point), 36))
                axes.set_ylabel(f"{words.metric(metric)} (%)")
        for axes in panels[-1]:
            axes.set_xlabel(f"{words.metric(results['metric'])} (%)")
        _legend(figure, panels.ravel(), results)


def _marks(axes: Axes, results: Tree, point: str | None, metric: str) -> None:
    cells = [c for c in results["cells"] if c["point"] == point]
    for (name, colour, marker), cell in zip(_looks(results), cells, strict=True):
        other = cell["also"][metric]
        if cell["mean"] is not None and other["mean"] is not None:
            axes.errorbar(
                cell["mean"], other["mean"], xerr=cell["std"], yerr=other["std"], fmt=marker,
                color=colour, ms=7, mec="white", mew=0.6, elinewidth=1.1, zorder=3,
                label=name,
            )  # fmt: skip
    for kind, name, marker, _ in _BASELINES:
        for found in results["baselines"]:
            other = found["also"].get(metric) if found["encoder"] == kind else None
            if found["point"] == point and other and other["mean"] is not None:
                axes.errorbar(
                    found["mean"], other["mean"], xerr=found["std"], yerr=other["std"], fmt=marker,
                    color=_GREY, ms=7.5, mec="white", mew=0.6, elinewidth=1.1, zorder=2,
                    label=name,
                )  # fmt: skip
    axes.margins(0.12)


def compute(results: Tree, path: Path) -> None:
    """Accuracy against FLOPs and against device-hours: a row of panels for each data set."""
    groups = costs.groups(results)
    hours = any(cell["device_seconds"] for cell in results["cells"])
    scales = [("flops", 1.0, "FLOPs of pretraining")]
    scales += [("device_seconds", 3600.0, "device-hours of pretraining")] if hours else []
    size = 3.5 * len(scales) + 0.6, 2.9 * len(groups)
    with style.figure(path, _with_legend(size, results)) as figure:
        panels = figure.subplots(len(groups), len(scales), squeeze=False, sharey="row")
        for row, points in zip(panels, groups, strict=True):
            for axes, (key, unit, text) in zip(row, scales, strict=True):
                _lines(axes, results, points, key, unit)
                axes.set_xlabel(text)
            if len(groups) > 1:
                row[0].set_title(wrapped(words.place(results, str(points[0])), 40))
            row[0].set_ylabel(f"{words.metric(results['metric'])} (%)")
        _legend(figure, panels.ravel(), results)


def _lines(axes: Axes, results: Tree, points: Sequence[str | None], key: str, unit: float) -> None:
    """A line for each variant through its points; a variant of one point is a mark."""
    seen: list[float] = []
    for variant, (name, colour, marker) in zip(results["variants"], _looks(results), strict=True):
        mine = sorted(
            (cell[key] / unit, cell["mean"], cell["std"])
            for cell in results["cells"]
            if cell["variant"] == variant["name"] and cell["point"] in points
            if cell[key] and cell["mean"] is not None
        )  # fmt: skip
        xs, means = [x for x, _, _ in mine], [mean for _, mean, _ in mine]
        seen += xs
        axes.plot(xs, means, color=colour, lw=1.3, alpha=0.8, zorder=2)
        for x, mean, std in mine:
            axes.errorbar(
                x, mean, yerr=std, fmt=marker, color=colour, ms=6.5, mec="white", mew=0.6,
                elinewidth=1.1, zorder=3, label=name,
            )  # fmt: skip
    for kind, name, _, dashes in _BASELINES:
        found = [
            b["mean"] for b in results["baselines"]
            if b["encoder"] == kind and b["point"] in points and b["mean"] is not None
        ]  # fmt: skip
        if found:
            axes.axhline(found[0], color=_GREY, lw=1.0, ls=dashes, zorder=1, label=name)
    logarithmic(axes, seen)
    axes.margins(x=0.1)


def _looks(results: Tree) -> list[tuple[str, str, str]]:
    """Label, colour and mark of each variant."""
    names = [wrapped(variant["label"], 26) for variant in results["variants"]]
    return [(name, *look) for name, look in zip(names, looks(len(names)), strict=True)]


def _with_legend(size: tuple[float, float], results: Tree) -> tuple[float, float]:
    width, height = size
    names = [name for name, *_ in _looks(results)]
    lines = len(_BASELINES) + sum(name.count("\n") + 1 for name in names)
    return width, height + 0.2 * math.ceil(lines / _columns(width, names)) + 0.2


def _columns(width: float, names: Sequence[str]) -> int:
    """Of a legend below a figure so many inches wide."""
    longest = max(len(line) for name in names for line in name.splitlines())
    return max(1, min(4, int(12 * width) // (longest + 8)))


def _legend(figure: Figure, panels: Iterable[Axes], results: Tree) -> None:
    shown: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(name, handle)
    order = [*(name for name, *_ in _looks(results)), *(name for _, name, *_ in _BASELINES)]
    names = [name for name in order if name in shown]
    columns = _columns(figure.get_figwidth(), names)
    figure.legend(
        [shown[name] for name in names], names, loc="outside lower center", ncols=columns
    )
