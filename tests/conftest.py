"""A small run that every test can start from."""

import copy
import dataclasses
import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ijepa import config as configs
from ijepa import presets
from ijepa.config import Config
from ijepa.datasets import Item, Source, Split
from ijepa.probes import Features
from ijepa.runtime import files
from ijepa.store.read import Store, open_store
from ijepa.store.write import write_store

# Runs of milliseconds, in which a second thread waits more than it works.
os.environ.setdefault("IJEPA_THREADS", "1")
torch.set_num_threads(1)
threadpool_limits(1)  # numpy's and scipy's

ROOT = Path(__file__).parents[1]
TINY = {
    "data.image_size": 16,
    "mask.num_targets": 2,
    "mask.min_context": 2,
    "model.patch_size": 4,
    "model.width": 16,
    "model.depth": 2,
    "model.predictor_width": 8,
    "model.predictor_depth": 2,
    "train.batch_size": 8,
    "train.epochs": 3,
    "evaluate.last_layers": 2,
    "evaluate.few_shot": {"shots": [1, 5], "draws": 2, "l2": 0.1},
}


@functools.cache
def _defaults() -> dict[str, Any]:
    """params.yaml; keys that only a preset has are its variant's own, for the laws of a family."""
    tree = files.read_yaml(ROOT / "params.yaml")
    for path in sorted((ROOT / "experiments/presets").glob("*.yaml")):
        there = {"about", *presets.leaves(tree)}
        own = {key: value for key, value in files.read_yaml(path).items() if key not in there}
        presets.apply(tree, own, str(path))
    return tree


def params(**dotted: Any) -> dict[str, Any]:
    """The tree of params.yaml with dotted keys changed."""
    tree = copy.deepcopy(_defaults())
    for key, value in dotted.items():
        section, _, name = key.partition(".")
        if name:
            tree[section][name] = value
        else:
            tree[section] = value
    return tree


def joined(fitting: Features, selecting: Features) -> tuple[Features, list[NDArray[np.int64]]]:
    """Labelled images, and the rows of those that select as one fold: what ``fit_score`` takes."""
    images = fitting.images
    if images is not None:
        assert selecting.images is not None
        rows = np.concatenate([images.rows, selecting.images.rows])
        images = dataclasses.replace(images, rows=rows)
    every = dataclasses.replace(
        fitting,
        choices={n: np.concatenate([a, selecting.choices[n]]) for n, a in fitting.choices.items()},
        labels={t: np.concatenate([y, selecting.labels[t]]) for t, y in fitting.labels.items()},
        images=images,
    )
    return every, [np.arange(len(fitting), len(every))]


def tiny(**dotted: Any) -> Config:
    """A config of seconds: 16 px, 4 x 4 patches, width 16."""
    return configs.parse(params(**{**TINY, **dotted}), "params.yaml")


@pytest.fixture(autouse=True)
def signal_handlers() -> Iterator[None]:
    """A run takes SIGTERM and SIGINT for its own; after a test they are the next test's."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def make_config() -> Callable[..., Config]:
    return tiny


@pytest.fixture(scope="session")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 training and 32 test images of 16 px whose class is which half is brighter."""
    rng = np.random.default_rng(0)

    def items(count: int) -> list[Item]:
        made = []
        for i in range(count):
            image = rng.integers(0, 128, (16, 16, 3), dtype=np.uint8)
            image[:, 8 * (i % 2) : 8 * (i % 2) + 8] += 100
            made.append(Item(image, {"class": i % 2}, f"made {i}"))
        return made

    splits = {}
    for name, count in (("train", 64), ("test", 32)):
        made = items(count)
        splits[name] = Split(count, lambda made=made: iter(made))
    path = tmp_path_factory.mktemp("store") / "prepared"
    write_store(Source(splits, {"class": ("left", "right")}, {"name": "made"}), path)
    return path


@pytest.fixture(scope="session")
def store(store_path: Path) -> Store:
    return open_store(store_path)
