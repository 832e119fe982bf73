"""Results as files with stable bytes: equal results are equal files."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    _replace(path, json.dumps(tree, sort_keys=True, indent=1) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that share their keys, whole or not at all."""
    made = _partial(path)
    with made.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    made.replace(path)


def _replace(path: Path, text: str) -> None:
    made = _partial(path)
    made.write_text(text)
    made.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.tmp")  # two runs may write the same cache
