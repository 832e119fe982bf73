"""The paper's Tables 1-5 beside what a run measured of the same kind: shown, never ranked."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ijepa.pages.table import Cell, Row, Table
from ijepa.pages.text import dataset, method, number, plus_minus, spoken
from ijepa.results import Results
from ijepa.results.accuracy import Accuracy, question

FEW = 0.02  # of the labels: up to here a number belongs beside the paper's of 1 %
ALL, ONE_PERCENT = "ImageNet-1k", "ImageNet-1k, 1 % of labels"
ASKED = {"Clevr/Count": "count", "Clevr/Dist": "distance"}


@functools.cache
def tables() -> list[dict[str, Any]]:
    """The paper's tables, from ``published.yaml``."""
    text = Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    loaded: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(text)
    return loaded


def beside(results: Results) -> Table:
    """This run's rows, then the paper's, under those of the paper's columns that both have."""
    ours = [(row, columns(row, results.headline[0])) for row in results.table]
    measured = [name for name in _heads() if any(name in fits for _, fits in ours)]
    if not measured:
        return Table([], [])
    data = dataset(results.parameters["data"])
    rows = [Row([f"This run, pretrained on {data}: another scale"], kind="group")]
    for row, fits in ours:
        if fits:
            probe = method(row.probe, row.share, row.shots)
            who = f"{spoken(row.task)} by {probe}, {spoken(row.encoder)}"
            value = Cell(plus_minus(row.accuracy, row.low, row.high), row.accuracy)
            values = (value if name in fits else "" for name in measured)
            kind = "reference" if row.encoder == "trained" else ""
            rows.append(Row([who, *_network(row, results), *values], kind))
    heads = ["method", "architecture", "epochs", *measured]
    return Table(heads, [*rows, *_published(measured)], text=("architecture",))


def notes(table: Table) -> list[str]:
    """What to know before quoting the published numbers of a table."""
    used = [t for t in tables() if set(t["columns"]) & set(table.columns)]
    return [f"Table {t['number']}: {note}" for t in used for note in t["notes"]]


def columns(row: Accuracy, first: str) -> list[str]:
    """The paper's columns that ask what a row answers, if of other images.

    Args:
        row: of the results.
        first: the data set's first task, which stands where the paper classifies ImageNet.
    """
    few = row.share <= FEW and row.probe in ("linear", "logistic", "finetune")
    if few or row.probe != "linear":
        return [ONE_PERCENT] if few and row.task == first else []
    asked = [name for name, task in ASKED.items() if question(row.task) == task]
    known = re.sub(r"\W|_", "", row.data.lower())
    transfer = [name for name in _heads() if name.lower() == known]
    return [*([ALL] if row.task == first else []), *asked, *transfer]


def _heads() -> list[str]:
    return list(dict.fromkeys(name for table in tables() for name in table["columns"]))


def _network(row: Accuracy, results: Results) -> list[str]:
    """Architecture and epochs of what a row's features come from."""
    model, train = results.parameters["model"], results.parameters["train"]
    shape = f"{model['depth']} blocks × {model['width']}, patch {model['patch_size']}"
    epochs = {"trained": f"{train['epochs']:g}", "random_init": "0"}
    return ["" if row.encoder == "pixels" else shape, epochs.get(row.encoder, "")]


def _published(measured: Sequence[str]) -> Iterator[Row]:
    for group, rows in merged().items():
        kept = {key: row for key, row in rows.items() if any(n in row for n in measured)}
        if kept:
            yield Row([group], kind="group")
        for (name, architecture), row in kept.items():
            numbers = (Cell(number(row[n]), row[n]) if n in row else "" for n in measured)
            yield Row([name, architecture, f"{row.get('epochs', '')}", *numbers])


def merged() -> dict[str, dict[tuple[str, str], dict[str, float]]]:
    """Group -> (method, architecture) -> its numbers of all tables by column, and ``epochs``."""
    groups: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for table in tables():
        for group, rows in table["groups"].items():
            for printed in rows:
                row = groups.setdefault(group, {}).setdefault(
                    (printed["method"], printed["architecture"]), {}
                )
                row |= dict(zip(table["columns"], printed["numbers"], strict=True))
                row |= {"epochs": printed["epochs"]} if printed["epochs"] else {}
    return groups
