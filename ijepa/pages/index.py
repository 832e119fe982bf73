"""The page over all reports of studies, and whether reports are what their lock files give."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from ijepa.pages import page, study, verdict
from ijepa.pages.figures import accuracy
from ijepa.study import experiment

Standing = Mapping[tuple[str, str], Mapping[str, str]]  # (name, scale) -> run -> standing


def write(folder: Path = study.FOLDER.parent, path: Path | None = None) -> Path:
    """Write the page over the reports in ``folder/ablations``; its links start in the folder.

    Reports at scale smoke are in it only where there are no others.

    Args:
        folder: of the reports.
        path: the page; None: ``folder/index.html``.
    """
    reports = [
        (of.parent.relative_to(folder).as_posix(), study.read(of.parent))
        for of in sorted((folder / "ablations").glob("*/results.json"))
    ]
    reports.sort(key=lambda report: (report[1].table or 99, report[1].name, report[1].scale))
    # smoke's numbers mean nothing, and its reports are nobody's to commit
    worth = [report for report in reports if report[1].scale != "smoke"] or reports
    path = path or folder / "index.html"
    drawn = accuracy.needs  # what a report is pictured by
    return page.write(path, "index.html.j2", reports=worth, verdict=verdict, drawn=drawn)


def check(
    reports: Iterable[tuple[str, str]],
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
        for name, scale in reports:
            old, new = folder / f"{name}.{scale}", Path(temporary) / f"{name}.{scale}"
            study.build(name, scale, new, experiments, (standing or {}).get((name, scale)))
            wrong += _different(old, new)
        over = write(folder.parent, Path(temporary) / "index.html")
        committed = folder.parent / over.name
        if not committed.is_file() or committed.read_bytes() != over.read_bytes():
            wrong.append(committed.as_posix())
    return sorted(wrong)


def _different(old: Path, new: Path) -> list[str]:
    there, here = _files(old), _files(new)
    paths = there.keys() | here.keys()
    return [(old / path).as_posix() for path in paths if there.get(path) != here.get(path)]


def _files(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
