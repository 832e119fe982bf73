"""The predictions of a published run in a form small enough to commit, and what they give.

``predictions.npz`` has every candidate's answer to every image: megabytes. Which images the chosen
candidate gets right is a bit each, and gives every accuracy, interval and difference of the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ijepa.evaluation import intervals
from ijepa.results.accuracy import Accuracy
from ijepa.runtime import bits
from ijepa.runtime.files import read_json
from ijepa.runtime.records import plain


def right(evaluation: Mapping[str, Any], rows: Sequence[Accuracy], path: Path) -> dict[str, str]:
    """Task/probe/encoder of each row -> which images it gets right (``ijepa.runtime.bits``).

    Args:
        evaluation: the content of ``evaluation.json``.
        rows: of the table.
        path: of ``predictions.npz``.
    """
    packed = {}
    with np.load(path) as arrays:
        for row in rows:
            cell = evaluation["tasks"][row.task][row.probe].get(row.encoder) or {}
            name = f"{row.task}/{row.probe}/{row.encoder}"
            if "winner" in cell and f"{name}/test" in arrays:
                answers = arrays[f"{name}/test"][cell["winner"]]
                packed[name] = bits.pack(answers == arrays[f"{row.task}/labels"])
    return packed


def verify(path: Path) -> tuple[list[str], int, int]:
    """Compute the accuracies of a published ``results.json`` again.

    From which images are right; of older files, which lack these, the one accuracy whose confusion
    matrix is there.

    Returns:
        A line for each number that is another; how many accuracies hold; how many cannot be
        computed.

    Raises:
        ValueError: it is not of one run; one line.
    """
    results = read_json(path)
    if not isinstance(results, dict) or not isinstance(results.get("table"), list):
        raise ValueError(f"{path}: not of one run; of a table: ijepa verify --tables")
    packed = {name: bits.unpack(text) for name, text in results.get("right", {}).items()}
    matrices = _matrices(results["confusion"])
    wrong, hold, without = list[str](), 0, 0
    for row in results["table"]:
        name = f"{row['task']}/{row['probe']}/{row['encoder']}"
        computed: dict[str, float] = {}
        if name in packed:
            trained = packed.get(f"{row['task']}/{row['probe']}/trained")
            computed = dict(_computed(packed[name], trained))
        elif name in matrices:
            counts = matrices[name]
            computed = {"accuracy": 100 * np.trace(counts) / counts.sum()}
        given = {key: row[key] for key in computed if row.get(key) is not None}
        lines = [f"{name}: {key}: {given[key]}, its answers give {value:.6g}"
                 for key, value in computed.items()
                 if key in given and plain(round(float(value), 4)) != given[key]]  # fmt: skip
        wrong += lines
        hold += bool(computed) and not lines
        without += not computed
    return wrong, hold, without


def _computed(own: Any, trained: Any) -> Iterator[tuple[str, float]]:
    """Accuracy with its interval, and how far the trained encoder's is above it, in percent."""
    low, high = intervals.wilson(int(own.sum()), len(own))
    yield from (("accuracy", 100 * own.mean()), ("low", 100 * low), ("high", 100 * high))
    if trained is not None and trained is not own:
        apart = int((trained & ~own).sum()), int((own & ~trained).sum())
        low, high = intervals.paired_difference(*apart, len(own))
        yield "difference", 100 * (apart[0] - apart[1]) / len(own)
        yield from (("difference_low", 100 * low), ("difference_high", 100 * high))


def _matrices(confusion: Any) -> dict[str, Any]:
    """Task/probe/trained -> counts; an older file has one matrix, not a list."""
    every = confusion if isinstance(confusion, list) else [confusion] if confusion else []
    return {f"{one['task']}/{one['probe']}/trained": np.array(one["counts"]) for one in every}
