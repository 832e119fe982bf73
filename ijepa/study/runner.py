"""``ijepa ablate``: plan the runs of experiments, run those not known yet, write lock files."""

import importlib
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa.runtime import durations, files
from ijepa.runtime.records import digest
from ijepa.study import (
    answers,
    bench,
    bundle,
    forecast,
    job,
    local,
    lock,
    outcome,
    plain,
    plan,
    registration,
)  # fmt: skip
from ijepa.study.experiment import Experiment, Scale, cells, load, load_scale, names
from ijepa.study.plan import Run
from ijepa.study.watch import TimeIsUp, Watch

Results = dict[tuple[str, str], dict[str, Any]]  # by identity of the run
Tables = Mapping[str, Sequence[Run]]  # by experiment


def ablate(
    wanted: Sequence[str],
    scale_name: str,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
    jobs: int = 0,
    runner: str = "local",
    dry_run: bool = False,
    seconds: float = math.inf,
) -> int:
    """Run experiments and write their lock files.

    The seeds are the scale's first ones; those beyond that a lock file has keep their results.

    Args:
        wanted: names of experiments; all of them when empty.
        scale_name: a file of ``experiments/scales``.
        only: variants, or ``variant@point``, to run; all when empty.
        seeds: seeds to run, of all that the experiment has; the scale's when empty.
        jobs: runs at once; 0: what the scale says for each GPU, else one.
        runner: ``local``, ``slurm`` or ``plain``: a file of this package each, with ``run``.
        dry_run: print the plan and run nothing.
        seconds: after which to stop; what has ended is kept, the rest goes on the next time.

    Returns:
        0, or 1 when a run failed.

    Raises:
        ValueError: an experiment file, an argument or the working tree is not fit to run.
    """
    until, scale = time.monotonic() + seconds, load_scale(scale_name)
    experiments = [load(name) for name in wanted or names()]
    at_points = {cell for e in experiments for cell, _, _ in cells(e)}
    _check_choice("--only", only, sorted(at_points.union(*(e.variants for e in experiments))))
    possible = {str(s) for e in experiments for s in e.seeds}
    _check_choice("--seeds", [str(seed) for seed in seeds], sorted(possible, key=int))
    counts = {e.name: planned(e, scale, seeds) for e in experiments}
    # a box without git has but the working tree
    tree = files.read_yaml(configs.PARAMS) if runner == "plain" else plan.committed_params()
    tables = {
        e.name: plan.resolve(e, replace(scale, seeds=counts[e.name]), tree) for e in experiments
    }
    chosen = [
        run
        for e in experiments
        for run in tables[e.name]
        if not only or {run.variant, run.key.rpartition("/")[0]} & set(only)
        if run.seed in (seeds or e.seeds[: scale.seeds])
    ]
    jobs = jobs or local.jobs(scale.jobs_per_gpu)
    for e in experiments:
        announce(e, scale)
    once = plan.unique(chosen)
    results = known_results(once)
    todo = [run for run in once if not known(run, results)]
    whole = forecast.seconds(todo, tables, scale, tree)
    estimate = f", {durations.about(whole / jobs)} with {jobs} at once" if todo else ""
    print(
        f"{scale.name}: {len(tables)} experiment{'s' if len(tables) != 1 else ''},"
        f" {len(chosen)} cells, {len(once)} runs ({len(chosen) - len(once)} shared):"
        f" {len(todo)} to do, {len(once) - len(todo)} known{estimate}"
    )
    if dry_run:
        for name, runs in tables.items():
            for run in runs:
                if run in chosen:
                    print(f"  {_state(run, todo, results)}  {name}  {run.key}  {run.name}")
        return 0
    complete(experiments, tables, chosen, scale, jobs, runner, until)
    return report(chosen, tables, scale)


def planned(experiment: Experiment, scale: Scale, also: Collection[int]) -> int:
    """Of an experiment's seeds, how many the scale and the lock file have, or ``also`` has."""
    wanted = {*lock.read(experiment.name, scale.name)["seeds"], *also}
    there = [number for number, seed in enumerate(experiment.seeds, 1) if seed in wanted]
    return max([scale.seeds, *there])


def announce(experiment: Experiment, scale: Scale) -> None:
    """Print a line where the lock file was registered otherwise, or not before its first run."""
    locked = lock.read(experiment.name, scale.name)
    by = registration.plan(experiment, scale, locked.get("registered"))
    if by.changes:
        words = "; ".join(registration.in_words(change) for change in by.changes)
        print(f"{experiment.name}: exploratory, not as registered: {words}")
    elif by.registered is None and locked["results"] and experiment.claim.pairs:
        print(f"{experiment.name}: exploratory, it was not registered before its first run")


def complete(
    experiments: Sequence[Experiment], tables: Tables, chosen: Sequence[Run], scale: Scale,
    jobs: int, runner: str, until: float = math.inf,
) -> None:  # fmt: skip
    """Register what was not yet, run what of the chosen runs is not known, write lock files.

    Args:
        experiments: those of the tables.
        tables: all runs of each, as its lock file is to have them.
        chosen: the runs that are wanted.
        scale: of all.
        jobs: runs at once.
        runner: ``local``, ``slurm`` or ``plain``, which also bundles what ran.
        until: when to stop, as ``time.monotonic`` counts.

    Raises:
        ValueError: the working tree is not that of a commit. ``plain`` runs it all the same, and
            ``ijepa import`` compares.
    """
    once, every = plan.unique(chosen), [run for runs in tables.values() for run in runs]
    results = known_results(every)
    todo = [run for run in once if not known(run, results)]
    fresh = [e for e in experiments if lock.unregistered(e.name, scale.name)]
    if runner != "plain" and (todo or fresh):
        plan.refuse_dirty_tree()
    commit = plan.head()
    for e in fresh:
        record = registration.record(e, scale, commit, seen(e, scale, runner))
        lock.register(e.name, scale.name, record)
    label = f"{'+'.join(tables) if len(tables) < 4 else 'all'}.{scale.name}"
    try:
        if todo:
            execute(todo, label, jobs, runner, until=until, data=prepared(every, results))
    finally:  # what is finished is kept, however this ends
        for name, runs in tables.items():
            lock.write(name, scale.name, runs, known_results(runs))
        if runner == "plain":
            print(bundle.write(bench.folder() / f"{label}.tar.gz", tables, scale))


def seen(experiment: Experiment, scale: Scale, runner: str) -> int:
    """How many runs of the claimed pairs somebody may have seen, with any of the seeds.

    Those of other tables, of any code, and those that an earlier version of its own had.
    """
    tree = files.read_yaml(configs.PARAMS) if runner == "plain" else plan.committed_params()
    runs = plan.resolve(experiment, replace(scale, seeds=len(experiment.seeds)), tree)
    judged, shown = registration.judged(experiment), lock.published(experiment.name, scale.name)
    told = [run for run in runs if (run.variant, run.point) in judged]
    before = {signature for signature, _ in known_results(told)}
    return sum(run.signature in before or run.key in shown for run in told)


def _check_choice(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for value in given:
        if value not in known:
            raise ValueError(f"{option}: {value!r} is not one of {', '.join(known)}")


def known_results(runs: Sequence[Run]) -> Results:
    """What is known of the runs: results of jobs of this checkout, and of the lock files."""
    results = lock.known()
    for run in runs:
        if result := job.own(bench.result(run.name), *run.identity):
            results.setdefault(run.identity, result)
    return results


def known(run: Run, results: Results) -> bool:
    """Whether a run has a good result, of today's code or vouched for."""
    return results.get(run.identity, {}).get("status") == "done"


def prepared(runs: Sequence[Run], results: Results) -> dict[str, str]:
    """What good results have as the hash of their prepared data, by what those are a function of.

    Raw data that were exchanged under their path give others, and no table is of both.
    """
    return {
        run.data: data
        for run in runs
        if known(run, results) and (data := results[run.identity].get("data"))
    }


def execute(
    todo: Sequence[Run], label: str, jobs: int, runner: str = "local", commit: str = "HEAD",
    until: float = math.inf, data: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any] | None]:  # fmt: skip
    """Prepare each data set once, then run every job; prints a line for each that ends.

    Args:
        todo: the runs.
        label: names the files of the plan and its logs.
        jobs: runs at once.
        runner: ``local``, ``slurm`` or ``plain``.
        commit: whose code runs; not with ``plain``, which runs the working tree's.
        until: when to stop, as ``time.monotonic`` counts.
        data: what their prepared data must be, as of ``prepared``; any others are possible.

    Returns:
        The runs' names -> what each left; None where it did not run to its end.
    """
    start = importlib.import_module(f"ijepa.study.{runner}").run
    whole = plain.shared() if runner == "plain" else bench.shared(commit)
    sets, runs = _specs(todo, label, runner)
    lost: dict[str, str] = {}
    try:
        for stage, group in (("prepare", sets), ("runs", runs)):
            watch = Watch(group, {run.name: run.key for run in todo}, until)
            for one in group:
                if one["needs"] in lost:
                    why = f"prepare: {lost[one['needs']]}"
                    file = Path(one["result"])
                    file.parent.mkdir(exist_ok=True)
                    files.write_json(file, outcome.failed(whole, one, why))
            going = [one for one in group if one["needs"] not in lost]
            content = {**whole, "jobs": going}
            # jobs read it when they start: a plan of other jobs must not take its place
            mark = digest(content)
            file = bench.folder() / f"{label}.{stage}.{mark[:8]}.json"
            files.write_json(file, content)
            if going:
                start(file, len(going), jobs, watch.look)
            watch.look()
            lost = watch.failed() | _of_other_data(watch.ended, sets, data or {})
    except TimeIsUp as stop:
        # the last look is after the jobs have saved: a signal may have stopped them before
        if stop.__context__ is not None and not isinstance(stop.__context__, TimeIsUp):
            raise stop.__context__ from None
        print(stop, flush=True)
    return {run.name: job.own(bench.result(run.name), *run.identity) for run in todo}


def _of_other_data(
    ended: Mapping[str, Mapping[str, Any]], sets: Sequence[Mapping[str, Any]],
    data: Mapping[str, str],
) -> dict[str, str]:  # fmt: skip
    """Of the jobs that prepared other data than known results have: name -> why they are lost."""
    lost = {}
    for one in sets:
        now, then = ended.get(one["name"], {}).get("data"), data.get(one["signature"])
        if now and then and now != then:
            lost[one["name"]] = (
                "the raw data in IJEPA_DATA_ROOT are not those of the results that are known, or"
                f" IJEPA_STORAGE is another: the data hash is {now[:12]}, it was {then[:12]}"
            )
    return lost


def _specs(
    todo: Sequence[Run], label: str, runner: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The jobs of a plan: those that prepare data, one for each data set, and the runs'."""
    logs, metrics = bench.folder() / f"{label}.logs", answers.asked()
    first = {run.data: run for run in reversed(todo)}
    named = {data: f"data-{data[:12]}-{run.code[:4]}" for data, run in first.items()}

    def spec(run: Run, name: str, target: str, signature: str, part: str = "") -> dict[str, Any]:
        # without DVC prepared data lie in the folder of their job, and their result with them
        beside = runner == "plain" and target == "prepare"
        return {
            "name": name,
            "changes": {k: v for k, v in run.changes.items() if k.startswith(part)},
            "target": target,
            "needs": None if target == "prepare" else named[run.data],
            "signature": signature,
            "code": run.code,
            "result": str(plain.result(name) if beside else bench.result(name)),
            "log": str(logs / f"{name}.log"),
            "right": metrics,
        }

    data = [spec(run, named[run.data], "prepare", run.data, "data.") for run in first.values()]
    return data, [spec(run, run.name, "evaluate", run.signature) for run in todo]


def _state(run: Run, todo: Sequence[Run], results: Results) -> str:
    if known(run, results):
        return "known "
    return "to do " if run in todo else "shared"


def report(chosen: Sequence[Run], tables: Tables, scale: Scale) -> int:
    """Print which cells failed or are missing; returns the exit status."""
    results = known_results(plan.unique(chosen))
    bad = [run for run in chosen if not known(run, results)]
    for run in bad:
        why = results.get(run.identity, {}).get("reason") or "it did not run to its end"
        print(f"failed: {run.key} ({run.name}): {why}")
    for name in tables:
        print(
            f"{lock.path(name, scale.name)}; `ijepa report --ablation {name} --scale {scale.name}`"
        )
    return 1 if bad else 0
