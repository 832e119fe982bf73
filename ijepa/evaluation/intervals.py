"""Confidence intervals over test images: how far a number would move with other images.

Both intervals are closed forms of counts, so they are deterministic and cost nothing. They do not
cover what another training seed would change; that takes several runs.
"""

import math
from statistics import NormalDist

LEVEL = 0.95


def wilson(right: int, count: int, level: float = LEVEL) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927), within [0, 1] even at 0 and ``count``.

    Args:
        right: correct predictions, 0 <= right <= count.
        count: predictions, > 0.
        level: probability that such intervals cover the true proportion.

    Returns:
        Lower and upper limit.
    """
    assert 0 <= right <= count > 0, (right, count)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = right / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    denominator = 1 + z * z / count
    # at the ends rounding would leave the limit a hair outside
    low = 0.0 if right == 0 else (centre - half) / denominator
    high = 1.0 if right == count else (centre + half) / denominator
    return low, high


def paired_difference(
    first_only: int, second_only: int, count: int, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same images (Bonett and Price 2012).

    A Wald interval with one image added to each of the two discordant counts. Images that both
    predictors get right, or both wrong, say nothing of the difference, so this is narrower than
    what two separate intervals suggest. Fagerland, Lydersen and Laake (2014) recommend it among
    the closed forms; unlike the plain Wald interval it keeps its level at small counts.

    Args:
        first_only: images that only the first predictor gets right.
        second_only: images that only the second predictor gets right.
        count: all images, > 0.
        level: probability that such intervals cover the true difference.

    Returns:
        Lower and upper limit of (first - second), within [-1, 1].
    """
    assert min(first_only, second_only) >= 0, (first_only, second_only)
    assert first_only + second_only <= count > 0, (first_only, second_only, count)
    z = NormalDist().inv_cdf(0.5 + level / 2)
    first, second = (first_only + 1) / (count + 2), (second_only + 1) / (count + 2)
    difference = first - second
    half = z * math.sqrt((first + second - difference * difference) / (count + 2))
    return max(-1.0, difference - half), min(1.0, difference + half)
