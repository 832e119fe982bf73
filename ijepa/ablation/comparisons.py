"""The figures of an experiment that compares objectives: the trade-off, and accuracy per cost."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ijepa.ablation import captions, costs, words
from ijepa.ablation.axes import COLOURS, MARKERS, logarithmic, wrapped
from ijepa.reporting import style

Tree = Mapping[str, Any]
_BASELINES = (
    ("random_init", "random init", "P", (0, (4, 2))),
    ("pixels", "raw pixels", "X", (0, (1, 2))),
)
_GREY = "#555555"


def tradeoff(results: Tree, path: Path) -> None:
    """The metric against each further one: a row of panels a point, a column a further metric."""
    places, metrics = captions.tradeoffs(results)
    with style.figure(path, (3.5 * len(metrics) + 0.4, 2.9 * len(places) + 0.5)) as figure:
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
        _legend(figure, panels.ravel())


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
    with style.figure(path, (3.5 * len(scales) + 0.6, 2.9 * len(groups) + 0.5)) as figure:
        panels = figure.subplots(len(groups), len(scales), squeeze=False, sharey="row")
        for row, points in zip(panels, groups, strict=True):
            for axes, (key, unit, text) in zip(row, scales, strict=True):
                _lines(axes, results, points, key, unit)
                axes.set_xlabel(text)
            if len(groups) > 1:
                row[0].set_title(wrapped(words.place(results, str(points[0])), 40))
            row[0].set_ylabel(f"{words.metric(results['metric'])} (%)")
        _legend(figure, panels.ravel())


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
    return [
        (wrapped(v["label"], 40), COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        for i, v in enumerate(results["variants"])
    ]


def _legend(figure: Figure, panels: Iterable[Axes]) -> None:
    shown: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(name, handle)
    wide = max(len(line) for name in shown for line in name.splitlines())
    columns = max(1, min(4, int(12 * figure.get_figwidth()) // (wide + 8)))
    figure.legend(shown.values(), shown, loc="outside lower center", ncols=columns)
