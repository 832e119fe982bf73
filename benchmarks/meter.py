"""What the health meter costs beside training.

``python benchmarks/meter.py``: rendered scenes, the objectives of ``params.yaml`` with the default
model, one thread. For each objective a real run of ``--images`` is trained; inside it the CPU
seconds of every step (its batch too) and of every health reading are taken. From the medians the
table has the meter's share of runs of several lengths: by the rule before
``ijepa.training.health.readings``, 256 images in every row of the history, and by that rule. The
first line of an objective is the run itself.
"""

import argparse
import copy
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ijepa import config as configs
from ijepa import presets
from ijepa.datasets import scenes
from ijepa.runtime import files
from ijepa.store.read import Store, open_store
from ijepa.store.write import write_store
from ijepa.training import health, loop, progress

OBJECTIVES = {
    "I-JEPA": {"objective.name": "ijepa"},
    "MAE": {"objective.name": "mae", "mask.name": "random", "mask.target_scale": 0.75},
}
LENGTHS = (5_000, 20_000, 140_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    tree = files.read_yaml(Path("params.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IJEPA_HOME"], os.environ["IJEPA_WORKERS"] = folder, "0"
        size = tree["data"]["image_size"]
        options = scenes.Options(image_size=size, train_images=given.images, test_images=2,
                                 objects=(3, 8), render_seed=0)  # fmt: skip
        write_store(scenes.load(options, Path(folder)), Path(folder) / "scenes")
        store = open_store(Path(folder) / "scenes")
        os.chdir(folder)
        lines = [line for name in OBJECTIVES for line in lines_of(name, tree, store, given.images)]
    print("\n".join(lines))
    print(f"load at the end {os.getloadavg()[0]:.1f}")


def lines_of(name: str, tree: dict[str, Any], store: Store, images: int) -> list[str]:
    """Lines of the table of one objective."""
    changed = copy.deepcopy(tree)
    presets.apply(changed, {**OBJECTIVES[name], "train.epochs": 1, "train.warmup_epochs": 0.1}, "")
    config, size = configs.parse(changed, "params.yaml"), changed["train"]["batch_size"]
    taken: dict[str, list[float]] = {"health": [], "step": []}
    real = {"health": loop.health, "step": loop.set_rates}

    def clocked_health(*args: Any) -> Any:
        return clocked(taken["health"], real["health"], *args)

    marks: list[float] = []  # CPU seconds when a step begins, less those of readings so far

    def begins(*args: Any) -> Any:
        marks.append(time.process_time() - sum(taken["health"]))
        return real["step"](*args)

    loop.health, loop.set_rates = clocked_health, begins  # type: ignore[assignment]
    before = time.process_time()
    loop.train(config, store, torch.device("cpu"), "fp32", 0, 1)
    whole = time.process_time() - before
    loop.health, loop.set_rates = real["health"], real["step"]
    step = statistics.median(after - before for before, after in itertools.pairwise(marks))
    seconds = statistics.median(taken["health"])
    images_read = len(health.fixed_images(store.splits["train"], config))
    image = seconds / images_read
    print(
        f"{name}: a step of {size} images {step:.4f} CPU s, a reading of {images_read}"
        f" {seconds:.4f}, so {size * image / step:.2f} of a training image for each"
    )
    own = 100 * sum(taken["health"]) / whole
    lines = [f"| {name}, {images:,} images, the whole run | | {own:.1f} % |"]
    for length in LENGTHS:
        rows, training = progress.row_steps(length // size), length // size * step
        read = len(health.readings(rows, length))
        then, now = len(rows) * 256 * image, read * seconds
        shares = (f"{100 * spent / (spent + training):.1f} %" for spent in (then, now))
        before, after = shares
        lines.append(f"| {name}, {length:,} images | {before} ({len(rows)} x 256) | {after}"
                     f" ({read} x {images_read}) |")  # fmt: skip
    return lines


def clocked(seconds: list[float], call: Callable[..., Any], *args: Any) -> Any:
    """What the call returns; the CPU seconds that it took are added to ``seconds``."""
    before = time.process_time()
    result = call(*args)
    seconds.append(time.process_time() - before)
    return result


if __name__ == "__main__":
    main()
