"""1 %-label linear evaluation: logistic regression on a small share of the labelled images.

The paper's ablations (Tables 6 to 12) are a linear probe on 1 % of ImageNet's labels and leave its
settings open; those of StoP, whose script is the likely one, are L2-regularised multinomial
logistic regression on average-pooled, standardised features. That script standardises the test
images by their own statistics; here the labelled images' are used for all.

``fraction`` of the images that may be used are labelled: the same share of each class and at least
one image of each, as the paper's list has 12 or 13 of nearly every class. A smaller fraction's
images lie within a larger one's. No other label is looked at: cross-validation inside the labelled
images chooses features and penalty, and ``Result.held_out`` holds what each image was called by
the classifier that had not seen it. Then each candidate is fitted to all labelled images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.probes import Features, Result, Settings, _draws, _multinomial, choose
from ijepa.probes._draws import fraction
from ijepa.probes._multinomial import Models
from ijepa.strict import integer, once, real, reals

NEEDS = "pooled"


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.logistic``."""

    fraction: float = real(0, 1, above=True)
    l2: tuple[float, ...] = reals(0, above=True)
    folds: int = integer(2)


def check(
    options: Options,
    labels: Mapping[str, NDArray[np.int64]],
    folds: Sequence[NDArray[np.int64]],
    seed: int,
    width: int | None,
) -> list[str]:
    """Refuse fewer than two labelled images: see ``ijepa.probes``."""
    del folds, seed, width
    for task, every in labels.items():  # as many in any order
        _refuse(
            task, options, len(fraction(every, options.fraction, np.arange(len(every)))), every
        )
    return []


def _refuse(task: str, options: Options, count: int, every: NDArray[np.int64]) -> None:
    if count < 2:
        raise ValueError(
            f"evaluate.logistic.fraction: {options.fraction:g} labels {count} of"
            f" {len(every)} images of task {task}; cross-validation needs at least 2"
        )


def fit_score(
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
    options: Options,
    seed: int,
    device: str,
) -> dict[str, Result]:
    """Fit to the labelled images, selected by cross-validation among them.

    Ties go to the earlier feature choice, then to the stronger penalty.

    Args:
        train: the images that labels are drawn from.
        folds: not used: so few labels are cut into folds of their own, ``options.folds``.
        test: features that are predicted.
        options: the share of labels, the penalties and the folds.
        seed: draws the labelled images.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.

    Raises:
        ValueError: a task has fewer than two labelled images.
    """
    del folds
    return {task: _task(task, train, test, options, seed, device) for task in test.labels}


def _task(
    task: str, train: Features, test: Features, options: Options, seed: int, device: str
) -> Result:
    every = train.labels[task]
    order = seeds.generator(seed, "logistic").permutation(len(every))
    rows = fraction(every, options.fraction, order)
    _refuse(task, options, len(rows), every)
    labels, penalties = every[rows], sorted(options.l2, reverse=True)
    folds = _draws.folds(labels, min(options.folds, len(rows)))
    candidates: list[Settings] = []
    validated: list[NDArray[np.int64]] = []
    tested: list[NDArray[np.int64]] = []
    for choice, array in train.choices.items():
        inputs = array[rows]
        predictions = np.empty((len(penalties), len(rows)), np.int64)
        for fold in range(folds.max() + 1):
            out = folds == fold
            model = _fit(inputs[~out], labels[~out], penalties, device)
            predictions[:, out] = model.predict(inputs[out])
        validated.append(predictions)
        tested.append(_fit(inputs, labels, penalties, device).predict(test.choices[choice]))
        candidates += [{"features": choice, "l2": penalty} for penalty in penalties]
    return choose(tuple(candidates), np.concatenate(validated), labels, np.concatenate(tested))


def _fit(
    inputs: NDArray[np.floating], labels: NDArray[np.int64], penalties: list[float], device: str
) -> Models:
    return _multinomial.fit(inputs, labels, penalties, _multinomial.standard(inputs, device))
