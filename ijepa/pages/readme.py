"""The part of README.md that is written from committed results: no result is typed there.

Each folder of ``reports`` with a ``results.json`` of this version is a run with a table.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ijepa import results, variants
from ijepa.pages import board_table, index, page, verdict
from ijepa.pages.figures import claims as claims_figure
from ijepa.pages.figures import emergence
from ijepa.pages.table import Cell, Row, Table
from ijepa.pages.text import (
    count,
    dataset,
    duration,
    interval,
    method,
    number,
    plus_minus,
    points,
    spoken,
)  # fmt: skip
from ijepa.results import Results
from ijepa.results.accuracy import Accuracy
from ijepa.study.board import Line
from ijepa.study.numbers import Pair, Study

README = Path("README.md")
REPORTS = Path("reports")
BEGIN, END = "<!-- NUMBERS", "<!-- end of NUMBERS -->"  # the rest of the first line says by whom
CLAIMS = ("on the board", "claim", "compares",
          "effect (points, + is as claimed), 95 % interval", board_table.LEARNED,
          "seeds")  # fmt: skip
MARKS = {"better": " ▲", "worse": " ▼", "undecided": " ◇"}  # of the trained against a baseline


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


def filled(path: Path = README, reports: Path = REPORTS) -> str:
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


def block(reports: Path = REPORTS) -> str:
    """What stands between the marks: the board, what it does not show, a table for each run."""
    runs = list(_runs(reports))
    parts = [part for folder, run in runs for part in ("", about(folder, run), "", table(run))]
    if runs:
        parts.append(
            "▲ better, ▼ worse, ◇ not told apart: the trained encoder against this baseline, image"
            " by image on the reported images; one seed says nothing of another."
        )
    return "\n".join([*claims(reports), *parts, "", ""])


def claims(reports: Path) -> list[str]:
    """Of each board a line for each claim, what else was found in sentences, and the figure."""
    if not (reports / board_table.FILE).is_file():
        return []
    there = index.reported(reports)
    lines = []
    for one in board_table.read(reports):
        at_scale = {r.study.name: r for r in there if r.study.scale == one.scale}
        said = page.paragraphs(
            "readme.words.j2", board=one, told=board_table.told(one), verdict=verdict,
            studies=at_scale, reports=reports.as_posix(),
            along=[s.study for s in at_scale.values() if s.study.claim.by == "us"],
            ends=ends, data=claims_figure.data, unlearned=board_table.unlearned(one),
        )  # fmt: skip
        first, *others = (text for _, text in said)
        told = Table(CLAIMS, [_claim(line, at_scale[line.name], reports)
                              for line in board_table.told(one)], text=CLAIMS[:-1])  # fmt: skip
        lines += ["", first, "", told.markdown(linked=True)]
        lines += [part for text in others for part in (text, "")]
    drawn = reports / "figures/claims.png"
    if drawn.is_file():
        lines.append(
            f"[![Differences of all claims with runs, against the FLOPs of pretraining]"
            f"({drawn.as_posix()})]({reports.as_posix()}/index.md)"
        )
    return lines


def _claim(line: Line, report: board_table.Report, reports: Path) -> Row:
    """A claim: its verdict on the board, and the pair that it hangs on."""
    assert line.pair is not None
    spread = line.pair.comparison.spread
    notes = [] if line.alone == line.decision else [f"by itself {verdict.MARKS[line.alone]}"]
    at = f" at “{line.point}”" if line.point else ""
    return Row([
        verdict.MARKS[line.decision],
        Cell(f"Table {line.table}: {line.text}" if line.table else line.text,
             href=f"{reports.as_posix()}/{report.at}/report.md"),
        f"{claims_figure.data(report.study)}: “{line.better}” over “{line.worse}”{at}",
        f"{points(spread.mean)} {interval(spread.low, spread.high, signed=True)}",
        board_table.learned(line), str(spread.n),
    ], notes=notes + ([] if line.registered else ["exploratory"]))  # fmt: skip


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


def _runs(reports: Path) -> Iterator[tuple[Path, Results]]:
    found = reports.glob("*/results.json")
    for path in sorted(found, key=lambda path: (path.parent.name != "default", path)):
        try:
            yield path.parent, results.read(path)
        except ValueError:
            continue  # of an older version: its page stands, and its numbers are not these


def about(folder: Path, run: Results) -> str:
    """One sentence over a run's table, with a link to its page."""
    objective = variants.load("objectives", run.parameters["objective"]["name"])
    times = {stage.name: stage.run.seconds for stage in run.provenance.stages if stage.run}
    taken = ", ".join(f"{name} {duration(seconds)}" for name, seconds in times.items())
    return (
        f"[{objective.TITLE} on {dataset(run.parameters['data'])}]({folder.as_posix()}/report.md):"
        f" top-1 accuracy in percent on {count(run.run.counts.get(run.run.split))}"
        f" {run.run.split} images, ± half of the 95 % interval over these images; seed"
        f" {run.parameters['seed']}" + (f"; {taken}." if taken else ".")
    )


def table(run: Results) -> str:
    """Each task and probe, beside the two baselines and chance, as Markdown."""
    columns = ["task", "probe", "trained (%, ±)", "random init (%, ±)", "raw pixels (%, ±)",
               "chance (%)"]  # fmt: skip
    rows = []
    for _, group in groupby(run.table, lambda row: (row.task, row.probe)):
        cells = {row.encoder: row for row in group}
        if first := cells.get("trained"):
            named = [spoken(first.task), method(first.probe, first.share, first.shots)]
            shown = [_accuracy(cells.get(name)) for name in ("trained", "random_init", "pixels")]
            rows.append(Row([*named, *shown, number(first.chance)]))
    return Table(columns, rows, text=("probe",)).markdown()


def _accuracy(row: Accuracy | None) -> str:
    if row is None:
        return ""
    return plus_minus(row.accuracy, row.low, row.high) + MARKS.get(row.verdict or "", "")
