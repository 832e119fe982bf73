"""How long runs may take, from what others of the same experiment took."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ijepa import presets
from ijepa.study import lock
from ijepa.study.experiment import Scale
from ijepa.study.plan import Run


def seconds(
    todo: Sequence[Run],
    tables: Mapping[str, Sequence[Run]],
    scale: Scale,
    tree: Mapping[str, Any],
) -> float:
    """Of the runs together, one after another.

    A run takes the median of its cell's other seeds; in a cell without any, as long for each image
    that it sees as the experiment's median run; where none was timed, what the scale says.

    Args:
        todo: each of them is in a table.
        tables: the runs of each experiment.
        scale: of all.
        tree: the parameters that the runs' changes are of.
    """
    params, left, total = presets.leaves(tree), {run.identity for run in todo}, 0.0
    for name, runs in tables.items():
        took, rates = _took(name, scale), list[float]()
        cells = defaultdict[tuple[str, str | None], list[float]](list)
        for run in runs:
            if run.key in took:
                cells[run.variant, run.point].append(took[run.key])
                rates.append(took[run.key] / _images({**params, **run.changes}))
        for run in runs:
            if run.identity in left:
                left.remove(run.identity)
                if same := cells.get((run.variant, run.point)):
                    total += statistics.median(same)
                elif rates:
                    images = _images({**params, **run.changes})
                    total += images * statistics.median(rates)
                else:
                    total += 60 * scale.minutes
    return total


def _took(name: str, scale: Scale) -> dict[str, float]:
    """Seconds of each run that a lock file has, by key; data are prepared once for all."""
    locked = lock.read(name, scale.name)
    stages = {k: locked["provenance"][k]["seconds"] for k, result in locked["results"].items()
              if result["status"] == "done"}  # fmt: skip
    return {
        key: sum(took for stage, took in each.items() if stage != "prepare")
        for key, each in stages.items()
        if each
    }


def _images(params: Mapping[str, Any]) -> float:
    """Images that are seen; of data sets that count themselves, in units of their size."""
    size = params["data.train_images"] or 1
    return float(params["train.epochs"] * params["data.train_fraction"] * size)
