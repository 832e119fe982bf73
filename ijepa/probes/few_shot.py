"""Few-shot curve: accuracy with k labelled images of each class, over random draws.

The same logistic regression as ``logistic``, with one fixed penalty on the widest features: k
images of each class leave nothing to select with, and selecting on more labels than that would no
longer be few-shot. Features are standardised by all training images, which takes no label: a few
images' own spread is chance (with one image of each of two classes, every feature would count
alike, however little they differ in it: 56 % instead of 80 % on Gaussian classes).

Every point of ``Result.curve`` is one draw; the curve's mean and standard deviation over draws are
the result to quote. The one candidate, and so the headline, is draw 0 of the largest k. It is
named before anything is seen; the best of the draws would be the luckiest. In a draw a smaller
k's images lie within a larger one's, and all encoders get the same draws, so that they compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.probes import Draw, Features, Result, _draws, _multinomial, choose
from ijepa.strict import integer, once, real

NEEDS = "pooled"


def _shots(values: tuple[int, ...]) -> bool:
    return bool(values) and min(values) >= 1 and len(set(values)) == len(values)


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.few_shot``."""

    shots: tuple[int, ...] = field(
        metadata={"allowed": "different whole numbers >= 1, at least one", "check": _shots}
    )
    draws: int = integer(1)
    l2: float = real(0, above=True)


def fit_score(
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
    options: Options,
    seed: int,
    device: str,
) -> dict[str, Result]:
    """Fit every draw of every number of shots.

    Args:
        train: the labels are drawn from these, and their features standardise.
        folds: rows of ``train``. Nothing is selected; the headline's classifier predicts those
            of them that it did not learn from.
        test: features that are predicted.
        options: shots, draws and the penalty.
        seed: draws the labelled images.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.

    Raises:
        ValueError: a class has fewer images than the most shots, or these take all of ``folds``.
    """
    choice = max(train.choices, key=lambda name: train.choices[name].shape[1])
    inputs, most = train.choices[choice], max(options.shots)
    standard, results = _multinomial.standard(inputs, device), {}
    for task, labels in train.labels.items():
        counts = np.unique(labels, return_counts=True)[1]
        if counts.min() < most:
            raise ValueError(
                f"evaluate.few_shot.shots: {most} is more than the {counts.min()} training images"
                f" of the smallest class of task {task}"
            )
        models, others = {}, np.concatenate(folds)
        for draw in range(options.draws):
            order = seeds.generator(seed, "few-shot", draw).permutation(len(labels))
            for shots in sorted(options.shots):
                rows = _draws.shots(labels, shots, order)
                models[shots, draw] = _multinomial.fit(
                    inputs[rows], labels[rows], [options.l2], standard
                )
                if (shots, draw) == (most, 0):
                    others = np.setdiff1d(others, rows)
        predicted = _multinomial.predict([*models.values()], test.choices[choice])
        tested = dict(zip(models, predicted, strict=True))
        if not len(others):
            raise ValueError(
                f"evaluate.few_shot.shots: {most} of each class of task {task} are all images"
                " that evaluate.held_out sets aside, and leave none to validate with"
            )
        results[task] = choose(
            ({"features": choice, "shots": most, "l2": options.l2},),
            models[most, 0].predict(inputs[others]),
            labels[others],
            tested[most, 0],
            tuple(Draw(shots, draw, rows[0]) for (shots, draw), rows in tested.items()),
        )
    return results
