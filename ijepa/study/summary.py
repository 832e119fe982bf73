"""Lock file, experiment and scale -> the numbers of ``ijepa.study.numbers``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa.config import PARAMS
from ijepa.runtime import files
from ijepa.study import (
    experiment,
    findings,
    lock,
    numbers,
    origins,
    reach,
    registration,
    statistics,
)
from ijepa.study.experiment import Experiment, Scale
from ijepa.study.findings import Place
from ijepa.study.rows import COUNTED, MEASURED, run_of
from ijepa.study.statistics import Sample, Spread
from ijepa.study.trials import count


def read(
    name: str,
    scale: str,
    folder: Path = experiment.FOLDER,
    standing: Mapping[str, str] | None = None,
) -> numbers.Study:
    """An experiment's numbers at a scale, from the files of a folder alone.

    Args:
        name: of the experiment.
        scale: its scale; without a lock file all runs are missing.
        folder: has the experiment, the scales and the lock files.
        standing: key of a run -> today, vouched or older.

    Raises:
        ValueError: one of the files is wrong.
    """
    chosen, size = experiment.load(name, folder), experiment.load_scale(scale, folder)
    there = "paper" in experiment.names(folder / "scales")
    paper = experiment.load_scale("paper", folder) if there else None
    trials = None
    if chosen.tuned is not None:
        recipes = experiment.load(chosen.tuned, folder)
        default = files.read_yaml(PARAMS)["objective"]["name"]
        trials = count(chosen, recipes, lock.read(chosen.tuned, scale, folder), size, default)
    return collect(chosen, lock.read(name, scale, folder), size, paper, trials, standing or {})


def collect(
    chosen: Experiment,
    locked: Mapping[str, Any],
    scale: Scale,
    paper: Scale | None = None,
    trials: numbers.Trials | None = None,
    standing: Mapping[str, str] | None = None,
) -> numbers.Study:
    """An experiment's numbers.

    Args:
        chosen: the experiment.
        locked: content of its lock file at that scale.
        scale: the scale. The lock file's own seeds count, if it has any: a run can ask for more.
        paper: the paper's scale, to say what is set otherwise.
        trials: what the variants' recipes were chosen from.
        standing: key of a run -> today, vouched or older.
    """
    by = registration.plan(chosen, scale, locked.get("registered"))
    chosen = registration.as_registered(chosen, by)
    seeds = tuple(locked["seeds"]) or chosen.seeds[: scale.seeds]
    points: list[str | None] = list(chosen.points) or [None]
    places = [(variant, point) for point in points for variant in chosen.variants]
    runs, rows = [], []
    for place in places:
        patches = _patches(chosen, scale, *place)
        for seed in seeds:
            run, accuracies = run_of(chosen, locked, *place, seed, patches, standing or {})
            runs.append(run)
            rows += accuracies
    samples = findings.samples(chosen.metric, rows, runs, locked)
    before = findings.untrained(chosen.metric, rows)
    told = findings.judge(by, samples, before, runs, points)
    return numbers.Study(
        **{k: getattr(chosen, k) for k in (
            "name", "title", "question", "table", "source", "metric", "also", "factor", "claim")},
        scale=scale.name, about=scale.about, preset=scale.preset, data=_other_data(chosen, scale),
        trials=trials, settings=tuple(_settings(chosen, scale, paper)), seeds=seeds,
        variants=tuple(
            numbers.Variant(v.name, v.label, {**v.set, **v.at.get(scale.name, {})}, v.points)
            for v in chosen.variants.values()),
        points=tuple(
            numbers.Point(p.name, p.label, p.x, p.equal_compute,
                          {**p.set, **p.at.get(scale.name, {})}, _data(chosen, scale, p.name))
            for p in chosen.points.values()),
        rows=tuple(rows), runs=tuple(runs),
        cells=tuple(_cells(chosen, rows, runs, places, samples, by.seeds)),
        pairs=told.pairs, reach=chosen.reach, reached=tuple(_reached(chosen, rows, runs)),
        compute=told.compute,
        baselines=tuple(_baselines(chosen, rows, points)),
        strays=tuple(sorted(locked["results"].keys() - {run.key for run in runs})),
        design=by.design, verdict=told.verdict, at_points=told.at_points,
        codes=origins.codes(runs, list(chosen.variants)),
        machines=origins.machines(runs), across=origins.across(runs),
        registered=by.registered, exploratory=by.changes,
        encoders=tuple(dict.fromkeys(
            _changes(chosen, scale, *place).get("evaluate.encoder") for place in places)),
    )  # fmt: skip


def _spread(rows: Iterable[numbers.Row], metric: str, encoder: str = "trained") -> Spread:
    return statistics.spread(
        [row.value for row in rows if (row.metric, row.encoder) == (metric, encoder)]
    )


def _learned(rows: Sequence[numbers.Row], metric: str) -> Spread:
    """Trained minus random init, of each run that has both."""
    before = {row.seed: row.value for row in rows
              if (row.metric, row.encoder) == (metric, "random_init")}  # fmt: skip
    return statistics.spread([
        row.value - before[row.seed] for row in rows
        if (row.metric, row.encoder) == (metric, "trained") and row.seed in before
    ])  # fmt: skip


def _reached(
    chosen: Experiment, rows: Iterable[numbers.Row], runs: Sequence[numbers.Run]
) -> Iterator[reach.Reach]:
    """What each variant takes to reach an accuracy, along the budgets that have results.

    Seeds with a result at each of them count.
    """
    values = {(row.variant, row.point, row.seed): row.value for row in rows
              if (row.metric, row.encoder) == (chosen.metric, "trained")}  # fmt: skip
    spent = {(run.variant, run.point, run.seed): run.cost.flops_useful for run in runs}
    budgets = [point for point in chosen.points if any(place[1] == point for place in values)]
    curves: dict[str, dict[int, Sequence[tuple[float, float]]]] = {}
    for variant in chosen.variants:
        seeds = dict.fromkeys(run.seed for run in runs if run.variant == variant)
        places = {seed: [(variant, point, seed) for point in budgets] for seed in seeds}
        curves[variant] = {
            seed: [(float(spent[place] or 0), values[place]) for place in at]
            for seed, at in places.items()
            if all(place in values and spent[place] for place in at)
        }
    if chosen.reach is not None and budgets and any(curves.values()):
        yield from reach.compare(curves, chosen.claim.reference, chosen.reach)


def _cells(
    chosen: Experiment,
    rows: Sequence[numbers.Row],
    runs: Sequence[numbers.Run],
    places: Sequence[Place],
    samples: Mapping[Place, Sample],
    order: Sequence[int],
) -> Iterator[numbers.Cell]:
    """A cell for each variant and point; differences are to the reference's at its point."""
    reference = chosen.claim.reference
    differences = {
        (v, p): statistics.compare(samples[v, p], samples[reference, p], order)
        for v, p in places
        if v != reference
    }
    published = [v.paper for v in chosen.variants.values() if v.paper is not None]
    unpublished = {p.name for p in chosen.points.values() if not p.published}
    task, probe, which = chosen.metric.rsplit(".", 2)
    for name, point in places:
        paper = None if point in unpublished else chosen.variants[name].paper
        here = [row for row in rows if (row.variant, row.point) == (name, point)]
        done = [r for r in runs if (r.variant, r.point) == (name, point) and r.done]
        spent = {k: _mean(getattr(r.cost, k) for r in done) for k in (*COUNTED, *MEASURED)}
        collapsed = tuple(r.seed for r in done if r.collapsed)
        means = {k: _mean(getattr(r, k) for r in done)
                 for k in ("context_ratio", "images", "parameters")}  # fmt: skip
        yield numbers.Cell(
            variant=name, point=point, paper=paper,
            gap=None if paper is None else paper - max(published),
            spread=_spread(here, chosen.metric),
            healthy=_spread((row for row in here if row.seed not in collapsed), chosen.metric),
            difference=differences.get((name, point)), learned=_learned(here, chosen.metric),
            also={metric: _spread(here, metric) for metric in chosen.also},
            random_init=_spread(here, chosen.metric, "random_init").mean,
            pixels=_spread(here, chosen.metric, "pixels").mean,
            knn=None if probe == "knn" else _spread(here, f"{task}.knn.{which}").mean,
            **means, cost=numbers.Cost(**spent),
            pretrain_seconds=_mean(r.seconds["pretrain"] for r in done),
            seconds=_mean(r.total for r in done), health=tuple(r.health for r in done),
            collapsed=collapsed,
        )  # fmt: skip


def _baselines(
    chosen: Experiment, rows: Sequence[numbers.Row], points: Sequence[str | None]
) -> Iterator[numbers.Baseline]:
    """The reference's baselines over seeds, and whether all variants' are the same."""
    for point in points:
        for encoder in numbers.BASELINES:
            here = [r for r in rows if (r.point, r.encoder) == (point, encoder)]
            values = {(r.variant, r.seed): r.value for r in here if r.metric == chosen.metric}
            order = (chosen.claim.reference, *chosen.variants)
            owner = next((v for v in order if any(v == name for name, _ in values)), None)
            if owner is not None:
                own = [row for row in here if row.variant == owner]
                yield numbers.Baseline(
                    point, encoder, owner,
                    all(value == values.get((owner, seed)) for (_, seed), value in values.items()),
                    _spread(own, chosen.metric, encoder),
                    {metric: _spread(own, metric, encoder) for metric in chosen.also},
                )  # fmt: skip


def _settings(chosen: Experiment, scale: Scale, paper: Scale | None) -> Iterator[numbers.Setting]:
    """Keys that neither variants nor points set, where they are not as at the paper's scale."""
    here = {**scale.changes, **chosen.base, **chosen.at.get(scale.name, {})}
    there = {**(paper.changes if paper else {}), **chosen.base, **chosen.at.get("paper", {})}
    varied = set(chosen.factor)
    for point in chosen.points.values():
        varied.update(point.set, *(point.at.get(name, {}) for name in (scale.name, "paper")))
        if point.equal_compute is not None:
            varied.add("train.epochs")
    for key in sorted((here.keys() | there.keys()) - varied):
        if here.get(key) != there.get(key):
            yield numbers.Setting(key, here.get(key), there.get(key))


def _other_data(chosen: Experiment, scale: Scale) -> tuple[str, ...]:
    """Names of the data sets, where they are not the scale's own."""
    names = [_data(chosen, scale, point).get("data.name") for point in chosen.points or [None]]
    known = tuple(str(name) for name in dict.fromkeys(names) if name is not None)
    return known if known != (scale.changes.get("data.name"),) else ()


def _data(chosen: Experiment, scale: Scale, point: str | None) -> dict[str, Any]:
    """What a point's runs learn from, as far as the experiment or the scale says it."""
    keys = _changes(chosen, scale, next(iter(chosen.variants)), point)
    return {k: v for k, v in keys.items() if k.startswith("data.") and k != "data.train_fraction"}


def _patches(chosen: Experiment, scale: Scale, variant: str, point: str | None) -> int | None:
    """Patches of an image, if the experiment or the scale sets all that they come from."""
    keys = _changes(chosen, scale, variant, point)
    side, patch = keys.get("data.image_size"), keys.get("model.patch_size")
    return (side // patch) ** 2 if side and patch else None


def _changes(
    chosen: Experiment, scale: Scale, variant: str, point: str | None
) -> Mapping[str, Any]:
    at = chosen.points[point] if point is not None else None
    return experiment.changes(chosen, scale, chosen.variants[variant], at, 0)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
