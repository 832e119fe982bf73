"""How far each part of the seed moves a result, where variants fix the other parts."""

import math
from dataclasses import dataclass

from scipy.special import chdtri  # chi-square, without the second that scipy.stats takes

from ijepa.study.numbers import Study
from ijepa.study.statistics import LEVEL


@dataclass(frozen=True, slots=True)
class Deviation:
    """The standard deviation over seeds of a variant at a point, in points of the metric."""

    variant: str
    point: str | None
    n: int  # seeds
    std: float
    low: float  # of its interval
    high: float


def interval(std: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Interval of a standard deviation, if the n >= 2 values are normal: (n - 1) s² / χ².

    Args:
        std: the sample's (n - 1).
        n: values.
        level: probability that such intervals cover the true one.
    """
    low, high = (((n - 1) / chdtri(n - 1, p)) ** 0.5 for p in ((1 - level) / 2, (1 + level) / 2))
    return std * float(low), std * float(high)


def deviations(study: Study) -> tuple[Deviation, ...]:
    """Of every cell with two seeds; nothing where variants differ in more than ``seeds``."""
    if not all(key.partition(".")[0] == "seeds" for key in study.factor):
        return ()
    return tuple(
        Deviation(
            cell.variant, cell.point, cell.spread.n, cell.spread.std,
            *interval(cell.spread.std, cell.spread.n),
        )
        for cell in study.cells
        if cell.spread.std is not None
    )  # fmt: skip


def together(study: Study, point: str | None) -> float | None:
    """What all parts would add up to if they did not interact: the root of their squares' sum.

    Parts are all variants but the reference, which fixes nothing; None unless each is known.
    """
    here = {d.variant: d.std for d in deviations(study) if d.point == point}
    parts = [v.name for v in study.variants if v.name != study.claim.reference]
    if not parts or not here.keys() >= set(parts):
        return None
    return math.hypot(*(here[name] for name in parts))
