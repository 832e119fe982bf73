"""A study's accuracy against the context that the encoder really saw."""

from pathlib import Path

from ijepa.pages import look, marks, style, verdict
from ijepa.pages.figure import Words
from ijepa.study.numbers import Study

PICTURE = False


def needs(study: Study) -> bool:
    """A realised context of a run that is done."""
    return any(run.done and run.context_ratio is not None for run in study.runs)


def words(study: Study) -> Words:
    """The realised context of each cell."""
    listed = verdict.listed(study, [cell.context_ratio for cell in study.cells], 3)
    return Words(
        "Accuracy against the realised context",
        "Scatter plot: share of patches that the context encoder saw, against accuracy."
        f" {listed}.",
        "Each small mark is a run, each large one the mean of a variant. A variant that also"
        " changes how much context there is differs in two things: the factor and this ratio, the"
        " mean share of an image's patches that the context encoder saw in pretraining.",
    )


def draw(study: Study, path: Path) -> None:
    """Runs and means, a colour and a mark for each variant."""
    known = [r for r in study.runs if r.done and r.context_ratio]
    means = [c for c in study.cells if c.spread.mean is not None and c.context_ratio]
    looks = dict(zip((v.name for v in study.variants), marks.variants(study), strict=True))
    with style.figure(path, marks.with_legend((6.4, 3.2), study)) as figure:
        axes = figure.subplots()
        for run in known:
            _, colour, marker = looks[run.variant]
            axes.plot(
                run.context_ratio or 0.0, study.value(run) or 0.0, marker, color=colour, ms=4,
                alpha=0.5, mec="white", mew=0.4,
            )  # fmt: skip
        for cell in means:
            name, colour, marker = looks[cell.variant]
            axes.plot(
                cell.context_ratio or 0.0, cell.spread.mean or 0.0, marker, color=colour, ms=8,
                mec="white", mew=0.6, label=name, ls="none",
            )  # fmt: skip
        axes.set(xlabel="realised context (share of an image's patches)", ylabel="accuracy (%)")
        axes.margins(0.08)
        look.legend(figure, [axes], marks.names(study))
