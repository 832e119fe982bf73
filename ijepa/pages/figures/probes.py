"""Accuracy of every task, probe and encoder of a run, as bars beside chance."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from ijepa.pages import look, style
from ijepa.pages.figure import Words
from ijepa.pages.text import method, number, spoken
from ijepa.results import Results
from ijepa.results.accuracy import Accuracy


def needs(results: Results) -> bool:
    """Any accuracy."""
    return bool(results.table)


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    values = "; ".join(
        f"{spoken(row.task)} by {name(row)} from {spoken(row.encoder)} {number(row.accuracy)} %"
        for row in results.table
    )
    return Words(
        "Accuracy of the probes",
        f"Bar charts of accuracy. {values}.",
        f"Error bars are item-level: 95 % intervals over {results.run.split} images, not over"
        " training seeds. The dashed line is chance: the share of the most frequent class."
        " Numbers: the table above.",
    )


def name(row: Accuracy) -> str:
    """A row's probe."""
    return method(row.probe, row.share, row.shots)


def draw(results: Results, path: Path) -> None:
    """A panel a task; the more probes, the fewer panels stand side by side: bars stay wide."""
    tasks = list(dict.fromkeys(row.task for row in results.table))
    width = max(2.8, 0.5 + 1.15 * len({row.probe for row in results.table}))
    with look.panels(path, len(tasks), max(1, int(9 / width)), width, 2.3) as panels:
        for axes, task in zip(panels, tasks, strict=True):
            bars(axes, [row for row in results.table if row.task == task])


def bars(axes: Axes, rows: Sequence[Accuracy]) -> None:
    """The bars of a task, side by side for each probe."""
    probes = list(dict.fromkeys(row.probe for row in rows))
    chance = rows[0].chance
    top = max([row.high or row.accuracy or 0 for row in rows] + [chance or 0, 1])
    width = 0.84 / len({row.encoder for row in rows})
    for row in rows:
        # a probe may lack an encoder: its bars stand around its own tick all the same
        beside = [r.encoder for r in rows if r.probe == row.probe]
        place = beside.index(row.encoder) - (len(beside) - 1) / 2
        _bar(axes, row, probes.index(row.probe) + place * width, width * 0.92, top)
    if chance is not None:
        look.chance(axes, chance)
    names = {row.probe: textwrap.fill(name(row), 17, break_on_hyphens=False) for row in rows}
    axes.set_xticks(range(len(probes)), [names[probe] for probe in probes])
    axes.tick_params(axis="x", length=0)
    axes.set(xlim=(-0.55, len(probes) - 0.45), ylim=(0, top * 1.13), title=spoken(rows[0].task))
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)


def _bar(axes: Axes, row: Accuracy, x: float, width: float, top: float) -> None:
    value, low, high = row.accuracy, row.low, row.high
    if value is None:
        axes.text(x, top * 0.03, "n/a", ha="center", rotation=90, color="#666666")
        return
    colour = style.ENCODERS.get(row.encoder, style.GREEN)
    axes.bar(x, value, width, color=colour, label=spoken(row.encoder))
    if low is not None and high is not None:
        bounds = [[value - low], [high - value]]
        axes.errorbar(x, value, bounds, color=style.INK, lw=1, capsize=2.5)
    axes.text(
        x, (high or value) + top * 0.025, f"{value:.1f}", ha="center", fontsize=7.5,
        bbox={"fc": "white", "ec": "none", "pad": 0.6, "alpha": 0.85},
    )  # fmt: skip
