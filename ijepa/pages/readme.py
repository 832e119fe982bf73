"""The part of README.md that is written from committed results: no result is typed there.

Each folder of ``reports`` with a ``results.json`` of this version is a run with a table.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ijepa import results, variants
from ijepa.pages import board_table, page, verdict
from ijepa.pages.table import Row, Table
from ijepa.pages.text import count, duration, method, number, plus_minus, spoken
from ijepa.results import Results
from ijepa.results.accuracy import Accuracy

README = Path("README.md")
REPORTS = Path("reports")
BEGIN, END = "<!-- NUMBERS", "<!-- end of NUMBERS -->"  # the rest of the first line says by whom
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
    """What stands between the marks: the board in a sentence, and a table for each run."""
    runs = list(_runs(reports))
    parts = [part for folder, run in runs for part in ("", about(folder, run), "", table(run))]
    if runs:
        parts.append(
            "▲ better, ▼ worse, ◇ not told apart: the trained encoder against this baseline, image"
            " by image on the reported images; one seed says nothing of another."
        )
    else:
        parts += [
            "",
            "No committed run is of this version; `make repro` makes one, in `out/report`.",
        ]
    return "\n".join([*claims(reports), *parts, "", ""])


def claims(reports: Path) -> list[str]:
    """A paragraph for each board: how many claims have which verdict, and where they are."""
    lines = []
    for one in board_table.read(reports) if (reports / board_table.FILE).is_file() else ():
        counted = page.paragraphs("readme.words.j2", board=one, told=board_table.told(one),
                                  verdict=verdict)  # fmt: skip
        ((_, text),) = counted
        lines += [
            "",
            f"[The paper's claims at {one.scale} scale]({reports.as_posix()}/index.md): {text}",
        ]
    return lines


def _runs(reports: Path) -> Iterator[tuple[Path, Results]]:
    for path in sorted(reports.glob("*/results.json")):
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
        f"[{objective.TITLE} on {run.parameters['data']['name']}]({folder.as_posix()}/report.md):"
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
