"""Experiment files and scale files, read and checked: ``experiments/*.yaml``.

An experiment says what varies and what is claimed; a scale says how large the runs are. Both are
dotted keys over ``params.yaml``. Of a key that several places set, the last one counts::

    params.yaml < scale < base < at[scale] < point.set < point.at[scale]
                < variant.set < variant.at[scale] < seed

Where a ``preset`` is named, its keys come before the others of the same place; of a variant's
preset those of the factor count and no others, since all variants share the rest. At a point of
equal compute, ``ijepa.study.budget`` then sets the epochs. Everything that can be wrong in a
file is found here, before anything runs, except the values of the dotted keys:
``ijepa.config.parse`` checks those.
"""

import itertools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ijepa import presets, strict, variants
from ijepa.config import PARAMS
from ijepa.runtime import errors, files
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
    at: Mapping[str, _Dotted]  # scale -> keys over `set`
    paper: float | None  # the published number, percent


@dataclass(frozen=True, slots=True)
class Point:
    """A setting at which every variant runs: it sets no key of the factor."""

    name: str  # as in the file and in `variant@point/seed`
    label: str  # as in a chart
    set: _Dotted  # at every scale
    at: Mapping[str, _Dotted]  # scale -> keys over `set`
    x: float | None  # place on a chart's axis
    equal_compute: str | None  # variant whose total FLOPs all get by other numbers of epochs
    published: bool  # whether the variants' published numbers are of such runs


@dataclass(frozen=True, slots=True)
class Experiment:
    """One file of ``experiments/``; presets are expanded."""

    name: str  # the file's
    title: str
    question: str
    table: int | None  # number of the paper's table
    source: str  # of the published numbers, with the protocol they were measured by; or Ours
    metric: str  # dotted path in out/metrics.json, percent
    factor: tuple[str, ...]  # dotted keys under study
    seeds: tuple[int, ...]  # in the order in which scales take them
    base: _Dotted  # of all variants, at every scale
    at: Mapping[str, _Dotted]  # scale -> keys of all variants
    variants: Mapping[str, Variant]  # by name, in the file's order
    points: Mapping[str, Point]  # the same; empty when there are none
    claim: Claim
    also: tuple[str, ...]  # further metrics; a data set may lack their tasks
    tuned: str | None  # the experiment whose runs are the trials of the variants' recipes


@dataclass(frozen=True, slots=True)
class Scale:
    """One file of ``experiments/scales/``."""

    name: str  # the file's
    about: str
    seeds: int  # how many of an experiment's seeds run
    minutes: float  # of a run, before any was timed
    preset: str | None
    changes: _Dotted  # the preset's keys included


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
            "at": dict, "points": dict, "also": tuple[str, ...], "tuned": str,
        },
    )  # fmt: skip
    known = presets.leaves(files.read_yaml(PARAMS))
    keys = known, folder
    rows = strict.named(got.pop("variants"), f"{where}: variants")
    factor = _factor(got.pop("factor", None), rows, where, *keys)
    found = {
        key: _variant(key, value, f"{where}: variants.{key}", *keys, factor)
        for key, value in rows.items()
    }
    points = {
        key: _point(key, value, f"{where}: points.{key}", *keys, list(found))
        for key, value in strict.named(got.pop("points", {}), f"{where}: points").items()
    }
    base = _merged(got.pop("base", {}), f"{where}: base", *keys)
    at = _scales(got.pop("at", {}), f"{where}: at", *keys)
    claim = claims.parse(got.pop("claim"), f"{where}: claim", list(found))
    also, tuned = got.pop("also", ()), got.pop("tuned", None)
    if tuned is not None:
        strict.one_of(tuned, f"{where}: tuned", [one for one in names(folder) if one != name])
    table, source = got.pop("table", None), got.pop("source", None)
    if source is None and (table is not None or any(v.paper is not None for v in found.values())):
        raise ValueError(
            f"{where}: source: missing; a text is needed, whence the paper's numbers are"
        )
    experiment = Experiment(
        name, **got, table=table, source=source or "Ours", factor=factor, base=base, at=at,
        variants=found, points=points, claim=claim, also=also, tuned=tuned,
    )  # fmt: skip
    _check_together(experiment, where, known)
    return experiment


def load_scale(name: str, folder: Path = FOLDER) -> Scale:
    """Read and check ``folder/scales/name.yaml``.

    Raises:
        ValueError: one line that names file, key, value and what is allowed.
    """
    where, tree = _open(name, folder / "scales", "scale")
    own = {key: tree.pop(key) for key in list(tree) if "." in str(key)}
    kinds = {"about": str, "seeds": int, "minutes": float}
    got = strict.take(tree, where, kinds, {"preset": str})
    for key in ("seeds", "minutes"):
        if got[key] <= 0:
            raise ValueError(f"{where}: {key}: {got[key]:g} is not a number above 0")
    preset = got.pop("preset", None)
    before = _preset(preset, where, folder) if preset else {}
    known = presets.leaves(files.read_yaml(PARAMS))
    return Scale(
        name, **got, preset=preset, changes={**before, **presets.dotted(own, where, known)}
    )


def changes(
    experiment: Experiment, scale: Scale, variant: Variant, point: Point | None, seed: int
) -> dict[str, Any]:
    """The dotted keys of one run, ``seed`` among them, presets expanded."""
    merged = {**scale.changes, **experiment.base, **experiment.at.get(scale.name, {})}
    for row in (point, variant) if point else (variant,):
        merged |= {**row.set, **row.at.get(scale.name, {})}
    return {**merged, "seed": seed}


def _open(name: str, folder: Path, what: str) -> tuple[str, dict[str, Any]]:
    """The file's path in words, and its content."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        there = names(folder)
        hint = errors.closest(name, there) or f"; there are {', '.join(there)}"
        raise ValueError(f"{path}: no such {what}{hint}")
    strict.check_name(name, str(path))
    return str(path), files.read_yaml(path)


def _factor(
    given: Collection[str] | None, rows: Mapping[str, Mapping[Any, Any]], where: str,
    known: _Dotted, folder: Path,
) -> tuple[str, ...]:  # fmt: skip
    """The dotted keys under study.

    A section among the ``given`` ones stands for those of its keys that a variant sets. Where
    nothing is given it is what the variants set; presets under ``at`` say how large a scale's runs
    are, and add no key.
    """
    variants = {
        name: _variant(name, tree, f"{where}: variants.{name}", known, folder)
        for name, tree in rows.items()
    }
    if given is None:
        named = [[*v.set, *itertools.chain(*rows[v.name].get("at", {}).values())]
                 for v in variants.values()]  # fmt: skip
        return tuple(dict.fromkeys(k for k in itertools.chain(*named) if k != "preset"))
    settable = list(dict.fromkeys(itertools.chain(*map(_keys, variants.values()))))
    expanded: list[str] = []
    for key in given:
        inside = [one for one in settable if one.startswith(f"{key}.")]
        expanded += inside or [key]
    return tuple(expanded)


def _variant(
    name: str, tree: Mapping[Any, Any], where: str, known: _Dotted, folder: Path,
    factor: Collection[str] | None = None,
) -> Variant:  # fmt: skip
    got = strict.take(
        tree, where, {"set": dict}, {"label": str, "at": dict, "paper": float | None}
    )
    own = _merged(got["set"], f"{where}.set", known, folder, factor)
    at = _scales(got.get("at", {}), f"{where}.at", known, folder, factor)
    return Variant(name, got.get("label", name.replace("_", " ")), own, at, got.get("paper"))


def _point(
    name: str, tree: Mapping[Any, Any], where: str, known: _Dotted, folder: Path,
    variants: Collection[str],
) -> Point:  # fmt: skip
    optional = {"label": str, "x": float | None, "at": dict, "equal_compute": str,
                "published": bool}  # fmt: skip
    got = strict.take(tree, where, {"set": dict}, optional)
    own = _merged(got["set"], f"{where}.set", known, folder)
    at = _scales(got.get("at", {}), f"{where}.at", known, folder)
    if "equal_compute" in got:
        strict.one_of(got["equal_compute"], f"{where}.equal_compute", variants)
    more = got.get("equal_compute"), got.get("published", True)
    return Point(name, got.get("label", name.replace("_", " ")), own, at, got.get("x"), *more)


def _scales(
    tree: Mapping[Any, Any], where: str, known: _Dotted, folder: Path,
    factor: Collection[str] | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Scale -> dotted keys."""
    made = {}
    for scale, value in strict.named(tree, where).items():
        strict.one_of(scale, where, names(folder / "scales"))
        made[scale] = _merged(value, f"{where}.{scale}", known, folder, factor)
    return made


def _merged(
    tree: Mapping[Any, Any], where: str, known: _Dotted, folder: Path,
    factor: Collection[str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Dotted keys, after those of the preset that may be named; of a variant's, the factor's."""
    own = dict(tree)
    before = _preset(own.pop("preset"), where, folder) if "preset" in own else {}
    if factor is not None:
        before = {key: value for key, value in before.items() if key in factor}
    return {**before, **presets.dotted(own, where, known)}


def _preset(name: Any, where: str, folder: Path) -> dict[str, Any]:
    strict.one_of(name, f"{where}: preset", names(folder / "presets"))
    return presets.load(name, folder / "presets")[1]


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
    presets.dotted(dict.fromkeys(factor), f"{where}: factor", known)
    for point in experiment.points.values():
        for key in _keys(point):
            if key in factor:
                raise ValueError(f"{where}: points.{point.name}: {key}: is in factor")
    for variant in experiment.variants.values():
        here = f"{where}: variants.{variant.name}"
        for key in _keys(variant):
            if key not in factor:
                raise ValueError(f"{here}: {key}: is not in factor: {', '.join(factor)}")
        if variant.paper is not None and not 0 <= variant.paper <= 100:
            raise ValueError(f"{here}: paper: {variant.paper:g} is not a percentage")
    for key in factor:
        if not any(key in _keys(variant) for variant in experiment.variants.values()):
            raise ValueError(f"{where}: factor: {key}: no variant sets it")


def _keys(row: Variant | Point) -> list[str]:
    """Every dotted key that a row sets at some scale, in the file's order."""
    return list(dict.fromkeys([*row.set, *itertools.chain(*row.at.values())]))


def refuse_equals(
    experiment: Experiment, scale: Scale, params: _Dotted, folder: Path = FOLDER
) -> None:
    """Two variants, or points, of the same settings would be one run under two names.

    Not so of two points that differ in how long is trained: at equal compute each variant has
    epochs of its own, and the one that the others are held against is the same run at both.

    Args:
        experiment: of ``folder``.
        scale: at which it is to run; at another, a user's own, its variants may well be equal.
        params: the dotted keys of ``params.yaml``.

    Raises:
        ValueError: one line that names the two.
    """
    seen: list[tuple[str, tuple[str | None, dict[str, Any]]]] = []
    for point in experiment.points.values() or [None]:
        for variant in experiment.variants.values():
            cell = f"{variant.name}@{point.name}" if point else variant.name
            dotted = {**params, **changes(experiment, scale, variant, point, 0)}
            settings = (point.equal_compute if point else None), dotted
            for other, same in seen:
                if settings == same:
                    raise ValueError(
                        f"{folder / experiment.name}.yaml: variants: {other} and {cell} are the"
                        f" same settings at scale {scale.name}; each must differ"
                    )
            seen.append((cell, settings))
