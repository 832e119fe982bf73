"""What a probe takes for what: true class by predicted class, a panel a task."""

import math
import textwrap
from pathlib import Path

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from ijepa.pages import style
from ijepa.pages.figure import Words
from ijepa.pages.text import spoken
from ijepa.results import Results
from ijepa.results.accuracy import Confusion

_ROOM = 12  # characters of a class's name beside a small panel; longer ones have a row each


def needs(results: Results) -> bool:
    """Predictions, of few enough classes."""
    return bool(results.confusion)


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    matrices = results.confusion
    probe = spoken(matrices[0].probe)
    readings = " ".join(f"{spoken(matrix.task)}: {reading(matrix)}." for matrix in matrices)
    ordered = (
        " The classes of count and distance have an order: “off by” is the mean number of classes"
        " between the predicted and the true one, beside the least that a constant answer can"
        " reach."
    )
    return Words(
        f"What the {probe} probe takes for what",
        f"Confusion matrices. {readings}",
        f"The {probe} probe on the trained encoder. Each row is a true class and sums to 100 %;"
        f" the diagonal is right.{ordered if any(m.distance for m in matrices) else ''} Counts:"
        " results.json, confusion.",
    )


def reading(matrix: Confusion) -> str:
    """A confusion matrix in one line."""
    if far := matrix.distance:
        return (
            f"off by {far.mean:.2f} classes (a constant: {far.constant:.2f});"
            f" {100 * far.near:.0f} % at most one off"
        )
    right = [100 * row[i] / max(sum(row), 1) for i, row in enumerate(matrix.counts)]
    order = sorted(range(len(right)), key=lambda i: -right[i])
    best, worst = (f"{matrix.classes[i]} ({right[i]:.0f} %)" for i in (order[0], order[-1]))
    return f"most often right: {best}; least often: {worst}"


def draw(results: Results, path: Path) -> None:
    """Each row in percent of its true class."""
    matrices = results.confusion
    most = max(len(matrix.classes) for matrix in matrices)
    longest = max(len(name) for matrix in matrices for name in matrix.classes)
    columns = min(len(matrices), 3 if most <= 10 and longest <= _ROOM else 1)
    rows = math.ceil(len(matrices) / columns)
    side = 1.9 + 0.36 * most if columns == 1 else 9.0 / columns - 0.25
    side += 0.07 * max(0, longest - _ROOM)
    with style.figure(path, (side * columns + 0.8, (side + 0.45) * rows)) as figure:
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, matrix in zip(panels, matrices, strict=False):
            _panel(axes, matrix, textwrap.fill(reading(matrix), int(14 * side)))
        for axes in panels[len(matrices) :]:
            axes.set_visible(False)
        figure.colorbar(
            panels[0].collections[0], ax=panels, label="share of the true class (%)",
            shrink=0.7, aspect=25 * rows,
        ).outline.set_visible(False)  # fmt: skip


def _panel(axes: Axes, matrix: Confusion, said: str) -> None:
    classes, counts = matrix.classes, np.array(matrix.counts, dtype=float)
    totals = counts.sum(1, keepdims=True)
    share = np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)
    sns.heatmap(
        share, ax=axes, cmap="Blues", vmin=0, vmax=100, square=True, annot=len(classes) <= 20,
        fmt=".0f", annot_kws={"size": 7}, linewidths=0.5, linecolor="white",
        xticklabels=classes, yticklabels=classes, cbar=False,
    )  # fmt: skip
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(spoken(matrix.task), pad=8 + 9 * len(said.splitlines()))
    axes.annotate(
        said, (0, 1), (0, 5), "axes fraction", "offset points", fontsize=7, color="#555555"
    ).set_in_layout(False)  # the title leaves room for it; it must not squeeze its panel
    axes.tick_params(length=0)
    axes.set_xticks(axes.get_xticks(), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(axes.get_yticks(), classes, rotation=0)
