"""Experiment file and lock file -> ``results.json`` -> page, Markdown, LaTeX, CSV and figures.

Nothing else is read, and everything after ``results.json`` is made from it alone: the same files
give the same bytes, and a committed report can be checked against them.
"""

import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ijepa import presets
from ijepa.config import PARAMS
from ijepa.pages.study import charts, pages
from ijepa.runtime.files import write_json
from ijepa.study import experiment, lock, trials
from ijepa.study.collect import collect

FOLDER = Path("reports/ablations")


def build(
    name: str, scale: str, folder: Path | None = None, experiments: Path = experiment.FOLDER
) -> Path:
    """Write the report of an experiment at a scale.

    Args:
        name: of the experiment.
        scale: its scale; without a lock file all runs are missing.
        folder: where to; None: ``reports/ablations/NAME.SCALE``.
        experiments: has the experiment, the scales and the lock file.

    Returns:
        The page.

    Raises:
        ValueError: one of the files is wrong.
    """
    results = gather(name, scale, experiments)
    folder = folder or FOLDER / f"{name}.{scale}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", results)
    return render(folder)


def gather(name: str, scale: str, experiments: Path = experiment.FOLDER) -> dict[str, Any]:
    """The content of ``results.json``, from the files of ``experiments`` alone.

    Raises:
        ValueError: one of the files is wrong.
    """
    chosen, size = experiment.load(name, experiments), experiment.load_scale(scale, experiments)
    there = "paper" in experiment.names(experiments / "scales")
    paper = experiment.load_scale("paper", experiments) if there else None
    tried = None
    if chosen.tuned is not None:
        recipes = experiment.load(chosen.tuned, experiments)
        locked = lock.read(chosen.tuned, scale, experiments)
        default = presets.read(PARAMS)["objective"]["name"]
        tried = trials.count(chosen, recipes, locked, size, default)
    return collect(chosen, lock.read(name, scale, experiments), size, paper, tried)


def render(folder: Path) -> Path:
    """Everything beside ``folder/results.json``, from it alone; returns the page."""
    results = json.loads((folder / "results.json").read_text())
    shutil.rmtree(folder / "figures", ignore_errors=True)  # one not drawn again must not stay
    charts.draw(results, folder / "figures")
    return pages.write(results, folder)


def index(folder: Path = FOLDER.parent) -> Path:
    """Write ``folder/index.html`` over all reports in ``folder/ablations``; returns it."""
    return pages.write_index(folder, folder / "index.html")


def check(
    reports: Iterable[tuple[str, str]],
    folder: Path = FOLDER,
    experiments: Path = experiment.FOLDER,
) -> list[str]:
    """Build committed reports and the page over all again, elsewhere, and compare every byte.

    Args:
        reports: name and scale of each.
        folder: has the reports; the page over all is beside it.
        experiments: has the experiments, scales and lock files.

    Returns:
        Files that differ, are missing, or should not be there; sorted.
    """
    wrong = []
    with tempfile.TemporaryDirectory() as made:
        for name, scale in reports:
            old, new = folder / f"{name}.{scale}", Path(made) / f"{name}.{scale}"
            build(name, scale, new, experiments)
            wrong += _different(old, new)
        page = pages.write_index(folder.parent, Path(made) / "index.html")
        committed = folder.parent / page.name
        if not committed.is_file() or committed.read_bytes() != page.read_bytes():
            wrong.append(committed.as_posix())
    return sorted(wrong)


def _different(old: Path, new: Path) -> list[str]:
    there, here = _files(old), _files(new)
    paths = there.keys() | here.keys()
    return [(old / path).as_posix() for path in paths if there.get(path) != here.get(path)]


def _files(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
