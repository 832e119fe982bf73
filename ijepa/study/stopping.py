"""``ijepa ablate --until-decided``: seeds in blocks, from look to look, until there is a verdict.

At each planned number of seeds all variants have run, and the claim is looked at. An experiment
that is decided gets no more seeds; the others go on to the next look, together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ijepa.runtime import durations
from ijepa.study import forecast, local, lock, plan, registration, runner, summary
from ijepa.study.decision import UNDECIDED
from ijepa.study.experiment import Experiment, Scale, load, load_scale, names
from ijepa.study.plan import Run
from ijepa.study.registration import Plan


@dataclass(frozen=True, slots=True)
class _Undecided:
    """An experiment that is still being run, its seeds in the registered order."""

    experiment: Experiment
    by: Plan

    @property
    def name(self) -> str:
        return self.experiment.name

    def seeds(self, look: int) -> int:
        """How many at a look, from 0."""
        return self.by.design.looks[look]


def run(
    wanted: Sequence[str],
    scale_name: str,
    jobs: int = 0,
    how: str = "local",
    dry_run: bool = False,
) -> int:
    """Run experiments until each is decided, or has had its last look.

    Killed at any time, the same call goes on: what is known is not run again.

    Args:
        wanted: names of experiments; all that claim something when empty.
        scale_name: a file of ``experiments/scales``.
        jobs: runs at once; 0: one for each GPU, else one.
        how: the runner, ``local`` or ``slurm``.
        dry_run: print what it may take and run nothing.

    Returns:
        0, or 1 when a run failed: its experiment then stops before the look.

    Raises:
        ValueError: an experiment file, an argument or the working tree is not fit to run.
    """
    scale, tree = load_scale(scale_name), plan.committed_params()
    going = [_begin(load(name), scale) for name in wanted or _claiming()]
    jobs = jobs or local.jobs(scale.jobs_per_gpu)
    for one in going:
        runner.announce(one.experiment, scale)
    if dry_run:
        _forecast(going, scale, tree, jobs)
        return 0
    failed, look = 0, 0
    while going:
        tables = {one.name: _runs(one, look, scale, tree) for one in going}
        chosen = [
            run for one in going for run in tables[one.name]
            if run.seed in one.by.seeds[: one.seeds(look)]
        ]  # fmt: skip
        print(f"{scale.name}: look {look + 1}: {_work(chosen)}", flush=True)
        runner.complete([one.experiment for one in going], tables, chosen, scale, jobs, how)
        failed |= runner.report(chosen, tables, scale)
        results = runner.known_results(chosen)
        lost = {name for name, runs in tables.items() for run in runs
                if run in chosen and not runner.known(run, results)}  # fmt: skip
        going = [one for one in going if _goes_on(one, look, scale, one.name in lost)]
        look += 1
    return failed


def _claiming() -> list[str]:
    return [name for name in names() if load(name).claim.pairs]


def _begin(experiment: Experiment, scale: Scale) -> _Undecided:
    if not experiment.claim.pairs:
        raise ValueError(
            f"experiments/{experiment.name}.yaml: claim: it claims nothing, so there is nothing to"
            " decide; leave out --until-decided"
        )
    locked = lock.read(experiment.name, scale.name)
    by = registration.plan(experiment, scale, locked.get("registered"))
    named = {name for pair in by.pairs for name in (pair.better, pair.worse)}
    if gone := named - experiment.variants.keys():
        raise ValueError(
            f"experiments/{experiment.name}.yaml: variants: {', '.join(sorted(gone))} of the"
            " registered claim is not there, so it cannot be decided"
        )
    return _Undecided(replace(experiment, seeds=by.seeds), by)


def _runs(one: _Undecided, look: int, scale: Scale, tree: Mapping[str, Any]) -> list[Run]:
    """All runs that the lock file is to have: of the look, and of what was run before."""
    before = lock.read(one.name, scale.name)["seeds"]
    there = [number for number, seed in enumerate(one.by.seeds, 1) if seed in before]
    count = max([one.seeds(look), *there])
    return plan.resolve(one.experiment, replace(scale, seeds=count), tree)


def _goes_on(one: _Undecided, look: int, scale: Scale, lost: bool) -> bool:
    """Print what a look says, unless runs of it are lost; whether there is another one.

    Raises:
        ValueError: the runs have no number for the metric: their data have no such task.
    """
    count, looks = one.seeds(look), one.by.design.looks
    locked = lock.read(one.name, scale.name)
    first = {**locked, "seeds": list(one.by.seeds[:count])}  # a lock file may have more
    study = summary.collect(one.experiment, first, scale)
    verdict = study.verdict
    if lost:
        print(f"{one.name}: {count} seeds: no verdict, for runs are missing", flush=True)
        return False
    if verdict.deciding is None:
        raise ValueError(
            f"{lock.path(one.name, scale.name)}: registered: metric: {one.by.metric!r}: no run has"
            f" a number for it; they have {', '.join(sorted(_measured(locked)))}"
        )
    pair = study.pairs[verdict.deciding]
    around = pair.comparison.spread
    at = f" at {pair.point}" if pair.point is not None else ""
    effect = f"{pair.better} - {pair.worse}{at} {around.mean:+.2f}"
    interval = f"[{around.low:+.2f}, {around.high:+.2f}]"
    last = look + 1 == len(looks)
    after = "; it was the last look" if last else f"; the next look is at {looks[look + 1]}"
    going = verdict.decision == UNDECIDED
    line = f"{one.name}: {count} seeds: {verdict.decision} ({effect} {interval})"
    print(line + (after if going else ""), flush=True)
    return going and not last


def _measured(locked: Mapping[str, Any]) -> set[str]:
    """The metrics that runs of a lock file have a number for."""
    return {
        f"{task}.{probe}.trained"
        for result in locked["results"].values()
        for task, probes in (result["metrics"] or {}).items()
        for probe in probes
    }


def _work(chosen: Sequence[Run]) -> str:
    runs = plan.unique(chosen)
    results = runner.known_results(runs)
    todo = sum(not runner.known(run, results) for run in runs)
    return f"{len(chosen)} cells, {len(runs)} runs, {todo} to do, {len(runs) - todo} known"


def _forecast(
    going: Sequence[_Undecided], scale: Scale, tree: Mapping[str, Any], jobs: int
) -> None:
    """Print the seeds and the time that it takes at least and at most."""
    for one in going:
        looks = one.by.design.looks
        lines = []
        for words, look in (("at least", 0), ("at most", len(looks) - 1)):
            sized = replace(scale, seeds=looks[look])
            runs = plan.unique(plan.resolve(one.experiment, sized, tree))
            results = runner.known_results(runs)
            todo = [run for run in runs if not runner.known(run, results)]
            whole = forecast.seconds(todo, {one.name: runs}, scale, tree)
            lines.append(
                f"{words} {looks[look]} seeds, {len(runs)} runs, {len(todo)} to do,"
                f" {durations.about(whole / jobs)} with {jobs} at once"
            )
        planned = ", ".join(map(str, looks))
        print(f"{one.name}: looks at {planned} seeds: {'; '.join(lines)}")
