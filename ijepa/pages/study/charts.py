"""The figures of an ablation, drawn from its ``results.json``."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ijepa.pages import style
from ijepa.pages.look import logarithmic, looks, wrapped
from ijepa.pages.run.words import number
from ijepa.pages.study import captions, comparisons, words
from ijepa.study.statistics import FAILS, HOLDS, UNDECIDED

Tree = Mapping[str, Any]
_DECISION = {HOLDS: style.GREEN, FAILS: style.RED, UNDECIDED: style.BLUE}
_BELOW = 0.26  # rows: the seeds stand under their mean


def draw(results: Tree, folder: Path) -> None:
    """Draw every figure of the listing as ``folder/NAME.png`` and ``.svg``."""
    drawing = {
        "accuracy": _accuracy, "tradeoff": comparisons.tradeoff, "compute": comparisons.compute,
        "context": _context, "cost": _cost, "emergence": _emergence,
    }  # fmt: skip
    for figure in results["figures"]:
        drawing[figure["name"]](results, folder / figure["name"])


def _accuracy(results: Tree, path: Path) -> None:
    """A row of panels for each point: accuracies, paired differences, the paper's numbers."""
    points = [p["name"] for p in results["points"]] or [None]
    paper = any(cell["paper"] is not None for cell in results["cells"])
    labels = [wrapped(v["label"]) for v in results["variants"]]
    lines = sum(max(label.count("\n") + 1, 1.6) for label in labels)
    high = 0.21 * lines + (0.75 if len(points) == 1 else 0.55)
    size = (9.0 if paper else 7.6, 0.35 + high * len(points))
    with style.figure(path, size) as figure:
        panels = figure.subplots(
            len(points), 3 if paper else 2, squeeze=False, sharey=True, sharex="col",
            width_ratios=[1.25, 1, 0.8][: 3 if paper else 2],
        )  # fmt: skip
        means: list[float] = []
        differences = [0.0]
        for row, point in zip(panels, points, strict=True):
            cells = [c for c in results["cells"] if c["point"] == point]
            means += _means(row[0], results, cells, point)
            differences += _differences(row[1], cells)
            if paper:
                _published(row[2], cells)
            row[0].set_yticks(range(len(cells)), labels)
            row[0].set_ylim(len(cells) - 0.5, -0.5)
            for axes in row:
                axes.tick_params(axis="y", length=0)
            for variant, tick in zip(results["variants"], row[0].get_yticklabels(), strict=True):
                chosen = variant["name"] == results["claim"]["reference"]
                tick.set_fontweight("bold" if chosen else "normal")
            if point is not None:
                row[0].set_title(words.place(results, point))
        _frame(panels[0][0], means)
        _frame(panels[0][1], differences)
        titles = ("Here", "Difference to the reference", "In the paper")
        for axes, title in zip(panels[0], titles, strict=False):
            at = f": {axes.get_title(loc='left')}" if axes.get_title(loc="left") else ""
            axes.set_title(title + at)
        for column, text in zip(
            panels.T, ("accuracy (%)", "points", "accuracy (%)"), strict=False
        ):
            lowest = [axes for axes in column if axes.get_visible()][-1]
            lowest.set_xlabel(text)
            lowest.tick_params(labelbottom=True)
        shown: dict[str, Any] = {}
        for row in panels:
            handles, names = row[0].get_legend_handles_labels()
            shown |= dict(zip(names, handles, strict=True))
        figure.legend(shown.values(), shown, loc="outside lower center", ncols=2)


def _means(axes: Axes, results: Tree, cells: Sequence[Tree], point: str | None) -> list[float]:
    """Draw one point's accuracies; returns what must lie within the frame."""
    seen: list[float] = []
    runs = [r for r in results["runs"] if r["point"] == point and r["status"] == "done"]
    rows = {cell["variant"]: y for y, cell in enumerate(cells)}
    for seed in results["seeds"]:
        mine = sorted((rows[r["variant"]] + _BELOW, r["value"]) for r in runs if r["seed"] == seed)
        heights, values = [y for y, _ in mine], [value for _, value in mine]
        axes.plot(values, heights, color=style.SKY, lw=0.7, alpha=0.7, zorder=1)
        _seeds(axes, values, heights)
        seen += values
    for y, cell in enumerate(cells):
        for kind, colour, name in (
            ("random_init", style.ORANGE, "random init"), ("pixels", style.GREY, "raw pixels"),
        ):  # fmt: skip
            if cell[kind] is not None:
                axes.plot(
                    [cell[kind]] * 2, [y - 0.5, y + 0.5], color=colour, lw=1.2, ls=(0, (3, 2)),
                    label=None if name in axes.get_legend_handles_labels()[1] else name,
                )  # fmt: skip
                seen.append(cell[kind])
        if cell["mean"] is None:
            axes.text(0.02, y, "no result", transform=axes.get_yaxis_transform(), va="center",
                      color="#666666", style="italic")  # fmt: skip
            continue
        _interval(axes, cell, y, style.BLUE)
        seen += [v for v in (cell["low"], cell["high"]) if v is not None and cell["n"] > 2]
    return seen


def _seeds(axes: Axes, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.plot(xs, ys, "o", ms=3.2, color=style.SKY, zorder=5)


def _interval(axes: Axes, found: Tree, y: float, colour: str) -> None:
    if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [y, y], color=colour, lw=1.6, zorder=3)
    hollow = found["n"] == 1  # one seed: there is no interval
    axes.plot(found["mean"], y, "o", ms=6, zorder=4, mec=colour, mfc="white" if hollow else colour)


def _differences(axes: Axes, cells: Sequence[Tree]) -> list[float]:
    """Draw one point's differences to the reference; returns what must lie within the frame."""
    axes.axvline(0, color=style.INK, lw=0.9)
    seen: list[float] = []
    for y, cell in enumerate(cells):
        found = cell["difference"]
        if found is None:
            axes.plot(0, y, "s", color=style.INK, ms=4)
        elif found["n"]:
            values = found["differences"]
            _seeds(axes, values, [y + _BELOW] * len(values))
            _interval(axes, found, y, _DECISION[UNDECIDED])
            seen += values
            if found["n"] > 2:
                seen += [found["low"], found["high"]]
    return seen


def _published(axes: Axes, cells: Sequence[Tree]) -> None:
    top = max(cell["paper"] or 0 for cell in cells)
    if not top:  # of these runs the paper has none
        axes.set_visible(False)
        return
    for y, cell in enumerate(cells):
        value = cell["paper"]
        if value is None:
            axes.text(0.02, y, "no number", transform=axes.get_yaxis_transform(), va="center",
                      color="#666666", style="italic")  # fmt: skip
            continue
        axes.plot([0, value], [y, y], color="#D9D9D9", lw=1.2, zorder=1)
        axes.plot(value, y, "D", color=style.INK, ms=5, clip_on=False)
        axes.annotate(number(value), (value, y), xytext=(7, 0), textcoords="offset points",
                      va="center", fontsize=8)  # fmt: skip
    axes.set_xlim(0, top * 1.25)
    axes.grid(visible=False, axis="y")


def _frame(axes: Axes, seen: Sequence[float]) -> None:
    """Limits around what must be seen; an interval of two seeds may go on beyond."""
    low, high = (min(seen), max(seen)) if seen else (0.0, 100.0)
    pad = 0.06 * (high - low) or 1.0
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _context(results: Tree, path: Path) -> None:
    wide = min(48, max(len(variant["label"]) for variant in results["variants"]))
    columns = max(1, min(4, 100 // (wide + 8)))
    lines = math.ceil(len(results["variants"]) / columns)
    with style.figure(path, (6.4, 3.2 + 0.2 * lines)) as figure:
        axes = figure.subplots()
        known = [r for r in results["runs"] if r["status"] == "done" and r["context_ratio"]]
        means = [c for c in results["cells"] if c["mean"] is not None and c["context_ratio"]]
        with_any = {cell["variant"] for cell in means}
        names = [v["name"] for v in results["variants"] if v["name"] in with_any]
        colours, marks = zip(*looks(len(names)), strict=True)
        for rows, value, size, alpha in ((known, "value", 16, 0.5), (means, "mean", 64, 1.0)):
            sns.scatterplot(
                x=[r["context_ratio"] for r in rows], y=[r[value] for r in rows], ax=axes,
                hue=[r["variant"] for r in rows], style=[r["variant"] for r in rows],
                palette=dict(zip(names, colours, strict=True)),
                markers=dict(zip(names, marks, strict=True)),
                hue_order=names, style_order=names,
                s=size, alpha=alpha, legend=rows is means and "full",
            )  # fmt: skip
        handles, shown = axes.get_legend_handles_labels()
        axes.legend().remove()
        axes.set(xlabel="realised context (share of an image's patches)", ylabel="accuracy (%)")
        axes.margins(0.08)
        labels = [wrapped(words.label(results, name), 48) for name in shown]
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _cost(results: Tree, path: Path) -> None:
    cells = results["cells"]
    most = max(
        [r["seconds"]["pretrain"] or 0 for r in results["runs"]]
        + [cell["pretrain_seconds"] or 0 for cell in cells]
    )
    unit, name = next(
        (u, n)
        for u, n in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if most >= 2 * u or u == 1
    )
    labels = [wrapped(captions.name(results, cell), 32) for cell in cells]
    lines = sum(max(label.count("\n") + 1, 1.5) for label in labels)
    with style.figure(path, (6.4, 0.65 + 0.19 * lines)) as figure:
        axes = figure.subplots()
        for y, cell in enumerate(cells):
            if not cell["pretrain_seconds"]:
                axes.text(0.01, y, "no result", transform=axes.get_yaxis_transform(),
                          va="center", color="#666666", style="italic")  # fmt: skip
                continue
            axes.barh(y, cell["pretrain_seconds"] / unit, 0.62, color=style.SKY)
            times = [
                r["seconds"]["pretrain"] / unit for r in results["runs"]
                if (r["variant"], r["point"]) == (cell["variant"], cell["point"])
                and r["status"] == "done" and r["seconds"]["pretrain"]
            ]  # fmt: skip
            axes.plot(times, [y] * len(times), "o", color=style.BLUE, ms=3.2)
        axes.set_yticks(range(len(cells)), labels)
        axes.set(xlabel=f"pretraining ({name})", ylim=(len(cells) - 0.5, -0.5))
        axes.set_xlim(0, 1.04 * most / unit)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)


def _emergence(results: Tree, path: Path) -> None:
    """A panel for each claimed pair: difference with interval against compute."""
    by_compute = "of pretraining" in str(captions.axis(results))
    places = {point["name"]: point["x"] for point in results["points"]}
    pairs = results["claim"]["pairs"]
    columns = min(3, len(pairs))
    lines = math.ceil(len(pairs) / columns)
    width = max(2.9 * columns, 4.4) + 0.4
    with style.figure(path, (width, 3.2 * lines + 0.2)) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharey=True, sharex=True).ravel()
        seen = [0.0]
        for axes, (better, worse) in zip(panels, pairs, strict=False):
            sides = words.label(results, better), f"over {words.label(results, worse)}"
            axes.set_title("\n".join(wrapped(side, 36) for side in sides))
            axes.axhline(0, color=style.INK, lw=0.9)
            mine = [
                c for c in results["comparisons"]
                if (c["better"], c["worse"]) == (better, worse) and c["n"]
            ]  # fmt: skip
            xs = _apart([c["compute"] if by_compute else places[c["point"]] for c in mine])
            for x, found in zip(xs, mine, strict=True):
                _point(axes, x, found)
                axes.annotate(
                    words.place(results, found["point"]), (x, 0.02), rotation=90, fontsize=7,
                    xycoords=axes.get_xaxis_transform(), xytext=(-4, 0), color="#555555",
                    textcoords="offset points", ha="right", va="bottom",
                )  # fmt: skip
                seen += found["differences"]
                seen += [found["low"], found["high"]] if found["n"] > 2 else []
            logarithmic(axes, xs)
            axes.margins(x=0.16)
        for axes in panels[len(pairs) :]:
            axes.set_visible(False)
        high = max(seen) - min(seen) or 1.0
        below = 0.025 * max(len(point["label"]) for point in results["points"]) + 0.03  # share
        panels[0].set_ylim(min(seen) - high * below / (1 - below), max(seen) + 0.06 * high)
        for axes in panels[::columns]:
            axes.set_ylabel("difference (points)")
        figure.supxlabel(wrapped(str(captions.axis(results)), int(13 * width)), fontsize=8.5)


def _point(axes: Axes, x: float, found: Tree) -> None:
    colour = _DECISION[found["decision"]]
    _seeds(axes, [x] * found["n"], found["differences"])
    if found["low"] is not None:
        axes.plot([x, x], [found["low"], found["high"]], color=colour, lw=1.6, zorder=2)
    fill = "white" if found["n"] == 1 else colour  # one seed: there is no interval
    axes.plot(x, found["mean"], "o", ms=6, mec=colour, mfc=fill, zorder=3)


def _apart(xs: Sequence[float]) -> list[float]:
    """Places on a logarithmic axis, those that would cover each other moved apart."""
    order = sorted(range(len(xs)), key=lambda i: xs[i])
    moved = [math.log(x) for x in xs]
    step = 0.09 * (max(moved) - min(moved)) if moved and max(moved) > min(moved) else 0.1
    for before, i in itertools.pairwise(order):
        moved[i] = max(moved[i], moved[before] + step)
    return [math.exp(x) for x in moved]
