"""Attentive probe: one learned query looks over the patch tokens (V-JEPA, CAPI).

Averaging the patches, as the paper does, hides what only some of them say; attention can look for
it. Each head scores the tokens, a softmax over the patches averages them by it, each head's
average goes through that head's part of the value projection, and a linear layer reads the
result. A query that is learned and has nothing before it makes the key projection redundant: each
head's query and keys are one vector. The projection comes after the average, which is the same
and saves a factor of N.

All candidates, learning rate x weight decay, are trained on the same batches, which are read from
the memory-mapped tokens once: AdamW, the rate falls to 0 on a cosine. So refitting all of them
after the selection costs one pass too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ijepa import seeds
from ijepa.probes import (
    Candidates,
    Features,
    Result,
    Settings,
    _multinomial,
    cosine_decay,
    cross_validate,
)
from ijepa.strict import integer, once, reals

NEEDS = "tokens"

_ROWS = 256  # images predicted at once: bounds the memory, does not change the result

_Tokens = tuple[NDArray[np.float16], NDArray[np.int64]]  # as of Features.tokens


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.attentive``."""

    lr: tuple[float, ...] = reals(0, above=True)
    weight_decay: tuple[float, ...] = reals(0)
    epochs: int = integer(1)
    batch_size: int = integer(1)
    heads: int = integer(1)


class Pool(nn.Module):
    """Attention pooling and a linear layer.

    Args:
        width: of a token.
        heads: divides the width.
        classes: number of logits.
        generator: initialises query and values; the linear layer starts at 0.
    """

    def __init__(self, width: int, heads: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        std = 1 / math.sqrt(width)  # standardised tokens then give scores and values of size 1
        self.query = nn.Parameter(std * torch.randn(width, heads, generator=generator))
        self.value = nn.Parameter(
            std * torch.randn(heads, width, width // heads, generator=generator)
        )
        self.weight = nn.Parameter(torch.zeros(width, classes))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, K) of standardised tokens (B, N, D)."""
        attention = (tokens @ self.query).softmax(1)
        pooled = torch.einsum("bnh,bnd->bhd", attention, tokens)
        values = torch.einsum("bhd,hdv->bhv", pooled, self.value).flatten(1)
        return values @ self.weight + self.bias


def check(
    options: Options,
    labels: Mapping[str, NDArray[np.int64]],
    folds: Sequence[NDArray[np.int64]],
    seed: int,
    width: int | None,
) -> list[str]:
    """Refuse heads that do not divide the width of a token: see ``ijepa.probes``."""
    del labels, folds, seed
    if width is not None and width % options.heads:
        raise ValueError(
            f"evaluate.attentive.heads: {options.heads} does not divide the encoder's width"
            f" {width}"
        )
    return []


def fit_score(
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
    options: Options,
    seed: int,
    device: str,
) -> dict[str, Result]:
    """Select among (lr, weight decay) on ``folds``, refit all candidates, predict ``test``.

    Ties go to the lower learning rate, then to the lower weight decay.

    Args:
        train: tokens that the candidates are fitted to.
        folds: rows of ``train`` that choose, for each task by itself.
        test: tokens that are predicted.
        options: the grid and the length of the training.
        seed: initialises the candidates, all alike, and orders the images of each epoch.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.

    Raises:
        ValueError: the heads do not divide the width of a token.
    """
    return cross_validate(
        lambda fitting, others: _predict(fitting, others, options, seed, device),
        train, folds, test,
    )  # fmt: skip


def _predict(
    train: Features, others: Features, options: Options, seed: int, device: str
) -> Candidates:
    """Train all candidates on all tasks, and predict ``others``."""
    tokens = train.tokens()
    width = tokens[0].shape[2]
    check(options, train.labels, (), seed, width)
    mean, scale = (v.float() for v in _multinomial.standard(tokens[0], device, tokens[1]))
    grid = list(product(sorted(options.lr), sorted(options.weight_decay)))
    labels = {task: torch.from_numpy(y).to(device) for task, y in train.labels.items()}
    pools = {
        task: [
            Pool(
                width,
                options.heads,
                int(y.max()) + 1,
                seeds.torch_generator(seed, "attentive/init"),
            ).to(device)
            for _ in grid
        ]
        for task, y in labels.items()
    }
    _train(pools, grid, tokens, (mean, scale), labels, options, seed)
    candidates: tuple[Settings, ...] = tuple(
        {"features": "last", "lr": lr, "weight_decay": decay} for lr, decay in grid
    )
    return candidates, _classes(pools, others.tokens(), (mean, scale))


def _train(
    pools: Mapping[str, list[Pool]],
    grid: list[tuple[float, float]],
    tokens: _Tokens,
    standard: tuple[Tensor, Tensor],
    labels: Mapping[str, Tensor],
    options: Options,
    seed: int,
) -> None:
    """Fit every pool in place; a sum of losses without common weights trains each by itself."""
    optimizer = torch.optim.AdamW([
        {"params": list(pool.parameters()), "lr": lr, "weight_decay": decay}
        for candidates in pools.values()
        for pool, (lr, decay) in zip(candidates, grid, strict=True)
    ])  # fmt: skip
    array, places = tokens
    batch_size = min(options.batch_size, len(places))
    steps = options.epochs * math.ceil(len(places) / batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: cosine_decay(step, steps)
    )
    for epoch in range(options.epochs):
        generator = seeds.torch_generator(seed, "attentive", epoch)
        order = torch.randperm(len(places), generator=generator)
        for rows in torch.split(order, batch_size):
            batch = _standardised(array[places[rows.numpy()]], standard)
            losses = [
                functional.cross_entropy(pool(batch), labels[task][rows.to(batch.device)])
                for task, candidates in pools.items()
                for pool in candidates
            ]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()


def _standardised(tokens: NDArray[np.float16], standard: tuple[Tensor, Tensor]) -> Tensor:
    mean, scale = standard
    return (torch.from_numpy(tokens.astype(np.float32)).to(mean.device) - mean) / scale


@torch.inference_mode()
def _classes(
    pools: Mapping[str, list[Pool]], tokens: _Tokens, standard: tuple[Tensor, Tensor]
) -> dict[str, NDArray[np.int64]]:
    """task -> the class that each candidate predicts, (C, n); -1 of one that diverged."""
    parts: dict[str, list[Tensor]] = {task: [] for task in pools}
    array, places = tokens
    for start in range(0, len(places), _ROWS):
        batch = _standardised(array[places[start : start + _ROWS]], standard)
        for task, candidates in pools.items():
            logits = torch.stack([pool(batch) for pool in candidates])
            classes = torch.where(logits.isfinite().all(2), logits.argmax(2), -1)
            parts[task].append(classes.cpu())
    return {task: torch.cat(batches, dim=1).numpy() for task, batches in parts.items()}
