"""What the training process hands to the one that records it (``ijepa.pretrain``).

That one only waits: it needs no torch, so this file does not either.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "_IJEPA_ROWS"  # names the file to which rank 0 appends


_waiting: list[str] = []  # lines that the disk has not taken yet


def emit(row: Mapping[str, Any]) -> None:
    """Hand a row over; a disk that does not take it hurts the record alone, and is tried again.

    Either numbers of a step, for the series; or checksums of the weights after it, ``{"step": ...,
    "trail": {...}}`` (``ijepa.training.trail``); or what the run's bits depend on in this machine,
    ``{"numerics": {...}}`` (``environment.numerics``); or what it took, ``{"cost": {...}}``
    (``ijepa.training.meter.Spent``); or why it failed, ``{"failed": ..., "status": ...}``.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    told = bool(_waiting)
    _waiting.append(json.dumps(row) + "\n")
    try:
        _append(Path(path), "".join(_waiting))
    except OSError as error:
        if not told:
            print(
                f"note: {path}: {error.strerror}: the record of this run waits; it trains on",
                flush=True,
            )
    else:
        _waiting.clear()


def _append(path: Path, text: str) -> None:
    """Append all of a text or nothing: the reader takes whole lines."""
    with path.open("ab", buffering=0) as file:
        size, data = file.seek(0, os.SEEK_END), text.encode()
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(size)
            raise
