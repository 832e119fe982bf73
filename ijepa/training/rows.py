"""What the training process hands to the one that records it (``ijepa.pretrain``).

That one only waits: it needs no torch, so this file does not either.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VARIABLE = "_IJEPA_ROWS"  # names the file to which rank 0 appends


def emit(row: Mapping[str, Any]) -> None:
    """Hand a row over.

    Either numbers of a step, for the series; or what the run's bits depend on in this machine,
    ``{"numerics": {...}}`` (``environment.numerics``); or what it took, ``{"cost": {...}}``
    (``ijepa.training.meter.Spent``); or why it failed, ``{"failed": ..., "status": ...}``.
    """
    if not (path := os.environ.get(VARIABLE)):
        return
    line = json.dumps(row).encode() + b"\n"
    with Path(path).open("ab", buffering=0) as file:
        before = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) == len(line):
                return
            reason = "no room for a whole line"
        except OSError as error:  # the record is hurt; training is not
            reason = error.strerror or str(error)
        file.truncate(before)  # half a line would hurt the next one too
    print(f"note: a row of the record is lost: {path}: {reason}", flush=True)
