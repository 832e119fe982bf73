"""The part of README.md that is written from committed results: no result is typed there.

A sentence for each verdict of the board, the figure of all claims, and a sentence for each run:
each folder of ``reports`` with a ``results.json`` of this version is one.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from ijepa import variants
from ijepa.pages import board_table, index, page, run, verdict
from ijepa.pages.figures import emergence
from ijepa.pages.text import (
    count,
    dataset,
    inert,
    method,
    number,
    plus_minus,
    spoken,
)
from ijepa.results import Results
from ijepa.results.accuracy import Accuracy
from ijepa.study.numbers import Pair, Study

README = Path("README.md")
REPORTS = Path("reports")
BEGIN, END = "<!-- NUMBERS", "<!-- end of NUMBERS -->"  # the rest of the first line says by whom


def write(path: Path = README, reports: Path = REPORTS) -> list[Path]:
    """Fill the marked part of the file; returns its path if that changed it."""
    changed = check(path, reports)
    if changed:
        page.save(path, filled(path, reports))
    return changed


def check(path: Path = README, reports: Path = REPORTS) -> list[Path]:
    """The path if the file's marked part is not what the committed results give."""
    there = path.is_file() and filled(path, reports) != path.read_text(encoding="utf-8")
    return [path] if there else []


def filled(path: Path, reports: Path) -> str:
    """The file as committed results have it.

    Args:
        path: a file of UTF-8 text; without marks, or where there is none, nothing is filled in.
        reports: folder whose runs are shown; the file's links lead there.

    Raises:
        ValueError: the part has no end.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    if not begin:
        return text
    first, _, inside = rest.partition("\n")
    _, end, after = inside.partition(END)
    if not end:
        raise ValueError(f"{path}: “{BEGIN}” without “{END}” after it")
    return f"{before}{begin}{first}\n{block(reports)}{end}{after}"


def block(reports: Path) -> str:
    """What stands between the marks: what was found, the figure, a sentence for each run."""
    runs = list(run.kept(reports))
    parts = [f"- {about(folder, one)}" for folder, one in runs]
    if runs:
        parts += [
            "",
            "± is half of the 95 % interval over the reported images, on which an encoder and a"
            " baseline are compared image by image; one seed says nothing of another.",
            "",
        ]
    return "\n".join(["", *claims(reports), *parts, ""])


def claims(reports: Path) -> list[str]:
    """Of each board what it decides, a sentence a verdict, what else was found, and the figure."""
    if not (reports / board_table.FILE).is_file():
        return []
    there = index.reported(reports)
    lines = []
    for one in board_table.read(reports):
        at_scale = {r.study.name: r for r in there if r.study.scale == one.scale}
        # a line without a report, whose lock file is there, has nowhere to lead
        told, inborn, unlearned = (
            [line for line in some(one) if line.name in at_scale]
            for some in (board_table.told, board_table.inborn, board_table.unlearned)
        )
        said = page.paragraphs(
            "readme.words.j2", inert=True, board=one, told=told, verdict=verdict,
            reported=at_scale, reports=reports.as_posix(), ends=ends,
            along=[r.study for r in at_scale.values() if r.study.claim.by == "us"],
            inborn=inborn, unlearned=unlearned,
            sizes=_sizes([at_scale[line.name].study for line in told]),
        )  # fmt: skip
        (_, lead), *items, (_, error) = said
        lines += [lead, "", *(f"- {item}" for _, item in items), "", error, ""]
    drawn = reports / "figures/claims.png"
    if drawn.is_file():
        lines += [
            f"[![Differences of all claims with runs, against the FLOPs of pretraining]"
            f"({drawn.as_posix()})]({reports.as_posix()}/index.md)",
            "",
        ]
    return lines


def _sizes(studies: Sequence[Study]) -> Mapping[str, tuple[float, float]]:
    """The least and the most encoder parameters, and images seen, of the cells with runs."""
    cells = [cell for study in studies for cell in study.cells if cell.spread.n]
    known = {name: [size for cell in cells if (size := getattr(cell, name)) is not None]
             for name in ("parameters", "images")}  # fmt: skip
    return {name: (min(sizes), max(sizes)) for name, sizes in known.items() if sizes}


def ends(study: Study) -> list[tuple[Pair, Pair]]:
    """Each claimed pair at the first and the last of its budgets that have runs of it."""
    if not emergence.needs(study):
        return []
    first_and_last = []
    for better, worse in study.claim.pairs:
        along = [p for p in study.pairs if (p.better, p.worse) == (better, worse)
                 and p.comparison.spread.low is not None]  # fmt: skip
        if len(along) > 1:
            first_and_last.append((along[0], along[-1]))
    return first_and_last


def about(folder: Path, of: Results) -> str:
    """A run in two sentences: each task by its first probe, and all comparisons, counted."""
    objective = variants.load("objectives", of.parameters["objective"]["name"])
    tasks = [_task(list(rows)) for _, rows in groupby(of.table, lambda row: row.task)]
    return (
        f"[{objective.TITLE} on {dataset(of.parameters['data'])}]({folder.as_posix()}/report.md),"
        f" one run of seed {of.parameters['seed']}, top-1 accuracy in percent on"
        f" {count(of.run.counts.get(of.run.split))} {of.run.split} images: {'; '.join(tasks)}."
        f"{_compared(of.table)}"
    )


def _compared(table: Sequence[Accuracy]) -> str:
    """How many comparisons with a baseline are won, lost or undecided, and which are lost."""
    beside = [row for row in table if row.encoder != "trained" and row.verdict]
    verdicts = [row.verdict for row in beside]
    if not verdicts:
        return ""
    lost = "; ".join(
        f"{inert(spoken(row.task))}, {method(row.probe, row.share, row.shots)},"
        f" {number(row.difference, signed=True)} points against {spoken(row.encoder)}"
        for row in beside if row.verdict == "worse"
    )  # fmt: skip
    return (
        f" Of {len(verdicts)} comparisons with a baseline {verdicts.count('better')} are won,"
        f" {verdicts.count('worse')} lost{f' ({lost})' if lost else ''},"
        f" {verdicts.count('undecided')} undecided."
    )


def _task(rows: Sequence[Accuracy]) -> str:
    """``class, linear: 81.9 ± 1.1 (random init 36.8 ± 1.3, chance 13.5)``."""
    first = next(row for row in rows if row.encoder == "trained")
    kind = (first.probe, first.share, first.shots)
    same = [row for row in rows if (row.probe, row.share, row.shots) == kind]
    beside = [f"{spoken(row.encoder)} {_accuracy(row)}" for row in same if row is not first]
    beside.append(f"chance {number(first.chance)}")
    return (
        f"{inert(spoken(first.task))}, {method(*kind)}: {_accuracy(first)} ({', '.join(beside)})"
    )


def _accuracy(row: Accuracy) -> str:
    return plus_minus(row.accuracy, row.low, row.high)
