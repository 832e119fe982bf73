"""What figures share: panels and their legend, colours, marks, labels and logarithmic ticks."""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from scipy.optimize import isotonic_regression

from ijepa.pages import style

_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.RED, "#CC79A7", "#56B4E9", "#6B5B2E")
_MARKERS = "osD^vPX"
_CHANCE = "chance"


def looks(count: int) -> list[tuple[str, str]]:
    """Colour and mark of each of so many variants; no two are alike up to 49."""
    colours, marks = len(_COLOURS), len(_MARKERS)
    return [(_COLOURS[i % colours], _MARKERS[(i + i // colours) % marks]) for i in range(count)]


def colours(count: int) -> list[str]:
    """Colours where no mark tells them apart: those of ``looks``, then darker each time."""
    return [_darker(colour, i // len(_COLOURS)) for i, (colour, _) in enumerate(looks(count))]


def _darker(colour: str, times: int) -> str:
    red, green, blue = (part * 0.6**times for part in to_rgb(colour))
    return to_hex((red, green, blue))


@contextmanager
def panels(
    path: Path, count: int, columns: int, width: float, height: float
) -> Iterator[list[Axes]]:
    """A figure of ``count`` panels of accuracies, saved as ``path``, over one legend for all.

    Args:
        path: where to, without a suffix.
        count: how many panels.
        columns: side by side, at most.
        width: of one, in inches.
        height: of one, in inches.
    """
    columns = min(columns, count)
    lines = math.ceil(count / columns)
    size = (0.6 + width * columns + (1.2 if columns == 1 else 0), 0.5 + height * lines)
    with style.figure(path, size) as figure:
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        yield axes[:count]
        for empty in axes[count:]:
            empty.set_visible(False)
        for first in axes[:count:columns]:
            first.set_ylabel("accuracy (%)")
        labels = [label for panel in axes for label in panel.get_legend_handles_labels()[1]]
        legend(
            figure, axes[:count], sorted(dict.fromkeys(labels), key=lambda label: label == _CHANCE)
        )


def chance(axes: Axes, level: float) -> None:
    """The level of chance, as a dashed line."""
    axes.axhline(level, color=style.RED, ls=(0, (4, 2)), lw=1.2, label=_CHANCE)


def wrapped(text: str, width: int = 30) -> str:
    """A label in lines of so many characters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def logarithmic(axes: Axes, xs: Sequence[float]) -> None:
    """A logarithmic x axis over these, with few enough ticks for their labels."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks(xs)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _scientific(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def ticks(xs: Sequence[float]) -> list[float]:
    """Round numbers on a logarithmic axis, the fewest that are at least two; else the ends."""
    if not xs:
        return []
    low, high = math.log10(min(xs)), math.log10(max(xs))
    pad = 0.1 * (high - low)  # matplotlib's margin is as wide
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        powers = range(math.floor(low) - 1, math.ceil(high) + 1)
        round_ = [step * 10.0**power for power in powers for step in steps]
        inside = [x for x in round_ if low - pad <= math.log10(x) <= high + pad]
        if len(inside) > 1:
            return _sparse(inside, 0.19 * (high - low + 2 * pad))
    return sorted({min(xs), max(xs)})


def _sparse(xs: Sequence[float], least: float) -> list[float]:
    """Those whose labels do not meet, from the left; ``least`` in powers of ten."""
    kept = [xs[0]]
    for x in xs[1:]:
        if math.log10(x / kept[-1]) >= least:
            kept.append(x)
    return kept


def _scientific(value: float) -> str:
    if 1e-3 < value < 1e4:  # hours, not FLOPs
        return f"{value:.3g}"
    power = math.floor(math.log10(value) + 1e-9)
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    times = f"{value / 10.0**power:.3g}×"
    return f"{times if times != '1×' else ''}10{digits}"


def apart(xs: Sequence[float], axis: Sequence[float] = ()) -> list[float]:
    """Places on a logarithmic axis, those that would cover each other moved apart.

    They stand around their own place, moved as little as is possible in squares.

    Args:
        xs: places, above 0.
        axis: all places of the axis; empty: these are all.
    """
    if not xs:
        return []
    ends = np.log([*axis] or [*xs])
    step = 0.06 * float(np.ptp(ends)) or 0.1
    order = np.argsort(xs, kind="stable")
    steps = step * np.arange(len(xs))
    moved = isotonic_regression(np.log(xs)[order] - steps).x + steps
    places = np.empty(len(xs))
    places[order] = np.exp(moved)
    return [float(x) for x in places]


def nothing(axes: Axes, y: float, text: str) -> None:
    """What stands in a row that has no number."""
    axes.text(
        0.02, y, text, transform=axes.get_yaxis_transform(), va="center", color="#666666",
        style="italic",
    )  # fmt: skip


def legend(figure: Figure, panels: Iterable[Axes], order: Sequence[str]) -> None:
    """One legend below all panels, each name once."""
    shown: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            shown.setdefault(name, handle)
    labels = [name for name in order if name in shown]
    if labels:
        columns = columns_of(figure.get_figwidth(), labels)
        handles = [shown[name] for name in labels]
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def columns_of(width: float, labels: Sequence[str]) -> int:
    """Of a legend below a figure so many inches wide."""
    longest = max(len(line) for name in labels for line in name.splitlines())
    return max(1, min(4, int(12 * width) // (longest + 8)))
