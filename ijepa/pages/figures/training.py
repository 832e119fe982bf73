"""Loss, health and schedules of a run against the images seen."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ijepa.pages import style
from ijepa.pages.figure import Words
from ijepa.pages.text import NOTHING
from ijepa.results import Results

# column of history.csv -> title, label of the axis
CURVES = {
    "loss": ("Loss", "loss"),
    "feature_std": ("Feature spread", "std over images"),
    "rankme": ("Effective rank", "RankMe (dimensions)"),
    "context_ratio": ("Context", "share of patches"),
    "lr": ("Learning rate", "learning rate"),
    "weight_decay": ("Weight decay", "weight decay"),
    "ema": ("EMA momentum", "momentum"),
}
_LAYOUT: list[Any] = [
    ["loss", "loss", "feature_std", "rankme"],
    ["context_ratio", "lr", "weight_decay", "ema"],
]
_NOISY = ("loss", "context_ratio")  # drawn faintly, under their running mean
_WINDOW = 0.04  # of the rows, that the running mean is over
_READ = ("feature_std", "rankme")  # at a few rows only (``ijepa.training.health.readings``)


def needs(results: Results) -> bool:
    """A history."""
    return bool(results.history)


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    history = results.history or {}
    ends = ", ".join(
        f"{title.lower()} from {_short(history[name][0])} to {_short(history[name][-1])}"
        for name, (title, _) in CURVES.items()
        if history.get(name)
    )
    return Words(
        "Loss, health and schedules",
        f"Curves against the images seen: {ends}.",
        "Loss and context are means since the row before, with a running mean (dark) over 4 % of"
        " the rows; all else is the value at that moment. Feature spread and effective rank are"
        " those of the evaluated encoder's mean patch feature on fixed training images, read at"
        " the points: both near zero would be a collapse. A lower loss alone does not mean better"
        " features. One run: there are no error bars. A red cross is a value that is not a number."
        " Numbers: results.json, history.",
    )


def _short(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3g}"


def draw(results: Results, path: Path) -> None:
    """A panel a column of the history; what was not recorded says so."""
    history = results.history or {}
    images = np.array(history["images"], dtype=float)
    power = 3 * int(math.log10(max(float(np.nanmax(images)), 1.0)) // 3)
    unit = {0: "", 3: " (thousands)", 6: " (millions)"}.get(power, f" (×10{_raised(power)})")
    with style.figure(path, (9.0, 4.3)) as figure:
        panels: dict[str, Axes] = figure.subplot_mosaic(_LAYOUT)
        for column, axes in panels.items():
            values = np.array(history.get(column) or [], dtype=float)  # None becomes NaN: a gap
            _panel(axes, column, images / 10.0**power, values)
        figure.supxlabel(f"images seen{unit}", fontsize=8.5)


def _panel(axes: Axes, column: str, images: NDArray[Any], values: NDArray[Any]) -> None:
    title, label = CURVES[column]
    axes.set(title=title, ylabel=label, xlim=(0, np.nanmax(images)))
    if not np.isfinite(values).any():
        axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    if column in _READ:
        read = np.isfinite(values)
        images, values = images[read], values[read]
    small = math.floor(math.log10(np.nanmax(np.abs(values)) or 1.0))
    if small < -2:
        values = values / 10.0**small
        axes.set_ylabel(f"{label} (×10{_raised(small)})")
    noisy = column in _NOISY
    marker = "o" if column in _READ else ""
    color, width = (style.SKY, 0.9) if noisy else (style.BLUE, 1.4)
    axes.plot(images, values, color=color, lw=width, marker=marker, ms=3, clip_on=not marker)
    if noisy:
        axes.plot(images, smooth(values), color=style.BLUE, lw=1.4)
    bad = ~np.isfinite(values)
    if bad.any():
        axes.plot(images[bad], np.zeros(bad.sum()), "x", color=style.RED, ms=4, clip_on=False,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if column in _READ:  # a collapse is a fall to zero: show the zero
        axes.set_ylim(0, 1.1 * np.nanmax(values))


def _raised(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def smooth(values: NDArray[Any]) -> NDArray[np.float64]:
    """Centred running mean, over ``_WINDOW`` of the rows, leaving out what is not a number."""
    half = min(max(1, round(len(values) * _WINDOW / 2)), (len(values) - 1) // 2)
    good = np.isfinite(values)
    window = np.ones(2 * half + 1)
    total = np.convolve(np.where(good, values, 0.0), window, "same")
    count = np.convolve(good.astype(float), window, "same")
    return np.where(good, total / np.maximum(count, 1.0), np.nan)
