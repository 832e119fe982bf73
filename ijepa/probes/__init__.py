"""Probes: one file each, with ``Options`` and ``fit_score``; they read features, never images.

``Options`` is a frozen dataclass of the probe's keys in ``params.yaml`` (``evaluate.<probe>``).
The protocol is the same for all of them::

    fit_score(train, held_out, test, options, seed, device) -> {task: Result}

``train`` fits, ``held_out`` (training images set aside) selects among the feature choices and the
probe's own settings, and ``test`` is predicted once, by the winner alone. What is drawn at random
is a function of ``seed``; ``device`` is where tensors live, and not part of a run's identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Features:
    """What a probe knows of n images.

    Attributes:
        choices: name -> (n, D) floating-point features, of which a probe uses the best.
        labels: task -> (n,) class indices.
    """

    choices: Mapping[str, NDArray[np.floating]]
    labels: Mapping[str, NDArray[np.int64]]

    def take(self, rows: NDArray[np.int64]) -> "Features":
        """The features of some of the images, in the order of ``rows``."""
        return Features(
            {name: features[rows] for name, features in self.choices.items()},
            {task: labels[rows] for task, labels in self.labels.items()},
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a probe on one task.

    Attributes:
        predictions: predicted class of each test image, (n,).
        held_out: accuracy in [0, 1] of the winner on the held-out images.
        selected: the winner's settings, ``features`` among them.
        grid: every candidate: its settings and its ``held_out`` accuracy.
    """

    predictions: NDArray[np.int64]
    held_out: float
    selected: Mapping[str, str | float]
    grid: tuple[Mapping[str, str | float], ...]
