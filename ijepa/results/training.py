"""What pretraining says of itself: its history, its cost in operations, its health at the end."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ijepa.results.accuracy import real


@dataclass(frozen=True, slots=True)
class Training:
    """The numbers of ``out/pretrain.json``; None where it does not say."""

    images: int | None  # seen in training
    flops: int | None  # floating-point operations of the training, forward and backward
    flops_per_image: float | None
    flops_useful: int | None  # those that are not for padding
    flops_useful_per_image: float | None
    collapsed: bool | None  # whether the features did, at the end
    health: str  # the loop's own verdict (``ijepa.training.health.verdict``)
    feature_std: float | None  # standard deviation of the features over images, at the end
    rankme: float | None  # their effective rank, at the end


# a column of history.csv -> its values in order; None where there is none (health is read at a few
# rows), or no finite number
History = dict[str, tuple[float | None, ...]]


def summary(pretrain: dict[str, Any]) -> Training:
    """The content of ``out/pretrain.json``, typed."""
    return Training(
        pretrain.get("images"), pretrain.get("flops"), real(pretrain.get("flops_per_image")),
        pretrain.get("flops_useful"), real(pretrain.get("flops_useful_per_image")),
        pretrain.get("collapsed"), str(pretrain.get("health", "")),
        real(pretrain.get("feature_std")), real(pretrain.get("rankme")),
    )  # fmt: skip


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
