"""``ijepa ablate``: plan the runs of experiments, run those not known yet, write lock files."""

import importlib
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, errors, files
from ijepa.study import bench, job, lock, plan
from ijepa.study.experiment import Experiment, Scale, load, load_scale, names
from ijepa.study.plan import Run

Results = dict[tuple[str, str], dict[str, Any]]  # by signature and code


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

    Args:
        wanted: names of experiments; all of them when empty.
        scale_name: a file of ``experiments/scales``.
        only: variants, or ``variant@point``, to run; all when empty.
        seeds: seeds to run, of those that the scale has; all when empty.
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
    cells = {name for e in experiments for v in e.variants for name in (v, *_at_points(e, v))}
    _check_choice("--only", only, sorted(cells))
    possible = sorted({str(s) for e in experiments for s in e.seeds[: scale.seeds]}, key=int)
    _check_choice("--seeds", [str(seed) for seed in seeds], possible)
    tree = plan.committed_params()
    tables = {e.name: plan.resolve(e, scale, tree) for e in experiments}
    chosen = [
        run
        for runs in tables.values()
        for run in runs
        if not only or {run.variant, run.key.rpartition("/")[0]} & set(only)
        if not seeds or run.seed in seeds
    ]
    once = plan.unique(chosen)
    results = _results(once)
    todo = [r for r in once if results.get(_key(r), {}).get("status") != "done"]
    jobs = jobs or _devices()
    print(_summary(tables, chosen, once, todo, scale, jobs))
    if dry_run:
        for name, runs in tables.items():
            for run in runs:
                if run in chosen:
                    print(f"  {_state(run, todo, results)}  {name}  {run.key}  {run.name}")
        return 0
    if todo:
        plan.refuse_dirty_tree()
        try:
            label = "+".join(e.name for e in experiments) if len(experiments) < 4 else "all"
            execute(todo, f"{label}.{scale.name}", jobs, runner)
        finally:  # what is finished is kept, however this ends
            _write(tables, scale)
    else:
        _write(tables, scale)
    results = _results(once)
    return _verdict(chosen, results, tables, scale)


def _key(run: Run) -> tuple[str, str]:
    return run.signature, run.code


def _at_points(experiment: Experiment, variant: str) -> list[str]:
    return [f"{variant}@{point}" for point in experiment.points]


def _check_choice(option: str, given: Sequence[str], known: Sequence[str]) -> None:
    for value in given:
        if value not in known:
            raise ValueError(f"{option}: {value!r} is not one of {', '.join(known)}")


def _devices() -> int:
    from ijepa.study import local

    return max(1, len(local.visible_gpus()))


def result_file(name: str) -> Path:
    """What a job of this name leaves."""
    return bench.folder() / "results" / f"{name}.json"


def _results(runs: Sequence[Run]) -> Results:
    """What is known of the runs: results of jobs of this checkout, and of the lock files."""
    results = lock.known()
    for run in runs:
        result = job.read(result_file(run.name))
        if result and (result["signature"], result["code"]) == _key(run):
            results.setdefault(_key(run), result)
    return results


def execute(
    todo: Sequence[Run], label: str, jobs: int, runner: str = "local", commit: str = "HEAD"
) -> None:
    """Prepare each data set once, then run every job; prints a line for each that ends.

    Args:
        todo: the runs; what each leaves is in ``result_file``.
        label: names the files of the plan and its logs.
        jobs: runs at once.
        runner: ``local`` or ``slurm``.
        commit: whose code runs.
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
    data = {
        run.data: {
            "name": f"data-{run.data[:12]}-{run.code[:4]}",
            "changes": {k: v for k, v in run.changes.items() if k.startswith("data.")},
            "target": "prepare",
            "signature": run.data,
            "code": run.code,
        }
        for run in reversed(todo)
    }
    runs = [
        {
            "name": run.name,
            "changes": dict(run.changes),
            "target": "evaluate",
            "signature": run.signature,
            "code": run.code,
        }
        for run in todo
    ]
    for stage, group in (("prepare", list(data.values())), ("runs", runs)):
        file = bench.folder() / f"{label}.{stage}.json"
        logs = bench.folder() / f"{label}.logs"
        for spec in group:
            spec["result"] = str(result_file(str(spec["name"])))
            spec["log"] = str(logs / f"{spec['name']}.log")
        files.write_json(file, {**shared, "jobs": group})
        watch = _Watch(group, jobs, titles={run.name: run.key for run in todo})
        start(file, len(group), jobs, watch.look)
        if stage == "prepare":
            watch.refuse_failure()


class _Watch:
    """Prints a line for each job that ends, with what is left."""

    def __init__(
        self, group: Sequence[Mapping[str, Any]], jobs: int, titles: Mapping[str, str]
    ) -> None:
        self.group, self.jobs, self.titles = group, jobs, titles
        self.start, self.ended = time.time(), dict[str, dict[str, Any]]()
        self.seen = {spec["name"]: self._stamp(spec) for spec in group}
        for spec in group:  # data that was prepared before: the job will find it
            result = job.read(Path(spec["result"]))
            if result and result["status"] == "done":
                self.ended[spec["name"]] = result

    def _stamp(self, spec: Mapping[str, Any]) -> int:
        path = Path(spec["result"])
        return path.stat().st_mtime_ns if path.is_file() else 0

    def look(self) -> None:
        for spec in self.group:
            name = spec["name"]
            if name in self.ended or self._stamp(spec) == self.seen[name]:
                continue
            result = job.read(Path(spec["result"]))
            assert result is not None
            self.ended[name] = result
            self._line(spec, result)

    def _line(self, spec: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        name, count = spec["name"], len(self.group)
        passed = time.time() - self.start
        left = passed / len(self.ended) * (count - len(self.ended))
        what = self.titles.get(name, name)
        words = (
            "done" if result["status"] == "done" else f"FAILED: {result['reason']} ({spec['log']})"
        )
        rest = (
            f"; {count - len(self.ended)} left, about {timedelta(seconds=round(left))}"
            if left
            else ""
        )
        print(f"[{len(self.ended)}/{count}] {what}: {words}{rest}", flush=True)

    def refuse_failure(self) -> None:
        for spec in self.group:
            result = self.ended.get(spec["name"])
            if result and result["status"] != "done":
                raise errors.Failure(f"prepare: {result['reason']} ({spec['log']})")


def _summary(
    tables: Mapping[str, Sequence[Run]],
    chosen: Sequence[Run],
    once: Sequence[Run],
    todo: Sequence[Run],
    scale: Scale,
    jobs: int,
) -> str:
    locks = [lock.read(name, scale.name) for name in tables]
    timed = [
        sum(content["provenance"][key]["seconds"].values())
        for content in locks
        for key, result in content["results"].items()
        if result["status"] == "done" and content["provenance"][key]["seconds"]
    ]
    seconds = statistics.median(timed) if timed else 60 * scale.minutes
    about = timedelta(seconds=round(seconds * len(todo) / jobs))
    estimate = f", about {about} with {jobs} at once" if todo else ""
    return (
        f"{scale.name}: {len(tables)} experiments, {len(chosen)} cells, {len(once)} runs"
        f" ({len(chosen) - len(once)} shared): {len(todo)} to do, {len(once) - len(todo)} known"
        f"{estimate}"
    )


def _state(run: Run, todo: Sequence[Run], results: Results) -> str:
    if results.get(_key(run), {}).get("status") == "done":
        return "known "
    return "to do " if run in todo else "shared"


def _write(tables: Mapping[str, Sequence[Run]], scale: Scale) -> None:
    for name, runs in tables.items():
        lock.write(name, scale.name, runs, _results(runs))


def _verdict(
    chosen: Sequence[Run],
    results: Results,
    tables: Mapping[str, Sequence[Run]],
    scale: Scale,
) -> int:
    """Print which cells failed or are missing; returns the exit status."""
    bad = [run for run in chosen if results.get(_key(run), {}).get("status") != "done"]
    for run in bad:
        why = results.get(_key(run), {}).get("reason") or "it did not run to its end"
        print(f"failed: {run.key} ({run.name}): {why}")
    for name in tables:
        print(
            f"{lock.path(name, scale.name)}; `ijepa report --ablation {name} --scale {scale.name}`"
        )
    return 1 if bad else 0
