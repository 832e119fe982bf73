"""Accuracy against the labelled images of each class: a panel a task and probe."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from ijepa.pages import look, style
from ijepa.pages.figure import Words
from ijepa.pages.text import number, spoken
from ijepa.results import Results
from ijepa.results.accuracy import Curve


def needs(results: Results) -> bool:
    """A probe that was fitted on few labels, more than once."""
    return bool(results.few_label)


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    curves = results.few_label
    values = "; ".join(
        f"{spoken(curve.task)} from {spoken(curve.encoder)}: "
        + ", ".join(f"{number(p.accuracy)} % with {p.labels}" for p in curve.points)
        for curve in curves
    )
    draws = max(len(point.draws) for curve in curves for point in curve.points)
    probes = ", ".join(dict.fromkeys(spoken(curve.probe) for curve in curves))
    return Words(
        "Accuracy from few labels",
        f"Curves of accuracy against the labelled images of each class. {values}.",
        f"Probe: {probes}. Points are means, error bars one standard deviation, over up to {draws}"
        " random draws of the labelled training images; one encoder, one training seed. The"
        " dashed line is chance. Encoders stand a little apart so that no error bar hides"
        " another. Numbers: results.json, few_label.",
    )


def draw(results: Results, path: Path) -> None:
    """A line an encoder; error bars are one standard deviation over the draws of labels."""
    kinds = list(dict.fromkeys((curve.task, curve.probe) for curve in results.few_label))
    with look.panels(path, len(kinds), 3, 2.9, 2.6) as panels:
        for axes, kind in zip(panels, kinds, strict=True):
            lines(axes, [c for c in results.few_label if (c.task, c.probe) == kind])


def lines(axes: Axes, curves: Sequence[Curve]) -> None:
    """The curves of a task and probe."""
    ticks = sorted({point.labels for curve in curves for point in curve.points})
    for place, curve in enumerate(curves):
        # a little apart, so that no error bar hides another
        apart = 1.04 ** (place - (len(curves) - 1) / 2)
        points = [point for point in curve.points if point.accuracy is not None]
        axes.errorbar(
            [point.labels * apart for point in points],
            [point.accuracy or 0.0 for point in points],
            [point.std or 0.0 for point in points],
            color=style.ENCODERS.get(curve.encoder, style.GREEN), label=spoken(curve.encoder),
            marker="osD^"[place % 4], ms=4, lw=1.4, elinewidth=1, capsize=2.5,
        )  # fmt: skip
    if curves[0].chance is not None:
        look.chance(axes, curves[0].chance)
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set(title=spoken(curves[0].task), ylim=(0, None), xlabel="labelled images of each class")
    axes.margins(y=0.08)
