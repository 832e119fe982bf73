"""Learning rate, weight decay and EMA momentum as pure functions of the step (Appendix A.1)."""

import math

from ijepa.config import Train


def linear(bounds: tuple[float, float], progress: float) -> float:
    """From the first bound to the second, straight; ``progress`` is in [0, 1]."""
    return bounds[0] + (bounds[1] - bounds[0]) * progress


def cosine(bounds: tuple[float, float], progress: float) -> float:
    """From the first bound to the second along half a cosine."""
    return bounds[1] + (bounds[0] - bounds[1]) * (1 + math.cos(math.pi * progress)) / 2


def learning_rate(train: Train, step: int, steps: int) -> float:
    """Linear warm-up from ``lr_start`` to ``lr``, then cosine to ``lr_final`` (or constant)."""
    warmup = round(steps * train.warmup_epochs / train.epochs)
    if step < warmup:
        return linear((train.lr_start, train.lr), step / warmup)
    if train.lr_schedule == "constant":
        return train.lr
    return cosine((train.lr, train.lr_final), (step - warmup) / max(1, steps - warmup))


def weight_decay(train: Train, step: int, steps: int) -> float:
    """Paper: linear from 0.04 to 0.4; the official code: cosine."""
    shape = cosine if train.weight_decay_schedule == "cosine" else linear
    return shape(train.weight_decay, step / steps)
