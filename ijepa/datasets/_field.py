"""A random field over an image: what a large, smooth, meaningless part of a picture looks like."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from ijepa.seeds import uniforms

_REACH = 4  # standard deviations after which the kernel is cut off


def gaussian(
    seed: int, purpose: str, samples: NDArray[np.int64], size: int, length: float
) -> NDArray[np.float64]:
    """Stationary Gaussian fields of mean 0 and variance 1, white noise under a Gaussian kernel.

    Args:
        seed: of the fields.
        purpose: what they are for, see ``seeds.uniforms``.
        samples: indices of the images, (n,); a field depends on its own index alone.
        size: side of the square in pixels.
        length: standard deviation of the kernel in pixels; two pixels at a distance d have the
            correlation exp(-d² / (2 length)²). 0 is white noise.

    Returns:
        (n, size, size).
    """
    radius = math.ceil(_REACH * length)
    side = size + 2 * radius
    uniform = uniforms(seed, purpose, 0, samples, side * side)
    noise = special.ndtri(uniform + 2.0**-54).reshape(-1, side, side)  # never at 0
    if not radius:
        return np.asarray(noise)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / length) ** 2)
    kernel /= np.sqrt((kernel**2).sum())  # the variance stays
    for axis in (1, 2):
        noise = ndimage.correlate1d(noise, kernel, axis)
    return np.asarray(noise[:, radius : radius + size, radius : radius + size])
