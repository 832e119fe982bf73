"""``ijepa evaluate --encoder``: any encoder, under the probes of ``params.yaml``."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from ijepa import config as configs
from ijepa import presets
from ijepa.evaluation import run
from ijepa.evaluation.probing import Job
from ijepa.runtime import files
from ijepa.store import cache, read


def evaluate(encoder: str, changes: Mapping[str, str], folder: Path | None) -> Path:
    """Evaluate any encoder, outside the pipeline, with ``params.yaml``'s probes.

    Args:
        encoder: its spec, see ``ijepa.backbones.load``.
        changes: dotted keys of ``params.yaml`` -> values as YAML text. The data set is
            ``data/prepared``; where one of the keys is of ``data``, it is prepared in the cache.
        folder: where to write; ``out/evaluations/<encoder>`` when None.

    Returns:
        The folder, with ``evaluation.json``, ``predictions.npz`` and ``metrics.json``.

    Raises:
        ValueError: an encoder, a key, a value or the data cannot be used; one line.
    """
    tree = files.read_yaml(configs.PARAMS)
    values = {key: _value(key, text) for key, text in changes.items()}
    presets.apply(tree, values, "-S")
    config = configs.parse(tree, "-S" if changes else str(configs.PARAMS))
    own = any(key.startswith("data.") for key in changes)
    prepared = cache.prepared(config.data) if own else read.PREPARED
    folder = folder or Path("out/evaluations", re.sub(r"[^\w.-]+", "_", encoder))
    run.evaluate(
        Job(config, encoder, prepared), folder, folder / "metrics.json", sys.stdout.isatty()
    )
    return folder


def _value(key: str, text: str) -> Any:
    """The value of a change; what is no YAML at all the key's own range cannot refuse."""
    try:
        return files.parse_yaml(text)
    except (YAMLError, RecursionError, ValueError):  # the last: a day of a thirteenth month
        raise ValueError(
            f"-S: {key}: {text!r} is not YAML, such as cifar10, 0.2 or [linear, knn]"
        ) from None
