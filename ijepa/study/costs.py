"""What runs took, as their lock file has it, and where accuracy can be drawn against it."""

from collections.abc import Mapping, Sequence
from typing import Any

Tree = Mapping[str, Any]
COUNTED = ("flops", "flops_per_image")  # a result: equal runs have equal numbers
MEASURED = ("device_seconds", "energy_joules", "peak_memory_gib")  # of this very run
_APART = 1.05  # budgets that differ by less are one


def of(pretrain: Tree, provenance: Tree) -> dict[str, Any]:
    """The cost of a run; None where its lock file is older, or nothing reports it.

    Args:
        pretrain: of its results.
        provenance: its entry there; ``cost`` is an ``ijepa.training.meter.Spent``.
    """
    spent = provenance.get("cost") or {}
    return {
        **{key: pretrain.get(key) for key in COUNTED},
        **{key: spent.get(key) for key in MEASURED},
    }


def groups(results: Tree) -> list[list[str | None]]:
    """Names of points whose runs learn from the same data, in the page's order.

    Accuracies are compared with each other along a line, so a line stays within one data set.
    """
    found: dict[Any, list[str | None]] = {}
    for point in results["points"] or [{"name": None, "data": None}]:
        found.setdefault(repr(point["data"]), []).append(point["name"])
    return list(found.values())


def differ(cells: Sequence[Tree]) -> bool:
    """Whether total FLOPs are known, and differ enough to be an axis."""
    known = [cell["flops"] for cell in cells if cell["mean"] is not None and cell["flops"]]
    return len(known) > 1 and max(known) > _APART * min(known)
