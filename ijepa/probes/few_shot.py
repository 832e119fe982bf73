"""Few-shot curve: accuracy with k labelled images of each class, over random draws.

The same logistic regression as ``logistic``, with one fixed penalty on the widest features: k
images of each class leave nothing to select with, and selecting on more labels than that would no
longer be few-shot. Features are standardised by all training images, which takes no label: a few
images' own spread is chance (with one image of each of two classes, every feature would count
alike, however little they differ in it: 56 % instead of 80 % on Gaussian classes).

Every point of ``Result.curve`` is one draw; the curve's mean and standard deviation over draws are
the result to quote. The one candidate, and so the headline, is draw 0 of the largest k that the
smallest class has images for; what is left out is said. It is named before anything is seen; the
best of the draws would be the luckiest. In a draw a smaller k's images lie within a larger one's,
and all encoders get the same draws, so that they compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.probes import Draw, Features, Result, _multinomial, choose
from ijepa.probes._draws import shots as first_of_each_class
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


def check(
    options: Options,
    labels: Mapping[str, NDArray[np.int64]],
    folds: Sequence[NDArray[np.int64]],
    seed: int,
    width: int | None,
) -> list[str]:
    """Name the shots that cannot be drawn, and refuse if none is left: see ``ijepa.probes``."""
    del width
    notes, selecting = [], np.concatenate(folds)
    for task, every in labels.items():
        kept, least = drawn(task, every, options), _least(every)
        if left := [str(shots) for shots in sorted(options.shots) if shots not in kept]:
            notes.append(
                f"evaluate.few_shot.shots: {', '.join(left)} left out of task {task}: its smallest"
                f" class has {least} training images; its headline is {kept[-1]}-shot"
            )
        order = seeds.generator(seed, "few-shot", 0).permutation(len(every))
        _validating(task, every, selecting, kept[-1], order)
    return notes


def _least(labels: NDArray[np.int64]) -> int:
    """Images of the smallest class that has one."""
    return int(np.unique(labels, return_counts=True)[1].min())


def drawn(task: str, labels: NDArray[np.int64], options: Options) -> list[int]:
    """Those of the shots that every class can give, ascending.

    Raises:
        ValueError: there are none.
    """
    least = _least(labels)
    kept = sorted(shots for shots in options.shots if shots <= least)
    if not kept:
        raise ValueError(
            f"evaluate.few_shot.shots: {min(options.shots)} is more than the {least} training"
            f" images of the smallest class of task {task}"
        )
    return kept


def _validating(
    task: str,
    labels: NDArray[np.int64],
    selecting: NDArray[np.int64],
    most: int,
    order: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The rows of ``selecting`` that draw 0 of the most shots does not learn from, ascending."""
    learned = first_of_each_class(labels, most, order)
    others: NDArray[np.int64] = np.setdiff1d(selecting, learned)
    if not len(others):
        raise ValueError(
            f"evaluate.few_shot.shots: {most} of each class of task {task} are all images"
            " that evaluate.held_out sets aside, and leave none to validate with"
        )
    return others


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
        ValueError: a class has fewer images than the least shots, or the most that can be drawn
            take all of ``folds``.
    """
    choice = max(train.choices, key=lambda name: train.choices[name].shape[1])
    inputs = train.choices[choice]
    standard, results = _multinomial.standard(inputs, device), {}
    for task, labels in train.labels.items():
        kept, models = drawn(task, labels, options), {}
        most, asked = kept[-1], max(options.shots)
        for draw in range(options.draws):
            order = seeds.generator(seed, "few-shot", draw).permutation(len(labels))
            if draw == 0:
                others = _validating(task, labels, np.concatenate(folds), most, order)
            for shots in kept:
                rows = first_of_each_class(labels, shots, order)
                models[shots, draw] = _multinomial.fit(
                    inputs[rows], labels[rows], [options.l2], standard
                )
        predicted = _multinomial.predict([*models.values()], test.choices[choice])
        tested = dict(zip(models, predicted, strict=True))
        # said only where they differ: no table may set 5 shots beside another's 20
        fewer = {"shots_asked": asked} if asked != most else {}
        results[task] = choose(
            ({"features": choice, "shots": most, "l2": options.l2, **fewer},),
            models[most, 0].predict(inputs[others]),
            labels[others],
            tested[most, 0],
            tuple(Draw(shots, draw, rows[0]) for (shots, draw), rows in tested.items()),
        )
    return results
