"""What pretraining says of itself: its history, its cost in operations, its health at the end."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ijepa.results.accuracy import real


@dataclass(frozen=True, slots=True)
class Training:
    """The numbers of ``out/pretrain.json``; None where it does not say.

    Attributes:
        images: seen in training.
        flops: floating-point operations of the training, forward and backward.
        flops_per_image: the same for one image.
        collapsed: whether the features did, at the end.
        health: the loop's own verdict (``ijepa.training.health.verdict``).
        feature_std: standard deviation of the features over images, at the end.
        rankme: their effective rank, at the end.
    """

    images: int | None
    flops: int | None
    flops_per_image: float | None
    collapsed: bool | None
    health: str
    feature_std: float | None
    rankme: float | None


# a column of history.csv -> its values in order; None where one is not a finite number
History = dict[str, tuple[float | None, ...]]


def summary(pretrain: dict[str, Any]) -> Training:
    """The content of ``out/pretrain.json``, typed."""
    return Training(
        images=pretrain.get("images"),
        flops=pretrain.get("flops"),
        flops_per_image=real(pretrain.get("flops_per_image")),
        collapsed=pretrain.get("collapsed"),
        health=str(pretrain.get("health", "")),
        feature_std=real(pretrain.get("feature_std")),
        rankme=real(pretrain.get("rankme")),
    )


def history(path: Path) -> History | None:
    """The columns of ``history.csv``; None where there is no such file or it has no rows."""
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "images" not in rows[0]:
        return None
    return {name: tuple(_cell(row[name]) for row in rows) for name in rows[0]}


def _cell(text: str | None) -> float | None:
    try:
        return real(float(text or "nan"))
    except ValueError:
        return None
