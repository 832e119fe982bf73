"""Photometric augmentations of a training view: DINO's (arXiv 2104.14294), which iBOT keeps.

Pure functions of the uniform numbers they are given: no generator has a state. Pillow computes
them, as for the original: on small views it is ten times as fast as tensors. They are applied in
this order to a view that is already cropped and resized, each with the probability of ``Train``:

- colour jitter of strength s = ``color_jitter``, with probability 0.8: brightness and contrast
  times 1 ± s, saturation times 1 ± s/2, hue turned by ± s/4 (s = 0.4 is the original's 0.4, 0.4,
  0.2, 0.1), the four in an order that is drawn too;
- ``grayscale``;
- ``blur``: Gaussian, of sigma 0.1 to 2 pixels at 224 pixels and in proportion at other sizes, so
  that it takes the same share of the image; below about 40 pixels that is hardly any blur;
- ``solarize``: values from 128 on are inverted.

Named deviations: data2vec jitters every image, before it is cropped, with saturation times 1 ± s
and no hue. iBOT gives its views different probabilities (blur 1.0, 0.1 and 0.5, solarise 0, 0.2
and 0 for the first, the second and the local ones); here all views share them.
"""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFilter import GaussianBlur
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from ijepa.config import Train

DRAWS = 10  # uniform numbers that a view takes, whatever is switched on

_JITTERED = 0.8  # share of the views whose colours change
_SIGMA = (0.1, 2.0)  # pixels at the original's 224
_ORDERS = tuple(itertools.permutations(range(4)))


def wanted(train: Train) -> bool:
    """Whether any augmentation is switched on; if not, nothing has to be drawn."""
    return any((train.color_jitter, train.grayscale, train.blur, train.solarize))


def photometric(view: Tensor, train: Train, u: NDArray[np.float64]) -> Tensor:
    """The view with other colours, or the view itself where the numbers choose no augmentation.

    Args:
        view: (3, H, W) uint8.
        train: ``color_jitter`` is a strength, ``grayscale``, ``blur``, ``solarize`` probabilities.
        u: uniform numbers of [0, 1), ``(DRAWS,)``; each has its own use, so switching one
            augmentation on changes no draw of another.

    Returns:
        (3, H, W) uint8.
    """
    assert u.shape == (DRAWS,), u.shape
    jitter = train.color_jitter > 0 and u[0] < _JITTERED
    grey, blur, solarize = u[6] < train.grayscale, u[7] < train.blur, u[9] < train.solarize
    if not (jitter or grey or blur or solarize):
        return view
    image = Image.fromarray(view.permute(1, 2, 0).numpy())
    if jitter:
        image = _jitter(image, train.color_jitter, u[1:6])
    if grey:
        image = transforms.rgb_to_grayscale(image, num_output_channels=3)
    if blur:
        image = image.filter(GaussianBlur(_between(_SIGMA, u[8]) * view.shape[-1] / 224))
    if solarize:
        image = transforms.solarize(image, threshold=128)
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())


def _jitter(image: Image.Image, strength: float, u: NDArray[np.float64]) -> Image.Image:
    """Brightness, contrast, saturation and hue by ``u[:4]``, in the order that ``u[4]`` names."""
    changes = (
        (transforms.adjust_brightness, _factor(strength, u[0])),
        (transforms.adjust_contrast, _factor(strength, u[1])),
        (transforms.adjust_saturation, _factor(strength / 2, u[2])),
        (transforms.adjust_hue, _between((-strength / 4, strength / 4), u[3])),
    )
    for number in _ORDERS[int(u[4] * len(_ORDERS))]:
        change, amount = changes[number]
        image = change(image, amount)
    return image


def _factor(strength: float, u: float) -> float:
    """A factor of 1 ± strength, never negative."""
    return _between((max(0.0, 1 - strength), 1 + strength), u)


def _between(bounds: tuple[float, float], u: float) -> float:
    return float(bounds[0] + u * (bounds[1] - bounds[0]))
