"""Nearest neighbours: cosine similarity and a softmax-weighted vote (Wu et al. 2018, 1805.01978).

A neighbour of similarity s votes for its class with weight exp(s / temperature). Nothing is
fitted, so the probe shows what the features' own geometry knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ijepa.probes import Candidates, Features, Result, cross_validate
from ijepa.strict import integer, once, real

NEEDS = "pooled"

_ROWS = 1024  # queries compared at once: bounds the memory, does not change the result


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.knn``."""

    k: int = integer(1)
    temperature: float = real(0, above=True)


def check(
    options: Options,
    labels: Mapping[str, NDArray[np.int64]],
    folds: Sequence[NDArray[np.int64]],
    seed: int,
    width: int | None,
) -> list[str]:
    """Refuse more neighbours than vote on the largest fold: see ``ijepa.probes``."""
    del seed, width
    voters = len(next(iter(labels.values()))) - max(map(len, folds))
    _refuse(options.k, voters)
    return []


def _refuse(k: int, voters: int) -> None:
    if k > voters:
        raise ValueError(f"evaluate.knn.k: {k} is more than the {voters} images that vote")


def fit_score(
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
    options: Options,
    seed: int,
    device: str,
) -> dict[str, Result]:
    """Vote with each choice of features; ``folds`` choose among them.

    Args:
        train: the neighbours; a fold's are all the other rows.
        folds: rows of ``train`` that choose among the features, for each task by itself.
        test: features that are predicted.
        options: number of neighbours and temperature.
        seed: not used, nothing is random.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.

    Raises:
        ValueError: there are fewer images than neighbours.
    """
    del seed
    return cross_validate(
        lambda bank, queries: predict(bank, queries, options, device), train, folds, test
    )


def predict(bank: Features, queries: Features, options: Options, device: str) -> Candidates:
    """Let ``bank`` vote on ``queries``, with each choice of features."""
    _refuse(options.k, len(bank))
    votes = [_vote(bank, queries, choice, options, device) for choice in bank.choices]
    return (
        tuple({"features": choice} for choice in bank.choices),
        {task: np.stack([vote[task] for vote in votes]) for task in bank.labels},
    )


def _vote(
    train: Features, queries: Features, choice: str, options: Options, device: str
) -> dict[str, NDArray[np.int64]]:
    """Predicted classes (n,) of the queries for each task; the neighbours are found once."""
    bank = _unit(train.choices[choice], device)
    labels = {task: torch.from_numpy(y).to(device) for task, y in train.labels.items()}
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
    return {task: torch.cat(batches).numpy() for task, batches in parts.items()}


def _unit(array: NDArray[np.floating], device: str) -> Tensor:
    """Rows of length 1; a row of zeros (a black image) stays zero, similar to nothing."""
    rows = torch.from_numpy(array.astype(np.float32)).to(device)
    return torch.nn.functional.normalize(rows, dim=1)
