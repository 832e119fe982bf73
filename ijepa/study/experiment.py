"""Experiment files and scale files, read and checked: ``experiments/*.yaml``.

An experiment says what varies and what is claimed; a scale says how large the runs are. Both are
dotted keys over ``params.yaml``. Of a key that several places set, the last one counts::

    params.yaml < scale < base < at[scale] < point.set < point.at[scale]
                < variant.set < variant.points[point] < variant.at[scale] < seed

Where a ``preset`` is named, its keys come before the others of the same place; of a variant's
preset those of the factor count and no others, since all variants share the rest. At a point of
equal compute, ``ijepa.study.budget`` then sets the epochs. Everything that can be wrong in a
file is found here, before anything runs, except the values of the dotted keys:
``ijepa.config.parse`` checks those.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ijepa import presets, strict, variants
from ijepa.config import PARAMS
from ijepa.runtime import errors, files
from ijepa.seeds import PARTS
from ijepa.study import claims
from ijepa.study.claims import Claim

FOLDER = Path("experiments")

_Dotted = Mapping[str, Any]  # dotted key -> value


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of a table: it sets keys of the factor and no other."""

    name: str  # as in the file and in `variant/seed`
    label: str  # as in a table
    set: _Dotted  # at every scale
    at: Mapping[str, _Dotted]  # scale -> keys over `set`, and over those of `points`
    points: Mapping[str, _Dotted] = field(default_factory=dict)  # point -> keys over `set`
    paper: float | None = None  # the published number, percent


@dataclass(frozen=True, slots=True)
class Point:
    """A setting at which every variant runs: it sets no key of the factor."""

    name: str  # as in the file and in `variant@point/seed`
    label: str  # as in a chart
    set: _Dotted  # at every scale
    at: Mapping[str, _Dotted]  # scale -> keys over `set`
    x: float | None = None  # place on a chart's axis
    equal_compute: str | None = None  # variant whose FLOPs all get by other numbers of epochs
    published: bool = True  # whether the variants' published numbers are of such runs
    margin: float | None = None  # of the claim at this point; None: the claim's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One file of ``experiments/``; presets are expanded."""

    name: str  # the file's
    title: str
    question: str
    table: int | None = None  # number of the paper's table
    source: str = "Ours"  # of the published numbers, with the protocol they were measured by
    metric: str  # dotted path in out/metrics.json, percent
    factor: tuple[str, ...]  # dotted keys under study
    seeds: tuple[int, ...]  # in the order in which scales take them
    base: _Dotted  # of all variants, at every scale
    at: Mapping[str, _Dotted]  # scale -> keys of all variants
    variants: Mapping[str, Variant]  # by name, in the file's order
    points: Mapping[str, Point]  # the same; empty when there are none
    claim: Claim
    also: tuple[str, ...] = ()  # further metrics; a data set may lack their tasks
    reach: float | None = None  # percent: an accuracy whose price in FLOPs is compared
    tuned: str | None = None  # the experiment whose runs are the trials of the variants' recipes


@dataclass(frozen=True, slots=True)
class Scale:
    """One file of ``experiments/scales/``."""

    name: str  # the file's
    about: str
    seeds: int  # how many of an experiment's seeds run
    minutes: float  # of a run, before any was timed
    changes: _Dotted  # the preset's keys included
    preset: str | None = None
    jobs_per_gpu: int = 1  # runs at once: small models leave most of a GPU idle


def names(folder: Path = FOLDER) -> list[str]:
    """The experiments that there are, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load(name: str, folder: Path = FOLDER) -> Experiment:
    """Read and check ``folder/name.yaml``.

    Raises:
        ValueError: one line that names file, key, value and what is allowed.
    """
    where, tree = _open(name, folder, "experiment")
    got = strict.take(
        tree,
        where,
        {
            "title": str, "question": str, "metric": str, "seeds": tuple[int, ...],
            "variants": dict, "claim": dict,
        },
        {
            "table": int | None, "source": str, "factor": tuple[str, ...], "base": dict,
            "at": dict, "points": dict, "also": tuple[str, ...], "tuned": str, "reach": float,
        },
    )  # fmt: skip
    keys = _Keys(presets.leaves(files.read_yaml(PARAMS)), folder)
    rows = strict.named(got["variants"], f"{where}: variants")
    got["factor"] = _factor(got.get("factor"), rows, where, keys)
    of_factor = replace(keys, factor=got["factor"])
    got["variants"] = {key: of_factor.variant(key, row, where) for key, row in rows.items()}
    points = strict.named(got.get("points", {}), f"{where}: points")
    got["points"] = {key: keys.point(key, row, where) for key, row in points.items()}
    got["base"] = keys.read(got.get("base", {}), f"{where}: base")
    got["at"] = keys.by_scale(got.get("at", {}), f"{where}: at")
    got["claim"] = claims.parse(got["claim"], f"{where}: claim", list(rows), list(points))
    if "tuned" in got:
        others = [one for one in names(folder) if one != name]
        strict.one_of(got["tuned"], f"{where}: tuned", others)
    published = [one for one in got["variants"].values() if one.paper is not None]
    if "source" not in got and (published or got.get("table") is not None):
        raise ValueError(
            f"{where}: source: missing; a text is needed, whence the paper's numbers are"
        )
    experiment = Experiment(name=name, **got)
    _check_together(experiment, where, keys.known)
    return experiment


def load_scale(name: str, folder: Path = FOLDER) -> Scale:
    """Read and check ``folder/scales/name.yaml``.

    Raises:
        ValueError: one line that names file, key, value and what is allowed.
    """
    where, tree = _open(name, folder / "scales", "scale")
    own = {key: tree.pop(key) for key in list(tree) if "." in str(key)}
    kinds = {"about": str, "seeds": int, "minutes": float}
    got = strict.take(tree, where, kinds, {"preset": str, "jobs_per_gpu": int})
    for key in ("seeds", "minutes", "jobs_per_gpu"):
        if got.get(key, 1) <= 0:
            raise ValueError(f"{where}: {key}: {got[key]:g} is not a number above 0")
    keys = _Keys(presets.leaves(files.read_yaml(PARAMS)), folder)
    before = keys.preset(got["preset"], where) if "preset" in got else {}
    return Scale(name, **got, changes={**before, **presets.dotted(own, where, keys.known)})


def cells(experiment: Experiment) -> Iterator[tuple[str, Variant, Point | None]]:
    """Every variant at every point, under its name: ``variant``, or ``variant@point``."""
    for point in experiment.points.values() or [None]:
        for variant in experiment.variants.values():
            yield f"{variant.name}@{point.name}" if point else variant.name, variant, point


def changes(
    experiment: Experiment, scale: Scale, variant: Variant, point: Point | None, seed: int
) -> dict[str, Any]:
    """The dotted keys of one run, ``seed`` among them, presets expanded.

    Every part of the randomness follows the seed, unless the experiment fixes it.
    """
    follow = {f"seeds.{part}": None for part in PARTS}
    merged = {**follow, **scale.changes, **experiment.base, **experiment.at.get(scale.name, {})}
    if point:
        merged |= {**point.set, **point.at.get(scale.name, {})}
    own = variant.points.get(point.name, {}) if point else {}
    return {**merged, **variant.set, **own, **variant.at.get(scale.name, {}), "seed": seed}


def _open(name: str, folder: Path, what: str) -> tuple[str, dict[str, Any]]:
    """The file's path in words, and its content."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        there = names(folder)
        hint = errors.closest(name, there) or f"; there are {', '.join(there)}"
        raise ValueError(f"{path}: no such {what}{hint}")
    strict.check_name(name, str(path))
    return str(path), files.read_yaml(path)


@dataclass(frozen=True, slots=True)
class _Keys:
    """How the dotted keys of a file are read, those of the presets that it names included."""

    known: _Dotted  # the keys of params.yaml
    folder: Path  # of the experiments, whose presets and scales may be named
    factor: Collection[str] | None = None  # of a preset's keys, these alone count; None: all

    def variant(self, name: str, tree: Mapping[Any, Any], where: str) -> Variant:
        optional = {"label": str, "at": dict, "points": dict, "paper": float | None}
        here = f"{where}: variants.{name}"
        row = self._row(name, tree, here, optional)
        points = strict.named(row.pop("points", {}), f"{here}.points")
        own = {point: self.read(keys, f"{here}.points.{point}") for point, keys in points.items()}
        return Variant(**row, points=own)

    def point(self, name: str, tree: Mapping[Any, Any], where: str) -> Point:
        optional = {"label": str, "x": float | None, "at": dict, "equal_compute": str,
                    "published": bool, "margin": float}  # fmt: skip
        row = Point(**self._row(name, tree, f"{where}: points.{name}", optional))
        if row.margin is not None:
            claims.check_margin(row.margin, f"{where}: points.{name}.margin")
        return row

    def _row(
        self, name: str, tree: Mapping[Any, Any], where: str, optional: Mapping[str, Any]
    ) -> dict[str, Any]:
        got = strict.take(tree, where, {"set": dict}, optional)
        own = self.read(got["set"], f"{where}.set")
        at = self.by_scale(got.get("at", {}), f"{where}.at")
        return {"name": name, "label": name.replace("_", " "), **got, "set": own, "at": at}

    def by_scale(self, tree: Mapping[Any, Any], where: str) -> dict[str, dict[str, Any]]:
        """Scale -> dotted keys."""
        keys = {}
        for scale, value in strict.named(tree, where).items():
            strict.one_of(scale, where, names(self.folder / "scales"))
            keys[scale] = self.read(value, f"{where}.{scale}")
        return keys

    def read(self, tree: Mapping[Any, Any], where: str) -> dict[str, Any]:
        """Dotted keys, after those of the preset that may be named."""
        own = dict(tree)
        before = self.preset(own.pop("preset"), where) if "preset" in own else {}
        if self.factor is not None:
            before = {key: value for key, value in before.items() if key in self.factor}
        return {**before, **presets.dotted(own, where, self.known)}

    def preset(self, name: Any, where: str) -> dict[str, Any]:
        strict.one_of(name, f"{where}: preset", names(self.folder / "presets"))
        return presets.load(name, self.folder / "presets")[1]


def _factor(
    given: Collection[str] | None, rows: Mapping[str, Mapping[Any, Any]], where: str, keys: _Keys
) -> tuple[str, ...]:
    """The dotted keys under study.

    A section among the ``given`` ones stands for those of its keys that a variant sets. Where
    nothing is given it is what the variants set; presets under ``at`` say how large a scale's runs
    are, and add no key.
    """
    variants = [keys.variant(name, tree, where) for name, tree in rows.items()]
    if given is None:
        named = [[*v.set, *itertools.chain(*rows[v.name].get("at", {}).values())]
                 for v in variants]  # fmt: skip
        return tuple(dict.fromkeys(k for k in itertools.chain(*named) if k != "preset"))
    settable = dict.fromkeys(itertools.chain(*map(_keys, variants)))
    inside = {key: [one for one in settable if one.startswith(f"{key}.")] for key in given}
    return tuple(itertools.chain(*(inside[key] or [key] for key in given)))


def _check_together(experiment: Experiment, where: str, known: _Dotted) -> None:
    """The rules that tie several keys together, and the ranges of single ones."""
    factor, probes = experiment.factor, variants.names("probes")
    form = rf"[a-z][a-z0-9_]*\.({'|'.join(probes)})\.(trained|held_out)"
    for key, metric in [("metric", experiment.metric), *(("also", m) for m in experiment.also)]:
        if not re.fullmatch(form, metric):
            raise ValueError(
                f"{where}: {key}: {metric!r} is not TASK.PROBE.trained or TASK.PROBE.held_out,"
                f" PROBE one of {', '.join(probes)}"
            )
    metrics = experiment.metric, *experiment.also
    if len(set(metrics)) < len(metrics):
        raise ValueError(f"{where}: also: {list(experiment.also)} names one twice, or the metric")
    for key, values in (("factor", factor), ("seeds", experiment.seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f"{where}: {key}: {list(values)} is empty or names one twice")
    if min(experiment.seeds) < 0:
        raise ValueError(f"{where}: seeds: {min(experiment.seeds)} is not a whole number >= 0")
    claim, count = experiment.claim, len(experiment.seeds)
    if claim.pairs and claim.looks[-1] > count:
        last = claim.looks[-1]
        raise ValueError(f"{where}: claim.looks: {last} is the last, and `seeds` has {count}")
    presets.dotted(dict.fromkeys(factor), f"{where}: factor", known)
    if experiment.reach is not None and not 0 < experiment.reach < 100:
        allowed = "a percentage above 0 and below 100"
        raise ValueError(f"{where}: reach: {experiment.reach:g} is not {allowed}")
    if experiment.reach is not None and len(experiment.points) < 2:
        raise ValueError(f"{where}: reach: two points at least are needed, which are budgets")
    for point in experiment.points.values():
        here = f"{where}: points.{point.name}"
        if point.equal_compute is not None:
            strict.one_of(point.equal_compute, f"{here}.equal_compute", experiment.variants)
        for key in _keys(point):
            if key in factor:
                raise ValueError(f"{here}: {key}: is in factor")
    for variant in experiment.variants.values():
        here = f"{where}: variants.{variant.name}"
        for name in variant.points:
            strict.one_of(name, f"{here}.points", experiment.points)
        for key in _keys(variant):
            if key not in factor:
                raise ValueError(f"{here}: {key}: is not in factor: {', '.join(factor)}")
        if variant.paper is not None and not 0 <= variant.paper <= 100:
            raise ValueError(f"{here}: paper: {variant.paper:g} is not a percentage")
    set_ = set(itertools.chain(*map(_keys, experiment.variants.values())))
    for key in factor:
        if key not in set_:
            raise ValueError(f"{where}: factor: {key}: no variant sets it")


def _keys(row: Variant | Point) -> list[str]:
    """Every dotted key that a row sets at some scale or point, in the file's order."""
    own = row.points.values() if isinstance(row, Variant) else ()
    return list(dict.fromkeys([*row.set, *itertools.chain(*own, *row.at.values())]))
