"""What a network sees of an image: random views in training, one fixed view in evaluation."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

# ImageNet's, as in the official code; any fixed affine map would do
_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None] * 255
_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None] * 255

_LONGEST = 64  # sides: of a longer image the ends are cut off before it is enlarged


@dataclass(frozen=True, slots=True)
class View:
    """One random view of every image: a crop resized to a square.

    Attributes:
        size: side of the square in pixels.
        crop_scale: range of the crop's share of the image's area.
        masked: whether the view gets masks of its own.
    """

    size: int
    crop_scale: tuple[float, float]
    masked: bool


def normalise(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> float32 with ImageNet's mean and standard deviation."""
    mean, std = _constants(images.device)
    return (images.float() - mean) / std


@functools.cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation where the images are: copying them anew would wait for a GPU."""
    return _MEAN.to(device), _STD.to(device)


def centre(image: NDArray[np.uint8], size: int) -> Tensor:
    """The evaluation view of an image.

    Args:
        image: (H, W, 3).
        size: side of the result in pixels.

    Returns:
        (3, size, size) uint8: the image itself when it has that size, else its shorter side
        resized to 256/224 of ``size`` and the centre cropped (the usual ImageNet protocol).
    """
    chw = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    if chw.shape[1:] == (size, size):
        return chw
    most = _LONGEST * min(chw.shape[1:])
    if max(chw.shape[1:]) > most:
        chw = transforms.center_crop(chw, [min(side, most) for side in chw.shape[1:]])
    shorter = round(size * 256 / 224)
    resized = transforms.resize(chw, [shorter], InterpolationMode.BICUBIC, antialias=True)
    cropped: Tensor = transforms.center_crop(resized, [size, size])
    return cropped


def squash(image: NDArray[np.uint8], size: int) -> Tensor:
    """The whole image (H, W, 3) resized to a square, its aspect changed: (3, size, size) uint8.

    What the released Clevr configuration does, where the paper's text has a centre crop.
    """
    chw = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    if chw.shape[1:] == (size, size):
        return chw
    squashed: Tensor = transforms.resize(
        chw, [size, size], InterpolationMode.BICUBIC, antialias=True
    )
    return squashed


VIEWS = {"crop": centre, "squash": squash}  # what an encoder is shown in evaluation
