"""Which test images a run got right, as a lock file keeps it: images are a sample too."""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ijepa.runtime import files
from ijepa.study.experiment import FOLDER, names
from ijepa.study.statistics import Right


def asked(folder: Path = FOLDER) -> list[str]:
    """The metrics on test images that any experiment asks for; runs are shared between them."""
    trees = [files.read_yaml(folder / f"{name}.yaml") for name in names(folder)]
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


def pack(right: Right) -> str:
    """Bits as text: their number, and base64 of them, eight to a byte."""
    return f"{len(right)}:{base64.b64encode(np.packbits(right).tobytes()).decode()}"


def unpack(text: str) -> Right:
    """The bits that ``pack`` made a text of."""
    count, _, packed = text.partition(":")
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8), count=int(count))
    return bits.astype(np.bool_)
