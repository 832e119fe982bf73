"""The figures made of numbers: accuracies, curves, realised masks and confusion."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ijepa.reporting import style
from ijepa.reporting.words import spoken

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


def accuracy(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Bars of the accuracy of every task, probe and encoder, from the results table's rows."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    columns = min(3, len(tasks))
    lines = math.ceil(len(tasks) / columns)
    size = (0.6 + 2.8 * columns + (1.2 if columns == 1 else 0), 0.5 + 2.6 * lines)
    with style.figure(path, size) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes, task in zip(panels, tasks, strict=False):
            _bars(axes, [row for row in rows if row["task"] == task])
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("accuracy (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: labels[i] == "chance")  # last
        figure.legend(
            [handles[i] for i in order], [labels[i] for i in order],
            loc="outside lower center", ncols=len(labels),
        )  # fmt: skip


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    probes = list(dict.fromkeys(row["probe"] for row in rows))
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    chance = rows[0]["chance"]
    top = max([row["high"] or row["accuracy"] or 0 for row in rows] + [chance or 0, 1])
    width = 0.84 / len(encoders)
    for row in rows:
        offset = encoders.index(row["encoder"]) - (len(encoders) - 1) / 2
        x = probes.index(row["probe"]) + offset * width
        value, low, high = row["accuracy"], row["low"], row["high"]
        if value is None:
            axes.text(x, top * 0.03, "n/a", ha="center", rotation=90, color="#666666")
            continue
        label = spoken(row["encoder"]) if row["probe"] == probes[0] else None
        colour = style.ENCODERS.get(row["encoder"], style.GREEN)
        axes.bar(x, value, width * 0.92, color=colour, label=label)
        if low is not None and high is not None:
            axes.errorbar(
                x, value, [[value - low], [high - value]], color=style.INK, lw=1, capsize=2.5
            )
        axes.text(
            x, (high or value) + top * 0.025, f"{value:.1f}", ha="center", fontsize=7.5,
            bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85},
        )  # fmt: skip
    if chance is not None:
        axes.axhline(chance, color=style.RED, ls=(0, (4, 2)), lw=1.2, label="chance")
    axes.set_xticks(range(len(probes)), [spoken(probe) for probe in probes])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.55, len(probes) - 0.45), ylim=(0, top * 1.13), title=spoken(rows[0]["task"]))
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)


def curves(history: Mapping[str, Sequence[float | None]], path: Path) -> None:
    """Loss, health and schedules against the images seen; what was not recorded says so."""
    images = np.array(history["images"], dtype=float)
    power = 3 * int(math.log10(max(float(np.nanmax(images)), 1.0)) // 3)
    unit = {0: "", 3: " (thousands)", 6: " (millions)"}.get(power, f" (×10{_raised(power)})")
    with style.figure(path, (9.0, 4.3)) as figure:
        panels: dict[str, Axes] = figure.subplot_mosaic(_LAYOUT)
        for column, (title, label) in CURVES.items():
            axes = panels[column]
            axes.set(title=title, ylabel=label, xlim=(0, np.nanmax(images) / 10.0**power))
            values = np.array(history.get(column) or [], dtype=float)  # None becomes NaN: a gap
            if not np.isfinite(values).any():
                axes.text(0.5, 0.5, "not recorded", ha="center", transform=axes.transAxes)
                axes.set(xticks=[], yticks=[])
                continue
            small = math.floor(math.log10(np.nanmax(np.abs(values)) or 1.0))
            if small < -2:
                values = values / 10.0**small
                axes.set_ylabel(f"{label} (×10{_raised(small)})")
            _curve(axes, images / 10.0**power, values, noisy=column in _NOISY)
            if column in ("feature_std", "rankme"):  # a collapse is a fall to zero: show the zero
                axes.set_ylim(0, 1.1 * np.nanmax(values))
        figure.supxlabel(f"images seen{unit}", fontsize=8.5)


def _raised(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _curve(axes: Axes, images: NDArray[Any], values: NDArray[Any], noisy: bool) -> None:
    axes.plot(images, values, color=style.SKY if noisy else style.BLUE, lw=0.9 if noisy else 1.4)
    if noisy:
        axes.plot(images, smooth(values), color=style.BLUE, lw=1.4)
    bad = ~np.isfinite(values)
    if bad.any():
        axes.plot(images[bad], np.zeros(bad.sum()), "x", color=style.RED, ms=4, clip_on=False,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.xaxis.set_major_locator(MaxNLocator(4))


def smooth(values: NDArray[Any], share: float = 0.04) -> NDArray[np.float64]:
    """Centred running mean over ``share`` of the rows, leaving out what is not a number."""
    half = min(max(1, round(len(values) * share / 2)), (len(values) - 1) // 2)
    good = np.isfinite(values)
    window = np.ones(2 * half + 1)
    total = np.convolve(np.where(good, values, 0.0), window, "same")
    count = np.convolve(good.astype(float), window, "same")
    return np.where(good, total / np.maximum(count, 1.0), np.nan)


def realised(masks: Mapping[str, Any], path: Path) -> None:
    """Histograms of the share of an image's patches that are context, and that a target has."""
    panels = (
        ("context", "Context", style.BLUE, None),
        ("target", "One target block", style.ORANGE, masks.get("target_scale")),
    )
    with style.figure(path, (7.6, 2.5)) as figure:
        for axes, (name, title, colour, wanted) in zip(figure.subplots(1, 2), panels, strict=True):
            found = masks[name]
            edges, counts = np.array(found["edges"]), np.array(found["counts"], dtype=float)
            share = 100 * counts / max(counts.sum(), 1)
            axes.bar(
                edges[:-1], share, np.diff(edges), align="edge", color=colour, ec="white", lw=0.4
            )
            axes.set_axisbelow(True)
            axes.axvline(found["mean"], color=style.INK, lw=1.2)
            axes.set(
                title=f"{title}: mean {found['mean']:.3f}", xlabel="share of an image's patches"
            )
            axes.set_ylabel("masks (%)")
            if wanted:
                axes.axvspan(*wanted, color=style.GREEN, alpha=0.18, lw=0, zorder=0.4)


def confusion(found: Mapping[str, Any], path: Path) -> None:
    """Row-normalised confusion of the headline task: true class by predicted class, in percent."""
    classes, counts = found["classes"], np.array(found["counts"], dtype=float)
    totals = counts.sum(1, keepdims=True)
    share = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    side = 1.9 + 0.36 * len(classes)
    with style.figure(path, (side + 0.7, side)) as figure:
        axes = figure.subplots()
        sns.heatmap(
            share, ax=axes, cmap="Blues", vmin=0, vmax=100, square=True, annot=len(classes) <= 20,
            fmt=".0f", annot_kws={"size": 7}, linewidths=0.5, linecolor="white",
            xticklabels=classes, yticklabels=classes,
            cbar_kws={"label": "share of the true class (%)", "shrink": 0.7},
        )  # fmt: skip
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.tick_params(length=0)
        axes.set_xticks(
            axes.get_xticks(), classes, rotation=45, ha="right", rotation_mode="anchor"
        )
