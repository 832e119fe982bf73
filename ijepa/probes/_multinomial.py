"""Multinomial logistic regression with an L2 penalty, solved to its minimum.

The mean cross-entropy over the images plus ``l2 / 2`` times the squared weights; the bias is free.
The minimum is unique, so nothing is random and no learning rate has to be chosen: what few labels
want, where a head's training would be noise of its own.

L-BFGS in float64. It works in the principal axes of the images (the weights lie in their span, and
few images span little), each scaled by the root of its curvature: the same function with a short
way to its minimum. scipy holds the optimiser's memory, the products run on ``device``.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

_GRADIENT = 1e-7  # largest entry of the gradient, in the scaled axes, where the search ends
_FLOOR = 1e-6  # of that mean: of one class, it is 0
_ITERATIONS = 5000  # never reached with l2 > 0 in practice: a few dozen are
_SMALL = 10**8  # products of a step; 200 images, 200 axes and 10 classes have 4 * 10**5
_ROWS = 8192  # images predicted at once: bounds the memory, does not change the result


@dataclass(frozen=True, slots=True)
class Models:
    """Classifiers of one training set, one for each of L penalties.

    Attributes:
        mean: what is subtracted from the features, (D,).
        scale: what they are then divided by, (D,).
        weight: of each, (L, D, K), for standardised features.
        bias: of each, (L, K).
        classes: the K classes that were labelled, (K,).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    classes: NDArray[np.int64]

    def predict(self, inputs: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class that each classifier gives each image: (n, D) -> (L, n)."""
        return predict([self], inputs)[0]


def predict(every: Sequence[Models], inputs: NDArray[np.floating]) -> list[NDArray[np.int64]]:
    """What ``Models.predict`` says of several that one call of ``standard`` has standardised.

    Thousands of pixels as float64, standardised: that takes longer than all their classifiers.
    """
    mean, scale = every[0].mean, every[0].scale
    assert all(models.mean is mean and models.scale is scale for models in every)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in every]
    for start in range(0, len(inputs), _ROWS):
        rows = (_tensor(inputs[start : start + _ROWS], mean.device) - mean).div_(scale)
        for models, part in zip(every, parts, strict=True):
            logits = rows @ models.weight + models.bias[:, None]
            part.append(logits.argmax(2).cpu().numpy())
    return [
        models.classes[np.concatenate(part, axis=1)]
        for models, part in zip(every, parts, strict=True)
    ]


def standard(
    inputs: NDArray[np.floating], device: str, rows: NDArray[np.int64] | None = None
) -> tuple[Tensor, Tensor]:
    """What standardises features: their mean and standard deviation, (D,) each.

    Args:
        inputs: of images, (m, D), or of their tokens, (m, N, D).
        device: where the result lives.
        rows: the images that count, (n,); all, without.
    """
    rows, width = np.arange(len(inputs)) if rows is None else rows, inputs.shape[-1]
    # a shift: a feature that never changes gets exactly 0
    first = _tensor(inputs[rows[0]], device).view(-1, width)[0]
    total, squares = torch.zeros_like(first), torch.zeros_like(first)
    tokens = math.prod(inputs.shape[1:-1])
    step = max(1, _ROWS // tokens)
    for some in np.split(rows, range(step, len(rows), step)):
        part = _tensor(inputs[some], device).view(-1, width).sub_(first)
        total += part.sum(0)
        squares += part.square_().sum(0)
    mean = total / (len(rows) * tokens)
    scale = (squares / (len(rows) * tokens) - mean.square()).clamp_min(0).sqrt()
    scale[scale < 1e-6] = 1.0  # it says nothing (a black pixel), and must not be divided by 0
    return first + mean, scale


def fit(
    inputs: NDArray[np.floating],
    labels: NDArray[np.int64],
    l2: Sequence[float],
    standard: tuple[Tensor, Tensor],
) -> Models:
    """Fit a classifier for each penalty, where ``standard``'s tensors live.

    Args:
        inputs: features of the labelled images, (n, D).
        labels: their classes, (n,).
        l2: penalties, all > 0: without one, separable images have no minimum.
        standard: mean and scale, (D,) each.
    """
    mean, scale = standard
    rows = (_tensor(inputs, mean.device) - mean) / scale
    classes, numbers = np.unique(labels, return_inverse=True)
    left, stretch, axes = torch.linalg.svd(rows, full_matrices=False)
    rotated = torch.cat([left * stretch, rows.new_ones(len(rows), 1)], dim=1)  # 1: the bias
    truth = torch.from_numpy(numbers).to(mean.device)
    weight = rows.new_zeros(len(l2), rows.shape[1], len(classes))
    bias = rows.new_zeros(len(l2), len(classes))
    solution = rows.new_zeros(rotated.shape[1], len(classes))
    with _threads(rotated.numel() * len(classes)):
        # from the strongest penalty on, each starts where the one before ended
        for number in sorted(range(len(l2)), key=lambda i: -l2[i]):
            solution = _minimum(rotated, truth, l2[number], solution)
            weight[number], bias[number] = axes.T @ solution[:-1], solution[-1]
    return Models(mean, scale, weight, bias, classes)


@contextlib.contextmanager
def _threads(products: int) -> Iterator[None]:
    """One thread where a step has few products: handing them out costs ten times as much."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if products < _SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _tensor(array: NDArray[np.floating], device: str | torch.device) -> Tensor:
    return torch.from_numpy(array.astype(np.float64)).to(device)


def _minimum(rows: Tensor, truth: Tensor, l2: float, start: Tensor) -> Tensor:
    """Weights (D, K) in orthogonal axes; the last row is the bias, which has no penalty."""
    every, shape = torch.arange(len(rows), device=rows.device), start.shape
    penalty = torch.full_like(rows[0], l2)[:, None]
    penalty[-1] = 0
    # the Hessian at the start, its weights p (1 - p) replaced by their mean, is diagonal
    share = (rows @ start).softmax(1)
    spread = (share * (1 - share)).mean().clamp_min(_FLOOR)
    curvature = (spread * rows.square().mean(0)[:, None] + penalty).sqrt()
    rows, penalty = rows / curvature.T, penalty / curvature.square()

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = torch.from_numpy(flat).to(rows.device).view(shape)
        logs = (rows @ weight).log_softmax(1)
        loss = -logs[every, truth].mean() + (penalty * weight.square()).sum() / 2
        error = logs.exp()
        error[every, truth] -= 1
        slope = (rows.T @ error).div_(len(rows)).addcmul_(penalty, weight)
        return float(loss), slope.flatten().cpu().numpy()

    scaled = (start * curvature).flatten().cpu().numpy()
    options = {"maxiter": _ITERATIONS, "maxfun": _ITERATIONS, "ftol": 1e-13, "gtol": _GRADIENT}
    result = minimize(objective, scaled, jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(result.x).to(rows.device).view(shape) / curvature
