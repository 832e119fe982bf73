"""The bits of a lock file are what the evaluation wrote, image by image."""

import json
from pathlib import Path

import numpy as np
import pytest

from ijepa.evaluation import scores
from ijepa.evaluation.scores import Outcome
from ijepa.probes import choose
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
        right = answers.unpack(text)
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
