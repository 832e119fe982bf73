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
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")
