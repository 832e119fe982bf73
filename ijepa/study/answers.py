"""Which test images a run got right, as a lock file keeps it: images are a sample too."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ijepa.runtime import files
from ijepa.runtime.bits import pack, unpack
from ijepa.study.experiment import FOLDER, names
from ijepa.study.statistics import Right


def asked() -> list[str]:
    """The metrics on test images that any experiment asks for; runs are shared between them."""
    trees = [files.read_yaml(FOLDER / f"{name}.yaml") for name in names()]
    metrics = {metric for tree in trees for metric in (tree.get("metric"), *tree.get("also", ()))}
    return sorted(metric for metric in metrics if str(metric).endswith(".trained"))


def read(
    evaluation: Mapping[str, Any], predictions: Path, metrics: Iterable[str]
) -> dict[str, str]:
    """What the trained encoder's selected candidate got right, packed, for each metric.

    A metric whose task or probe the run does not have is left out.

    Args:
        evaluation: content of ``evaluation.json``.
        predictions: ``predictions.npz``; ``ijepa.evaluation.scores`` names its arrays.
        metrics: dotted, ``TASK.PROBE.trained``.
    """
    packed = {}
    with np.load(predictions) as arrays:
        for metric in metrics:
            task, probe, encoder = metric.rsplit(".", 2)
            cell = evaluation["tasks"].get(task, {}).get(probe, {}).get(encoder)
            name = f"{task}/{probe}/{encoder}/test"
            if cell and name in arrays:
                packed[metric] = pack(arrays[name][cell["winner"]] == arrays[f"{task}/labels"])
    return packed


def verify(results: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], int, int]:
    """Compute the accuracies of a lock file's cells again from which images they got right.

    Args:
        results: key of a run -> its result, as a lock file has them.

    Returns:
        A line for each accuracy that is another; how many hold; how many of the trained encoders'
        have no such record, as in older lock files.
    """
    wrong, hold, without = list[str](), 0, 0
    for key, result in sorted(results.items()):
        for task, probes in (result.get("metrics") or {}).items():
            for probe, values in probes.items():
                metric = f"{task}.{probe}.trained"
                text = (result.get("right") or {}).get(metric)
                if text is None:
                    without += "trained" in values
                    continue
                computed = percent(unpack(text))
                if computed == values.get("trained"):
                    hold += 1
                else:
                    line = f"{key}: {metric}: {values.get('trained')}, its answers give {computed}"
                    wrong.append(line)
    return wrong, hold, without


def percent(right: Right) -> float:
    """The share that is right, rounded as ``metrics.json`` has it: first to four digits."""
    return round(round(100 * float(right.mean()), 4), 2)
