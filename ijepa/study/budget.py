"""Equal compute: how long a variant trains so that it spends the FLOPs of another.

FLOPs are analytic (``ijepa.model.flops``) and a function of the config alone, so the epochs are
known before anything runs and are part of a run's identity, as if somebody had written them down.
They are those without padding: what a method needs, not what our batches waste.
"""

from typing import Any

import numpy as np
import torch

from ijepa import seeds, variants
from ijepa.config import Config, grid
from ijepa.masks import Keys
from ijepa.training import batches

_IMAGES = 512  # whose masks are drawn: their lengths differ


def matched(config: Config, reference: Config) -> dict[str, Any]:
    """The epochs, and those of warm-up, with which a run spends what the reference spends.

    epochs = reference's epochs x reference's FLOPs an image / own FLOPs an image, to three digits,
    so that a change in the last digits of a count makes no other run of it. Warm-up keeps its
    share of the run. The two learn from as many images an epoch.

    Args:
        config: the run, with the epochs that it would have otherwise.
        reference: the run whose total FLOPs it gets.

    Returns:
        Dotted keys.
    """
    share = flops_per_image(reference) / flops_per_image(config)
    epochs = reference.train.epochs * share
    warmup = config.train.warmup_epochs * epochs / config.train.epochs
    return {"train.epochs": _rounded(epochs), "train.warmup_epochs": _rounded(warmup)}


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def flops_per_image(config: Config, padding: bool = False) -> float:
    """FLOPs of the loss of an image and its gradient, padding included or not.

    The mean over batches of the run's size, of seed 0: all seeds of a run get one number, and so
    the same length.
    """
    views, size = batches.views(config), config.train.batch_size
    sample = variants.load("masks", config.mask.name).sample
    with torch.device("meta"):  # shapes alone: no memory, no arithmetic
        objective = variants.load("objectives", config.objective.name).create(
            config.data.image_size, config.model, config.objective.options, 0
        )
        images = [torch.empty(size, 3, view.size, view.size) for view in views]
    seen = [seeds.key(0, "mask", number) for number, view in enumerate(views) if view.masked]
    total, count = 0, max(1, _IMAGES // size)
    for step in range(count):
        samples = np.arange(step * size, (step + 1) * size)
        keys = [Keys(seed, step, np.zeros(size, np.int64), samples) for seed in seen]
        masks = [sample(key, grid(config), config.mask.options) for key in keys]
        total += objective.flops(*images, *masks, padding=padding)
    return total / (count * size)
