"""How many seeds a claim needs: for 80 % power, with what a small pilot does not know."""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import nctdtr, nctdtrinc, stdtrit

from ijepa.study.statistics import Spread

POWER, PILOT, MOST = 0.8, 6, 1000  # power asked for; seeds that a pilot must have; seeds at most
_SURE = 0.9  # probability of the interval
_HUGE = 10.0  # an effect in standard deviations beyond which the smallest pilot is enough


@dataclass(frozen=True)
class Needed:
    """Seeds at which one look would decide, at the mean and deviation seen.

    None is more than ``MOST``. ``low`` and ``high`` are a 90 % interval: means and deviations that
    the pilot leaves possible. A pilot is too small to say more than that.
    """

    goal: str  # the decision: holds, does not hold or no difference
    n: int | None
    low: int | None
    high: int | None


def one_sided(n: int, effect: float, level: float) -> float:
    """Power of the one-sided t test of n differences.

    Args:
        n: seeds, >= 2.
        effect: true mean in standard deviations.
        level: of the test.
    """
    missed = float(nctdtr(n - 1, math.sqrt(n) * effect, stdtrit(n - 1, 1 - level)))
    # SciPy 1.17 gives NaN for some n where the noncentrality is about 38 or more
    return 1 - missed if math.isfinite(missed) else float(effect > 0)


def seeds(goal: str, around: Spread, margin: float | None, level: float, power: float) -> Needed:
    """Seeds for a power, from the mean and standard deviation of a pilot.

    Args:
        goal: names the decision.
        around: the pilot's differences, ``PILOT`` of them at least, turned so that the goal is a
            mean above 0; with a margin, a mean within it to both sides.
        margin: of the two one-sided tests; None: the test is against 0.
        level: one-sided, of a look.
        power: chance of the decision.
    """
    assert around.n >= PILOT
    assert around.mean is not None
    assert around.std is not None
    near = around.mean if margin is None else margin - abs(around.mean)
    far = math.inf if margin is None else (margin + abs(around.mean)) / near if near else 1.0
    if around.std == 0:
        n = PILOT if near > 0 else None
        return Needed(goal, n, n, n)
    effect = max(-_HUGE, min(_HUGE, near / around.std))
    low, high = _possible(effect, around.n)
    sizes = (_smallest(one, far, level, power) for one in (effect, high, low))
    return Needed(goal, *sizes)


def _possible(effect: float, n: int) -> tuple[float, float]:
    """Interval of the true effect: of the t statistic's noncentrality (exact for normals)."""
    t, root = effect * math.sqrt(n), math.sqrt(n)
    low, high = (float(nctdtrinc(n - 1, p, t)) / root for p in ((1 + _SURE) / 2, (1 - _SURE) / 2))
    return low, high


def _smallest(near: float, far: float, level: float, power: float) -> int | None:
    """Smallest n >= ``PILOT`` with the power; ``far`` is the other side's distance over near's."""
    if near <= 0:
        return None

    def enough(n: int) -> bool:
        reached = one_sided(n, near, level)
        if math.isfinite(far):  # both tests must reject: at least their sum less one
            reached += one_sided(n, near * far, level) - 1
        return reached >= power

    n = bisect.bisect_left(range(MOST + 1), True, lo=PILOT, key=enough)  # power grows with n
    return n if n <= MOST else None


def most(needs: Sequence[Needed]) -> Needed:
    """Of what all must reach: the one that takes most."""
    return max(needs, key=lambda one: one.n or math.inf)


def least(needs: Sequence[Needed]) -> Needed:
    """Of what one must reach: the one that takes least."""
    return min(needs, key=lambda one: one.n or math.inf)
