"""Where two runs part: the first step of their histories, the first tensor, the numbers."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from ijepa.runtime.records import plain

History = Mapping[str, Sequence[float | None]]  # column -> a value for every logged step


def history(path: Path) -> dict[str, list[float | None]]:
    """The columns of a ``history.csv``; an empty cell is None."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {k: [float(row[k]) if row[k] else None for row in rows] for k in (rows or [{}])[0]}


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
