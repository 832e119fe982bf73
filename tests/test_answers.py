"""The bits of a lock file are what the evaluation wrote, image by image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ijepa import cli
from ijepa.evaluation import scores
from ijepa.evaluation.scores import Outcome
from ijepa.probes import choose
from ijepa.results import accuracy, kept
from ijepa.runtime import bits
from ijepa.runtime.records import plain
from ijepa.study import answers, experiment, lock
from ijepa.study.plan import Run

METRICS = ["class.linear.trained", "count.linear.trained", "class.knn.trained"]


def evaluated(folder: Path) -> tuple[Outcome, dict[str, object]]:
    """An evaluation of two tasks by the project's own writer."""
    rng = np.random.default_rng(0)
    labels = {task: rng.integers(0, 3, 101) for task in ("class", "count")}
    results = {
        ("linear", encoder): {
            task: choose(({"lr": 1.0}, {"lr": 2.0}), rng.integers(0, 3, (2, 40)),
                         rng.integers(0, 3, 40), rng.integers(0, 3, (2, 101)))
            for task in labels
        }
        for encoder in ("trained", "random_init")
    }  # fmt: skip
    outcome = Outcome(
        "", "test", {"fit": 1}, dict.fromkeys(labels, ("a", "b", "c")), labels, results
    )
    about = {"encoders": ["trained", "random_init"], "probes": ["linear"]}
    scores.write_predictions(folder / "predictions.npz", [outcome])
    return outcome, json.loads(json.dumps(scores.summarise(about, [outcome])))


def test_they_are_the_winners_on_the_test_images(tmp_path: Path) -> None:
    outcome, evaluation = evaluated(tmp_path)
    packed = answers.read(evaluation, tmp_path / "predictions.npz", METRICS)
    assert list(packed) == METRICS[:2], "nobody ran kNN"
    for metric, text in packed.items():
        task = metric.split(".")[0]
        result = outcome.results["linear", "trained"][task]
        right = bits.unpack(text)
        assert np.array_equal(right, result.predictions == outcome.labels[task])
        accuracy = scores.headline(evaluation)[task]["linear"]["trained"]
        assert 100 * right.mean() == pytest.approx(accuracy, abs=0.005)


def test_every_metric_on_test_images_is_asked_for() -> None:
    asked = answers.asked()
    for name in experiment.names():
        chosen = experiment.load(name)
        for metric in (chosen.metric, *chosen.also):
            assert (metric in asked) == metric.endswith(".trained")


def test_a_lock_file_keeps_them_and_does_without(tmp_path: Path) -> None:
    runs = [Run(f"a/{seed}", "a", None, seed, {}, f"s{seed}", "d", "c") for seed in (0, 1)]
    result = {"status": "done", "reason": None, "signature": "s0", "code": "c", "data": "d",
              "encoder": "e", "metrics": {}, "pretrain": {}, "provenance": {}}  # fmt: skip
    results = {
        runs[0].identity: {**result, "right": {"class.linear.trained": "8:/w=="}},
        runs[1].identity: {**result, "signature": "s1"},
    }
    lock.write("table", "smoke", runs, results, tmp_path)
    kept = lock.read("table", "smoke", tmp_path)["results"]
    assert kept["a/0"]["right"] == {"class.linear.trained": "8:/w=="}
    assert "right" not in kept["a/1"]
    lock.write("table", "smoke", runs, lock.known(tmp_path), tmp_path)
    assert lock.read("table", "smoke", tmp_path)["results"] == kept


def locked(folder: Path) -> dict[str, Any]:
    """The results of a lock file with one run, whose accuracies the evaluation wrote."""
    _, evaluation = evaluated(folder)
    packed = answers.read(evaluation, folder / "predictions.npz", METRICS)
    return {"a/0": {"metrics": scores.headline(evaluation), "right": packed}}


def test_verify_computes_the_accuracies_that_the_evaluation_wrote(tmp_path: Path) -> None:
    assert answers.verify(locked(tmp_path)) == ([], 2, 0)
    without = {"a/0": locked(tmp_path)["a/0"] | {"right": {}}}
    assert answers.verify(without) == ([], 0, 2)


def test_verify_names_an_accuracy_that_its_answers_do_not_give(tmp_path: Path) -> None:
    results = locked(tmp_path)
    there = results["a/0"]["metrics"]["count"]["linear"]["trained"]
    results["a/0"]["metrics"]["count"]["linear"]["trained"] = round(there + 0.01, 2)
    (line,), hold, without = answers.verify(results)
    assert line.startswith("a/0: count.linear.trained: ")
    assert (hold, without) == (1, 0)


@pytest.mark.parametrize("count", [1, 3, 7, 64, 10000])
def test_an_accuracy_is_rounded_as_the_evaluation_rounds(count: int) -> None:
    for right in {0, 1, count // 3, count // 2, count}:
        bits_ = np.arange(count) < right
        assert answers.percent(bits_) == round(scores.percent(right / count), 2)


def published(folder: Path) -> Path:
    """``results.json`` as a report publishes it, of the same evaluation."""
    _, evaluation = evaluated(folder)
    rows = accuracy.table(evaluation, ["class", "count"], {})
    content = {"table": plain(rows), "confusion": [],
               "right": kept.right(evaluation, rows, folder / "predictions.npz")}  # fmt: skip
    (folder / "results.json").write_text(json.dumps(content))
    return folder / "results.json"


def test_verify_computes_a_published_table_again(tmp_path: Path) -> None:
    assert kept.verify(published(tmp_path)) == ([], 4, 0)


@pytest.mark.parametrize(
    ("row", "key"),
    [(0, "accuracy"), (0, "low"), (1, "high"), (1, "difference"), (1, "difference_low"),
     (3, "difference_high")],
)  # fmt: skip
def test_verify_names_each_number_of_a_published_table(tmp_path: Path, row: int, key: str) -> None:
    file = published(tmp_path)
    content = json.loads(file.read_text())
    content["table"][row][key] += 0.01
    file.write_text(json.dumps(content))
    (line,), hold, _ = kept.verify(file)
    assert f"/linear/{content['table'][row]['encoder']}: {key}: " in line
    assert hold == 3


def test_verify_takes_the_confusion_of_a_report_that_kept_no_answers(tmp_path: Path) -> None:
    content = json.loads((ROOT / "reports/cifar10/results.json").read_text())
    assert kept.verify(ROOT / "reports/cifar10/results.json") == ([], len(content["table"]), 0)
    del content["right"]
    file = tmp_path / "results.json"
    file.write_text(json.dumps(content))
    wrong, hold, without = kept.verify(file)
    assert not wrong
    assert hold + without == len(content["table"])
    assert 0 < hold < len(content["table"])


def test_the_commands_say_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = published(tmp_path)
    assert cli.main(["verify", str(tmp_path)]) == 0
    file.write_text(file.read_text().replace('"accuracy": ', '"accuracy": 1'))
    assert cli.main(["verify", str(tmp_path)]) == 1
    content = {"seeds": [0], "results": locked(tmp_path), "provenance": {}}
    table = tmp_path / "two.smoke.lock.json"
    table.write_text(json.dumps(content))
    assert cli.main(["verify", str(table)]) == 0
    assert "2 accuracies hold" in capsys.readouterr().out
    content["results"]["a/0"]["metrics"]["class"]["linear"]["trained"] += 1
    table.write_text(json.dumps(content))
    assert cli.main(["verify", str(table)]) == 1
    assert cli.main(["verify", str(tmp_path / "none.smoke.lock.json")]) == 2
