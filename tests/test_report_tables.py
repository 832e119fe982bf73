"""The paper's tables beside a run: published numbers as printed, ours as measured, gaps said."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from ijepa import config as configs
from ijepa import report
from ijepa.pages.run import charts, collect, pages, paper, words
from ijepa.store.read import open_store
from tests.test_report import CLASSES, RATES, Page, enter, make_run

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
        I-JEPA on IN1k ViT-H/14 300 87.5 58.4 47.6 86.7 72.4
        I-JEPA on IN22k ViT-H/14 900 89.5 57.8 50.5 88.6 75.0
        I-JEPA on IN22k ViT-G/16 600 89.5 59.1 55.3 86.7 73.0""",
}


@dataclasses.dataclass(frozen=True)
class Share:
    """Options of a probe that fits on a share of the labels."""

    fraction: float


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_run(folder)
    return folder


@pytest.fixture
def inside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    enter(monkeypatch, folder)
    return folder


def written(folder: Path, fraction: float = 0.01) -> dict[str, Any]:
    """The pages of the run in the working directory, without figures."""
    settings = configs.load()
    options = settings.evaluate.options | {
        name: Share(fraction) for name in ("logistic", "finetune")
    }
    evaluate = dataclasses.replace(settings.evaluate, options=options)
    found = collect.collect(dataclasses.replace(settings, evaluate=evaluate), open_store())
    results: dict[str, Any] = json.loads(json.dumps(collect.plain(found | {"figures": []})))
    folder.mkdir(exist_ok=True)
    pages.write(results, folder)
    return results


def evaluation() -> Any:
    return json.loads(collect.EVALUATION.read_text())


def change(edit: Callable[[Any], None]) -> None:
    tree = evaluation()
    edit(tree)
    collect.EVALUATION.write_text(json.dumps(tree))


def lines(text: str) -> list[list[str]]:
    """The cells of every row of the tables of a page, as words."""
    rows = re.findall(r"<tr.*?</tr>", text, re.S)
    cells = (re.findall(r"<t[dh].*?</t[dh]>", row, re.S) for row in rows)
    return [[" ".join("".join(Page(cell).words).split()) for cell in row] for row in cells]


def said(text: str) -> str:
    """The words of a page, between single spaces."""
    return " ".join(" ".join(Page(text).words).split())


def ours(folder: Path, number: int) -> str:
    return (folder / f"table{number}.html").read_text().partition('id="here"')[2]


@pytest.mark.parametrize("number", PRINTED)
def test_published_rows_are_as_printed(number: int, inside: Path) -> None:
    table = paper.published()[number - 1]
    assert table["number"] == number
    wanted = [
        [line.strip() for line in group.strip().splitlines()]
        for group in PRINTED[number].split("--")
    ]
    for group, texts in zip(table["groups"], wanted, strict=True):
        kept = [
            " ".join(
                [
                    row["method"],
                    row["architecture"],
                    *([str(row["epochs"])] if row["epochs"] else []),
                ]
                + [f"{value:.1f}" for value in row["numbers"]]
            )
            for row in group["rows"]
        ]
        assert kept == texts
        assert {len(row["numbers"]) for row in group["rows"]} == {len(table["columns"])}
        assert {row["source"] for row in group["rows"]} == {f"Table {number}"}
    written(inside / "r")
    above = (inside / "r" / f"table{number}.html").read_text().partition('id="here"')[0]
    shown = [" ".join(cells) for cells in lines(above)]
    every = [line for group in wanted for line in group]
    assert [line for line in shown if line in every] == every


def test_our_rows_are_the_evaluations(inside: Path) -> None:
    written(inside / "r")
    tasks = evaluation()["tasks"]
    of = {
        1: [("kind", "linear", "linear")],
        2: [
            ("kind", "finetune", "1 % labels, fine-tuning"),
            ("kind", "logistic", "1 % labels, logistic regression"),
        ],
        3: [("else/class", "linear", "linear")],
        4: [("count", "linear", "linear"), ("distance", "linear", "linear")],
    }
    for number, wanted in of.items():
        expected = []
        for task, probe, said in wanted:
            for encoder in RATES[probe]:
                cell = tasks[task][probe][encoder]
                name = task if tasks[task]["data"] else f"{task} of cifar10"
                expected.append([
                    name, said, words.spoken(encoder), f"{cell['accuracy']:.1f}",
                    f"[{cell['low']:.1f}, {cell['high']:.1f}]",
                    f"{cell['max_over_candidates']:.1f}", f"{tasks[task]['chance']:.1f}",
                ])  # fmt: skip
        assert lines(ours(inside / "r", number))[1:] == expected, number
    head, *rows = lines(ours(inside / "r", 5))
    assert head[1:4] == ["CIFAR100", "Places205", "iNat18"]
    assert head[4].startswith("Clevr/Counthere: count of cifar10")
    cell = tasks["distance"]["linear"]["trained"]
    half = (cell["high"] - cell["low"]) / 2
    assert rows[0][0] == "trained"
    assert rows[0][5] == f"{cell['accuracy']:.1f} ± {half:.1f}"
    assert [len(row) for row in rows] == [7, 4, 4]  # what is not measured spans the encoders


def test_pages_say_the_scale_and_that_nothing_is_ranked(inside: Path) -> None:
    results = written(inside / "r")
    assert results["run"]["weights"] == 7376
    for number in PRINTED:
        text = said((inside / "r" / f"table{number}.html").read_text())
        for part in (
            "Nothing here ranks the one with the other", "pretrained on cifar10",
            "7,376 parameters", "16 × 16 pixels", "232 in pretraining", "item-level",
            "ijepa ablate",
        ):  # fmt: skip
            assert part in text, (number, part)
    index = (inside / "r" / "index.html").read_text()
    assert [name for name in report.PAGES if not (inside / "r" / name).is_file()] == []
    assert [n for n in PRINTED if f'href="table{n}.html"' not in index] == []
    assert "max over candidates (chosen on test, optimistic)" in index


def test_what_a_run_did_not_measure_is_said_with_the_way_to_it(inside: Path) -> None:
    def without(tree: Any) -> None:
        del tree["tasks"]["else/class"], tree["tasks"]["count"]
        tree["probes"] = ["linear", "knn"]
        for made in tree["tasks"].values():
            for probe in ("logistic", "finetune"):
                del made[probe], made["differences"][probe]

    change(without)
    results = written(inside / "r")
    lacks = {
        table["number"]: [lack["how"] for lack in table["lacks"]] for table in results["paper"]
    }
    cifar, scenes = (f"evaluate.transfer=[{{name: {n}}}]" for n in ("cifar10", "scenes"))
    assert lacks == {
        1: [], 2: ["evaluate.probes=[linear,knn,logistic]"], 3: [cifar], 4: [scenes],
        5: [cifar, scenes],
    }  # fmt: skip
    assert [n for n in PRINTED if "not measured in this run" in ours(inside / "r", n)] == [
        2,
        3,
        4,
        5,
    ]
    text = said(ours(inside / "r", 4))
    assert "“count”: not measured in this run" in text
    assert f'dvc exp run -S "{scenes}"' in text
    assert results["few_label"] == []
    assert "| not measured in this run |" in (inside / "r" / "report.md").read_text()


def test_no_linear_probe_asks_for_one(inside: Path) -> None:
    change(lambda tree: [made.pop("linear") for made in tree["tasks"].values()])
    results = written(inside / "r")
    how = [[lack["how"] for lack in table["lacks"]] for table in results["paper"]]
    assert how == [["evaluate.probes=[linear,knn]"], []] + 3 * [["evaluate.probes=[linear,knn]"]]


def test_fine_tuning_with_many_labels_is_not_of_table_2(inside: Path) -> None:
    few, many = (written(inside / "r", share)["paper"][1]["ours"] for share in (0.02, 0.1))
    assert {row["probe"] for row in few} == {"finetune", "logistic"}
    assert {row["method"] for row in many} == {"10 % labels, logistic regression"}


def test_names_on_the_tables_are_text(inside: Path) -> None:
    results = written(inside / "r")
    results["run"]["data"] = "<b>d</b>"
    results["paper"][0]["ours"][0]["task"] = "<i>t"
    pages.write(results, inside / "r")
    for name in report.PAGES:
        text = (inside / "r" / name).read_text()
        assert "<b>d</b>" not in text, name
        assert "<i>t" not in text
        assert "&lt;b&gt;d&lt;/b&gt;" in text
    assert "&lt;i&gt;t of" in (inside / "r" / "table1.html").read_text()


def test_curves_are_the_evaluations(inside: Path) -> None:
    found = written(inside / "r")["few_label"]
    tasks = evaluation()["tasks"]
    assert len(found) == 5 * 3
    for line in found:
        cell = tasks[line["task"]][line["probe"]][line["encoder"]]
        for shown, kept in zip(line["points"], cell["curve"], strict=True):
            for key in ("labels", "accuracy", "std", "draws"):
                assert shown[key] == pytest.approx(kept[key], 1e-5)


def test_error_bars_of_few_labels_are_the_spread_of_the_draws() -> None:
    points = [{"labels": k, "accuracy": 10.0 * k, "std": std} for k, std in ((1, 3.0), (5, None))]
    line = {"task": "t", "chance": 5.0, "points": points}
    axes = Figure().subplots()
    charts._few(axes, [line | {"encoder": "trained"}, line | {"encoder": "pixels"}])
    bars = [part for part in axes.containers if isinstance(part, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["trained", "raw pixels"]
    for bar in bars:
        (low, high), (same, again) = (s[:, 1] for s in bar[2][0].get_segments())
        assert (low, high, same, again) == pytest.approx((7, 13, 50, 50))
    assert axes.get_xscale() == "log"


def test_bars_stand_around_their_probe_when_an_encoder_is_missing() -> None:
    def row(probe: str, encoder: str) -> dict[str, Any]:
        return {"task": "t", "probe": probe, "method": probe, "encoder": encoder, "chance": 10.0,
                "accuracy": 50.0, "low": 40.0, "high": 60.0}  # fmt: skip

    axes = Figure().subplots()
    rows = [row("finetune", "trained"), row("finetune", "random_init")]
    charts._bars(
        axes, rows + [row("linear", name) for name in ("trained", "random_init", "pixels")]
    )
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert np.mean(middles[:2]) == pytest.approx(0)
    assert np.mean(middles[2:]) == pytest.approx(1)
    assert set(axes.get_legend_handles_labels()[1]) == {
        *("trained", "random init", "raw pixels", "chance")
    }


def test_confusions_are_of_the_headline_and_of_what_has_an_order(inside: Path) -> None:
    found = written(inside / "r")["confusion"]
    assert [part["task"] for part in found] == ["kind", "count", "distance"]
    tasks = evaluation()["tasks"]
    for part in found:
        right = 100 * np.trace(part["counts"]) / np.sum(part["counts"])
        assert right == pytest.approx(
            tasks[part["task"]]["linear"]["trained"]["accuracy"], abs=1e-3
        )
    assert found[0]["distance"] is None
    assert CLASSES[0] in words.confusion(found[0])
    assert re.fullmatch(r"off by 0\.\d\d classes \(a constant: 1\.00\); \d+ % at most one off",
                        words.confusion(found[1]))  # fmt: skip


def test_distance_of_classes_by_hand() -> None:
    counts = np.array([[2, 1, 1], [0, 3, 0], [1, 0, 2]])
    far = collect.class_distance(counts)
    assert far["mean"] == pytest.approx((1 + 2 + 2) / 10)
    assert far["constant"] == pytest.approx((4 + 3) / 10)  # always the middle class
    assert far["near"] == pytest.approx(8 / 10)


@pytest.mark.parametrize(
    ("probe", "options", "said"),
    [
        ("logistic", {"fraction": 0.01}, "1 % labels, logistic regression"),
        ("logistic", {}, "logistic regression"),
        ("finetune", {"fraction": 1.0}, "fine-tuning"),
        ("few_shot", {"shots": [1, 5, 10]}, "10-shot, first draw"),
        ("few_shot", {}, "few-shot"),
        ("knn", {"k": 20}, "kNN"),
        ("attentive", {"epochs": 5}, "attentive"),
    ],
)
def test_probes_in_words(probe: str, options: dict[str, Any], said: str) -> None:
    assert words.method(probe, options) == said


def test_a_share_of_the_labels_is_of_all_there_are() -> None:
    """1 % of a fifth of the images are no 1 % of the labels."""
    assert words.method("logistic", {"fraction": 0.01}, 0.2) == "0.2 % labels, logistic regression"
    assert words.method("linear", {}, 0.2) == "20 % labels, linear"


def test_a_paper_column_takes_the_task_that_it_asks() -> None:
    def row(task: str, data: str) -> dict[str, Any]:
        return {"task": task, "data": data, "encoder": "trained"}

    rows = [row("count", ""), row("clevr/count", "clevr"), row("CIFAR-100/fine", "CIFAR-100")]
    found = paper.columns(["CIFAR100", "iNat18", "Clevr/Count"], rows)
    shown = [(c["title"], [r["task"] for r in c["rows"].values()]) for c in found]
    assert shown == [
        ("CIFAR100", ["CIFAR-100/fine"]),
        ("iNat18", []),
        ("Clevr/Count", ["count"]),
        ("", ["clevr/count"]),
    ]
