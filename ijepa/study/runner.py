"""``ijepa ablate``: plan the runs of experiments, run those not known yet, write lock files."""

import importlib
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, errors, files
from ijepa.study import answers, bench, job, local, lock, plan, registration
from ijepa.study.experiment import Experiment, Scale, cells, load, load_scale, names
from ijepa.study.plan import Run

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
) -> int:
    """Run experiments and write their lock files.

    The seeds are the scale's first ones; those beyond that a lock file has keep their results.

    Args:
        wanted: names of experiments; all of them when empty.
        scale_name: a file of ``experiments/scales``.
        only: variants, or ``variant@point``, to run; all when empty.
        seeds: seeds to run, of those that the scale or the lock file has; the scale's when empty.
        jobs: runs at once; 0: one for each GPU, else one.
        runner: ``local`` or ``slurm``: a file of this package each, with ``run``.
        dry_run: print the plan and run nothing.

    Returns:
        0, or 1 when a run failed.

    Raises:
        ValueError: an experiment file, an argument or the working tree is not fit to run.
    """
    scale = load_scale(scale_name)
    experiments = [load(name) for name in wanted or names()]
    at_points = {cell for e in experiments for cell, _, _ in cells(e)}
    _check_choice("--only", only, sorted(at_points.union(*(e.variants for e in experiments))))
    counts = {e.name: _planned(e, scale) for e in experiments}
    possible = {str(s) for e in experiments for s in e.seeds[: counts[e.name]]}
    _check_choice("--seeds", [str(seed) for seed in seeds], sorted(possible, key=int))
    tree = plan.committed_params()
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
    jobs = jobs or max(1, len(local.visible_gpus()))
    for e in experiments:
        announce(e, scale)
    once = plan.unique(chosen)
    results = known_results(once)
    todo = [run for run in once if not known(run, results)]
    print(_summary(tables, chosen, once, todo, scale, jobs))
    if dry_run:
        for name, runs in tables.items():
            for run in runs:
                if run in chosen:
                    print(f"  {_state(run, todo, results)}  {name}  {run.key}  {run.name}")
        return 0
    complete(experiments, tables, chosen, scale, jobs, runner)
    return report(chosen, tables, scale)


def _planned(experiment: Experiment, scale: Scale) -> int:
    """Of an experiment's seeds, how many the scale and the lock file have."""
    locked = lock.read(experiment.name, scale.name)["seeds"]
    there = [number for number, seed in enumerate(experiment.seeds, 1) if seed in locked]
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
    jobs: int, runner: str,
) -> None:  # fmt: skip
    """Register what was not yet, run what of the chosen runs is not known, write lock files.

    Args:
        experiments: those of the tables.
        tables: all runs of each, as its lock file is to have them.
        chosen: the runs that are wanted.
        scale: of all.
        jobs: runs at once.
        runner: ``local`` or ``slurm``.

    Raises:
        ValueError: the working tree is not that of a commit.
    """
    once = plan.unique(chosen)
    results = known_results(once)
    todo = [run for run in once if not known(run, results)]
    fresh = [e for e in experiments if lock.unregistered(e.name, scale.name)]
    if todo or fresh:
        plan.refuse_dirty_tree()
    commit = plan.git("rev-parse", "HEAD").strip()
    for e in fresh:
        before = known_results(tables[e.name])
        there = sum(known(run, before) for run in tables[e.name])
        lock.register(e.name, scale.name, registration.record(e, scale, commit, there))
    try:
        label = "+".join(tables) if len(tables) < 4 else "all"
        if todo:
            execute(todo, f"{label}.{scale.name}", jobs, runner)
    finally:  # what is finished is kept, however this ends
        for name, runs in tables.items():
            lock.write(name, scale.name, runs, known_results(runs))


def _check_choice(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for value in given:
        if value not in known:
            raise ValueError(f"{option}: {value!r} is not one of {', '.join(known)}")


def _result_file(name: str) -> Path:
    return bench.folder() / "results" / f"{name}.json"


def known_results(runs: Sequence[Run]) -> Results:
    """What is known of the runs: results of jobs of this checkout, and of the lock files."""
    results = lock.known()
    for run in runs:
        result = job.read(_result_file(run.name))
        if result and (result["signature"], result["code"]) == run.identity:
            results.setdefault(run.identity, result)
    return results


def known(run: Run, results: Results) -> bool:
    """Whether a run has a good result, of today's code or vouched for."""
    return results.get(run.identity, {}).get("status") == "done"


def execute(
    todo: Sequence[Run], label: str, jobs: int, runner: str = "local", commit: str = "HEAD"
) -> dict[str, dict[str, Any] | None]:
    """Prepare each data set once, then run every job; prints a line for each that ends.

    Args:
        todo: the runs.
        label: names the files of the plan and its logs.
        jobs: runs at once.
        runner: ``local`` or ``slurm``.
        commit: whose code runs.

    Returns:
        The runs' names -> what each left; None where it did not run to its end.
    """
    start = importlib.import_module(f"ijepa.study.{runner}").run
    commit, cached = plan.git("rev-parse", commit).strip(), bench.cache()
    with files.locked((bench.folder() / f"bench-{commit[:12]}").with_suffix(".lock")):
        path = bench.make(commit, cached)  # waits for jobs of a runner that was killed
    shared = {
        "bench": str(path),
        "cache": str(cached),
        "commit": commit,
        "variables": {
            "IJEPA_HOME": str(environment.home()),
            "IJEPA_DATA_ROOT": str(environment.data_root()),
        },
    }
    logs, metrics = bench.folder() / f"{label}.logs", answers.asked()

    def spec(run: Run, name: str, target: str, signature: str, part: str = "") -> dict[str, Any]:
        return {
            "name": name,
            "changes": {k: v for k, v in run.changes.items() if k.startswith(part)},
            "target": target,
            "signature": signature,
            "code": run.code,
            "result": str(_result_file(name)),
            "log": str(logs / f"{name}.log"),
            "right": metrics,
        }

    data = {
        run.data: spec(run, f"data-{run.data[:12]}-{run.code[:4]}", "prepare", run.data, "data.")
        for run in reversed(todo)
    }
    runs = [spec(run, run.name, "evaluate", run.signature) for run in todo]
    for stage, group in (("prepare", list(data.values())), ("runs", runs)):
        file = bench.folder() / f"{label}.{stage}.json"
        files.write_json(file, {**shared, "jobs": group})
        watch = _Watch(group, titles={run.name: run.key for run in todo})
        start(file, len(group), jobs, watch.look)
        if stage == "prepare":
            watch.refuse_failure()
    return {run.name: job.read(_result_file(run.name)) for run in todo}


class _Watch:
    """Prints a line for each job that ends, with what is left."""

    def __init__(self, group: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> None:
        self.group, self.titles, self.start = group, titles, time.time()
        self.seen = {spec["name"]: job.written(spec) for spec in group}
        # data that was prepared before: the job will find it
        there = {spec["name"]: job.read(Path(spec["result"])) for spec in group}
        self.ended = {name: r for name, r in there.items() if r and r["status"] == "done"}

    def look(self) -> None:
        for spec in self.group:
            name = spec["name"]
            if name not in self.ended and job.written(spec) != self.seen[name]:
                result = job.read(Path(spec["result"]))
                assert result is not None
                self.ended[name] = result
                self._line(spec, result)

    def _line(self, spec: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        ended, count = len(self.ended), len(self.group)
        seconds = (time.time() - self.start) / ended * (count - ended)
        left = f"; {count - ended} left, about {timedelta(seconds=round(seconds))}"
        failed = f"FAILED: {result['reason']} ({spec['log']})"
        words = "done" if result["status"] == "done" else failed
        title = self.titles.get(spec["name"], spec["name"])
        print(f"[{ended}/{count}] {title}: {words}{left if seconds else ''}", flush=True)

    def refuse_failure(self) -> None:
        for spec in self.group:
            result = self.ended.get(spec["name"])
            if result and result["status"] != "done":
                raise errors.Failure(f"prepare: {result['reason']} ({spec['log']})")


def _summary(
    tables: Tables, chosen: Sequence[Run], once: Sequence[Run], todo: Sequence[Run],
    scale: Scale, jobs: int,
) -> str:  # fmt: skip
    estimate = f", about {about(tables, len(todo), scale, jobs)}" if todo else ""
    return (
        f"{scale.name}: {len(tables)} experiments, {len(chosen)} cells, {len(once)} runs"
        f" ({len(chosen) - len(once)} shared): {len(todo)} to do, {len(once) - len(todo)} known"
        f"{estimate}"
    )


def about(tables: Collection[str], runs: int, scale: Scale, jobs: int) -> str:
    """How long so many runs of the experiments may take, as a text."""
    locks = [lock.read(name, scale.name) for name in tables]
    timed = [
        sum(content["provenance"][key]["seconds"].values())
        for content in locks
        for key, result in content["results"].items()
        if result["status"] == "done" and content["provenance"][key]["seconds"]
    ]
    seconds = statistics.median(timed) if timed else 60 * scale.minutes
    return f"{timedelta(seconds=round(seconds * runs / jobs))} with {jobs} at once"


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
