"""The page of one run: ``out/report``, from the numbers of its stages.

``build`` gathers, draws and writes; ``write`` makes the pages of what ``results.json`` holds.
"""

import filecmp
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

from ijepa import results as numbers
from ijepa import variants
from ijepa.config import Config
from ijepa.pages import figure, labels, page, published
from ijepa.pages.figure import Shown
from ijepa.pages.figures import (
    confusion,
    few_label,
    mask_sizes,
    masks,
    neighbours,
    patches,
    probes,
    training,
)
from ijepa.pages.table import Cell, Row, Table
from ijepa.pages.text import (
    NOTHING,
    dataset,
    duration,
    interval,
    method,
    number,
    points,
    scaled,
    spoken,
)
from ijepa.results import Results, representation
from ijepa.results.accuracy import Accuracy
from ijepa.store.read import PREPARED, open_store

REPORTS = Path("reports")
PAGES = ("index.html", "report.md")
CHARTS = (probes, few_label, confusion, training, mask_sizes)
SECTIONS = {
    "results": (probes, few_label, confusion),
    "training": (training,),
    "masks": (masks, mask_sizes),
    "representation": (patches, neighbours),
}
UNRECORDED = "no record here"
ITEMS = "95\u00a0%\u00a0interval"  # over images: the paragraph of intervals says so
OPTIMISTIC = "max over candidates (chosen on test, optimistic)"
MARKS = {"better": "▲ better", "worse": "▼ worse", "undecided": "◇ undecided"}
METERS = {
    "nvml": "the GPUs' own counters (NVML)",
    "rapl": "the processors' counters (RAPL): the whole machine's, without its memory",
    None: "no counter that this user may read",
}


def build(settings: Config, folder: Path) -> Results:
    """Write ``results.json``, ``figures/``, ``index.html`` and ``report.md``.

    Args:
        settings: the run's parameters.
        folder: where to; files that are there are overwritten.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: there is no evaluation, or a result is damaged.
    """
    numbers.check(settings)
    data = open_store() if (PREPARED / "manifest.json").is_file() else None
    encoder = numbers.ENCODERS[settings.evaluate.encoder]
    seen = representation.look(settings, data, encoder) if data and encoder.is_file() else None
    gathered = numbers.gather(settings, data, seen)
    drawings = folder / "figures"
    figure.draw(CHARTS, labels.of_run(gathered)[0], drawings)
    masks.draw(settings, drawings / "masks")
    if seen:
        patches.draw(seen, drawings / "patches")
        neighbours.draw(seen, drawings / "neighbours")
    numbers.write(folder / "results.json", gathered)
    results = numbers.read(folder / "results.json")
    write(results, folder)  # from what a reader has, and nothing else
    return results


def write(results: Results, folder: Path) -> None:
    """Render ``index.html`` and ``report.md``.

    Args:
        results: what ``results.json`` holds, and nothing else.
        folder: ``figures`` in it has the drawings.
    """
    objective = variants.load("objectives", results.parameters["objective"]["name"])
    beside = published.beside(results)
    content = {
        "r": results,
        "folder": folder,
        "say": dict(page.paragraphs("run.words.j2", r=results)),
        "title": f"{objective.TITLE} on {dataset(results.parameters['data'])}",
        "accuracies": accuracies(results),
        "chosen": chosen(results),
        "protocol": page.paragraphs("run.protocol.j2", r=results, objective=objective),
        "cost": cost(results),
        "published": beside,
        "notes": published.notes(beside),
        "parameters": list(parameters(results)),
        "stages": stages(results),
        "figures": figures(results),
        "key": labels.of_run(results)[1],
        "unrecorded": UNRECORDED,
    }
    page.write(folder / "index.html", "run.html.j2", **content)
    page.write(folder / "report.md", "run.md.j2", **content)


def kept(reports: Path = REPORTS) -> Iterator[tuple[Path, Results]]:
    """The folders of committed reports of runs with their numbers, the default run's first.

    One of an older version is left out: its pages stand, and its numbers cannot be read.
    """
    found = reports.glob("*/results.json")
    for path in sorted(found, key=lambda path: (path.parent.name != "default", path)):
        try:
            yield path.parent, numbers.read(path)
        except ValueError:
            continue


def rewrite(reports: Path = REPORTS) -> list[Path]:
    """Write the pages of all committed reports of runs anew; their figures stay."""
    folders = []
    for folder, results in kept(reports):
        write(results, folder)
        folders.append(folder / PAGES[0])
    return folders


def check(reports: Path = REPORTS) -> list[Path]:
    """The pages of committed reports of runs that are not what their numbers give."""
    wrong = []
    for folder, results in kept(reports):
        with tempfile.TemporaryDirectory() as temporary:
            shutil.copytree(folder / "figures", Path(temporary, "figures"))
            write(results, Path(temporary))
            _, other, missing = filecmp.cmpfiles(folder, temporary, PAGES, shallow=False)
            wrong += [folder / page for page in sorted(other + missing)]
    return wrong


def figures(results: Results) -> dict[str, list[Shown]]:
    """The figures of each section, numbered through all of them."""
    sections: dict[str, list[Shown]] = {}
    for section, members in SECTIONS.items():
        first = 1 + sum(map(len, sections.values()))
        sections[section] = figure.shown(members, results, first)
    return sections


def accuracies(results: Results) -> Table:
    """Every accuracy, and the trained encoder's difference to each baseline."""
    columns = ["accuracy (%)", ITEMS, OPTIMISTIC, "trained minus this (points)", ITEMS,
               "trained is"]  # fmt: skip
    return _by_task(results, _heading, columns, _accuracy, text="trained is")


def _by_task(
    results: Results,
    heading: Callable[[Accuracy], str],
    columns: Sequence[str],
    cells: Callable[[Accuracy], Sequence[Cell]],
    text: str,
) -> Table:
    """A row for each accuracy under its task; a probe is named in the first of its rows."""
    rows: list[Row] = []
    for _, of_task in groupby(results.table, lambda row: row.task):
        before = None
        for row in of_task:
            if before is None:
                rows.append(Row([heading(row)], kind="group"))
            probe = method(row.probe, row.share, row.shots)
            named = Cell("" if row.probe == before else probe, probe)
            source = Cell(spoken(row.encoder), row.encoder, mark=_strong(row))
            kind = "more" if row.probe == before else ""
            rows.append(Row([named, source, *cells(row)], kind=kind))
            before = row.probe
    return Table(["probe", "features from", *columns], rows, text=("features from", text))


def _strong(row: Accuracy) -> str | None:
    return "strong" if row.encoder == "trained" else None


def _heading(row: Accuracy) -> str:
    images = f": {row.images:,} {row.split} images" if row.images else ""
    other = f" of the data set {row.data}" if row.data else ""
    return f"{spoken(row.task)}{images}{other}, chance {number(row.chance)} %"


def _accuracy(row: Accuracy) -> list[Cell]:
    against = [
        Cell(points(row.difference), row.difference),
        Cell(interval(row.difference_low, row.difference_high, signed=True)),
        Cell(MARKS.get(row.verdict or "", NOTHING), row.verdict, mark=row.verdict),
    ]
    return [
        Cell(number(row.accuracy), row.accuracy, mark=_strong(row)),
        Cell(interval(row.low, row.high)),
        Cell(number(row.max), row.max, mark="soft"),
        *([Cell("")] * 3 if row.encoder == "trained" else against),
    ]


def chosen(results: Results) -> Table:
    """The settings that the held-out images chose."""
    columns = ["chosen", "held-out accuracy (%)"]
    return _by_task(results, lambda row: spoken(row.task), columns, _chosen, text="chosen")


def _chosen(row: Accuracy) -> list[Cell]:
    settings = (
        f"{spoken(name)} {value:g}" if isinstance(value, float) else f"{spoken(name)} {value}"
        for name, value in (row.selected or {}).items()
    )
    return [Cell(", ".join(settings) or NOTHING), Cell(number(row.held_out), row.held_out)]


def cost(results: Results) -> Table:
    """What pretraining took; what nobody counted or measured is left out."""
    rows: list[list[str]] = []
    counted, measured = results.training, results.provenance.cost
    if counted and counted.flops:
        how = "forward and backward of the loss: its matrix products, from their shapes"
        rows.append(["operations per image", scaled(counted.flops_per_image, "FLOP"), how])
        rows.append(["operations in all", scaled(counted.flops, "FLOP"), "summed over steps"])
    if counted and counted.flops_useful:
        useful = scaled(counted.flops_useful, "FLOP")
        rows.append(["of these useful", useful, "without the padding of masks"])
    if counted and counted.images:
        how = "images of the training stream, whatever their views"
        rows.append(["images seen", f"{counted.images:,}", how])
    if measured:
        where = f"{measured.devices} × {measured.device}"
        how = f"without start, health readings and checkpoints; times devices ({where})"
        rows.append(["device time", duration(measured.device_seconds), how])
        joules = measured.energy_joules
        energy = "not reported" if joules is None else scaled(joules, "J")
        rows.append(["energy", energy, METERS[measured.energy_source]])
        memory = f"{measured.peak_memory_gib:.3g} GiB"
        rows.append(["peak memory", memory, "of the first device; on a CPU, of its process"])
    how = "counted or measured as"
    return Table(["cost of pretraining", "amount", how], [Row(row) for row in rows], text=(how,))


def parameters(results: Results) -> Iterator[Table]:
    """A table for each section of ``params.yaml``."""
    for name in (field.name for field in fields(Config)):
        keys = _flat(results.parameters[name])
        rows = [Row([key or name, Cell(value, code=True)]) for key, value in keys]
        yield Table([name, ""], rows, kind="card")


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A section of the parameters as (key, value) pairs, with dotted keys."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, tree if isinstance(tree, str) else json.dumps(tree)


def stages(results: Results) -> Table:
    """The run that made each stage's files."""
    columns = ["stage", "run", "status", "started", "wall time", "commit", "machine"]
    rows = []
    for stage in results.provenance.stages:
        run = stage.run
        if run is None:
            rows.append(Row([stage.name, UNRECORDED, *[""] * 5]))
            continue
        changes = " + changes" if run.dirty else ""
        named = run.commit[:12] if re.fullmatch("[0-9a-f]{40}", run.commit) else run.commit
        commit = Cell(f"{named or UNRECORDED}{changes}", run.commit, code=True)
        started, machine = run.start or NOTHING, run.machine or NOTHING
        time = Cell(duration(run.seconds), run.seconds)
        rows.append(Row([stage.name, str(run.id), run.status, started, time, commit, machine]))
    return Table(columns, rows, text=("run", "status", "started", "commit", "machine"))
