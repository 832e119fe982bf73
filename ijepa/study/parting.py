"""Where two runs part: the first step of their weights or histories, the first tensor, numbers."""

import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from ijepa.runtime import files
from ijepa.runtime.records import plain
from ijepa.tracking.runs import TRAIL

_DIGITS = 8  # of a checksum

History = Mapping[str, Sequence[float | None]]  # column -> a value for every logged step


def history(path: Path) -> dict[str, list[float | None]]:
    """The columns of a ``history.csv``; an empty cell is None."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {k: [float(row[k]) if row[k] else None for row in rows] for k in (rows or [{}])[0]}


def trail(folder: Path) -> dict[str, list[Any]] | None:
    """What a lock file keeps of a training run's trail: a checksum of all weights for each step.

    Args:
        folder: of the run in a journal; None where it has no trail.
    """
    file = folder / TRAIL
    if not file.is_file():
        return None
    sums = files.read_json(file)["sums"]
    whole = [f"{zlib.crc32(digits.encode()):08x}" for digits in sums.values()]
    return {"steps": [int(step) for step in sums], "sums": whole}


def first_weights(
    before: Mapping[str, Sequence[Any]], recorded: Sequence[Path], here: Path
) -> str:
    """The first logged step after which the weights differ, and the first tensor; "" if none.

    Args:
        before: as of ``trail``, on record.
        recorded: folders one of which may be the recorded run's, whose trail names tensors.
        here: the folder of the run that was repeated.
    """
    after = trail(here)
    if after is None:
        return ""
    sums = dict(zip(after["steps"], after["sums"], strict=True))
    equal = ""
    for step, digits in zip(before["steps"], before["sums"], strict=True):
        if step in sums and sums[step] != digits:
            tensor = next((t for folder in recorded if (t := _tensor(folder, here, step))), "")
            return f"the weights of step {step}{equal}" + (f": {tensor}" if tensor else "")
        equal = f", equal up to step {step}"
    return ""


def _tensor(before: Path, after: Path, step: int) -> str:
    """The first tensor that differs after a step, if both folders have a trail; "" if not."""
    if not (before / TRAIL).is_file():
        return ""
    old, new = (files.read_json(folder / TRAIL) for folder in (before, after))
    pairs = [_split(one["sums"].get(str(step), "")) for one in (old, new)]
    apart = [name for name, a, b in zip(old["names"], *pairs, strict=False) if a != b]
    return f"{apart[0]}, the first of {len(apart)} of {len(old['names'])} tensors" if apart else ""


def _split(digits: str) -> list[str]:
    return [digits[i : i + _DIGITS] for i in range(0, len(digits), _DIGITS)]


def first_step(before: History, after: History) -> str:
    """The first logged step at which two histories differ, and in what; "" where none does.

    A published history has six digits of each number, and of the other one as many count.
    """
    before, after = plain(before), plain(after)
    columns = [name for name in before if name in after]
    lengths = len(before["step"]), len(after["step"])
    for row in range(min(lengths)):
        apart = {k: (before[k][row], after[k][row]) for k in columns}
        apart = {k: pair for k, pair in apart.items() if pair[0] != pair[1]}
        if apart:
            step = before["step"][row]
            earlier = f", equal up to step {before['step'][row - 1]:g}" if row else ""
            pairs = ", ".join(f"{k} {a} recorded, {b} here" for k, (a, b) in apart.items())
            return f"step {step:g}{earlier}: {pairs}"
    if lengths[0] != lengths[1]:
        return f"after {min(lengths)} equal rows: {lengths[0]} recorded, {lengths[1]} here"
    return ""


def first_tensor(before: Path, after: Path) -> str:
    """The first tensor, in the order of its file, in which two encoders differ; "" if none."""
    with safe_open(before, "np") as old, safe_open(after, "np") as new:
        names = list(old.keys())
        if set(names) != set(new.keys()):
            return f"other tensors: {', '.join(sorted(set(names) ^ set(new.keys())))}"
        apart = {}
        for name in names:
            one, other = old.get_tensor(name), new.get_tensor(name)
            if one.shape != other.shape:
                return f"{name}: of shape {one.shape} recorded, {other.shape} here"
            if not np.array_equal(one, other):
                apart[name] = float(np.abs(one - other).max())
    if not apart:
        return ""
    first = next(iter(apart))
    return (
        f"{first}, the first of {len(apart)} of {len(names)} tensors, by at most"
        f" {apart[first]:.3g}; all of them by at most {max(apart.values()):.3g}"
    )


def numbers(before: Any, after: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees differ: dotted key, value recorded and here; only keys that both have."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() & after.keys()):
            yield from numbers(before[key], after[key], f"{where}.{key}" if where else key)
    elif before is not None and after is not None and before != after:
        yield where, before, after
