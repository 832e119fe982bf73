"""``ijepa ablate``: plan the runs of experiments, run those not known yet, write lock files."""

import importlib
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, errors
from ijepa.runtime.files import write_json
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
            _run(todo, jobs, runner, scale, experiments)
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


def _result_file(name: str) -> Path:
    return bench.folder() / "results" / f"{name}.json"


def _results(runs: Sequence[Run]) -> Results:
    """What is known of the runs: results of jobs of this checkout, and of the lock files."""
    found = lock.known()
    for run in runs:
        made = job.read(_result_file(run.name))
        if made and (made["signature"], made["code"]) == _key(run):
            found.setdefault(_key(run), made)
    return found


def _run(
    todo: Sequence[Run], jobs: int, runner: str, scale: Scale, experiments: Sequence[Experiment]
) -> None:
    """Prepare each data set once, then run every job; prints a line for each that ends."""
    execute = importlib.import_module(f"ijepa.study.{runner}").run
    commit, cached = plan.git("rev-parse", "HEAD").strip(), bench.cache()
    with job.held((bench.folder() / f"bench-{commit[:12]}").with_suffix(".lock")):
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
    label = "+".join(e.name for e in experiments) if len(experiments) < 4 else "all"
    for stage, group in (("prepare", list(data.values())), ("runs", runs)):
        file = bench.folder() / f"{label}.{scale.name}.{stage}.json"
        logs = bench.folder() / f"{label}.{scale.name}.logs"
        for made in group:
            made["result"] = str(_result_file(str(made["name"])))
            made["log"] = str(logs / f"{made['name']}.log")
        write_json(file, {**shared, "jobs": group})
        watch = _Watch(group, jobs, titles={run.name: run.key for run in todo})
        execute(file, len(group), jobs, watch.look)
        if stage == "prepare":
            watch.refuse_failure()


class _Watch:
    """Prints a line for each job that ends, with what is left."""

    def __init__(
        self, group: Sequence[Mapping[str, Any]], jobs: int, titles: Mapping[str, str]
    ) -> None:
        self.group, self.jobs, self.titles = group, jobs, titles
        self.start, self.ended = time.time(), dict[str, dict[str, Any]]()
        self.seen = {made["name"]: self._stamp(made) for made in group}
        for made in group:  # data that was prepared before: the job will find it
            found = job.read(Path(made["result"]))
            if found and found["status"] == "done":
                self.ended[made["name"]] = found

    def _stamp(self, made: Mapping[str, Any]) -> int:
        path = Path(made["result"])
        return path.stat().st_mtime_ns if path.is_file() else 0

    def look(self) -> None:
        for made in self.group:
            name = made["name"]
            if name in self.ended or self._stamp(made) == self.seen[name]:
                continue
            found = job.read(Path(made["result"]))
            assert found is not None
            self.ended[name] = found
            self._line(made, found)

    def _line(self, made: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        name, count = made["name"], len(self.group)
        passed = time.time() - self.start
        left = passed / len(self.ended) * (count - len(self.ended))
        what = self.titles.get(name, name)
        words = (
            "done" if found["status"] == "done" else f"FAILED: {found['reason']} ({made['log']})"
        )
        rest = (
            f"; {count - len(self.ended)} left, about {timedelta(seconds=round(left))}"
            if left
            else ""
        )
        print(f"[{len(self.ended)}/{count}] {what}: {words}{rest}", flush=True)

    def refuse_failure(self) -> None:
        for made in self.group:
            found = self.ended.get(made["name"])
            if found and found["status"] != "done":
                raise errors.Failure(f"prepare: {found['reason']} ({made['log']})")


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
