"""An experiment, its lock file and its scale as one tree: the content of ``results.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ijepa.pages.run.collect import plain
from ijepa.pages.study import captions, words
from ijepa.study import costs, experiment, statistics
from ijepa.study.experiment import Experiment, Scale
from ijepa.study.plan import STAGES


def collect(
    chosen: Experiment,
    locked: Mapping[str, Any],
    scale: Scale,
    paper: Scale | None = None,
    trials: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of a report: JSON values, floats to six significant digits.

    Args:
        chosen: the experiment.
        locked: content of its lock file at that scale.
        scale: the scale. The lock file's own seeds count, if it has any: a run can ask for more.
        paper: the paper's scale, to say what is set otherwise.
        trials: what the variants' recipes were chosen from, see ``ijepa.study.trials``.
    """
    seeds = tuple(locked["seeds"]) or chosen.seeds[: scale.seeds]
    points: list[str | None] = list(chosen.points) or [None]
    cells = [(variant, point) for point in points for variant in chosen.variants]
    runs = [
        {**_run(chosen, locked, *cell, seed), "patches": _patches(chosen, scale, *cell)}
        for cell in cells
        for seed in seeds
    ]
    done = [run for run in runs if run["status"] == "done"]
    counted = bool(done) and all(run["flops"] for run in done)
    known = all(run["patches"] for run in runs)  # else an approximation leaves them out
    values = {
        cell: {r["seed"]: r["value"] for r in _of(runs, *cell) if r["status"] == "done"}
        for cell in cells
    }
    claimed = [(*pair, point) for point in points for pair in chosen.claim.pairs]
    tested = statistics.compare(
        [(values[better, point], values[worse, point]) for better, worse, point in claimed],
        chosen.claim.margin,
    )
    comparisons = [
        {"better": better, "worse": worse, "point": point, **_flat(found),
         "compute": _mean(
             [r["flops"] if counted else _compute(r, known)
              for r in (*_of(runs, better, point), *_of(runs, worse, point))])}
        for (better, worse, point), found in zip(claimed, tested, strict=True)
    ]  # fmt: skip
    results = {
        "name": chosen.name,
        **{k: getattr(chosen, k) for k in ("title", "question", "table", "source", "metric")},
        "also": list(chosen.also),
        "data": _other_data(chosen, scale),
        "trials": trials,
        "factor": list(chosen.factor),
        "claim": asdict(chosen.claim),
        "scale": {"name": scale.name, "about": scale.about, "preset": scale.preset},
        "settings": _settings(chosen, scale, paper),
        "seeds": list(seeds),
        "variants": [
            {"name": v.name, "label": v.label, "set": {**v.set, **v.at.get(scale.name, {})}}
            for v in chosen.variants.values()
        ],
        "points": [
            {
                "name": p.name,
                "label": p.label,
                "x": p.x,
                "equal_compute": p.equal_compute,
                "data": _data(chosen, scale, p.name),
            }
            for p in chosen.points.values()
        ],
        "cells": _cells(chosen, runs, values),
        "comparisons": comparisons,
        "baselines": _baselines(chosen, runs, points),
        "runs": runs,
        "strays": sorted(locked["results"].keys() - {run["key"] for run in runs}),
        "verdict": {
            "decision": statistics.verdict(tested),
            "needed": statistics.seeds_to_decide(tested),
            "points": [
                statistics.verdict(
                    [t for t, c in zip(tested, comparisons, strict=True) if c["point"] == point]
                )
                for point in chosen.points
            ],
        },
    }
    made: dict[str, Any] = plain(results)
    made["verdict"]["sentence"] = words.sentence(made)
    made["verdict"]["coverage"] = words.coverage(made)
    made["protocol"] = words.protocol(made)
    made["figures"] = captions.listing(made)
    return made


def _run(
    chosen: Experiment, locked: Mapping[str, Any], variant: str, point: str | None, seed: int
) -> dict[str, Any]:
    """One run of the plan: what the lock file has of it, or that it has nothing."""
    key = f"{variant}@{point}/{seed}" if point else f"{variant}/{seed}"
    found = locked["results"].get(key) or {"status": "missing", "reason": "not in the lock file"}
    source = locked["provenance"].get(key) or {}
    metrics, pretrain = found.get("metrics") or {}, found.get("pretrain") or {}
    task, probe, which = chosen.metric.rsplit(".", 2)
    accuracies = _accuracies(metrics, chosen.metric)
    status, reason, value = found["status"], found["reason"], accuracies["value"]
    if status == "done" and value is None:
        status, reason = "failed", f"its metrics have no number for {chosen.metric}"
    return {
        "key": key, "variant": variant, "point": point, "seed": seed,
        "status": status, "reason": reason, "value": value,
        "random_init": accuracies["random_init"],
        "pixels": accuracies["pixels"],
        "also": {metric: _accuracies(metrics, metric) for metric in chosen.also},
        "knn": metrics.get(task, {}).get("knn", {}).get(which) if probe != "knn" else None,
        **costs.of(pretrain, source),
        **{k: pretrain.get(k) for k in (
            "context_ratio", "images", "parameters", "health", "collapsed", "rankme")},
        **{k: found.get(k) for k in ("signature", "code", "data", "encoder")},
        **{k: source.get(k) for k in ("name", "commit", "baseline", "machine")},
        "ids": {stage: (source.get("runs") or {}).get(stage) for stage in STAGES},
        "seconds": {stage: (source.get("seconds") or {}).get(stage) for stage in STAGES},
        "total": sum(filter(None, (source.get("seconds") or {}).values())) or None,
    }  # fmt: skip


def _accuracies(metrics: Mapping[str, Any], metric: str) -> dict[str, float | None]:
    """A metric's number, and the baselines' by the same probe; None where there is none."""
    task, probe, which = metric.rsplit(".", 2)
    found = metrics.get(task, {}).get(probe, {})
    baselines = ("random_init", "pixels")  # on test images: no measure for held-out ones
    return {
        "value": plain(found.get(which)),
        **{name: found.get(name) if which == "trained" else None for name in baselines},
    }


def _of(
    runs: Sequence[Mapping[str, Any]], variant: str, point: str | None
) -> list[Mapping[str, Any]]:
    return [r for r in runs if r["variant"] == variant and r["point"] == point]


def _cells(
    chosen: Experiment,
    runs: Sequence[Mapping[str, Any]],
    values: Mapping[tuple[str, str | None], Mapping[int, float]],
) -> list[dict[str, Any]]:
    """A row of the table for each variant and point; differences are to the reference's row."""
    reference = chosen.claim.reference
    others = [cell for cell in values if cell[0] != reference]
    compared = dict(
        zip(
            others,
            statistics.compare([(values[v, p], values[reference, p]) for v, p in others]),
            strict=True,
        )
    )
    published = [v.paper for v in chosen.variants.values() if v.paper is not None]
    unpublished = {p.name for p in chosen.points.values() if not p.published}
    made = []
    for (name, point), by_seed in values.items():
        variant, mine = chosen.variants[name], _of(runs, name, point)
        done = [r for r in mine if r["status"] == "done"]
        means = ("random_init", "pixels", "knn", "context_ratio", "images", "parameters",
                 *costs.COUNTED, *costs.MEASURED)  # fmt: skip
        paper = None if point in unpublished else variant.paper
        made.append(
            {
                "variant": name, "point": point, "label": variant.label, "paper": paper,
                "gap": None if paper is None else paper - max(published),
                **asdict(statistics.spread(list(by_seed.values()))),
                "difference":
                    _flat(compared[name, point]) if (name, point) in compared else None,
                **{key: _mean([r[key] for r in done]) for key in means},
                "also": {metric: _spread(done, metric) for metric in chosen.also},
                "health": [r["health"] for r in done],
                "collapsed": sum(bool(r["collapsed"]) for r in done),
                "pretrain_seconds": _mean([r["seconds"]["pretrain"] for r in done]),
                "seconds": _mean([r["total"] for r in done]),
                "codes": len({r["code"] for r in done}),
            }
        )  # fmt: skip
    return made


def _spread(runs: Sequence[Mapping[str, Any]], metric: str, key: str = "value") -> dict[str, Any]:
    """A further metric over the runs that have it."""
    found = [r["also"][metric][key] for r in runs if r["also"][metric][key] is not None]
    return asdict(statistics.spread(found))


def _baselines(
    chosen: Experiment, runs: Sequence[Mapping[str, Any]], points: Sequence[str | None]
) -> list[dict[str, Any]]:
    """The reference's baselines over seeds, and whether all variants' are the same."""
    made = []
    for point in points:
        for kind in ("random_init", "pixels"):
            by_seed = {
                (r["variant"], r["seed"]): r[kind]
                for r in runs
                if r["point"] == point and r[kind] is not None
            }
            owner = next(
                (v for v in (chosen.claim.reference, *chosen.variants) if any(
                    name == v for name, _ in by_seed)), None,
            )  # fmt: skip
            own = {seed: value for (name, seed), value in by_seed.items() if name == owner}
            if own:
                shared = all(value == own.get(seed) for (_, seed), value in by_seed.items())
                mine = [r for r in _of(runs, str(owner), point) if r["seed"] in own]
                made.append(
                    {"point": point, "encoder": kind, "variant": owner, "shared": shared,
                     "also": {metric: _spread(mine, metric, kind) for metric in chosen.also},
                     **asdict(statistics.spread(list(own.values())))}
                )  # fmt: skip
    return made


def _settings(chosen: Experiment, scale: Scale, paper: Scale | None) -> list[dict[str, Any]]:
    """Dotted keys that all variants share, here and at the paper's scale; None: the default."""
    here = {**scale.changes, **chosen.base, **chosen.at.get(scale.name, {})}
    there = {**(paper.changes if paper else {}), **chosen.base, **chosen.at.get("paper", {})}
    return [
        {"key": key, "here": here.get(key), "paper": there.get(key)}
        for key in sorted(here.keys() | there.keys())
        if here.get(key) != there.get(key)
    ]


def _flat(found: statistics.Comparison) -> dict[str, Any]:
    made = asdict(found)
    return {**made.pop("spread"), **made}


def _other_data(chosen: Experiment, scale: Scale) -> list[str]:
    """Names of the data sets, where they are not the scale's own."""
    names = [_data(chosen, scale, point).get("data.name") for point in chosen.points or [None]]
    known = [str(name) for name in dict.fromkeys(names) if name is not None]
    return known if known != [scale.changes.get("data.name")] else []


def _data(chosen: Experiment, scale: Scale, point: str | None) -> dict[str, Any]:
    """What a point's runs learn from, as far as the experiment or the scale says it."""
    first = next(iter(chosen.variants.values()))
    at = chosen.points[point] if point is not None else None
    keys = experiment.changes(chosen, scale, first, at, 0)
    return {k: v for k, v in keys.items() if k.startswith("data.") and k != "data.train_fraction"}


def _patches(chosen: Experiment, scale: Scale, variant: str, point: str | None) -> int | None:
    """Patches of an image, if the experiment or the scale sets all that they come from."""
    at = chosen.points[point] if point is not None else None
    keys = experiment.changes(chosen, scale, chosen.variants[variant], at, 0)
    side, patch = keys.get("data.image_size"), keys.get("model.patch_size")
    return (side // patch) ** 2 if side and patch else None


def _compute(run: Mapping[str, Any], known: bool) -> float | None:
    """Roughly the FLOPs of pretraining, or where the patches are not known parameters x images."""
    if not run["parameters"] or not run["images"]:
        return None
    return float(run["parameters"] * run["images"] * (6 * run["patches"] if known else 1))


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
