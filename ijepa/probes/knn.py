"""Nearest neighbours: cosine similarity and a softmax-weighted vote (Wu et al. 2018, 1805.01978).

A neighbour of similarity s votes for its class with weight exp(s / temperature). Nothing is
fitted, so the probe shows what the features' own geometry knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ijepa.probes import Features, Result
from ijepa.strict import integer, real

_ROWS = 1024  # queries compared at once: bounds the memory, does not change the result


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.knn``."""

    k: int = integer(1)
    temperature: float = real(0, above=True)


def fit_score(
    train: Features, held_out: Features, test: Features, options: Options, seed: int, device: str
) -> dict[str, Result]:
    """Choose the features on ``held_out``, predict ``test`` with them.

    Args:
        train: the neighbours.
        held_out: chooses among the features, for each task by itself; ties go to the earlier.
        test: features that are predicted, once for each task.
        options: number of neighbours and temperature.
        seed: not used, nothing is random.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.

    Raises:
        ValueError: there are fewer training images than neighbours.
    """
    del seed
    count = len(next(iter(train.labels.values())))
    if options.k > count:
        raise ValueError(f"evaluate.knn.k: {options.k} is more than the {count} training images")
    scores: dict[str, dict[str, float]] = {task: {} for task in train.labels}
    for choice in train.choices:
        voted = _vote(train, held_out, choice, set(train.labels), options, device)
        for task, predictions in voted.items():
            scores[task][choice] = float((predictions == held_out.labels[task]).mean())
    best = {task: max(found, key=lambda c: found[c]) for task, found in scores.items()}
    results = {}
    for choice in train.choices:
        tasks = {task for task, chosen in best.items() if chosen == choice}
        for task, predictions in _vote(train, test, choice, tasks, options, device).items():
            results[task] = Result(
                predictions,
                scores[task][choice],
                {"features": choice},
                tuple({"features": c, "held_out": s} for c, s in scores[task].items()),
            )
    return {task: results[task] for task in train.labels}


def _vote(
    train: Features,
    queries: Features,
    choice: str,
    tasks: set[str],
    options: Options,
    device: str,
) -> Mapping[str, NDArray[np.int64]]:
    """Predicted classes (n,) of the queries for each task; the neighbours are found once."""
    if not tasks:
        return {}
    bank = _unit(train.choices[choice], device)
    labels = {task: torch.from_numpy(train.labels[task]).to(device) for task in sorted(tasks)}
    parts: dict[str, list[Tensor]] = {task: [] for task in labels}
    array = queries.choices[choice]
    for start in range(0, len(array), _ROWS):
        similarity, index = (_unit(array[start : start + _ROWS], device) @ bank.T).topk(
            options.k, sorted=False
        )
        # the nearest neighbour's weight is 1: the same vote, and no overflow at low temperatures
        nearest = similarity.amax(1, keepdim=True)
        weight = ((similarity - nearest) / options.temperature).exp()
        for task, y in labels.items():
            votes = weight.new_zeros(len(weight), int(y.max()) + 1)
            parts[task].append(votes.scatter_add_(1, y[index], weight).argmax(1).cpu())
    return {task: torch.cat(found).numpy() for task, found in parts.items()}


def _unit(array: NDArray[np.floating], device: str) -> Tensor:
    """Rows of length 1; a row of zeros (a black image) stays zero, similar to nothing."""
    rows = torch.from_numpy(array.astype(np.float32)).to(device)
    return torch.nn.functional.normalize(rows, dim=1)
