"""What the runs of an experiment say of its claim: samples, pairs and verdicts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ijepa.runtime import bits
from ijepa.study import decision, numbers, statistics
from ijepa.study.decision import Contrast, Test, Verdict
from ijepa.study.registration import Claimed, Plan
from ijepa.study.statistics import Comparison, Sample, Spread

Place = tuple[str, str | None]  # variant, point


@dataclass(frozen=True, slots=True)
class Findings:
    """The pairs of a claim with their tests, and the verdicts."""

    pairs: tuple[numbers.Pair, ...]
    compute: str | None  # what a pair's compute is
    verdict: Verdict
    at_points: tuple[Verdict, ...]


def samples(
    metric: str,
    rows: Iterable[numbers.Row],
    runs: Iterable[numbers.Run],
    locked: Mapping[str, Any],
) -> Mapping[Place, Sample]:
    """What the trained encoders of each variant at each point reached by a metric."""
    values: defaultdict[Place, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if (row.metric, row.encoder) == (metric, "trained"):
            values[row.variant, row.point][row.seed] = row.value
    known: defaultdict[Place, Sample] = defaultdict(lambda: Sample({}))
    by_place: defaultdict[Place, list[numbers.Run]] = defaultdict(list)
    for run in runs:
        by_place[run.variant, run.point].append(run)
    for place, here in by_place.items():
        packed = {run.seed: _packed(locked, run, metric) for run in here}
        known[place] = Sample(
            values[place],
            {seed: bits.unpack(text) for seed, text in packed.items() if text},
            frozenset(run.seed for run in here if run.collapsed),
        )
    return known


def _packed(locked: Mapping[str, Any], run: numbers.Run, metric: str) -> str | None:
    right = locked["results"].get(run.key, {}).get("right") or {}
    text: str | None = right.get(metric)
    return text


def untrained(metric: str, rows: Iterable[numbers.Row]) -> Mapping[Place, Mapping[int, float]]:
    """What the random initialisations reached, by seed."""
    values: defaultdict[Place, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if (row.metric, row.encoder) == (metric, "random_init"):
            values[row.variant, row.point][row.seed] = row.value
    return values


def judge(
    by: Plan,
    values: Mapping[Place, Sample],
    before: Mapping[Place, Mapping[int, float]],
    runs: Sequence[numbers.Run],
    points: Sequence[str | None],
) -> Findings:
    """Compare and test every claimed pair, and come to the verdicts.

    A registered pair whose variant is no longer in the file stays a part of the claim, which is
    then undecided: leaving a pair out must not make a claim hold.

    Args:
        by: the registered design.
        values: of each variant at each point.
        before: of their random initialisations.
        runs: of the plan.
        points: of the experiment; None alone: it has none.
    """
    there = {(run.variant, run.point) for run in runs}
    known = [c for c in by.pairs if {(c.better, c.point), (c.worse, c.point)} <= there]
    lost = [c for c in by.pairs if c not in known]
    described, tests, verdict = _test([*known, *lost], by, values)
    later, later_tests, _ = _test(by.exploratory, by, values)
    kind = _kind(runs)
    pairs = tuple(
        numbers.Pair(c.better, c.worse, c.point, c in by.exploratory, comparison,
                     *_before(c, comparison, before), test, _both(c, runs, kind))
        for c, comparison, test in [
            *zip(known, described, tests, strict=False),
            *zip(by.exploratory, later, later_tests, strict=True)]
    )  # fmt: skip
    at_points = []
    claimed = len({c.point for c in by.pairs})
    for point in points if points != [None] else ():
        indices = [i for i, c in enumerate(known) if c.point == point]
        missing = [c for c in lost if c.point == point]
        *_, one = _test([*(known[i] for i in indices), *missing], by, values, max(1, claimed))
        at = None if one.deciding is None else indices[one.deciding]
        at_points.append(replace(one, deciding=at))
    told = [pair for pair in pairs if pair.comparison.spread.n]
    compute = kind if told and all(pair.compute for pair in told) else None
    return Findings(pairs, compute, verdict, tuple(at_points))


def _before(
    claimed: Claimed, trained: Comparison, before: Mapping[Place, Mapping[int, float]]
) -> tuple[Spread, Spread]:
    """The difference between the random initialisations, and the trained ones' less it."""
    better = before.get((claimed.better, claimed.point), {})
    worse = before.get((claimed.worse, claimed.point), {})
    after = dict(zip(trained.seeds, trained.differences, strict=True))
    apart = {seed: better[seed] - worse[seed] for seed in after
             if seed in better and seed in worse}  # fmt: skip
    return (
        statistics.spread(list(apart.values())),
        statistics.spread([after[seed] - apart[seed] for seed in apart]),
    )


def _test(
    pairs: Sequence[Claimed], by: Plan, values: Mapping[Place, Sample], parts: int = 1
) -> tuple[list[Comparison], list[Test], Verdict]:
    contrasts = [
        Contrast(values[c.better, c.point], values[c.worse, c.point], c.margin) for c in pairs
    ]
    described = [statistics.compare(one.better, one.worse, by.seeds) for one in contrasts]
    return described, *decision.judge(contrasts, described, by.design, by.seeds, parts)


def _kind(runs: Sequence[numbers.Run]) -> str:
    done = [run for run in runs if run.done]
    for kind in ("flops_useful", "flops"):
        if done and all(getattr(run.cost, kind) for run in done):
            return kind
    return "patches" if all(run.patches for run in runs) else "images"


def _both(claimed: Claimed, runs: Sequence[numbers.Run], kind: str) -> float | None:
    """The mean compute of a pair's runs."""
    sides = (claimed.better, claimed.point), (claimed.worse, claimed.point)
    known = [_compute(run, kind) for run in runs if (run.variant, run.point) in sides]
    spent = [value for value in known if value is not None]
    return sum(spent) / len(spent) if spent else None


def _compute(run: numbers.Run, kind: str) -> float | None:
    """The FLOPs of pretraining; roughly, or but for the patches, where nothing counted them."""
    if kind in ("flops_useful", "flops"):
        counted: float | None = getattr(run.cost, kind)
        return counted
    if not run.parameters or not run.images:
        return None
    an_image = 6 * run.patches if kind == "patches" and run.patches else 1
    return float(run.parameters * run.images) * an_image
