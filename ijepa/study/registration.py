"""What an experiment will be judged by, frozen before its first run.

The design stands in the lock file, with its hash, before the first cell of it runs. The verdict is
computed by that design whatever the experiment's file says later; what was changed or added since
is exploratory, and named.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ijepa.runtime.records import digest
from ijepa.study import experiment
from ijepa.study.decision import Design
from ijepa.study.experiment import Experiment, Scale
from ijepa.study.numbers import Change

_SINGLE = (  # of a design: one value each; the last three older ones do not have
    "metric", "also", "looks", "error", "seeds", "reach", "text", "by", "equal_compute",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claimed:
    """A pair at a point that somebody claims, and the margin that matters there."""

    better: str
    worse: str
    point: str | None
    margin: float

    @property
    def name(self) -> str:
        """The pair in a line: ``a > b``, or ``a > b at p``."""
        return f"{self.better} > {self.worse}" + (f" at {self.point}" if self.point else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the verdict of an experiment is made by."""

    metric: str
    design: Design
    seeds: tuple[int, ...]  # in the order in which they are added
    pairs: tuple[Claimed, ...]  # whose verdict it is
    exploratory: tuple[Claimed, ...]  # added after the registration
    whose: str  # claim: the paper's, or ours
    registered: str | None  # SHA-256
    changes: tuple[Change, ...]


def design(chosen: Experiment, scale: Scale) -> dict[str, Any]:
    """Everything of an experiment at a scale that a verdict depends on and somebody chooses."""
    return {
        "metric": chosen.metric,
        "also": list(chosen.also),
        "looks": list(chosen.claim.looks),
        "error": chosen.claim.error,
        "seeds": list(chosen.seeds),
        "reach": chosen.reach,
        "text": chosen.claim.text,
        "by": chosen.claim.by,
        "equal_compute": [f"{p.name} as {p.equal_compute}"
                          for p in chosen.points.values() if p.equal_compute],
        "pairs": [[c.better, c.worse, c.point, c.margin] for c in claimed(chosen)],
        "variants": {cell: digest(experiment.changes(chosen, scale, variant, point, 0))
                     for cell, variant, point in experiment.cells(chosen)},
    }  # fmt: skip


def record(chosen: Experiment, scale: Scale, commit: str | None, known: int) -> dict[str, Any]:
    """The entry of a lock file.

    Args:
        chosen: the experiment.
        scale: its scale.
        commit: whose experiment file it is; None where there is no git to tell.
        known: runs of the claimed pairs whose results were there already, from other tables.
    """
    today = design(chosen, scale)
    return {"design": today, "sha256": digest(today), "commit": commit, "known": known}


def claimed(chosen: Experiment) -> list[Claimed]:
    """The claimed pairs at each point where they are claimed."""
    return [
        Claimed(better, worse, name, margin(chosen, name))
        for name in chosen.claim.points or chosen.points or [None]
        for better, worse in chosen.claim.pairs
    ]


def judged(chosen: Experiment) -> set[tuple[str, str | None]]:
    """The variants and points of the claimed pairs: no other cell bears on the verdict."""
    return {(name, c.point) for c in claimed(chosen) for name in (c.better, c.worse)}


def margin(chosen: Experiment, point: str | None) -> float:
    """The smallest difference that matters at a point."""
    own = chosen.points[point].margin if point is not None else None
    return chosen.claim.margin if own is None else own


def plan(chosen: Experiment, scale: Scale, registered: Mapping[str, Any] | None) -> Plan:
    """What the verdict is made by: the registered design where there is one, else today's.

    Args:
        chosen: the experiment as its file has it today.
        scale: its scale.
        registered: the lock file's entry; None: nothing was registered before the first run.

    Raises:
        ValueError: the entry is not what was registered: its hash is another.
    """
    pairs = claimed(chosen)
    claim, order = chosen.claim, chosen.seeds
    if registered is None:
        own = Design(claim.looks, claim.error)
        return Plan(chosen.metric, own, order, tuple(pairs), (), claim.by, None, ())
    frozen = registered["design"]
    if digest(frozen) != registered["sha256"]:
        raise ValueError(
            f"{chosen.name}.{scale.name}.lock.json: registered: it was changed after it was"
            " written; `git log -p` has what was registered"
        )
    first = tuple(Claimed(*one) for one in frozen["pairs"])
    names = {one.name for one in first}
    return Plan(
        frozen["metric"], Design(tuple(frozen["looks"]), frozen["error"]),
        (*frozen["seeds"], *(seed for seed in order if seed not in frozen["seeds"])),
        first, tuple(one for one in pairs if one.name not in names),
        frozen.get("by", claim.by), registered["sha256"],
        tuple(changes(registered, design(chosen, scale))),
    )  # fmt: skip


def changes(registered: Mapping[str, Any], today: Mapping[str, Any]) -> Iterator[Change]:
    """What of a registered design is another one today, key by key."""
    frozen = registered["design"]
    if registered["known"]:
        yield Change("known", "", registered["known"], None)
    if registered.get("replaced"):
        yield Change("replaced", "", registered["replaced"], None)
    for key in _SINGLE:
        if key in frozen and frozen[key] != today[key]:
            yield Change(key, "", frozen[key], today[key])
    margins = [{Claimed(*one).name: one[3] for one in of["pairs"]} for of in (frozen, today)]
    cells = frozen["variants"], today["variants"]
    for key, (before, now) in (("pair", margins), ("variant", cells)):
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                both = name in before and name in now
                yield Change("margin" if both and key == "pair" else key, name,
                             before.get(name), now.get(name))  # fmt: skip


def in_words(change: Change) -> str:
    """A change in a few words, for a line of `ijepa ablate`."""
    what = f"{change.key} {change.name}".strip()
    if change.key == "known":
        return f"{change.registered} results were known before"
    if change.key == "replaced":
        return f"{change.registered} results were replaced by others"
    if change.registered is None or change.today is None:
        return f"{what} {'added' if change.registered is None else 'left out'}"
    if change.key == "variant":
        return f"{what} has other settings"
    return f"{what} {change.registered} -> {change.today}"


def as_registered(chosen: Experiment, by: Plan) -> Experiment:
    """The experiment with the registered metric and whose claim it is.

    Today's metric, if another, stands beside it.
    """
    beside = dict.fromkeys([chosen.metric, *chosen.also])
    also = tuple(metric for metric in beside if metric != by.metric)
    claim = replace(chosen.claim, by=by.whose)
    return replace(chosen, metric=by.metric, also=also, claim=claim)
