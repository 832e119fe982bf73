"""Probes: one file each, with ``Options``, ``NEEDS`` and ``fit_score``.

``Options`` is a frozen dataclass of the probe's keys in ``params.yaml`` (``evaluate.<probe>``).
``NEEDS`` says what a probe reads: ``"pooled"`` features, patch ``"tokens"``, or the ``"network"``
and its images; the last two are not asked of pixels. The protocol is the same for all of them::

    fit_score(train, held_out, test, options, seed, device) -> {task: Result}

``train`` fits and ``held_out`` (training images set aside) selects among the candidates: the
feature choices and the probe's own settings. Every candidate predicts ``test`` once, after the
selection, and the winner's predictions are the result; the others' serve to report the maximum
over candidates, which papers quote, beside it. What is drawn at random is a function of ``seed``;
``device`` is where tensors live, and not part of a run's identity.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ijepa import features
from ijepa.backbones import Backbone
from ijepa.features import Part

Settings = Mapping[str, str | float]


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
    """

    choices: Mapping[str, NDArray[np.floating]]
    labels: Mapping[str, NDArray[np.int64]]
    backbone: Backbone | None = None
    images: Part | None = None

    def take(self, rows: NDArray[np.int64]) -> "Features":
        """Some of the images, in the order of ``rows``."""
        images = self.images and dataclasses.replace(self.images, rows=self.images.rows[rows])
        return Features(
            {name: features[rows] for name, features in self.choices.items()},
            {task: labels[rows] for task, labels in self.labels.items()},
            self.backbone,
            images,
        )

    def tokens(self) -> NDArray[np.float16]:
        """Patch tokens of the last layer, (n, N, D), memory-mapped."""
        assert self.backbone is not None
        assert self.images is not None
        return features.tokens(self.backbone, self.images)


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
        held_out: predicted class of the images that select, (C, m); -1 where a candidate failed.
        held_out_labels: their true classes, (m,).
        test: predicted class of each test image, (C, n).
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
