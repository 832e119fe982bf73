"""Equal compute: epochs from FLOPs that are known before anything runs."""

import copy
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from ijepa import config as configs
from ijepa import presets, variants
from ijepa.config import Config
from ijepa.runtime import files
from ijepa.store.read import Store
from ijepa.study import budget, plan
from ijepa.study import experiment as experiments
from ijepa.training import batches
from ijepa.training.batches import Batches
from ijepa.views import normalise

TREE = files.read_yaml(ROOT / "params.yaml")


@pytest.mark.parametrize("name", ["ijepa", "pixels", "mae", "data2vec", "ibot"])
def test_flops_are_those_of_the_batches_that_a_run_sees(
    name: str, make_config: Callable[..., Config], store: Store
) -> None:
    """Random masks of one size: every batch has the same shapes, and so the same cost."""
    config = make_config(**{
        "objective.name": name, "mask.name": "random", "mask.target_scale": 0.5, "seed": 7,
        "objective.local_size": 8, "objective.top_layers": 2,
    })  # fmt: skip
    objective = variants.load("objectives", name).create(
        config.data.image_size, config.model, config.objective.options, config.seed
    )
    batch = Batches(store.splits["train"], config)[0]
    counted = objective.flops(*(normalise(view) for view in batch.views), *batch.masks)
    found = budget.flops_per_image(config, padding=True)
    assert found == budget.flops_per_image(config), "nothing is padded"
    assert found == pytest.approx(counted / config.train.batch_size, rel=1e-12)
    assert found == budget.flops_per_image(dataclasses.replace(config, seed=8))
    twice = dataclasses.replace(config.train, batch_size=2 * config.train.batch_size)
    assert found == pytest.approx(
        budget.flops_per_image(dataclasses.replace(config, train=twice)), rel=1e-12
    ), "it is of an image"


def test_masks_of_several_lengths_are_averaged(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """512 images in batches of 8: the mean of 64 batches, whatever one of them costs."""
    config = make_config()
    module = variants.load("objectives", "ijepa")
    costs: list[int] = []

    def flops(self: object, images: torch.Tensor, masks: Any, padding: bool) -> int:
        assert not padding, "equal compute is equal useful compute"
        assert images.is_meta
        assert images.shape == (8, 3, 16, 16)
        costs.append(100 * masks.context.shape[1])
        return costs[-1]

    monkeypatch.setattr(module.Objective, "flops", flops, raising=False)
    found = budget.flops_per_image(config)
    assert (len(costs), len(set(costs)) > 1) == (64, True)
    assert found == sum(costs) / 512


def test_scale_gpu_says_what_its_run_costs() -> None:
    """The comment of the file, against the counter; to the digits that it has."""
    scale, tree = experiments.load_scale("gpu", ROOT / "experiments"), copy.deepcopy(TREE)
    presets.apply(tree, dict(scale.changes), "gpu")
    config = configs.parse(tree, "gpu")
    text = (ROOT / "experiments/scales/gpu.yaml").read_text().replace("\n#", "")
    said = re.search(
        r"counted.*: ([\d.]+) GFLOP an image .*\(([\d.]+) if .*, ([\de.]+) FLOP", text
    )
    assert said
    useful = budget.flops_per_image(config)
    assert said[1] == f"{useful / 1e9:.1f}"
    assert said[2] == f"{budget.flops_per_image(config, padding=True) / 1e9:.1f}"
    assert said[3] == f"{useful * config.train.epochs * 50_000:.1e}".replace("e+", "e")


def test_epochs_are_the_references_budget_over_the_own_cost(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {"ijepa": 3000.0, "pixels": 7000.0}
    monkeypatch.setattr(budget, "flops_per_image", lambda c: costs[c.objective.name])
    reference = make_config(**{"train.epochs": 2, "train.warmup_epochs": 0.2})
    other = make_config(
        **{"train.epochs": 4, "train.warmup_epochs": 1, "objective.name": "pixels"}
    )
    # 2 epochs x 3000 / 7000 = 0.857142..., of which a quarter is warm-up: 0.214285...
    assert budget.matched(other, reference) == {
        "train.epochs": 0.857, "train.warmup_epochs": 0.214,
    }  # fmt: skip
    # 4 epochs x 7000 / 3000 = 9.333..., a tenth of it warm-up
    assert budget.matched(reference, other) == {
        "train.epochs": 9.33, "train.warmup_epochs": 0.933,
    }  # fmt: skip
    assert budget.matched(reference, reference) == {
        "train.epochs": 2.0, "train.warmup_epochs": 0.2,
    }  # fmt: skip


def test_at_a_point_of_equal_compute_the_reference_is_the_run_that_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = {"ijepa": 2000.0, "pixels": 5000.0}
    monkeypatch.setattr(budget, "flops_per_image", lambda c: costs[c.objective.name])
    shutil.copytree(ROOT / "experiments/scales", tmp_path / "scales")
    shutil.copytree(ROOT / "experiments/presets", tmp_path / "presets")
    tree: dict[str, Any] = {
        "title": "?", "question": "?", "table": None, "source": "Ours: a test.",
        "metric": "class.linear.trained", "factor": ["objective.name"],
        "seeds": [0, 1, 2, 3, 4, 5],
        "variants": {
            v: {"label": v, "set": {"objective.name": v}, "paper": None} for v in costs
        },
        "points": {
            "images": {"label": "images", "x": None, "set": {}},
            "flops": {"label": "flops", "x": None, "set": {}, "equal_compute": "ijepa"},
        },
        "claim": {"text": "?", "by": "us", "best": "ijepa", "margin": 1, "looks": [6]},
    }  # fmt: skip
    (tmp_path / "made.yaml").write_text(json.dumps(tree))
    experiment = experiments.load("made", tmp_path)
    scale = dataclasses.replace(experiments.load_scale("smoke", tmp_path), seeds=2)
    runs = {run.key: run for run in plan.resolve(experiment, scale, TREE)}
    assert len(runs) == 8
    assert len(plan.unique(list(runs.values()))) == 6
    for seed in (0, 1):
        first, same = (runs[f"ijepa@{point}/{seed}"] for point in ("images", "flops"))
        assert (first.signature, first.changes) == (same.signature, same.changes)
        assert first.changes["train.epochs"] == 3  # the scale's
        shorter = runs[f"pixels@flops/{seed}"]
        assert shorter.changes["train.epochs"] == 1.2  # 3 x 2000 / 5000
        assert shorter.changes["train.warmup_epochs"] == 0.12
        assert runs[f"pixels@images/{seed}"].changes["train.epochs"] == 3


def test_a_view_that_is_not_masked_costs_and_gets_no_masks(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**{"objective.name": "ibot", "objective.local_size": 8})
    module, seen = variants.load("objectives", "ibot"), set()

    def flops(self: object, *inputs: Any, padding: bool) -> int:
        seen.add(tuple(len(one) if isinstance(one, tuple) else one.shape[-1] for one in inputs))
        first, second = inputs[-2:]
        seen.add(first.targets.tolist() == second.targets.tolist())  # masks of their own
        return 8

    monkeypatch.setattr(module.Objective, "flops", flops, raising=False)
    assert budget.flops_per_image(config) == 1.0
    locals_ = len(batches.views(config)) - 2
    assert seen == {(16, 16, *([8] * locals_), 6, 6), False}
