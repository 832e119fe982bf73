"""How long a study's runs pretrained."""

import itertools
from pathlib import Path

from ijepa.pages import look, style, verdict
from ijepa.pages.figure import Words
from ijepa.study.numbers import Study


def needs(study: Study) -> bool:
    """A run whose pretraining was timed."""
    return any(cell.pretrain_seconds for cell in study.cells)


def words(study: Study) -> Words:
    """The seconds of each cell."""
    listed = verdict.listed(study, lambda cell: cell.pretrain_seconds, 0)
    return Words(
        "Time of pretraining",
        f"Bars of the seconds that pretraining took. {listed}.",
        "Wall time of the pretraining stage, mean over seeds (bars) and each run (marks), on the"
        " machines that the table of runs names; other work on the same machine is in it.",
    )


def draw(study: Study, path: Path) -> None:
    """A bar for each cell that was timed, with its runs on it."""
    cells = [cell for cell in study.cells if cell.pretrain_seconds]
    times = [[r.seconds["pretrain"] or 0.0 for r in study.runs_of(c) if r.done] for c in cells]
    most = max(itertools.chain(*times))
    unit, name = next(
        (unit, name)
        for unit, name in ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        if most >= 2 * unit or unit == 1
    )
    labels = [look.wrapped(verdict.row(study, cell), 32) for cell in cells]
    lines = sum(max(label.count("\n") + 1, 1.5) for label in labels)
    with style.figure(path, (6.4, 0.65 + 0.19 * lines)) as figure:
        axes = figure.subplots()
        for y, (cell, runs) in enumerate(zip(cells, times, strict=True)):
            axes.barh(y, (cell.pretrain_seconds or 0.0) / unit, 0.62, color=style.SKY)
            known = [seconds / unit for seconds in runs if seconds]
            axes.plot(known, [y] * len(known), "o", color=style.BLUE, ms=3.2)
        axes.set_yticks(range(len(cells)), labels)
        axes.set(xlabel=f"pretraining ({name})", ylim=(len(cells) - 0.5, -0.5))
        axes.set_xlim(0, 1.04 * most / unit)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_axisbelow(True)
