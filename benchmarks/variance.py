"""What moves an accuracy of the linear probe: initial weights, labels, or the probe's selection.

``python benchmarks/variance.py``: randomly initialised encoders, ``--inits`` of them, and raw
pixels, under ``--draws`` draws of the labels (and of the probe's batches with them), on scenes at
the default model and on CIFAR-10 at scale laptop, in two protocols:

- before: a tenth of the training labels, a tenth of these selects once, nothing is refitted;
- after: what ``experiments/scales/laptop.yaml`` says of ``evaluate``, with a refit.

The accuracies of inits x draws are split by a two-way analysis of variance. The part of the draw
is what all encoders share; what is left, the interaction, is mostly the luck of the selection.
*Lost* is how far the selected candidate is below the best one on the same test images. Writes
``benchmarks/results/variance.csv``, a row a selection, and ``variance.md``, the table.
"""

import argparse
import csv
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ijepa import config as configs
from ijepa import features, presets
from ijepa.backbones import Backbone, pixels, random_init
from ijepa.config import Config
from ijepa.evaluation import labelling
from ijepa.features import Part
from ijepa.probes import Features, Result, choose, linear
from ijepa.runtime import environment, files
from ijepa.store import cache, read
from ijepa.study.experiment import load_scale

RESULTS = Path("benchmarks/results")
BEFORE: dict[str, Any] = {"train_fraction": 0.1, "held_out": 0.1, "folds": 1}
PROTOCOLS = ("before", "after")
TEST_IMAGES = 20000  # of scenes
COLUMNS = (
    "data, label", "protocol", "images that select", "initialisation", "label draw",
    "interaction: selection", "lost, mean", "lost, most", "raw pixels over draws",
    "mean accuracy (%)", "CPU s, an encoder", "CPU s, raw pixels",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One selection; accuracies are of the test images, in percent."""

    data: str
    protocol: str
    task: str
    init: str  # number of the initialisation, or "pixels"
    draw: int
    accuracy: float
    best: float  # of all candidates
    select: int  # images that selected
    seconds: float  # CPU, of all tasks together


@dataclass(frozen=True, slots=True)
class Parts:
    """Standard deviations in points: what an initialisation, a draw, and both together add."""

    init: float
    draw: float
    interaction: float


def two_way(values: NDArray[np.float64]) -> Parts:
    """Components of a two-way random-effects model with one value a cell (I, J).

    Mean squares minus what the interaction adds to them; a negative estimate of a variance is 0.
    """
    rows, columns = values.shape
    grand, by_row, by_column = values.mean(), values.mean(1), values.mean(0)
    rest = values - by_row[:, None] - by_column[None] + grand
    within = (rest**2).sum() / ((rows - 1) * (columns - 1))
    between_rows = columns * ((by_row - grand) ** 2).sum() / (rows - 1)
    between_columns = rows * ((by_column - grand) ** 2).sum() / (columns - 1)
    variances = (between_rows - within) / columns, (between_columns - within) / rows, within
    return Parts(*(max(0.0, float(v)) ** 0.5 for v in variances))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="*", default=["scenes", "cifar10"], help="none: the table")
    parser.add_argument("--inits", type=int, default=3)
    parser.add_argument("--draws", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(environment.hardware().threads)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "variance.csv"
    cells = [Cell(**convert(row)) for row in rows(path) if row["data"] not in given.data]
    for name in given.data:
        for cell in measure(name, given.inits, given.draws):
            print(cell, flush=True)
            cells.append(cell)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, Cell.__slots__, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(cell) for cell in cells)
    (RESULTS / "variance.md").write_text("\n".join(table(cells)) + "\n")


def rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def convert(row: Mapping[str, str]) -> dict[str, Any]:
    kinds: dict[str, Any] = {"draw": int, "select": int}
    kinds |= dict.fromkeys(("accuracy", "best", "seconds"), float)
    return {name: kinds.get(name, str)(value) for name, value in row.items()}


def configuration(data: str) -> Config:
    """Scale laptop's, on CIFAR-10; or on scenes with the default model and more test images."""
    tree, scale = files.read_yaml(configs.PARAMS), load_scale("laptop")
    changes = {k: v for k, v in scale.changes.items() if k.startswith("evaluate.")}
    if data == "cifar10":
        changes = dict(scale.changes)
    else:
        changes |= {"data.name": data, "data.test_images": TEST_IMAGES}
    presets.apply(tree, changes, "benchmarks/variance.py")
    return configs.parse(tree, "benchmarks/variance.py")


def measure(data: str, inits: int, draws: int) -> Iterator[Cell]:
    """Every cell of a data set; each encoder's features are extracted once."""
    config = configuration(data)
    store = read.open_store(cache.prepared(config.data))
    encoders: dict[str, Backbone] = {
        str(i): random_init.load(str(i), "", config) for i in range(inits)
    }
    encoders["pixels"] = pixels.of(config.data.image_size)
    for name, backbone in encoders.items():
        train, test = (
            extracted(config, backbone, store, split) for split in ("train", store.report_split)
        )
        for protocol in PROTOCOLS:
            for draw in range(draws):
                start = time.process_time()
                results = selected(config, train, test, protocol, draw)
                seconds = round(time.process_time() - start, 2)
                for task, result in results.items():
                    right = 100 * (result.test == test.labels[task]).mean(1)
                    yield Cell(
                        data, protocol, task, name, draw, round(float(right[result.winner]), 4),
                        round(float(right.max()), 4), len(result.held_out_labels), seconds,
                    )  # fmt: skip


def extracted(config: Config, backbone: Backbone, store: read.Store, split: str) -> Features:
    images = Part(
        store, split, np.arange(len(store.splits[split])), config.evaluate.view,
        backbone.image_size,
    )  # fmt: skip
    choices = features.pooled(backbone, config.evaluate.last_layers, images)
    return Features(choices, store.splits[split].labels)


def selected(
    config: Config, train: Features, test: Features, protocol: str, draw: int
) -> dict[str, Result]:
    """The linear probe on one draw of the labels, by one of ``PROTOCOLS``."""
    settings, options = config.evaluate, config.evaluate.options["linear"]
    device = environment.hardware().device
    if protocol == "after":
        used, folds = labelling.split(
            draw, settings.train_fraction, settings.held_out, settings.folds, len(train)
        )
        return linear.fit_score(train.take(used), folds, test, options, draw, device)
    used, (fold,) = labelling.split(
        draw, BEFORE["train_fraction"], BEFORE["held_out"], 1, len(train)
    )
    labelled = train.take(used)
    fitting = labelled.take(np.setdiff1d(np.arange(len(used)), fold))
    selecting = labelled.take(fold)
    others = Features(
        {n: np.concatenate([selecting.choices[n], a]) for n, a in test.choices.items()},
        {t: np.concatenate([selecting.labels[t], y]) for t, y in test.labels.items()},
    )
    candidates, predictions = linear.predict(fitting, others, options, draw, device)
    return {
        task: choose(
            candidates, classes[:, : len(fold)], selecting.labels[task], classes[:, len(fold) :]
        )
        for task, classes in predictions.items()
    }


def table(cells: list[Cell]) -> Iterator[str]:
    """The variance table and what was measured, as Markdown."""
    settings = configuration("scenes").evaluate
    after = {name: getattr(settings, name) for name in BEFORE}
    yield from (
        "# What moves an accuracy of the linear probe",
        "",
        "Written by `python benchmarks/variance.py`; `variance.csv` has a row for each selection.",
        "Standard deviations in points; *lost*: below the best candidate on the same test images.",
        "",
        *(
            f"- {name}: `train_fraction` {s['train_fraction']}, `held_out` {s['held_out']},"
            f" `folds` {s['folds']}, {refit} refit"
            for name, s, refit in (("before", BEFORE, "no"), ("after", after, "and a"))
        ),
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- " * len(COLUMNS) + "|",
    )
    for data, task in dict.fromkeys((cell.data, cell.task) for cell in cells):
        for protocol in PROTOCOLS:
            here = [c for c in cells if (c.data, c.task, c.protocol) == (data, task, protocol)]
            yield row(f"{data}, {task}", protocol, here)


def row(label: str, protocol: str, cells: list[Cell]) -> str:
    encoders = [c for c in cells if c.init != "pixels"]
    raw = [c for c in cells if c.init == "pixels"]
    size = len({c.init for c in encoders}), len({c.draw for c in encoders})
    values = np.array([c.accuracy for c in encoders]).reshape(size)
    parts = two_way(values)
    lost = [c.best - c.accuracy for c in encoders]
    numbers = [
        str(encoders[0].select), f"{parts.init:.1f}", f"{parts.draw:.1f}",
        f"**{parts.interaction:.2f}**", f"**{statistics.mean(lost):.2f}**", f"{max(lost):.2f}",
        f"**{statistics.stdev(c.accuracy for c in raw):.2f}**", f"{values.mean():.1f}",
        *(f"{statistics.mean(c.seconds for c in some):.1f}" for some in (encoders, raw)),
    ]  # fmt: skip
    return f"| {label} | {protocol} | " + " | ".join(numbers) + " |"


if __name__ == "__main__":
    main()
