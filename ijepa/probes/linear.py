"""Linear probe: multinomial logistic regression on standardised features (Appendix A.2).

The paper takes the best of {last layer, last four layers} x {BatchNorm, none} x learning rates x
weight decays. Here the whole grid is trained at once: every candidate is a head, the heads'
weights are the rows of one matrix, so a step costs two matrix products however many heads and
tasks there are. The gradient of the cross-entropy is written out. SGD with momentum 0.9; the
learning rate falls to 0 on a cosine.

``norm: batch`` standardises each feature by its mean and standard deviation over the training
images: BatchNorm with the statistics of all of them, whose affine part the linear layer contains.
``none`` divides all features by one number, so that weight decay acts on the features' own scale.

The features are rotated to their principal axes, where each axis takes steps of its own size:
1 / (variance + weight decay). The model and its loss stay the same, the way to the minimum is
shorter. Plain SGD stops far from it on ill-conditioned features: on CIFAR-10 it left a randomly
initialised encoder 4 points short, which would flatter the trained one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ijepa import seeds
from ijepa.probes import (
    Candidates,
    Features,
    Result,
    Settings,
    cosine_decay,
    cross_validate,
)
from ijepa.strict import integer, once, reals

NEEDS = "pooled"

_MOMENTUM = 0.9
_FLOOR = 1e-3  # of an axis' variance (1 on average): axes below it are noise, and learn slowly
_STEPS = 32  # an epoch has at least so many steps: a small data set takes smaller batches
_ROWS = 8192  # images scored at once: bounds the memory, does not change the result


def _norms(values: tuple[str, ...]) -> bool:
    return bool(values) and set(values) <= {"batch", "none"}


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.linear``."""

    norm: tuple[str, ...] = field(
        metadata={"allowed": "batch, none, or a list of both", "check": _norms}
    )
    lr: tuple[float, ...] = reals(0, above=True)
    weight_decay: tuple[float, ...] = reals(0)
    epochs: int = integer(1)
    batch_size: int = integer(1)


def fit_score(
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
    options: Options,
    seed: int,
    device: str,
) -> dict[str, Result]:
    """Select among (features, norm, lr, weight decay) on ``folds``, refit all, predict ``test``.

    Ties go to the earlier feature choice and norm, then to the lower learning rate and weight
    decay.

    Args:
        train: features that the heads are fitted to.
        folds: rows of ``train`` that choose, for each task by itself.
        test: features that are predicted.
        options: the grid and the length of the training.
        seed: orders the images of each epoch.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.
    """
    return cross_validate(
        lambda fitting, others: predict(fitting, others, options, seed, device),
        train, folds, test,
    )  # fmt: skip


def predict(
    train: Features, others: Features, options: Options, seed: int, device: str
) -> Candidates:
    """Train all heads on all tasks, and predict ``others``.

    Classes are those that occur in ``train``'s labels; ``train`` standardises the features.
    """
    grid = [
        {"lr": lr, "weight_decay": decay}
        for lr, decay in product(sorted(options.lr), sorted(options.weight_decay))
    ]
    labels = {task: torch.from_numpy(y).to(device) for task, y in train.labels.items()}
    candidates: list[Settings] = []
    predictions: dict[str, list[NDArray[np.int64]]] = {task: [] for task in labels}
    for (choice, array), norm in product(train.choices.items(), options.norm):
        inputs = _tensor(array, device)
        scale, mean = torch.std_mean(inputs, dim=0, correction=0)
        if norm == "none":
            scale = scale.square().mean().sqrt().expand_as(scale).clone()
        scale[scale < 1e-6] = 1.0  # a feature that never changes (a black pixel) says nothing
        inputs.sub_(mean).div_(scale)
        heads = _train(inputs, labels, grid, options, seed)
        del inputs
        candidates += [{"features": choice, "norm": norm, **point} for point in grid]
        for task, (weight, bias) in heads.items():
            classes = _classes(others.choices[choice], mean, scale, weight, bias)
            predictions[task].append(classes)
    return tuple(candidates), {task: np.concatenate(rows) for task, rows in predictions.items()}


def _tensor(array: NDArray[np.floating], device: str | torch.device) -> Tensor:
    return torch.from_numpy(array.astype(np.float32)).to(device)


def _train(
    inputs: Tensor,
    labels: Mapping[str, Tensor],
    candidates: list[dict[str, float]],
    options: Options,
    seed: int,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Heads of every task, trained on standardised inputs (n, D).

    Returns:
        task -> weights (heads, K, D) and biases (heads, K).
    """
    count = len(inputs)
    variance, axes = _principal(inputs)
    rotated, width = inputs @ axes, len(variance)
    classes = [int(y.max()) + 1 for y in labels.values()]
    heads, total = len(candidates), sum(classes)
    lr = inputs.new_tensor([c["lr"] for c in candidates])[:, None, None]
    decay = inputs.new_tensor([c["weight_decay"] for c in candidates])[:, None, None]
    # (heads, 1, width): the inverse of the loss's curvature along each axis, up to a constant
    step_size = 1 / (variance.clamp_min(0) + decay.clamp_min(_FLOOR))
    weight = inputs.new_zeros(heads, total, width)
    bias = inputs.new_zeros(heads, total, 1)
    weight_velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    batch_size = min(options.batch_size, math.ceil(count / _STEPS))
    step, steps = 0, options.epochs * math.ceil(count / batch_size)
    for epoch in range(options.epochs):
        order = torch.randperm(count, generator=seeds.torch_generator(seed, "linear", epoch))
        for rows in torch.split(order.to(inputs.device), batch_size):
            batch = rotated[rows]
            logits = (weight.view(-1, width) @ batch.T).view(heads, total, len(rows)) + bias
            error = _error(logits, [y[rows] for y in labels.values()], classes)
            slope = (error.view(-1, len(rows)) @ batch).view_as(weight)
            slope.addcmul_(weight, decay)
            rate = lr * cosine_decay(step, steps)
            weight_velocity.mul_(_MOMENTUM).add_(slope)
            weight.addcmul_(weight_velocity, rate * step_size, value=-1)
            bias_velocity.mul_(_MOMENTUM).add_(error.sum(2, keepdim=True))
            bias.addcmul_(bias_velocity, rate, value=-1)
            step += 1
    weight = (weight.view(-1, width) @ axes.T).view(heads, total, -1)
    parts = zip(
        torch.split(weight, classes, 1), torch.split(bias[..., 0], classes, 1), strict=True
    )
    return dict(zip(labels, parts, strict=True))


def _principal(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (A,) along the principal axes of inputs (n, D), and the axes, (D, A).

    A is the smaller of n and D. Along further axes no image differs, and a weight that starts at 0
    stays there: thousands of pixels of a few images need not cost the cube of thousands.
    """
    count, width = inputs.shape
    if count < width:
        _, scale, directions = torch.linalg.svd(inputs, full_matrices=False)
        return scale.square() / count, directions.T
    variance, axes = torch.linalg.eigh(inputs.T @ inputs / count)
    return variance, axes


def _error(logits: Tensor, labels: list[Tensor], classes: list[int]) -> Tensor:
    """Gradient of the mean cross-entropy with respect to the logits (heads, all classes, B).

    Images are last because torch's softmax of a few classes takes ten times as long over the last
    axis of an array as over another.
    """
    parts = []
    every = torch.arange(logits.shape[2], device=logits.device)
    for part, label in zip(torch.split(logits, classes, 1), labels, strict=True):
        probability = part.softmax(1)
        probability[:, label, every] -= 1
        parts.append(probability)
    return torch.cat(parts, dim=1).div_(logits.shape[2])


def _classes(
    features: NDArray[np.floating], mean: Tensor, scale: Tensor, weight: Tensor, bias: Tensor
) -> NDArray[np.int64]:
    """Class that each head predicts, (heads, n); -1 of a head that diverged."""
    heads, _, width = weight.shape
    parts = []
    for start in range(0, len(features), _ROWS):
        inputs = (_tensor(features[start : start + _ROWS], mean.device) - mean) / scale
        logits = (inputs @ weight.reshape(-1, width).T).view(len(inputs), *bias.shape) + bias
        parts.append(logits.argmax(2))
    finite = weight.isfinite().all(2).all(1) & bias.isfinite().all(1)
    classes = torch.where(finite, torch.cat(parts), -1).T
    predictions: NDArray[np.int64] = classes.cpu().numpy()
    assert predictions.shape == (heads, len(features)), predictions.shape
    return predictions
