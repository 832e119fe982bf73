"""Probe results kept on disk: an ablation asks for the baselines' in every run of a seed.

A result is named by everything it is a function of: features, labels, settings, the code of the
probe and of the protocol around it, and what computes. A file is whole or absent, a damaged one is
computed again, and what is read back is exactly what was computed.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa import variants
from ijepa.probes import Draw, Result, choose
from ijepa.runtime import environment, files


def result(
    parts: list[Any], probe: str, compute: Callable[[], Mapping[str, Result]]
) -> Mapping[str, Result]:
    """``compute()``, or what it gave before.

    Args:
        parts: what the result is a function of, as JSON values: features, labels, settings.
        probe: the file of ``probes``; its code and what computes it name the result too.
        compute: task -> result.
    """
    entries = "evaluation.probing", f"probes.{probe}"
    made_by = [variants.code(*entries), variants.libraries(*entries), environment.arithmetic()]
    text = json.dumps([*parts, probe, *made_by], sort_keys=True)
    folder = environment.home() / "probes"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz"
    if files.whole(path):
        return _read(path)
    results = compute()
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(folder)
    _write(path, results)
    return results


def _write(path: Path, results: Mapping[str, Result]) -> None:
    about: dict[str, Any] = {}
    arrays: dict[str, NDArray[np.int64]] = {}
    for number, (task, result) in enumerate(results.items()):
        about[task] = {
            "candidates": [dict(settings) for settings in result.candidates],
            "curve": [[draw.labels, draw.draw] for draw in result.curve],
        }
        arrays |= {
            f"{number} held_out": result.held_out,
            f"{number} held_out_labels": result.held_out_labels,
            f"{number} test": result.test,
            f"{number} curve": np.array([draw.predictions for draw in result.curve], np.int64),
        }
    text = {"about": np.array(json.dumps(about))}
    with files.replacing(path) as partial:
        with partial.open("wb") as file:
            np.savez_compressed(file, **text, **arrays)  # type: ignore[arg-type]
        files.seal(partial)


def _read(path: Path) -> Mapping[str, Result]:
    with np.load(io.BytesIO(files.unsealed(path))) as arrays:
        return {
            task: choose(
                tuple(saved["candidates"]),
                arrays[f"{number} held_out"],
                arrays[f"{number} held_out_labels"],
                arrays[f"{number} test"],
                tuple(
                    Draw(labels, draw, predictions)
                    for (labels, draw), predictions in zip(
                        saved["curve"], arrays[f"{number} curve"], strict=True
                    )
                ),
            )
            for number, (task, saved) in enumerate(json.loads(str(arrays["about"])).items())
        }
