"""The board as a table: a line for each claim, with its interval drawn against its margin."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ijepa.pages import bar, verdict
from ijepa.pages.table import Cell, Row, Table
from ijepa.runtime.records import restore
from ijepa.study.board import Board, Line
from ijepa.study.numbers import Study

FILE = "board.json"


@dataclass(frozen=True, slots=True)
class Report:
    """A report of a study, and where it is."""

    at: str  # its folder, from the page
    study: Study


def read(reports: Path) -> list[Board]:
    """The boards of a folder of reports, one a scale.

    Raises:
        ValueError: they are of another version of ijepa.
    """
    return [restore(Board, one) for one in json.loads((reports / FILE).read_text())]


def table(of: Board, reports: Sequence[Report]) -> Table:
    """A line for each claim that has runs."""
    columns = ["on the board", "claim", "data", "compares", "effect (points, + is as claimed)",
               "margin (points)", "seeds", "by itself"]  # fmt: skip
    rows = [_row(line, reports) for line in told(of)]
    words = ("claim", "data", "compares", "effect (points, + is as claimed)", "by itself")
    return Table(columns, rows, text=words, kind="board")


def _row(line: Line, reports: Sequence[Report]) -> Row:
    report = next((r for r in reports if (r.study.name, r.study.scale) == (line.name, line.scale)),
                  None)  # fmt: skip
    assert line.pair is not None
    spread, look = line.pair.comparison.spread, f"\nlook {line.look}" if line.look else ""
    number = f"Table {line.table}: " if line.table else ""
    at = f" at “{line.point}”" if line.point else ""
    among = f", one of {line.pairs} pairs" if line.pairs > 1 else ""
    notes = [] if line.registered else ["exploratory"]
    if line.negligible:
        notes.append("within the margin")
    if report and any(run.standing == "older" for run in report.study.runs):
        notes.append("of older code")
    return Row([
        Cell("\n".join([verdict.MARKS[line.decision], *notes]),
             mark=verdict.CLASSES[line.decision]),
        Cell(number + line.text, href=f"{report.at}/index.html" if report else None),
        verdict.data(report.study) if report else "",
        "\n".join([
            f"“{line.better}” over “{line.worse}”{at}{among}; {verdict.metric(line.metric)}",
            *learned(line)]),
        Cell(verdict.difference(spread, ""), spread.mean,
             mark=verdict.CLASSES[line.decision], drawing=bar.of(line.pair)),
        f"{line.pair.test.margin:g}", _seeds(line, spread.n),
        Cell(verdict.MARKS[line.alone] + look, mark=verdict.CLASSES[line.alone]),
    ])  # fmt: skip


def learned(line: Line) -> list[str]:
    """What each side of the pair has over its random initialisation, and the pair before training.

    The second only where the two do not start alike.
    """
    over = "; ".join(verdict.difference(one, "") for one in line.learned)
    said = [f"over their random inits, in turn: {over}"]
    if line.pair and line.pair.apart_untrained:
        said.append(f"between these: {verdict.difference(line.pair.untrained, '')}")
    return said


def inborn(of: Board) -> list[Line]:
    """The lines whose difference is not shown to exceed that of the untrained encoders."""
    return [line for line in told(of) if line.pair and line.pair.inborn]


def unlearned(of: Board) -> list[Line]:
    """The lines with a side that is not told from its random initialisation."""
    return [line for line in told(of) if any((one.low or 0.0) <= 0 for one in line.learned)]


def _seeds(line: Line, n: int) -> str:
    """Those of the pair that is shown, and of the pair that has fewest."""
    return str(n) if n == line.seeds else f"{line.seeds} to {n}"


def told(of: Board) -> list[Line]:
    """The lines with a paired seed."""
    return [line for line in of.lines if line.pair and line.pair.comparison.spread.n]


def unseen(of: Board) -> list[str]:
    """The claims without one at the board's scale."""
    lines = [line for line in of.lines if line not in told(of)]
    return [f"Table {line.table}, {line.name}" if line.table else line.name for line in lines]
