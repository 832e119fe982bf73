"""Every number of an evaluation, from raw predictions; `ijepa verify` computes them again.

``summarise`` is a pure function of the predictions and ``restore`` its way back from the files, so
a number that was edited, or that other predictions gave, does not survive the round trip.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa.evaluation import intervals, predictions
from ijepa.probes import Draw, Result, choose
from ijepa.runtime import files

# (probe, encoder) -> task -> result
Results = Mapping[tuple[str, str], Mapping[str, Result]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results on one data set.

    Attributes:
        name: "" for the run's own data set; another's tasks are called ``name/task``.
        split: that is reported.
        counts: images that are learned from, that of these select, and that are reported.
        tasks: task -> its class names.
        labels: task -> true class of each reported image, (n,).
        results: (probe, encoder) -> task -> result.
    """

    name: str
    split: str
    counts: Mapping[str, int]
    tasks: Mapping[str, tuple[str, ...]]
    labels: Mapping[str, NDArray[np.int64]]
    results: Results

    def key(self, task: str) -> str:
        """What a task is called in the files."""
        return f"{self.name}/{task}" if self.name else task


def summarise(about: Mapping[str, Any], outcomes: list[Outcome]) -> dict[str, Any]:
    """The content of ``evaluation.json``: percents with 95 % intervals over the images.

    Args:
        about: what is not a number of a result: encoders, probes, precision.
        outcomes: of every data set, the run's own first.
    """
    tasks = {o.key(task): _task(about, o, task) for o in outcomes for task in o.tasks}
    return {**about, "split": outcomes[0].split, "n": dict(outcomes[0].counts), "tasks": tasks}


def _task(about: Mapping[str, Any], outcome: Outcome, task: str) -> dict[str, Any]:
    truth = outcome.labels[task]
    summary: dict[str, Any] = {
        "data": outcome.name,
        "split": outcome.split,
        "n": dict(outcome.counts),
        "classes": list(outcome.tasks[task]),
        "chance": percent(np.bincount(truth).max() / len(truth)),
        "differences": {},
    }
    for probe in about["probes"]:
        results = {
            encoder: outcome.results[probe, encoder][task]
            for encoder in about["encoders"]
            if (probe, encoder) in outcome.results
        }
        summary[probe] = {encoder: _cell(result, truth) for encoder, result in results.items()}
        first, *baselines = results
        summary["differences"][probe] = {
            baseline: difference(results[first], results[baseline], truth)
            for baseline in baselines
        }
    return summary


def percent(share: float) -> float:
    """A share as a percentage, to the digits that are written."""
    return round(100 * float(share), 4)


def _cell(result: Result, truth: NDArray[np.int64]) -> dict[str, Any]:
    right = (result.test == truth).sum(1)
    low, high = intervals.wilson(int(right[result.winner]), len(truth))
    best = int(right.argmax())
    cell = {
        "accuracy": percent(right[result.winner] / len(truth)),
        "low": percent(low),
        "high": percent(high),
        "held_out": percent(result.selection[result.winner]),
        "winner": result.winner,
        "selected": dict(result.selected),
        # what papers report that choose on the test images: optimistic
        "max_over_candidates": percent(right[best] / len(truth)),
        "grid": [
            {**settings, "held_out": percent(h), "test": percent(r / len(truth))}
            for settings, h, r in zip(result.candidates, result.selection, right, strict=True)
        ],
    }
    return cell | ({"curve": list(_curve(result, truth))} if result.curve else {})


def _curve(result: Result, truth: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Accuracy over draws for each number of labelled images; the spread is between draws."""
    for labels in sorted({draw.labels for draw in result.curve}):
        shares = np.array([
            (draw.predictions == truth).mean() for draw in result.curve if draw.labels == labels
        ])  # fmt: skip
        yield {
            "labels": labels,
            "accuracy": percent(shares.mean()),
            "std": percent(shares.std(ddof=1)) if len(shares) > 1 else None,
            "draws": [percent(share) for share in shares],
        }


def difference(trained: Result, baseline: Result, truth: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy of the first minus the second, paired image by image, in percent points."""
    first, second = trained.predictions == truth, baseline.predictions == truth
    only = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = intervals.paired_difference(*only, len(truth))
    return {
        "difference": percent((only[0] - only[1]) / len(truth)),
        "low": percent(low),
        "high": percent(high),
    }


def headline(evaluation: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """The content of ``metrics.json``: task -> probe -> encoder -> accuracy in percent.

    ``held_out`` beside the encoders is the first one's accuracy on the images that select among
    the probe's settings: what may choose between recipes, since no test image is in it. Where a
    class had too few images for the shots that were asked for, ``shots`` and ``shots_asked`` stand
    beside them.
    """
    first = evaluation["encoders"][0]
    return {
        task: {
            probe: {
                **{e: round(cell["accuracy"], 2) for e, cell in summary[probe].items()},
                "held_out": round(summary[probe][first]["held_out"], 2),
                **_fewer_shots(summary[probe][first]["selected"]),
            }
            for probe in evaluation["probes"]
        }
        for task, summary in evaluation["tasks"].items()
    }


def files_of(folder: Path, metrics: Path) -> list[str]:
    """The files of an evaluation, as the ``SHA256SUMS`` in its folder names them."""
    return ["evaluation.json", "predictions.npz", os.path.relpath(metrics, folder)]


def _fewer_shots(selected: Mapping[str, Any]) -> dict[str, Any]:
    if "shots_asked" not in selected:
        return {}
    return {name: selected[name] for name in ("shots", "shots_asked")}


def write_predictions(path: Path, outcomes: list[Outcome]) -> None:
    """Labels and predictions as a file of arrays.

    ``<task>/labels``, and for each probe and encoder ``<task>/<probe>/<encoder>/`` with ``test``
    (candidates, images), ``held_out``, ``held_out_labels`` and ``curve/<labels>/<draw>``.
    """
    arrays: dict[str, NDArray[np.int64]] = {}
    for outcome in outcomes:
        arrays |= {f"{outcome.key(task)}/labels": y for task, y in outcome.labels.items()}
        for (probe, encoder), by_task in outcome.results.items():
            for task, result in by_task.items():
                key = f"{outcome.key(task)}/{probe}/{encoder}"
                arrays[f"{key}/test"] = result.test
                arrays[f"{key}/held_out"] = result.held_out
                arrays[f"{key}/held_out_labels"] = result.held_out_labels
                for draw in result.curve:
                    arrays[f"{key}/curve/{draw.labels}/{draw.draw}"] = draw.predictions
    predictions.write(path, arrays)


def restore(
    evaluation: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int64]]
) -> tuple[dict[str, Any], list[Outcome]]:
    """What ``summarise`` was given, from what the stage wrote.

    Raises:
        ValueError: the files do not belong together, or lack something; one line.
    """
    about = {k: v for k, v in evaluation.items() if k not in ("split", "n", "tasks")}
    outcomes: dict[str, Outcome] = {}
    try:
        for key, summary in evaluation["tasks"].items():
            name, task = summary["data"], key.removeprefix(f"{summary['data']}/")
            if name not in outcomes:
                outcomes[name] = Outcome(name, summary["split"], summary["n"], {}, {}, {})
            outcome = outcomes[name]
            outcome.tasks[task] = tuple(summary["classes"])  # type: ignore[index]
            outcome.labels[task] = arrays[f"{key}/labels"]  # type: ignore[index]
            for probe in about["probes"]:
                for encoder, cell in summary[probe].items():
                    result = _result(f"{key}/{probe}/{encoder}", cell, arrays)
                    outcome.results.setdefault((probe, encoder), {})[task] = result  # type: ignore[attr-defined]
    except KeyError as error:
        raise ValueError(f"predictions.npz and evaluation.json: no {error}") from None
    return about, list(outcomes.values())


def _result(key: str, cell: Mapping[str, Any], arrays: Mapping[str, NDArray[np.int64]]) -> Result:
    settings = [
        {k: v for k, v in row.items() if k not in ("held_out", "test")} for row in cell["grid"]
    ]
    curve = [
        Draw(point["labels"], draw, arrays[f"{key}/curve/{point['labels']}/{draw}"])
        for point in cell.get("curve", ())
        for draw in range(len(point["draws"]))
    ]
    return choose(
        tuple(settings),
        arrays[f"{key}/held_out"],
        arrays[f"{key}/held_out_labels"],
        arrays[f"{key}/test"],
        tuple(curve),
    )


def verify(folder: Path, metrics: Path) -> list[str]:
    """Recompute every number of an evaluation from its raw predictions.

    Args:
        folder: of ``evaluation.json`` and ``predictions.npz``.
        metrics: the metrics file; not compared where there is none.

    Returns:
        A line for every file that is not as it was written, and for every number that is not what
        the predictions give.

    Raises:
        ValueError: a file is missing, is damaged, or they do not belong together.
    """
    for name in ("evaluation.json", "predictions.npz"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: no such file; `dvc repro evaluate` makes it")
    names = [n for n in files_of(folder, metrics) if (folder / n).is_file()]
    there = (folder / files.SUMS).is_file()  # of an older version: the numbers must do
    damaged = list(files.differing(folder, names)) if there else []
    try:
        return damaged + _recomputed(folder, metrics)
    except Exception:  # of a damaged file anything may be read
        if damaged:
            return damaged
        raise


def _recomputed(folder: Path, metrics: Path) -> list[str]:
    evaluation = files.read_json(folder / "evaluation.json")
    again = summarise(*restore(evaluation, predictions.read(folder / "predictions.npz")))
    wrong = list(_differences("evaluation.json", evaluation, json.loads(json.dumps(again))))
    if metrics.is_file():
        written = files.read_json(metrics)
        wrong += _differences("metrics.json", written, headline(again))
    return wrong


def _differences(where: str, written: Any, computed: Any) -> list[str]:
    if isinstance(written, dict) and isinstance(computed, dict):
        keys = [*written, *(k for k in computed if k not in written)]
        pairs = [(k, written.get(k), computed.get(k)) for k in keys]
    elif (
        isinstance(written, list) and isinstance(computed, list) and len(written) == len(computed)
    ):
        pairs = [(n, a, b) for n, (a, b) in enumerate(zip(written, computed, strict=True))]
    else:
        same = written == computed
        return [] if same else [f"{where}: {written}, the predictions give {computed}"]
    return [line for key, a, b in pairs for line in _differences(f"{where}: {key}", a, b)]
