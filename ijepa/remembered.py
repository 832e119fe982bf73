"""Probe results of the baselines, kept on disk: an ablation asks for them in every run of a seed.

Random initialisation and pixels do not depend on what was pretrained. A result is named by the
features it is computed from, the probe with its code and settings, and the split; a file is whole
or absent, and what is read back is exactly what was computed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ijepa import environment
from ijepa.probes import Result
from ijepa.results import write_json


def result(
    parts: list[Any], code: Path, compute: Callable[[], Mapping[str, Result]]
) -> Mapping[str, Result]:
    """``compute()``, or what it gave before.

    Args:
        parts: everything that the result is a function of but code, as JSON values.
        code: the file of the probe.
        compute: task -> result.
    """
    text = json.dumps([*parts, hashlib.sha256(code.read_bytes()).hexdigest()], sort_keys=True)
    folder = environment.home() / "probes"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    if path.is_file():
        return {
            task: Result(
                np.array(row["predictions"], np.int64),
                row["held_out"],
                row["selected"],
                tuple(row["grid"]),
            )
            for task, row in json.loads(path.read_text()).items()
        }
    found = compute()
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        task: {
            "predictions": made.predictions.tolist(),
            "held_out": made.held_out,
            "selected": dict(made.selected),
            "grid": [dict(row) for row in made.grid],
        }
        for task, made in found.items()
    }
    write_json(path, rows)
    return found
