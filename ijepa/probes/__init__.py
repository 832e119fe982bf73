"""Probes: one file each, with ``Options``, ``NEEDS`` and ``fit_score``.

``Options`` is a frozen dataclass of the probe's keys in ``params.yaml`` (``evaluate.<probe>``).
``NEEDS`` says what a probe reads: ``"pooled"`` features, patch ``"tokens"``, or the ``"network"``
and its images; the last two are not asked of pixels. The protocol is the same for all of them::

    fit_score(train, folds, test, options, seed, device) -> {task: Result}

``train`` has every label that may be used. The candidates are the feature choices and the probe's
own settings, and ``folds``, disjoint rows of ``train``, select among them: see ``cross_validate``.
A probe of few labels selects within those instead. ``test`` chooses nothing: the winner's
predictions of it are the result; the others' serve to report the maximum over candidates, which
papers quote, beside it. What is drawn at random is a function of ``seed``; ``device`` is where
tensors live, and not part of a run's identity.

What can be known from the labels is said before anything is trained. A probe that may refuse them
has::

    check(options, labels, folds, seed, width) -> [what will be left out, a line each]

``labels`` are those of ``train``, ``width`` is a token's, None where no encoder is known. It
raises the ValueError that ``fit_score`` would, and imports no torch (``variants.declared``).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import features
from ijepa.backbones import Backbone
from ijepa.features import Part

Settings = Mapping[str, str | float]
Candidates = tuple[tuple[Settings, ...], Mapping[str, NDArray[np.int64]]]
# C settings, and for each task the class that each of them predicts of each image, (C, n)


def cosine_decay(step: float, steps: float) -> float:
    """What a learning rate is multiplied by: from 1 to 0 along half a cosine."""
    # schedule.cosine rounds otherwise: it would change the last bit of every fourth rate
    return 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass(frozen=True, slots=True)
class Features:
    """What a probe may know of n images.

    Attributes:
        choices: name -> (n, D) pooled features, of which a probe uses the best.
        labels: task -> (n,) class indices.
        backbone: the encoder, for probes that need tokens or the network.
        images: the images, for the same.
        extracted: the images whose tokens are extracted together, ``images`` among them, with
            ascending rows; the same as ``images`` when None.
    """

    choices: Mapping[str, NDArray[np.floating]]
    labels: Mapping[str, NDArray[np.int64]]
    backbone: Backbone | None = None
    images: Part | None = None
    extracted: Part | None = None

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    def take(self, rows: NDArray[np.int64]) -> "Features":
        """Some of the images, in the order of ``rows``."""
        images = self.images and dataclasses.replace(self.images, rows=self.images.rows[rows])
        return Features(
            {name: features[rows] for name, features in self.choices.items()},
            {task: labels[rows] for task, labels in self.labels.items()},
            self.backbone,
            images,
            self.extracted or self.images,
        )

    def tokens(self) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
        """Patch tokens of the last layer, (m, N, D), memory-mapped, and which are these images'.

        The m >= n images are ``extracted``; token row i of the second array, (n,), is of image i.
        """
        assert self.backbone is not None
        assert self.images is not None
        extracted = self.extracted or self.images
        places = np.searchsorted(extracted.rows, self.images.rows)
        return features.tokens(self.backbone, extracted), places


@dataclass(frozen=True, slots=True)
class Draw:
    """One point of a few-label curve: a classifier fitted to a random draw of labelled images.

    Attributes:
        labels: labelled images of each class.
        draw: number of the draw.
        predictions: predicted class of each test image, (n,).
    """

    labels: int
    draw: int
    predictions: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a probe on one task, as predictions: every number follows from them.

    Attributes:
        candidates: the settings of each of C candidates, ``features`` among them.
        winner: the candidate that ``held_out`` chose; ties go to the earlier.
        held_out: predicted class of the images that select, (C, m), each by a fit that had not
            seen it; -1 where a candidate failed.
        held_out_labels: their true classes, (m,).
        test: predicted class of each test image, (C, n), by candidates fitted to all labels that
            may be used.
        curve: a few-label curve, where the probe draws one.
    """

    candidates: tuple[Settings, ...]
    winner: int
    held_out: NDArray[np.int64]
    held_out_labels: NDArray[np.int64]
    test: NDArray[np.int64]
    curve: tuple[Draw, ...] = ()

    @property
    def selected(self) -> Settings:
        """The winner's settings."""
        return self.candidates[self.winner]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """The winner's predictions of the test images, (n,)."""
        predictions: NDArray[np.int64] = self.test[self.winner]
        return predictions

    def accuracy(self, truth: NDArray[np.int64]) -> float:
        """Share in [0, 1] of the test images that are right, as tables have it.

        Of a few-label curve it is the mean over the draws of the most labels.
        """
        most = max((draw.labels for draw in self.curve), default=0)
        drawn = [draw.predictions for draw in self.curve if draw.labels == most]
        return float((np.stack(drawn or [self.predictions]) == truth).mean())

    @property
    def selection(self) -> NDArray[np.float64]:
        """Held-out accuracy of each candidate in [0, 1], (C,)."""
        shares: NDArray[np.float64] = (self.held_out == self.held_out_labels).mean(1)
        return shares


def choose(
    candidates: tuple[Settings, ...],
    held_out: NDArray[np.int64],
    held_out_labels: NDArray[np.int64],
    test: NDArray[np.int64],
    curve: tuple[Draw, ...] = (),
) -> Result:
    """A ``Result`` whose winner is the first candidate of the best held-out accuracy."""
    winner = int((held_out == held_out_labels).mean(1).argmax())
    return Result(candidates, winner, held_out, held_out_labels, test, curve)


def cross_validate(
    predict: Callable[[Features, Features], Candidates],
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
) -> dict[str, Result]:
    """Select by every fold in turn, then refit all candidates on all of ``train``.

    For each fold the candidates are fitted on all other rows, those of other folds among them, and
    predict it; the predictions of all folds together choose, for each task by itself. One fold is
    one held-out part. All candidates are refitted, so that each has a test accuracy.

    Args:
        predict: fits all candidates on its first argument and predicts its second.
        train: every label that may be used.
        folds: rows of ``train``, disjoint; at least one.
        test: is predicted by the refitted candidates.

    Returns:
        task -> result.
    """
    rows = np.arange(len(train))
    validated = [
        predict(train.take(np.setdiff1d(rows, fold)), train.take(fold))[1] for fold in folds
    ]
    candidates, tested = predict(train, test)
    selecting = np.concatenate(folds)
    return {
        task: choose(
            candidates,
            np.concatenate([predictions[task] for predictions in validated], axis=1),
            train.labels[task][selecting],
            tested[task],
        )
        for task in tested
    }
