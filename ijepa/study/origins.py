"""Of which versions of the code and of which machines the results of a table are."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ijepa.study import numbers


def codes(runs: Sequence[numbers.Run], chosen: Sequence[str]) -> tuple[numbers.Code, ...]:
    """The versions of the code that the results of a table are of, and which variants have them.

    Variants of other objectives reach other code, so unequal hashes alone say nothing. Results are
    of one version if they share a hash or the commit that ran them, or are today's or vouched for.

    Args:
        runs: of the plan.
        chosen: the variants, in the table's order.
    """
    groups: list[tuple[set[str], list[numbers.Run]]] = []
    for run in (run for run in runs if run.done):
        signs = {str(sign) for sign in (run.code, run.baseline) if sign is not None}
        signs |= {"today"} if run.standing in ("today", "vouched") else set()
        alike = [group for group in groups if group[0] & signs]
        groups = [group for group in groups if group not in alike]
        members = [one for group in alike for one in group[1]]
        groups.append((signs.union(*(group[0] for group in alike)), [*members, run]))
    ordered = []
    for _, members in groups:
        variants = {run.variant for run in members}
        commits = tuple(sorted({run.baseline for run in members if run.baseline}))
        ordered.append(numbers.Code(commits,
                                    tuple(v for v in chosen if v in variants)))  # fmt: skip
    return tuple(sorted(ordered, key=lambda code: (-len(code.variants), code.commits)))


def machines(runs: Sequence[numbers.Run]) -> tuple[numbers.Machine, ...]:
    """The kinds of machine that computed the results, most results first; none if all on one.

    A kind is what bits depend on beside code and data: processor, threads, precision, libraries.
    A result of which less is on record is of a kind of its own.
    """
    kinds = [_kind(run) for run in runs if run.done]
    told = {json.dumps(kind, sort_keys=True): kind for kind in kinds}
    if len(told) < 2:
        return ()
    keys = sorted({key for kind in kinds for key in kind})
    differ = [k for k in keys if len({repr(kind.get(k)) for kind in kinds}) > 1]
    found = [
        numbers.Machine({k: kind[k] for k in differ if k in kind}, kinds.count(kind))
        for kind in told.values()
    ]
    return tuple(sorted(found, key=lambda one: (-one.results, repr(one.numerics))))


def across(runs: Sequence[numbers.Run]) -> tuple[int, ...]:
    """Seeds whose runs at a point are not all of one kind of machine: pairs of it mix them."""
    kinds: defaultdict[tuple[str | None, int], list[Mapping[str, Any]]] = defaultdict(list)
    for run in runs:
        if run.done:
            kinds[run.point, run.seed].append(_kind(run))
    mixed = {seed for (_, seed), there in kinds.items() if any(k != there[0] for k in there)}
    return tuple(sorted(mixed))


def _kind(run: numbers.Run) -> Mapping[str, Any]:
    return run.numerics or {"machine": run.machine}
