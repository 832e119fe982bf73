"""A run of half a minute on rendered scenes, and what a linear probe makes of its encoder."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import tiny
from numpy.typing import NDArray

from ijepa.datasets import scenes
from ijepa.model import vit
from ijepa.store.read import Images, open_store
from ijepa.store.write import write_store
from ijepa.training import loop
from ijepa.views import normalise

RUN = {
    "data.image_size": 32, "model.patch_size": 8, "model.width": 64, "model.depth": 2,
    "mask.min_context": 3, "train.batch_size": 32, "train.epochs": 5, "train.warmup_epochs": 0.5,
    "train.lr": 0.002,
}  # fmt: skip
_SCENES = scenes.Options(
    image_size=32,
    train_images=3000,
    test_images=2000,
    render_seed=0,
    objects=(3, 8),
    nuisance_amplitude=0.0,
    nuisance_length=3.0,
)


class Gain(NamedTuple):
    """Test accuracies of a task, and their paired difference in its standard errors."""

    before: float
    after: float
    z: float


def gains(folder: Path, patch: pytest.MonkeyPatch, **change: Any) -> dict[str, Gain]:
    """Train in a folder; what the run adds to a linear probe on its own random start."""
    patch.chdir(folder)
    patch.setenv("IJEPA_HOME", str(folder / "home"))
    config = tiny(**{**RUN, **change})
    write_store(scenes.load(_SCENES, folder), folder / "scenes")
    store = open_store(folder / "scenes")
    loop.train(config, store, torch.device("cpu"), "fp32", 0, 1)
    start = vit.create(config.data.image_size, config.model, config.seed)
    splits = store.splits["train"], store.splits["test"]
    before = _right(start, *splits)
    after = _right(vit.load(Path("out/encoder.safetensors")), *splits)
    found = {}
    for task, right in after.items():
        step = right.astype(float) - before[task]
        z = step.mean() / (step.std() / len(step) ** 0.5)
        found[task] = Gain(before[task].mean(), right.mean(), z)
    return found


def _right(network: vit.Encoder, learn: Images, test: Images) -> dict[str, NDArray[np.bool_]]:
    """Which test images ridge regression on pooled, standardised features gets right."""
    x, y = (_features(network, images) for images in (learn, test))
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    x, y = (np.c_[(f - mean) / deviation, np.ones(len(f))] for f in (x, y))
    square, found = x.T @ x + 3 * np.eye(x.shape[1]), {}
    for task, labels in learn.labels.items():
        weight = np.linalg.solve(square, x.T @ np.eye(labels.max() + 1)[labels])
        found[task] = (y @ weight).argmax(1) == test.labels[task]
    return found


@torch.no_grad()
def _features(network: vit.Encoder, images: Images) -> NDArray[np.float64]:
    pixels = np.stack([images[i] for i in range(len(images))]).transpose(0, 3, 1, 2)
    batches = torch.from_numpy(np.ascontiguousarray(pixels)).split(250)
    return torch.cat([network(normalise(b)).mean(1) for b in batches]).double().numpy()
