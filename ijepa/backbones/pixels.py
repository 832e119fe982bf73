"""No encoder: the image itself is one token. A baseline that learned features must beat."""

import torch
from torch import Tensor

from ijepa.backbones import Backbone
from ijepa.config import Config

# pixels: larger images are averaged down to this before they count as features. No probe loses by
# it (docs/evaluation.md), and a linear one of 32 x 32 takes seven times as long
SIDE = 16


def load(place: str, part: str, config: Config) -> Backbone:
    """Raw pixels of images of ``data.image_size``, or of the size that is named: ``pixels:224``.

    Raises:
        ValueError: the size is not a whole number.
    """
    if part or not (place.isdecimal() or not place):
        raise ValueError(f"encoder 'pixels:{place}': {place or part!r} is not a size in pixels")
    return of(int(place) if place else config.data.image_size)


def of(image_size: int) -> Backbone:
    """Raw pixels of square images of this side."""
    side = min(image_size, SIDE)
    width = 3 * side * side

    def encode(images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 -> one token each, (B, 1, 3 * side * side), in [0, 1]."""
        values = images.float() / 255
        if images.shape[-1] > side:
            values = torch.nn.functional.adaptive_avg_pool2d(values, side)
        return values.flatten(1)[:, None]

    return Backbone(
        kind="pixels",
        name=f"pixels, {side} × {side}",
        identity=f"pixels {side}",
        image_size=image_size,
        width=width,
        depth=1,
        encode=encode,
    )
