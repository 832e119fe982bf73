"""How the figures of a study draw its variants: means with intervals, seeds, baselines."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes

from ijepa.pages import style
from ijepa.pages.look import columns_of, looks, wrapped
from ijepa.study.numbers import Cell, Study
from ijepa.study.statistics import Spread

BASELINES = (
    ("random_init", "random init", "P", (0, (4, 2))),
    ("pixels", "raw pixels", "X", (0, (1, 2))),
)
SOFT = "#555555"
_MANY = 12  # variants


def seeds(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """A small mark for each seed."""
    axes.plot(xs, ys, "o", ms=3.2, color=style.SEED, zorder=5)


def collapsed(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    """A cross over the seeds whose representation collapsed."""
    axes.plot(xs, ys, "x", ms=6, mew=1.4, color=style.RED, zorder=6)


def interval(
    axes: Axes,
    spread: Spread,
    at: float,
    colour: str,
    upright: bool = False,
    marker: str = "o",
) -> None:
    """A mean with its 95 % interval; hollow where one seed has none."""

    def line(values: Sequence[float | None], **how: Any) -> None:
        places = [at] * len(values)
        axes.plot(*((places, values) if upright else (values, places)), color=colour, **how)

    if spread.low is not None:
        line([spread.low, spread.high], lw=1.6, zorder=3)
    fill = "white" if spread.n == 1 else colour
    line([spread.mean], marker=marker, ms=6, zorder=6, mec=colour, mfc=fill)


def limits(spread: Spread) -> list[float]:
    """The interval's ends, where they must lie in the frame: that of two seeds may go beyond."""
    return [v for v in (spread.low, spread.high) if v is not None and spread.n > 2]


def mark(axes: Axes, x: Spread, y: Spread, name: str, colour: str, marker: str) -> None:
    """Two means with one standard deviation to each side, where there are both."""
    if x.mean is not None and y.mean is not None:
        axes.errorbar(
            x.mean, y.mean, xerr=x.std, yerr=y.std, fmt=marker, color=colour, ms=7, mec="white",
            mew=0.6, elinewidth=1.1, zorder=2 if colour == SOFT else 3, label=name,
        )  # fmt: skip


def few(study: Study) -> bool:
    """Whether a legend can tell the variants apart; of more, the accuracies and tables tell."""
    return len(study.variants) <= _MANY


def variants(study: Study) -> list[tuple[str, str, str]]:
    """Label, colour and mark of each variant."""
    labels = [wrapped(variant.label, 26) for variant in study.variants]
    return [(label, *look) for label, look in zip(labels, looks(len(labels)), strict=True)]


def names(study: Study) -> list[str]:
    """What a legend has: the variants' labels, then the baselines'."""
    return [*(name for name, *_ in variants(study)), *(name for _, name, *_ in BASELINES)]


def with_legend(size: tuple[float, float], study: Study) -> tuple[float, float]:
    """The size of a figure with a legend below."""
    width, height = size
    labels = [name for name, *_ in variants(study)]
    lines = len(BASELINES) + sum(name.count("\n") + 1 for name in labels)
    return width, height + 0.2 * math.ceil(lines / columns_of(width, labels)) + 0.2


def operations(cells: Iterable[Cell]) -> str:
    """Which count of FLOPs compares the cells: without padding, if all have it."""
    costs = [cell.cost for cell in cells if cell.cost.flops]
    return "flops_useful" if costs and all(cost.flops_useful for cost in costs) else "flops"
