"""An entry of a lock file -> one run of the plan and its accuracies."""

from collections.abc import Iterator, Mapping
from typing import Any

from ijepa.runtime.records import plain
from ijepa.study.experiment import Experiment
from ijepa.study.numbers import BASELINES, Cost, Row, Run
from ijepa.study.plan import STAGES

COUNTED, MEASURED = (
    ("flops", "flops_per_image", "flops_useful", "flops_useful_per_image"),
    ("device_seconds", "energy_joules", "peak_memory_gib"),
)  # fmt: skip


def run_of(
    chosen: Experiment,
    locked: Mapping[str, Any],
    variant: str,
    point: str | None,
    seed: int,
    patches: int | None,
    standing: Mapping[str, str],
) -> tuple[Run, list[Row]]:
    """One run of the plan, and its accuracies; it has none unless it is done."""
    key = f"{variant}@{point}/{seed}" if point else f"{variant}/{seed}"
    entry = locked["results"].get(key) or {"status": "missing", "reason": "not in the lock file"}
    source = locked["provenance"].get(key) or {}
    pretrain, cost = entry.get("pretrain") or {}, source.get("cost") or {}
    status, reason = entry["status"], entry["reason"]
    rows = [
        Row(variant, point, seed, metric, encoder, value)
        for metric, encoder, value in _accuracies(chosen, entry.get("metrics") or {})
    ]
    asked = (chosen.metric, "trained")
    if status == "done" and asked not in {(row.metric, row.encoder) for row in rows}:
        status, reason = "failed", f"its metrics have no number for {chosen.metric}"
    seconds = source.get("seconds") or {}
    spent = {**{k: pretrain.get(k) for k in COUNTED}, **{k: cost.get(k) for k in MEASURED}}
    facts = {
        **{k: pretrain.get(k) for k in (
            "context_ratio", "images", "parameters", "health", "collapsed", "rankme")},
        **{k: entry.get(k) for k in ("signature", "code", "data", "encoder")},
        **{k: source.get(k) for k in ("name", "commit", "baseline", "machine", "numerics")},
    }  # fmt: skip
    run = Run(
        key=key, variant=variant, point=point, seed=seed, status=status, reason=reason,
        standing=standing.get(key), patches=patches, cost=Cost(**spent), **facts,
        ids={stage: (source.get("runs") or {}).get(stage) for stage in STAGES},
        seconds={stage: seconds.get(stage) for stage in STAGES},
        total=sum(filter(None, seconds.values())) or None,
    )  # fmt: skip
    return run, rows if status == "done" else []


def _accuracies(
    chosen: Experiment, metrics: Mapping[str, Any]
) -> Iterator[tuple[str, str, float]]:
    """Metric, encoder and value of all that the experiment asks for, and of kNN beside it."""
    task, _, which = chosen.metric.rsplit(".", 2)
    for metric in dict.fromkeys([chosen.metric, *chosen.also, f"{task}.knn.{which}"]):
        about, probe, which = metric.rsplit(".", 2)
        values = metrics.get(about, {}).get(probe, {})
        if "shots_asked" in values:  # of fewer shots than the plan's: another quantity
            continue
        # baselines are measured on test images: there is none to set against held-out ones
        names = {"trained": which, **{name: name for name in BASELINES if which == "trained"}}
        for encoder, name in names.items():
            value = plain(values.get(name))
            if value is not None:
                yield metric, encoder, value
