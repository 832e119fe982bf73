"""A run of milliseconds as the report meets it: files of the stages, and no training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, params
from ruamel.yaml import YAML

from ijepa import config as configs
from ijepa.datasets import Item, Source, Split
from ijepa.evaluation import scores
from ijepa.model import vit
from ijepa.probes import Draw, Result, choose
from ijepa.runtime import files
from ijepa.store.read import open_store
from ijepa.store.write import write_store

CLASSES = ("a|b", "<img src=x onerror=alert(1)>", "$d$")  # each breaks a page that does not escape
TASKS = {  # the first is not the alphabet's first
    "kind": CLASSES,
    "a<|b": ("3", "4"),
    "count": ("3", "4", "5", "6"),
    "distance": ("<= 8", "8-9", "> 9"),
}
RATES = {  # probe -> how often each encoder is right; finetune has no pixels
    "linear": {"trained": 0.9, "random_init": 0.4, "pixels": 0.85},
    "knn": {"trained": 0.2, "random_init": 0.7, "pixels": 0.5},
    "logistic": {"trained": 0.6, "random_init": 0.3, "pixels": 0.5},
    "finetune": {"trained": 0.8, "random_init": 0.75},
}


def make(folder: Path) -> None:
    """What the stages before the report leave in a working directory; no training."""
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(
            params(**{**TINY, "data.name": "cifar10", "evaluate.probes": ["linear", "knn"]}), file
        )
    settings, rng = configs.load(folder / "params.yaml"), np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        pixels[::3, :, :8] //= 4
        items = [
            Item(p, {task: i % len(names) for task, names in TASKS.items()}, str(i))
            for i, p in enumerate(pixels)
        ]
        return Split(count, lambda: iter(items))

    source = Source({"train": split(24), "test": split(60)}, TASKS, {"name": "made"})
    write_store(source, folder / "data" / "prepared")
    data, out = open_store(folder / "data" / "prepared"), folder / "out"
    (out / "evaluation").mkdir(parents=True)
    vit.save(vit.create(16, settings.model, 1), out / "encoder.safetensors", {})
    labels, counts = data.splits["test"].labels, {"train": 20, "held_out": 4, "test": 60}
    outcomes = [
        scores.Outcome("", "test", counts, TASKS, labels, predictions(rng, TASKS, labels)),
        elsewhere(rng),
    ]
    about = {"encoder": "target encoder", "encoders": list(RATES["linear"])}
    about |= {"probes": list(RATES), "precision": "fp32", "pixels_side": 16}
    evaluation = scores.summarise(about, outcomes)
    files.write_json(out / "evaluation" / "evaluation.json", evaluation)
    scores.write_predictions(out / "evaluation" / "predictions.npz", outcomes)
    rows = [
        {"step": i, "images": 8 * i, "loss": 1 / i, "lr": 1e-3, "weight_decay": 0.04,
         "ema": 0.99, "context_ratio": 0.4, "feature_std": 0.5, "rankme": 3.0 + i}
        for i in range(1, 30)
    ]  # fmt: skip
    files.write_csv(out / "history.csv", rows)
    end = {"images": 232, "collapsed": False, "health": "healthy", "feature_std": 0.5}
    end |= {"flops": 232 * 5 * 10**9, "flops_per_image": 5e9, "rankme": 32.0}
    end |= {"flops_useful": 232 * 4 * 10**9, "flops_useful_per_image": 4e9}
    files.write_json(out / "pretrain.json", end)
    files.write_sums(out, ["encoder.safetensors", "history.csv", "pretrain.json"])
    files.write_sums(out / "evaluation", ["evaluation.json", "predictions.npz"])


Labels = Mapping[str, np.ndarray]


def predictions(
    rng: np.random.Generator, tasks: Mapping[str, tuple[str, ...]], labels: Labels
) -> dict[tuple[str, str], dict[str, Result]]:
    """Predictions of every probe and encoder; those of logistic also with few labels."""
    results: dict[tuple[str, str], dict[str, Result]] = {}
    for (probe, kind), rate in (
        ((probe, kind), rate) for probe, rates in RATES.items() for kind, rate in rates.items()
    ):
        for task, truth in labels.items():
            wrong = (truth + 1) % len(tasks[task])

            def guess(rate: float, truth: Any = truth, wrong: Any = wrong) -> np.ndarray:
                return np.where(rng.random(len(truth)) < rate, truth, wrong)

            draws = tuple(
                Draw(k, d, guess(rate * share))
                for k, share in ((1, 0.5), (5, 0.8), (20, 1.0))
                for d in range(3)
                if probe == "logistic"
            )
            results.setdefault((probe, kind), {})[task] = choose(
                ({"features": "last"}, {"features": "last2"}),
                np.stack([wrong[:4], truth[:4]]), truth[:4],  # the second wins
                np.stack([guess(1.0 if probe == "knn" else 0.0), guess(rate)]), draws,
            )  # fmt: skip
    return results


def elsewhere(rng: np.random.Generator) -> scores.Outcome:
    """Another data set that the encoder is transferred to."""
    tasks, labels = {"class": ("x", "![y](z)")}, {"class": np.arange(40) % 2}
    counts = {"train": 12, "held_out": 4, "test": 40}
    return scores.Outcome("else", "val", counts, tasks, labels, predictions(rng, tasks, labels))


def enter(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make it the working directory, with a journal of its own and no database."""
    patch.chdir(folder)
    patch.setenv("IJEPA_HOME", str(folder / "home"))
    patch.setenv("IJEPA_MONGO_URL", "off")
