import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ijepa import encoder, environment, evaluate, features, variants
from ijepa.probes import Result
from ijepa.statistics import paired_difference, wilson
from ijepa.store import Store
from tests.conftest import params, tiny


class Run:
    """What the journal hands to a stage."""

    interactive = False

    def __init__(self) -> None:
        self.points: dict[str, float] = {}

    def log(self, name: str, value: float, step: int) -> None:
        assert step == 0
        self.points[name] = value


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    for name, value in {"DEVICE": "cpu", "THREADS": "1", "MONGO_URL": "off"}.items():
        monkeypatch.setenv(f"IJEPA_{name}", value)
    Path("out").mkdir()
    encoder.save(encoder.create(16, tiny().model, 99), Path("out/encoder.safetensors"), {})
    return tmp_path


def outputs() -> dict[str, bytes]:
    paths = (evaluate.METRICS, evaluate.EVALUATION, evaluate.PREDICTIONS)
    return {path.name: path.read_bytes() for path in paths}


def test_stage_writes_what_the_report_reads(
    workspace: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    config, run = tiny(), Run()
    returned = evaluate._stage(config, store, run)  # type: ignore[arg-type]
    made = json.loads(evaluate.EVALUATION.read_text())
    assert made["split"] == "test"
    assert made["n"] == {"train": 58, "held_out": 6, "test": 32}
    assert made["encoders"] == list(features.ENCODERS)
    task = made["tasks"]["class"]
    assert task["classes"] == ["left", "right"]
    assert task["chance"] == 50.0
    metrics = json.loads(evaluate.METRICS.read_text())
    predictions = np.load(evaluate.PREDICTIONS)
    truth = predictions["class/labels"]
    assert (truth == store.splits["test"].labels["class"]).all()
    for probe in ("linear", "knn"):
        for name, cell in task[probe].items():
            right = int((predictions[f"class/{probe}/{name}"] == truth).sum())
            low, high = wilson(right, 32)
            assert cell["accuracy"] == pytest.approx(100 * right / 32)
            assert (cell["low"], cell["high"]) == pytest.approx((100 * low, 100 * high), abs=1e-3)
            assert metrics["class"][probe][name] == pytest.approx(cell["accuracy"], abs=0.005)
            assert run.points[f"eval.class.{probe}.{name}"] == metrics["class"][probe][name]
            assert cell["selected"]["features"] in ("last", "last2", "pixels")
    # the brighter half is plain in the pixels
    assert metrics["class"]["linear"]["pixels"] > 90
    assert returned == metrics["class"]["linear"]["trained"]
    printed = capsys.readouterr().out
    assert "class, linear" in printed
    assert f"{task['knn']['pixels']['accuracy']:.1f} ± " in printed


def test_differences_are_paired() -> None:
    truth = np.array([0, 0, 1, 1, 1])

    def result(predictions: list[int]) -> Result:
        return Result(np.array(predictions), 0.5, {"features": "last"}, ())

    trained, baseline = result([0, 0, 1, 1, 0]), result([0, 1, 0, 0, 1])
    found = evaluate._difference(trained, baseline, truth)
    low, high = paired_difference(3, 1, 5)
    assert found["difference"] == 40.0
    assert (found["low"], found["high"]) == pytest.approx((100 * low, 100 * high), abs=1e-3)


def test_equal_inputs_give_equal_bytes(workspace: Path, store: Store) -> None:
    config = tiny()
    evaluate._stage(config, store, Run())  # type: ignore[arg-type]
    first = outputs()
    for path in (*(environment.home() / "features").iterdir(), evaluate.PREDICTIONS):
        path.unlink()
    evaluate._stage(config, store, Run())  # type: ignore[arg-type]
    assert outputs() == first
    encoder.save(encoder.create(16, config.model, 98), Path("out/encoder.safetensors"), {})
    evaluate._stage(config, store, Run())  # type: ignore[arg-type]
    assert outputs()["evaluation.json"] != first["evaluation.json"]


def test_every_probe_sees_the_same_split_and_test_alone_is_reported(
    workspace: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Probe:
        __file__ = __file__

        @staticmethod
        def fit_score(
            train: Any, held_out: Any, test: Any, options: Any, seed: int, device: str
        ) -> Mapping[str, Result]:
            seen.append([len(part.labels["class"]) for part in (train, held_out, test)])
            assert all(len(a) == 58 for a in train.choices.values())
            return {"class": Result(test.labels["class"], 0.0, {"features": "last"}, ())}

    config, split = tiny(), evaluate.held_out_split(0, 0.1, 1.0, 64)
    monkeypatch.setattr(variants, "load", lambda family, name: Probe)
    results = evaluate.probe(config, store, split)
    assert seen == [[58, 6, 32]] * 6
    assert set(results) == {(p, e) for p in ("linear", "knn") for e in features.ENCODERS}


@pytest.mark.parametrize(("share", "count", "expected"), [(0.1, 64, 6), (0.01, 3, 1), (0.5, 2, 1)])
def test_held_out_split(share: float, count: int, expected: int) -> None:
    train, held_out = evaluate.held_out_split(0, share, 1.0, count)
    assert len(held_out) == expected
    assert sorted([*train, *held_out]) == list(range(count))
    assert (np.diff(train) > 0).all()
    again = evaluate.held_out_split(0, share, 1.0, count)
    assert all((a == b).all() for a, b in zip((train, held_out), again, strict=True))


def test_held_out_split_follows_the_seed() -> None:
    first, other = (evaluate.held_out_split(seed, 0.1, 1.0, 1000)[1] for seed in (0, 1))
    assert len(set(first) & set(other)) < 30  # 10 expected
    with pytest.raises(ValueError, match="1 of 1 training images"):
        evaluate.held_out_split(0, 0.1, 1.0, 1)


def test_a_fraction_of_the_labels_is_used_and_grows_by_adding() -> None:
    small, large = (
        set(np.concatenate(evaluate.held_out_split(0, 0.2, f, 1000))) for f in (0.01, 0.1)
    )
    assert (len(small), len(large)) == (10, 100)
    assert small < large
    with pytest.raises(ValueError, match=r"1 of 100 training images with .*train_fraction 0\.01"):
        evaluate.held_out_split(0, 0.1, 0.01, 100)


def test_probes_get_the_features_of_the_images_that_were_chosen(
    workspace: Path, store: Store
) -> None:
    """The brighter half is plain in the pixels: shuffled rows would score near chance."""
    config = tiny(**{"evaluate.train_fraction": 0.5})
    parts = evaluate.held_out_split(0, 0.2, 0.5, 64)
    found = evaluate.probe(config, store, parts)
    right = found["linear", "pixels"]["class"].predictions == store.splits["test"].labels["class"]
    assert right.mean() > 0.9


def test_missing_encoder_is_one_line(
    workspace: Path, store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    """The whole stage: parameters, journal and console are the real ones."""
    from ruamel.yaml import YAML

    from ijepa import console
    from tests.conftest import TINY

    YAML(typ="safe", pure=True).dump(params(**TINY), Path("params.yaml"))
    Path("data").mkdir()
    prepared = next(iter(store.splits.values()))._folder.parent
    Path("data/prepared").symlink_to(prepared)
    Path("out/encoder.safetensors").unlink()
    assert console.run(evaluate.main) == 2
    assert "error: out/encoder.safetensors: no such file" in capfd.readouterr().err
