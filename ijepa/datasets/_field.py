"""A random field over an image: what a large, smooth, meaningless part of a picture looks like."""

import math

import numpy as np
from numpy.typing import NDArray

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
    # Box and Muller (1958): two uniform numbers, of which 1 - u is never 0, make one normal one
    u = uniforms(seed, purpose, 0, samples, 2 * side * side).reshape(-1, 2, side, side)
    noise: NDArray[np.float64] = np.sqrt(-2 * np.log(1 - u[:, 0])) * np.cos(2 * np.pi * u[:, 1])
    if not radius:
        return noise
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / length) ** 2)
    kernel /= np.sqrt((kernel**2).sum())  # the variance stays
    rows = sum(weight * noise[:, k : k + size] for k, weight in enumerate(kernel))
    assert isinstance(rows, np.ndarray)
    columns = sum(weight * rows[:, :, k : k + size] for k, weight in enumerate(kernel))
    assert isinstance(columns, np.ndarray)
    return columns
