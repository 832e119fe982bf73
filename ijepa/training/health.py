"""Is it learning? Meters of a representation's health, which the loss does not show."""

import math

import torch
from torch import Tensor

from ijepa.model.vit import Encoder
from ijepa.views import normalise


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


def verdict(first: dict[str, float], last: dict[str, float], width: int) -> str:
    """A run's health in words, from its first and last meters.

    The thresholds are for alarms, not for ranking runs: full collapse has a standard deviation
    near zero, partial collapse an effective rank far below where training started (laptop-recipe
    2.2).
    """
    rank, start = last["rankme"], first["rankme"]
    if last["feature_std"] < 0.01 or rank < 2:
        std = last["feature_std"]
        return f"collapsed: feature std {std:.3f}, effective rank {rank:.1f} of {width}"
    if rank < start / 2:
        return f"partly collapsed: effective rank fell from {start:.1f} to {rank:.1f} of {width}"
    return f"healthy: feature std {last['feature_std']:.2f}, effective rank {rank:.1f} of {width}"
