"""What it takes to reach an accuracy: useful FLOPs, where an experiment's points are budgets.

Accuracy at equal compute says who is ahead there; this says how much less compute would do. For a
variant and a seed the accuracy is a function of the logarithm of the FLOPs, straight between two
budgets, and is read at its first crossing. A seed that is there at the smallest budget, or not at
the largest, has no number. It is counted, and a pair with such a seed has no ratio: one of the
others would leave out the best or the worst.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ijepa.study import statistics
from ijepa.study.statistics import Spread


@dataclass(frozen=True, slots=True)
class Reach:
    """What a variant takes to reach the accuracy."""

    variant: str
    seeds: tuple[int, ...]  # which have a result at every budget
    before: int  # of them: there at the smallest budget
    never: int  # of them: not there at the largest
    flops: float | None  # geometric mean of those between; useful ones, of pretraining
    ratio: Spread | None  # log10 of this variant's FLOPs over the reference's, paired by seed


def crossing(curve: Sequence[tuple[float, float]], wanted: float) -> float:
    """The FLOPs at which an accuracy is first reached.

    Args:
        curve: FLOPs of each budget, ascending and above 0, and the accuracy there, percent.
        wanted: the accuracy, percent.

    Returns:
        FLOPs; 0 where the smallest budget was enough, infinity where the largest was not.
    """
    if curve[0][1] >= wanted:
        return 0.0
    for (less, low), (more, high) in pairwise(curve):
        if high >= wanted:
            share = (wanted - low) / (high - low)
            return float(less * (more / less) ** share)
    return math.inf


def compare(
    curves: dict[str, dict[int, Sequence[tuple[float, float]]]], reference: str, wanted: float
) -> Iterator[Reach]:
    """Every variant, and its ratio to the reference.

    Args:
        curves: variant -> seed -> (FLOPs, accuracy) at every budget.
        reference: the variant that the others are compared with.
        wanted: the accuracy, percent.
    """
    places = {
        variant: {seed: crossing(sorted(curve), wanted)
                  for seed, curve in by_seed.items()}
        for variant, by_seed in curves.items()
    }  # fmt: skip
    for variant, by_seed in places.items():
        between = [math.log10(place) for place in by_seed.values() if 0 < place < math.inf]
        yield Reach(
            variant, tuple(by_seed), sum(place == 0 for place in by_seed.values()),
            sum(place == math.inf for place in by_seed.values()),
            10 ** (sum(between) / len(between)) if between else None,
            None if variant == reference else _ratio(by_seed, places[reference]),
        )  # fmt: skip


def _ratio(own: dict[int, float], other: dict[int, float]) -> Spread | None:
    """log10 of own over other; None unless each seed of both lies between the budgets."""
    seeds = [seed for seed in own if seed in other]
    if not seeds or any(not 0 < of[seed] < math.inf for of in (own, other) for seed in seeds):
        return None
    return statistics.spread([math.log10(own[seed] / other[seed]) for seed in seeds])
