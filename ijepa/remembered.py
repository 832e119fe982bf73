"""Probe results kept on disk: an ablation asks for the baselines' in every run of a seed.

A result is named by the features it is computed from, the probe with its settings, the probes'
code and the split; a file is whole or absent, and what is read back is exactly what was computed.
"""

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa import environment, labelled, logistic, probes
from ijepa.probes import Draw, Result, choose


def result(parts: list[Any], compute: Callable[[], Mapping[str, Result]]) -> Mapping[str, Result]:
    """``compute()``, or what it gave before.

    Args:
        parts: everything that the result is a function of but the probes' code, as JSON values.
        compute: task -> result.
    """
    text = json.dumps([*parts, _code()], sort_keys=True)
    folder = environment.home() / "probes"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
    if path.is_file():
        return _read(path)
    found = compute()
    folder.mkdir(parents=True, exist_ok=True)
    _write(path, found)
    return found


@functools.cache
def _code() -> str:
    """Hash of the probes' code, and of what they share."""
    files = sorted(Path(str(probes.__file__)).parent.glob("*.py"))
    files += [Path(str(module.__file__)) for module in (labelled, logistic)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _write(path: Path, found: Mapping[str, Result]) -> None:
    about: dict[str, Any] = {}
    arrays: dict[str, NDArray[np.int64]] = {}
    for number, (task, made) in enumerate(found.items()):
        about[task] = {
            "candidates": [dict(settings) for settings in made.candidates],
            "curve": [[draw.labels, draw.draw] for draw in made.curve],
        }
        arrays |= {
            f"{number} held_out": made.held_out,
            f"{number} held_out_labels": made.held_out_labels,
            f"{number} test": made.test,
            f"{number} curve": np.array([draw.predictions for draw in made.curve], np.int64),
        }
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            text = {"about": np.array(json.dumps(about))}
            np.savez_compressed(file, **text, **arrays)  # type: ignore[arg-type]
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _read(path: Path) -> Mapping[str, Result]:
    with np.load(path) as arrays:
        return {
            task: choose(
                tuple(made["candidates"]),
                arrays[f"{number} held_out"],
                arrays[f"{number} held_out_labels"],
                arrays[f"{number} test"],
                tuple(
                    Draw(labels, draw, predictions)
                    for (labels, draw), predictions in zip(
                        made["curve"], arrays[f"{number} curve"], strict=True
                    )
                ),
            )
            for number, (task, made) in enumerate(json.loads(str(arrays["about"])).items())
        }
