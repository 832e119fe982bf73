"""Every number of the report in one tree of plain JSON values, from the files of the stages.

What is missing is named in ``missing`` and rendered as missing: only the evaluation must be there.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from ijepa.config import Config, as_tree, signature
from ijepa.pages.run import paper, protocol, provenance, words
from ijepa.store.read import Store

OUT = Path("out")
EVALUATION = OUT / "evaluation" / "evaluation.json"
PREDICTIONS = OUT / "evaluation" / "predictions.npz"
ENCODER = OUT / "encoder.safetensors"
MANY = 30  # classes; the cells of more could not be read


def collect(settings: Config, data: Store | None) -> dict[str, Any]:
    """Gather the results of the run in the working directory.

    Args:
        settings: the run's parameters.
        data: the prepared data set, where there is one.

    Returns:
        The tree of ``results.json``, without what is computed by looking at images.

    Raises:
        ValueError: there is no evaluation, or it cannot be read.
    """
    evaluation = _json(EVALUATION)
    if evaluation is None:
        raise ValueError(f"{EVALUATION}: no such file; `dvc repro evaluate` makes it")
    missing: list[str] = []
    pretrain, history = _json(OUT / "pretrain.json"), _history(OUT / "history.csv")
    for path, found in ((OUT / "pretrain.json", pretrain), (OUT / "history.csv", history),
                        (ENCODER, ENCODER.is_file()), ("data/prepared", data)):  # fmt: skip
        if not found:
            missing.append(f"{path}; what depends on it is left out")
    known = list(
        data.tasks if data else ()
    )  # the data set's order: its first task is the headline
    found = evaluation["tasks"]
    tasks = [t for t in known if t in found] + [t for t in found if t not in known]
    parameters = as_tree(settings)
    rows = table(evaluation, tasks, parameters["evaluate"])
    task = tasks[0] if tasks else ""
    probes = [row["probe"] for row in rows if row["task"] == task]
    probe = "linear" if "linear" in probes else probes[0] if probes else ""
    split, counts = evaluation.get("split", "test"), evaluation.get("n", {})
    losses = (history or {}).get("loss", [])
    broken = sum(value is None for value in losses)
    return {
        "run": {
            "data": settings.data.name,
            "objective": protocol.objective(settings).TITLE,
            "seed": settings.seed,
            "signature": signature(settings),
            "image_size": settings.data.image_size,
            "split": split,
            "counts": counts,
            "images_seen": (pretrain or {}).get("images"),
            "weights": _weights(ENCODER),
            "encoder": evaluation.get("encoder"),
        },
        "headline": {
            "task": task,
            "probe": probe,
            "sentence": words.headline(rows, task, probe, counts.get("test"), split),
            "score": words.score(rows),
        },
        "table": rows,
        "health": {
            "sentence": words.health(pretrain, settings.model.width, broken),
            "end": pretrain,
        },
        "history": history,
        "cost": {
            name: (pretrain or {}).get(name) for name in ("images", "flops", "flops_per_image")
        },
        "paper": paper.tables(rows, settings),
        "few_label": curves(evaluation, rows),
        "confusion": _confusions(evaluation, tasks, probe, missing),
        "protocol": protocol.paragraphs(settings, evaluation, rows),
        "parameters": parameters,
        "provenance": provenance.gather(data),
        "missing": missing,
    }


def table(
    evaluation: Mapping[str, Any], tasks: Sequence[str], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A row for every task, probe and encoder; differences are trained minus the row's encoder.

    Args:
        evaluation: the content of ``evaluation.json``.
        tasks: in their order.
        options: the section ``evaluate`` of the parameters, each probe's options by its name.
    """
    rows = []
    for task in tasks:
        found = evaluation["tasks"][task]
        probes = [p for p in found if isinstance(found[p], dict) and p not in ("differences", "n")]
        for probe in sorted(probes, key=lambda p: (p != "linear", p)):
            for encoder in evaluation.get("encoders") or found[probe]:
                if encoder not in found[probe]:  # pixels have no network to train, for one
                    continue
                cell = found[probe].get(encoder) or {}
                against = found.get("differences", {}).get(probe, {}).get(encoder) or {}
                low, high = _real(against.get("low")), _real(against.get("high"))
                rows.append(
                    {
                        "task": task,
                        "data": found.get("data", ""),
                        "split": found.get("split"),
                        "images": (found.get("n") or {}).get("test"),
                        "probe": probe,
                        "method": words.method(
                            probe, options.get(probe) or {}, options.get("train_fraction", 1.0)
                        ),
                        "options": options.get(probe) or {},
                        "encoder": encoder,
                        "chance": _real(found.get("chance")),
                        "accuracy": _real(cell.get("accuracy")),
                        "low": _real(cell.get("low")),
                        "high": _real(cell.get("high")),
                        "held_out": _real(cell.get("held_out")),
                        "max": _real(cell.get("max_over_candidates")),
                        "selected": cell.get("selected"),
                        "difference": _real(against.get("difference")),
                        "difference_low": low,
                        "difference_high": high,
                        "verdict": words.verdict(low, high),
                    }
                )
    return rows


def _real(value: Any) -> float | None:
    """A finite number, or None for anything that is not one."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def plain(tree: Any) -> Any:
    """JSON values without NaN, floats to six significant digits: rounding noise is no result."""
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if isinstance(tree, float):
        return float(f"{tree:.6g}") if math.isfinite(tree) else None
    return tree


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return plain(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None


def _history(path: Path) -> dict[str, list[float | None]] | None:
    """The columns of the history; a cell that is not a finite number is None."""
    if not path.is_file():
        return None
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "images" not in rows[0]:
        return None
    return {name: [_cell(row[name]) for row in rows] for name in rows[0]}


def _cell(text: str | None) -> float | None:
    try:
        return _real(float(text or "nan"))
    except ValueError:
        return None


def curves(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The few-label curves, each with the table's row that it belongs to."""
    found = []
    for row in rows:
        cell = evaluation["tasks"][row["task"]][row["probe"]].get(row["encoder"]) or {}
        if points := cell.get("curve"):
            about = {key: row[key] for key in ("task", "probe", "method", "encoder", "chance")}
            found.append(about | {"points": points})
    return found


def _confusions(
    evaluation: Mapping[str, Any], tasks: Sequence[str], probe: str, missing: list[str]
) -> list[dict[str, Any]]:
    """The trained encoder's confusion: of the headline's task, and of those that have an order."""
    if not PREDICTIONS.is_file():
        missing.append(f"{PREDICTIONS}; there is no confusion matrix")
        return []
    found = []
    with np.load(PREDICTIONS) as arrays:
        for place, task in enumerate(tasks):
            ordered = paper.last(task) in paper.ORDERED
            classes = evaluation["tasks"][task].get("classes", [])
            name = f"{task}/{probe}/trained/test"
            if (place and not ordered) or name not in arrays or not 1 < len(classes) <= MANY:
                continue
            winner = evaluation["tasks"][task][probe]["trained"]["winner"]
            counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
            np.add.at(counts, (arrays[f"{task}/labels"], arrays[name][winner]), 1)
            about = {"task": task, "probe": probe, "classes": classes, "counts": counts.tolist()}
            found.append(about | {"distance": class_distance(counts) if ordered else None})
    return found


def class_distance(counts: NDArray[np.int64]) -> dict[str, float]:
    """How far predictions of ordered classes are off, in classes; beside always saying one class.

    Args:
        counts: images by true (row) and predicted class (column).

    Returns:
        ``mean`` absolute error; ``constant``, that of the best constant answer; and ``near``, the
        share of images at most one class off.
    """
    apart = np.abs(np.subtract.outer(np.arange(len(counts)), np.arange(len(counts))))
    total = max(int(counts.sum()), 1)
    return {
        "mean": float((counts * apart).sum() / total),
        "constant": float((counts.sum(1) @ apart).min() / total),
        "near": float(counts[apart <= 1].sum() / total),
    }


def _weights(path: Path) -> int | None:
    """How many numbers of the encoder are learned."""
    if not path.is_file():
        return None
    with safe_open(path, framework="np") as file:
        names = [name for name in file.keys() if name != "pos_embed"]  # noqa: SIM118  # no mapping
        return sum(int(math.prod(file.get_slice(name).get_shape())) for name in names)
