"""Accuracies of the probes, from the evaluation's files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDERED = ("count", "distance")  # tasks whose classes have an order
CLASSES = 30  # of a confusion matrix, at most; the cells of more could not be read


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What one probe reaches on one task from one encoder's features; percents of the images."""

    task: str  # as evaluation.json calls it: ``count``, or of another data set ``clevr/count``
    data: str  # the other data set, "" for the run's own
    split: str | None  # that was predicted
    images: int | None  # of that split
    probe: str  # its name, a file of ``ijepa/probes``
    share: float  # of the training labels that the probe fits on
    shots: int | None  # labelled images of each class, of a few-shot probe
    encoder: str  # trained, random_init or pixels
    chance: float | None  # the share of the most frequent class
    accuracy: float | None  # of the settings that the held-out images chose
    low: float | None  # of its 95 % interval over images
    high: float | None
    held_out: float | None  # of fits that had not seen the training images that chose
    max: float | None  # the best of all settings, chosen on the reported images: optimistic
    selected: dict[str, Any] | None  # the chosen settings
    difference: float | None  # trained minus this encoder, paired image by image
    difference_low: float | None  # of its 95 % interval
    difference_high: float | None
    verdict: str | None  # of the trained against this: better, worse, undecided; None: unknown


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy with so many labelled images of each class: mean, sd and each of the draws."""

    labels: int
    accuracy: float | None
    std: float | None
    draws: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy of a probe and an encoder against the number of labelled images of each class."""

    task: str
    probe: str
    encoder: str
    chance: float | None
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Distance:
    """How far predictions of ordered classes are off, in classes."""

    mean: float  # absolute error
    constant: float  # that of the best constant answer
    near: float  # the share of images at most one class off


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images by true (row) and predicted class (column); ``distance`` where these are ordered."""

    task: str
    probe: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    distance: Distance | None


def table(
    evaluation: Mapping[str, Any], tasks: Sequence[str], options: Mapping[str, Any]
) -> tuple[Accuracy, ...]:
    """A row for every task, probe and encoder; linear probes first.

    Args:
        evaluation: the content of ``evaluation.json``.
        tasks: in their order.
        options: the section ``evaluate`` of the parameters, each probe's options by its name.
    """
    rows = []
    for task in tasks:
        cells = evaluation["tasks"][task]
        probes = [p for p in cells if isinstance(cells[p], dict) and p not in ("differences", "n")]
        for probe in sorted(probes, key=lambda p: (p != "linear", p)):
            for encoder in evaluation.get("encoders") or cells[probe]:
                if encoder in cells[probe]:  # pixels have no network to train, for one
                    rows.append(_row(task, cells, probe, encoder, options))
    return tuple(rows)


def _row(
    task: str, cells: Mapping[str, Any], probe: str, encoder: str, options: Mapping[str, Any]
) -> Accuracy:
    cell = cells[probe].get(encoder) or {}
    against = cells.get("differences", {}).get(probe, {}).get(encoder) or {}
    own = options.get(probe) or {}
    asked = max(own.get("shots") or [0]) if probe == "few_shot" else 0
    shots = (cell.get("selected") or {}).get("shots", asked) if asked else None
    low, high = real(against.get("low")), real(against.get("high"))
    return Accuracy(
        task=task, probe=probe, encoder=encoder,
        data=cells.get("data", ""), split=cells.get("split"),
        images=(cells.get("n") or {}).get("test"), chance=real(cells.get("chance")),
        share=options.get("train_fraction", 1.0) * own.get("fraction", 1.0),
        shots=shots,
        **{name: real(cell.get(name)) for name in ("accuracy", "low", "high")},
        held_out=_held_out(cell),
        max=real(cell.get("max_over_candidates")), selected=cell.get("selected"),
        difference=real(against.get("difference")), difference_low=low, difference_high=high,
        verdict=verdict(low, high),
    )  # fmt: skip


def _held_out(cell: Mapping[str, Any]) -> float | None:
    """The chosen settings' accuracy on the images that choose; None where these told nothing.

    Where a class has one labelled image, no fit that has not seen it can name it: then all
    settings are right on none, and the 0 is no result.
    """
    tried = [row.get("held_out") for row in cell.get("grid") or ()]
    return None if tried and not any(tried) else real(cell.get("held_out"))


def verdict(low: float | None, high: float | None) -> str | None:
    """Whether a difference is decided by its interval: better, worse, undecided; None: unknown."""
    if low is None or high is None:
        return None
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def real(value: Any) -> float | None:
    """A finite number, or None for anything that is not one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def curves(evaluation: Mapping[str, Any], rows: Sequence[Accuracy]) -> tuple[Curve, ...]:
    """The few-label curve of every row that has one."""
    lines = []
    for row in rows:
        cell = evaluation["tasks"][row.task][row.probe].get(row.encoder) or {}
        points = tuple(
            Point(p["labels"], real(p["accuracy"]), real(p["std"]), tuple(p["draws"]))
            for p in cell.get("curve") or ()
        )
        if points:
            lines.append(Curve(row.task, row.probe, row.encoder, row.chance, points))
    return tuple(lines)


def confusions(
    evaluation: Mapping[str, Any], tasks: Sequence[str], probe: str, path: Path
) -> tuple[Confusion, ...]:
    """The trained encoder's confusion: of the first task, and of those whose classes are ordered.

    Args:
        evaluation: the content of ``evaluation.json``.
        tasks: in their order.
        probe: whose predictions.
        path: of ``predictions.npz``.
    """
    matrices = []
    with np.load(path) as arrays:
        for place, task in enumerate(tasks):
            ordered = question(task) in ORDERED
            classes = evaluation["tasks"][task].get("classes", [])
            name = f"{task}/{probe}/trained/test"
            if (place and not ordered) or name not in arrays or not 1 < len(classes) <= CLASSES:
                continue
            winner = evaluation["tasks"][task][probe]["trained"]["winner"]
            counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
            np.add.at(counts, (arrays[f"{task}/labels"], arrays[name][winner]), 1)
            rows = tuple(tuple(row) for row in counts.tolist())
            far = distance(counts) if ordered else None
            matrices.append(Confusion(task, probe, tuple(classes), rows, far))
    return tuple(matrices)


def question(task: str) -> str:
    """What is asked, without the data set that it is asked of."""
    return task.rpartition("/")[2]


def distance(counts: NDArray[np.int64]) -> Distance:
    """How far predictions are off, from images by true (row) and predicted class (column)."""
    apart = np.abs(np.subtract.outer(np.arange(len(counts)), np.arange(len(counts))))
    total = max(int(counts.sum()), 1)
    return Distance(
        mean=float((counts * apart).sum() / total),
        constant=float((counts.sum(1) @ apart).min() / total),
        near=float(counts[apart <= 1].sum() / total),
    )
