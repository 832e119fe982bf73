"""The page over all reports of studies, its board, and whether reports are what they should be.

The board has every claim of the paper that an experiment file makes at a scale; which of them have
a report does not change the error that it controls.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ijepa.pages import board_table, figure, origin, page, study, verdict
from ijepa.pages.board_table import Report
from ijepa.pages.figures import claims
from ijepa.runtime.files import write_json
from ijepa.runtime.records import plain
from ijepa.study import board, experiment, lock, summary
from ijepa.study.board import Board
from ijepa.study.numbers import Study

Standing = Mapping[tuple[str, str], Mapping[str, str]]  # (name, scale) -> run -> standing
FILES = (
    "index.html", "index.md", board_table.FILE, "figures/claims.png", "figures/claims.svg"
)  # fmt: skip
FIGURES: tuple[figure.Figure[Sequence[Study]], ...] = (claims,)


def write(
    folder: Path = study.FOLDER.parent,
    out: Path | None = None,
    experiments: Path = experiment.FOLDER,
) -> Path:
    """Write ``FILES``: the page over the reports in ``folder/ablations``, and its board.

    Reports at scale smoke are in it only where there are no others.

    Args:
        folder: of the reports; links start there.
        out: folder of the files; None: ``folder``.
        experiments: has the experiments and scales.

    Returns:
        The page.
    """
    worth = reported(folder)
    scales = dict.fromkeys(one.study.scale for one in worth)
    boards = [_board(scale, [r.study for r in worth], experiments) for scale in scales]
    boards = [one for one in boards if one.lines]
    out = out or folder
    write_json(out / board_table.FILE, plain(boards))
    studies = [one.study for one in worth]
    figure.draw(FIGURES, studies, out / "figures")
    content = {
        "reports": worth, "boards": boards, "verdict": verdict, "origin": origin,
        "told": board_table.told, "unseen": board_table.unseen, "unlearned": board_table.unlearned,
        "inborn": board_table.inborn,
        "tables": [board_table.table(one, worth) for one in boards],
        "figures": figure.shown(FIGURES, studies), "folder": out,
    }  # fmt: skip
    page.write(out / "index.md", "index.md.j2", **content)
    return page.write(out / "index.html", "index.html.j2", **content)


def reported(folder: Path) -> list[Report]:
    """The reports in ``folder/ablations``, in the order of the paper's tables."""
    reports = [
        Report(of.parent.relative_to(folder).as_posix(), study.read(of.parent))
        for of in sorted((folder / "ablations").glob("*/results.json"))
    ]
    reports.sort(key=lambda one: (one.study.table or 99, one.study.name, one.study.scale))
    # smoke's numbers mean nothing, and its reports are nobody's to commit
    return [one for one in reports if one.study.scale != "smoke"] or reports


def _board(scale: str, reported: Sequence[Study], experiments: Path) -> Board:
    """The board of a scale: reports, and of experiments without one what their files claim."""
    studies = {one.name: one for one in reported if one.scale == scale}
    there = scale in experiment.names(experiments / "scales")
    for name in experiment.names(experiments) if there else ():
        if name not in studies:
            studies[name] = summary.read(name, scale, experiments)
    return board.build(list(studies.values()))


def check(
    reports: Sequence[tuple[str, str]],
    folder: Path = study.FOLDER,
    experiments: Path = experiment.FOLDER,
    standing: Standing | None = None,
) -> list[str]:
    """Build committed reports and the page over all again, elsewhere, and compare every byte.

    Args:
        reports: name and scale of each.
        folder: has the reports; the page over all is beside it.
        experiments: has the experiments, scales and lock files.
        standing: of each report's runs, see ``ijepa.pages.study.build``.

    Returns:
        Files that differ, are missing, or should not be there; sorted.
    """
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        for built in study.build_all(reports, Path(temporary), experiments, standing):
            wrong += _different(folder / built.parent.name, built.parent)
        kept = {f"{name}.{scale}" for name, scale in lock.listing(experiments)}
        behind = [path.parent for path in folder.glob("*/results.json")]
        wrong += [path.as_posix() for path in behind if path.name not in kept]
        write(folder.parent, Path(temporary), experiments)
        for file in FILES:
            committed = folder.parent / file
            if _bytes(committed) != _bytes(Path(temporary) / file):
                wrong.append(committed.as_posix())
    return sorted(wrong)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _different(old: Path, new: Path) -> list[str]:
    there, here = _files(old), _files(new)
    paths = there.keys() | here.keys()
    return [(old / path).as_posix() for path in paths if there.get(path) != here.get(path)]


def _files(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
