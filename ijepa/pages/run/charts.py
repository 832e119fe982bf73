"""The figures made of numbers: accuracies, curves, realised masks and confusion."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from ijepa.pages import style
from ijepa.pages.run.words import spoken

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
    """Bars of the accuracy of every task, probe and encoder, from the results table's rows.

    A panel a task; the more probes, the fewer panels stand side by side, so that bars stay wide.
    """
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    probes = len({row["probe"] for row in rows})
    width = max(2.8, 0.5 + 1.15 * probes)
    columns = max(1, min(len(tasks), int(9 / width)))
    lines = math.ceil(len(tasks) / columns)
    size = (0.6 + width * columns + (1.2 if columns == 1 else 0), 0.5 + 2.3 * lines)
    with style.figure(path, size) as figure:
        panels = list(figure.subplots(lines, columns, squeeze=False).flat)
        for axes, task in zip(panels, tasks, strict=False):
            _bars(axes, [row for row in rows if row["task"] == task])
        for axes in panels[len(tasks) :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("accuracy (%)")
        _legend(figure, panels[: len(tasks)])


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend for all panels, below them; chance comes last."""
    found = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = sorted(found, key=lambda label: label == "chance")
    figure.legend(
        [found[label] for label in order], order, loc="outside lower center", ncols=len(order)
    )


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    probes = list(dict.fromkeys(row["probe"] for row in rows))
    encoders = list(dict.fromkeys(row["encoder"] for row in rows))
    chance = rows[0]["chance"]
    top = max([row["high"] or row["accuracy"] or 0 for row in rows] + [chance or 0, 1])
    width = 0.84 / len(encoders)
    for row in rows:
        # a probe may lack an encoder: its bars stand around its own tick all the same
        mine = [r["encoder"] for r in rows if r["probe"] == row["probe"]]
        x = probes.index(row["probe"]) + (mine.index(row["encoder"]) - (len(mine) - 1) / 2) * width
        value, low, high = row["accuracy"], row["low"], row["high"]
        if value is None:
            axes.text(x, top * 0.03, "n/a", ha="center", rotation=90, color="#666666")
            continue
        colour = style.ENCODERS.get(row["encoder"], style.GREEN)
        axes.bar(x, value, width * 0.92, color=colour, label=spoken(row["encoder"]))
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
    names = {
        row["probe"]: textwrap.fill(row["method"], 17, break_on_hyphens=False) for row in rows
    }
    axes.set_xticks(range(len(probes)), [names[probe] for probe in probes])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.55, len(probes) - 0.45), ylim=(0, top * 1.13), title=spoken(rows[0]["task"]))
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)


def few_label(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Accuracy against labelled images of each class: a panel a task and probe, a line an encoder.

    Error bars are one standard deviation over the draws of the labelled images.
    """
    panels = list(dict.fromkeys((line["task"], line["method"]) for line in found))
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (0.6 + 2.9 * columns + (1.0 if columns == 1 else 0), 0.5 + 2.6 * rows)
    with style.figure(path, size) as figure:
        drawn = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, panel in zip(drawn, panels, strict=False):
            _few(axes, [line for line in found if (line["task"], line["method"]) == panel])
        for axes in drawn[len(panels) :]:
            axes.set_visible(False)
        for axes in drawn[::columns]:
            axes.set_ylabel("accuracy (%)")
        _legend(figure, drawn[: len(panels)])


def _few(axes: Axes, lines: Sequence[Mapping[str, Any]]) -> None:
    ticks = sorted({point["labels"] for line in lines for point in line["points"]})
    for place, line in enumerate(lines):
        # a little apart, so that no error bar hides another
        apart = 1.04 ** (place - (len(lines) - 1) / 2)
        points = [point for point in line["points"] if point["accuracy"] is not None]
        axes.errorbar(
            [point["labels"] * apart for point in points],
            [point["accuracy"] for point in points],
            [point["std"] or 0.0 for point in points],
            color=style.ENCODERS.get(line["encoder"], style.GREEN), label=spoken(line["encoder"]),
            marker="osD^"[place % 4], ms=4, lw=1.4, elinewidth=1, capsize=2.5,
        )  # fmt: skip
    if lines[0]["chance"] is not None:
        axes.axhline(lines[0]["chance"], color=style.RED, ls=(0, (4, 2)), lw=1.2, label="chance")
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(
        title=spoken(lines[0]["task"]), ylim=(0, None), xlabel="labelled images of each class"
    )
    axes.margins(y=0.08)


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


def confusion(found: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Row-normalised confusions, in percent: true class by predicted class, a panel a task.

    Args:
        found: each with ``task``, ``classes``, ``counts`` and a ``reading`` in words.
        path: where to, without a suffix.
    """
    most = max(len(part["classes"]) for part in found)
    columns = min(len(found), 3 if most <= 10 else 1)
    rows = math.ceil(len(found) / columns)
    side = 1.9 + 0.36 * most if columns == 1 else 9.0 / columns - 0.25
    with style.figure(path, (side * columns + 0.8, (side + 0.45) * rows)) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, part in zip(panels, found, strict=False):
            _confusion(axes, part, textwrap.fill(part["reading"], int(14 * side)))
        for axes in panels[len(found) :]:
            axes.set_visible(False)
        figure.colorbar(
            panels[0].collections[0], ax=panels, label="share of the true class (%)",
            shrink=0.7, aspect=25,
        ).outline.set_visible(False)  # fmt: skip


def _confusion(axes: Axes, part: Mapping[str, Any], reading: str) -> None:
    classes, counts = part["classes"], np.array(part["counts"], dtype=float)
    totals = counts.sum(1, keepdims=True)
    share = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    sns.heatmap(
        share, ax=axes, cmap="Blues", vmin=0, vmax=100, square=True, annot=len(classes) <= 20,
        fmt=".0f", annot_kws={"size": 7}, linewidths=0.5, linecolor="white",
        xticklabels=classes, yticklabels=classes, cbar=False,
    )  # fmt: skip
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(spoken(part["task"]), pad=8 + 9 * len(reading.splitlines()))
    axes.annotate(
        reading, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=7, color="#555555"
    ).set_in_layout(False)  # the title leaves room for it; it must not squeeze its panel
    axes.tick_params(length=0)
    axes.set_xticks(axes.get_xticks(), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(axes.get_yticks(), classes, rotation=0)
