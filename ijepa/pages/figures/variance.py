"""The standard deviation over seeds of each part of the randomness, the others fixed."""

from pathlib import Path

from matplotlib.axes import Axes

from ijepa.pages import look, style, verdict
from ijepa.pages.figure import Words
from ijepa.pages.text import number
from ijepa.study import variance
from ijepa.study.numbers import Study

_SUM = "root of the sum of the parts' squares"


def needs(study: Study) -> bool:
    """Variants that differ in seeds alone, one of them with two runs."""
    return bool(variance.deviations(study))


def words(study: Study) -> Words:
    """All standard deviations, and what the parts add up to."""
    found = variance.deviations(study)
    listed = "; ".join(
        study.label(d.variant)
        + (f" at {verdict.place(study, d.point)}" if d.point is not None else "")
        + f" {number(d.std, 2)} [{number(d.low, 2)}, {number(d.high, 2)}], n = {d.n}"
        for d in found
    )
    sums = [
        s for s in (variance.together(study, point) for point in study.places) if s is not None
    ]
    added = " and ".join(number(s, 2) for s in sums)
    return Words(
        "How far each part of the seed moves the result",
        f"Standard deviations of {verdict.metric(study.metric)} over seeds, in points, with 95 %"
        f" intervals: {listed}." + (f" The parts together: {added}." if sums else ""),
        "Standard deviation over seeds with its 95 % chi-square interval, which trusts that"
        f" results scatter normally. {study.label(study.claim.reference).capitalize()} (bold): the"
        " seed sets everything. Below: it sets one part, and the others are those of seed 0, so a"
        " part is measured at one value of the others. An interval that meets the frame goes on"
        " beyond."
        + (
            f" Dashed: the {_SUM}, where “all” would be if parts did not interact." if sums else ""
        ),
    )


def draw(study: Study, path: Path) -> None:
    """A panel for each point, a row for each variant."""
    labels = [look.wrapped(v.label) for v in study.variants]
    lines = sum(label.count("\n") + 1 for label in labels)
    size = (1.4 + 3.4 * len(study.places), 0.9 + 0.27 * lines)
    with style.figure(path, size) as figure:
        panels = figure.subplots(1, len(study.places), squeeze=False, sharey=True)[0]
        for axes, point in zip(panels, study.places, strict=True):
            _panel(axes, study, point)
            axes.set_xlabel("standard deviation (points)")
            if point is not None:
                axes.set_title(look.wrapped(verdict.place(study, point), 36))
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        for variant, tick in zip(study.variants, panels[0].get_yticklabels(), strict=True):
            reference = variant.name == study.claim.reference
            tick.set_fontweight("bold" if reference else "normal")
        look.legend(figure, panels, [_SUM])


def _panel(axes: Axes, study: Study, point: str | None) -> None:
    found = {d.variant: d for d in variance.deviations(study) if d.point == point}
    for y, variant in enumerate(study.variants):
        if variant.name not in found:
            look.nothing(axes, y, "fewer than two results")
            continue
        one = found[variant.name]
        colour = style.INK if variant.name == study.claim.reference else style.BLUE
        axes.plot([one.low, one.high], [y, y], color=colour, lw=1.6)
        axes.plot(one.std, y, "o", color=colour, ms=6, clip_on=False, zorder=5)
    total = variance.together(study, point)
    if total is not None:
        axes.axvline(total, color=style.ORANGE, ls=(0, (4, 2)), lw=1.2, label=_SUM)
    most = max((d.std for d in found.values()), default=0.0)
    inside = [total or 0.0, *(min(d.high, 3 * most) for d in found.values())]  # 6 seeds: 2.5 times
    axes.set_xlim(0, 1.05 * max(inside) or 1.0)
    axes.tick_params(axis="y", length=0)
