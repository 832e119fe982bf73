"""The paper's numbers beside a run's: as printed, under the same question, never ranked."""

import dataclasses
import json
import re
from typing import Any

import pytest
from conftest import tiny

from ijepa.config import as_tree
from ijepa.pages import published
from ijepa.results import Results
from ijepa.results.accuracy import Accuracy

PRINTED = {  # typed apart from published.yaml
    1: """
        data2vec ViT-L/16 1600 77.3
        MAE ViT-B/16 1600 68.0
        MAE ViT-L/16 1600 76.0
        MAE ViT-H/14 1600 77.2
        CAE ViT-B/16 1600 70.4
        CAE ViT-L/16 1600 78.1
        I-JEPA ViT-B/16 600 72.9
        I-JEPA ViT-L/16 600 77.5
        I-JEPA ViT-H/14 300 79.3
        I-JEPA ViT-H/16 at 448 px 300 81.1
        --
        SimCLR v2 RN152 (2×) 800 79.1
        DINO ViT-B/8 300 80.1
        iBOT ViT-L/16 250 81.0""",
    2: """
        data2vec ViT-L/16 1600 73.3
        MAE ViT-L/16 1600 67.1
        MAE ViT-H/14 1600 71.5
        I-JEPA ViT-L/16 600 69.4
        I-JEPA ViT-H/14 300 73.3
        I-JEPA ViT-H/16 at 448 px 300 77.3
        --
        iBOT ViT-B/16 400 69.7
        DINO ViT-B/8 300 70.0
        SimCLR v2 RN151 (2×) 800 70.2
        BYOL RN200 (2×) 800 71.2
        MSN ViT-B/4 300 75.7""",
    3: """
        data2vec ViT-L/16 81.6 54.6 28.1
        MAE ViT-H/14 77.3 55.0 32.9
        I-JEPA ViT-H/14 87.5 58.4 47.6
        --
        DINO ViT-B/8 84.9 57.9 55.9
        iBOT ViT-L/16 88.3 60.4 57.3""",
    4: """
        data2vec ViT-L/16 85.3 71.3
        MAE ViT-H/14 90.5 72.4
        I-JEPA ViT-H/14 86.7 72.4
        --
        DINO ViT-B/8 86.6 53.4
        iBOT ViT-L/16 85.7 62.8""",
    5: """
        I-JEPA ViT-H/14 300 87.5 58.4 47.6 86.7 72.4
        I-JEPA on IN22k ViT-H/14 900 89.5 57.8 50.5 88.6 75.0
        I-JEPA on IN22k ViT-G/16 600 89.5 59.1 55.3 86.7 73.0""",
}


def row(task: str, probe: str = "linear", encoder: str = "trained", **more: Any) -> Accuracy:
    empty = dict.fromkeys(field.name for field in dataclasses.fields(Accuracy))
    known = {"task": task, "probe": probe, "encoder": encoder, "data": "", "share": 1.0}
    known |= {"accuracy": 50.0, "low": 48.0, "high": 53.0}
    return Accuracy(**{**empty, **known, **more})


def run(*rows: Accuracy) -> Results:
    empty = dict.fromkeys(field.name for field in dataclasses.fields(Results))
    parameters = json.loads(json.dumps(as_tree(tiny())))
    headline = (rows[0].task, rows[0].probe) if rows else ("", "")
    return Results(**{**empty, "table": rows, "headline": headline, "parameters": parameters})


def test_published_rows_are_as_printed() -> None:
    for table in published.tables():
        groups = PRINTED[table["number"]].split("--")
        for rows, text in zip(table["groups"].values(), groups, strict=True):
            kept = []
            for p in rows:
                epochs = [str(p["epochs"])] if p["epochs"] else []
                numbers = [f"{value:.1f}" for value in p["numbers"]]
                kept.append(" ".join([p["method"], p["architecture"], *epochs, *numbers]))
            assert kept == [line.strip() for line in text.strip().splitlines()]


def test_no_table_contradicts_another() -> None:
    """A method and an architecture are one row, so what two tables print of them is equal."""
    merged = published.merged()
    for table in published.tables():
        for group, rows in table["groups"].items():
            for printed in rows:
                kept = merged[group][printed["method"], printed["architecture"]]
                assert [kept[name] for name in table["columns"]] == printed["numbers"]
                assert printed["epochs"] in (None, kept["epochs"])


@pytest.mark.parametrize(
    ("answer", "columns"),
    [
        (row("class"), ["ImageNet-1k"]),
        (row("class", share=0.01), ["ImageNet-1k, 1 % of labels"]),
        (row("class", "logistic", share=0.01), ["ImageNet-1k, 1 % of labels"]),
        (row("class", "finetune", share=0.02), ["ImageNet-1k, 1 % of labels"]),
        (row("class", "finetune", share=0.1), []),
        (row("class", "logistic"), []),
        (row("class", "knn"), []),
        (row("count"), ["Clevr/Count"]),
        (row("clevr/distance", data="clevr"), ["Clevr/Dist"]),
        (row("count", "logistic", share=0.01), []),
        (row("CIFAR-100/fine", data="CIFAR-100"), ["CIFAR100"]),
        (row("i_nat18/species", data="i_nat18"), ["iNat18"]),
        (row("cifar10/class", data="cifar10"), []),
    ],
)
def test_a_paper_column_takes_the_task_that_it_asks(answer: Accuracy, columns: list[str]) -> None:
    assert published.columns(answer, "class") == columns


def test_only_what_a_run_measured_is_shown() -> None:
    """Columns are those of both; a published row without a number under them is left out."""
    table = published.beside(
        run(row("class", "knn"), row("count"), row("count", encoder="pixels"))
    )
    assert list(table.columns) == ["method", "architecture", "epochs", "Clevr/Count"]
    shown = [[cell.shown for cell in r.cells]
             for r in table.rows if r.kind != "group"]  # fmt: skip
    assert shown[0] == ["count by linear, trained", "2 blocks × 16, patch 4", "3", "50.0 ± 2.5"]
    assert shown[1] == ["count by linear, raw pixels", "", "", "50.0 ± 2.5"]
    merged = [(key, r) for rows in published.merged().values() for key, r in rows.items()]
    assert shown[2:] == [
        [method, architecture, str(r.get("epochs", "")), f"{r['Clevr/Count']:.1f}"]
        for (method, architecture), r in merged
        if "Clevr/Count" in r
    ]
    tables = {int(re.findall(r"Table (\d)", note)[0]) for note in published.notes(table)}
    assert tables == {4, 5}


def test_nothing_is_said_of_what_a_run_did_not_measure() -> None:
    assert not published.beside(run(row("class", "knn")))
    assert not published.beside(run())
