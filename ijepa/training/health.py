"""Is it learning? Meters of a representation's health, which the loss does not show.

A reading encodes a fixed set of images, so it is taken at a few rows of the history: at the first
and the last, which the verdict compares, and at as many between them as ``_SHARE`` pays for.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ijepa import seeds
from ijepa.config import Config
from ijepa.model.vit import Encoder
from ijepa.runtime import errors
from ijepa.store.read import Images
from ijepa.views import centre, normalise

# The same number for every run, as RankMe grows with it: of 256 images it is 3 to 6 % more, of 49
# 7 to 11 % less (scenes, before and after 5,000 images), and a short run would seem to collapse.
_IMAGES = 100
# Images that are read in all, as a share of those that a run trains on, and so at most the meter's
# share of its time: a forward pass on a whole image is no more work than the loss of one and its
# gradient (MAE at ViT-L: as much; the laptop's model: a fifth to two fifths, benchmarks/).
# Below 10,000 images the two ends alone are more.
_SHARE = 0.02


def readings(rows: Sequence[int], seen: int) -> frozenset[int]:
    """The steps after which health is read: at both ends, and as often between as is affordable.

    Args:
        rows: steps that have a row of the history, ascending.
        seen: images that the run trains on.
    """
    count, last = min(max(int(_SHARE * seen) // _IMAGES, 2), len(rows)), len(rows) - 1
    return frozenset(rows[last * i // max(count - 1, 1)] for i in range(count))


def fixed_images(images: Images, config: Config) -> Tensor:
    """The training images that are read, (B, 3, H, W) uint8."""
    chosen = seeds.generator(config.seeds.order, "health").permutation(len(images))[:_IMAGES]
    shown = []
    for index in sorted(chosen.tolist()):
        with errors.preparing("train", index):
            shown.append(centre(images[index], config.data.image_size))
    return torch.stack(shown)


@torch.no_grad()
def health(encoder: Encoder, images: Tensor) -> dict[str, float]:
    """Meters of an encoder's pooled features on a fixed set of images.

    Args:
        encoder: the one that is evaluated.
        images: (B, 3, H, W) uint8.

    Returns:
        ``feature_std``: standard deviation over images, averaged over features; 0 is full
        collapse. ``rankme``: effective rank (Garrido et al. 2023, eq. 2), from 1 to min(B, D).
    """
    features = encoder(normalise(images)).float().mean(1)
    return {"feature_std": features.std(0).mean().item(), "rankme": rankme(features)}


def rankme(features: Tensor) -> float:
    """exp(entropy of the normalised singular values) of features (B, D), RankMe eq. 2.

    NaN where a feature is not finite, so that the loop, not the SVD, tells what went wrong.
    """
    if not features.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp_min(1e-12) + 1e-7
    return torch.exp(-(share * share.log()).sum()).item()


def verdict(first: dict[str, float], last: dict[str, float], most: int) -> str:
    """Whether an alarm fired, from a run's first and last meters, as ``out/pretrain.json`` has it.

    ``most`` is what the effective rank can be: the width, or the images of a reading if fewer.
    The thresholds are for alarms, not for ranking runs: full collapse has a standard deviation
    near zero, partial collapse an effective rank far below where training started.
    """
    rank, start = last["rankme"], first["rankme"]
    if last["feature_std"] < 0.01 or rank < 2:
        std = last["feature_std"]
        return f"collapsed: feature std {std:.3f}, effective rank {rank:.1f} of {most}"
    if rank < start / 2:
        return f"partly collapsed: effective rank fell from {start:.1f} to {rank:.1f} of {most}"
    # a name of before, which stays for the bytes of results: no alarm is all that it means
    return f"healthy: feature std {last['feature_std']:.2f}, effective rank {rank:.1f} of {most}"


def told(first: dict[str, float], last: dict[str, float], most: int) -> str:
    """A run's health for a person: the alarm of ``verdict``, or else the numbers and their start.

    An encoder before training raises no alarm either, so that none is nothing to praise.
    """
    alarm = verdict(first, last, most)
    if not alarm.startswith("healthy"):
        return alarm
    return (
        f"feature std {last['feature_std']:.2f} ({first['feature_std']:.2f} after the first step),"
        f" effective rank {last['rankme']:.1f} of {most} ({first['rankme']:.1f} after it)"
    )
