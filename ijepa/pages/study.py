"""The report of a study: files of its experiment -> results.json -> figures, page and tables.

Everything after ``results.json`` is made from it alone: the same files give the same bytes, and a
committed report can be checked against them.
"""

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ijepa.pages import bar, figure, labels, origin, page, study_tables, verdict
from ijepa.pages.figures import accuracy, compute, context, cost, emergence, tradeoff, variance
from ijepa.runtime import environment
from ijepa.runtime.files import write_json
from ijepa.runtime.records import plain, restore
from ijepa.seeds import PARTS
from ijepa.study import experiment, summary
from ijepa.study.numbers import Study

FOLDER = Path("reports/ablations")
FIGURES: tuple[figure.Figure[Study], ...] = (
    accuracy, variance, tradeoff, compute, context, cost, emergence
)  # fmt: skip


def build(
    name: str,
    scale: str,
    folder: Path | None = None,
    experiments: Path = experiment.FOLDER,
    standing: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of an experiment at a scale; returns its page.

    Args:
        name: of the experiment.
        scale: its scale; without a lock file all runs are missing.
        folder: where to; None: ``reports/ablations/NAME.SCALE``.
        experiments: has the experiment, the scales and the lock file.
        standing: key of a run -> today, vouched or older: the code that its result is of.

    Raises:
        ValueError: one of the files is wrong.
    """
    folder = folder or FOLDER / f"{name}.{scale}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "results.json", plain(summary.read(name, scale, experiments, standing)))
    return render(folder)


def build_all(
    tables: Sequence[tuple[str, str]],
    folder: Path = FOLDER,
    experiments: Path = experiment.FOLDER,
    standing: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
) -> Iterator[Path]:
    """``build`` of several reports, as many at once as there are cores: their pages, in order.

    Args:
        tables: name and scale of each.
        folder: that gets a folder for each.
        experiments: as of ``build``.
        standing: of each table, as of ``build``.
    """
    pool = ProcessPoolExecutor(
        min(environment.cores(), len(tables)),
        initializer=signal.signal,  # Ctrl-C is for the process that waits
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        built = [
            pool.submit(
                build, *table, folder / ".".join(table), experiments, (standing or {}).get(table)
            )
            for table in tables
        ]
        for page in built:
            yield page.result()
    finally:
        pool.shutdown(cancel_futures=True)


def read(folder: Path) -> Study:
    """The numbers of a report.

    Raises:
        ValueError: they are of another version of ijepa.
    """
    path = folder / "results.json"
    try:
        return restore(Study, json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; `ijepa report` makes it anew") from None


def render(folder: Path) -> Path:
    """Everything beside ``folder/results.json``, from it alone; returns the page."""
    study = read(folder)
    figure.draw(FIGURES, labels.of_study(study)[0], folder / "figures")
    return write(study, folder)


def write(study: Study, folder: Path) -> Path:
    """Write index.html, report.md, table.tex and table.csv; ``figures/`` is there."""
    table = study_tables.accuracies(study)
    content = {
        "s": study,
        "verdict": verdict,
        "origin": origin,
        "accuracies": table,
        "pairs": study_tables.pairs(study),
        "costs": study_tables.costs(study),
        "reached": study_tables.reached(study),
        "beside": study_tables.beside(study),
        "runs": study_tables.runs(study),
        "settings": study_tables.settings(study),
        "figures": figure.shown(FIGURES, study),
        "key": labels.of_study(study)[1],
        "protocol": protocol(study),
        "bar": bar.of(verdict.deciding(study)) if study.pairs else "",
        "folder": folder,
        "one_seed": any(cell.spread.n == 1 for cell in study.cells),
    }
    page.write(folder / "report.md", "study.md.j2", **content)
    caption = (
        f"{study.question} {verdict.sentence(study)} In percent, means over seeds with the half"
        " width of their 95 % interval; differences in points, paired by seed."
    )
    lost = [f"{study.label(cell.variant)}: {note}"
            for cell in study.cells for note in study_tables.notes(study, cell)]  # fmt: skip
    caption += f" Not as planned: {'; '.join(lost)}." if lost else ""
    label = f"{study.name}-{study.scale}".replace("_", "-")
    page.save(folder / "table.tex", table.latex(caption, label))
    page.save(folder / "table.csv", study_tables.sheet(study).csv())
    return page.write(folder / "index.html", "study.html.j2", **content)


def protocol(study: Study) -> list[tuple[str, str]]:
    """Titles and paragraphs: what was run, and what the numbers are."""
    return page.paragraphs("study.protocol.j2", s=study, sets="; ".join(PARTS.values()))
