"""``ijepa import``: results of another machine's runs, and their journal, into this checkout.

A box that has but the files cannot say at which commit it ran. Its results say of which settings
and code they are, by hash: only if all are those of this checkout's commit are they taken, and
then they are the commit's.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, errors, files
from ijepa.study import bench, bundle, lock, plan, registration, runner
from ijepa.study.experiment import Experiment, Scale, load, load_scale
from ijepa.study.plan import Run
from ijepa.tracking import runs as journal
from ijepa.tracking import sync

Tables = dict[str, list[Run]]


def merge(file: Path) -> int:
    """Bring a bundle's results into the lock files, and its runs into journal and database.

    What is known already stays as it is. All of a bundle is taken, or nothing.

    Args:
        file: what ``ijepa ablate --runner plain`` wrote.

    Returns:
        0, or 1 when a run of it had failed.

    Raises:
        ValueError: one line: it is damaged, or not of this checkout's code and experiments.
    """
    plan.refuse_dirty_tree()
    commit = plan.git("rev-parse", "HEAD").strip()
    with bundle.opened(file) as folder:
        content = bundle.read(folder, file)
        scale = load_scale(content["scale"])
        experiments = [load(name) for name in content["experiments"]]
        tables, chosen = _checked(content, experiments, scale, file)
        registered = {e.name: _registered(content, e, scale, commit, file) for e in experiments}
        before = len(journal.folders(environment.home()))
        ids = journal.adopt(folder / "runs", environment.home())
        for name, record in registered.items():  # killed later, its own results are not known
            if record and lock.unregistered(name, scale.name):
                lock.register(name, scale.name, record)
        new = _take(content["results"], chosen, commit, ids, folder / "logs")
    for name, runs in tables.items():
        lock.write(name, scale.name, runs, runner.known_results(runs))
    there = len(journal.folders(environment.home())) - before
    print(f"{file}: {new} results are new, and {there} of its {len(ids)} runs")
    send(list(ids.values()))
    return runner.report(chosen, tables, scale)


def _checked(
    content: Mapping[str, Any], experiments: Sequence[Experiment], scale: Scale, file: Path
) -> tuple[Tables, list[Run]]:
    """This checkout's runs of the bundle's tables, and those of them that the bundle has."""
    tables, chosen, tree = Tables(), list[Run](), plan.committed_params()
    for e in experiments:
        cells: Mapping[str, str] = content["experiments"][e.name]["cells"]
        seeds = {int(key.rpartition("/")[2]) for key in cells}
        sized = replace(scale, seeds=runner.planned(e, scale, seeds))
        tables[e.name] = plan.resolve(e, sized, tree)
        there = {run.key: run for run in tables[e.name]}
        data = runner.prepared(tables[e.name], runner.known_results(tables[e.name]))
        for key, name in cells.items():
            result, where = content["results"][name], f"{file}: {e.name} {key}"
            if key not in there:
                raise ValueError(f"{where}: this checkout has no such run at scale {scale.name}")
            _refuse_other(there[key], result, content, where)
            then = data.get(there[key].data)
            if then and result["data"] and result["data"] != then:
                raise ValueError(
                    f"{where}: it is of other raw data than this checkout's results, or of another"
                    f" IJEPA_STORAGE: its data hash is {result['data'][:12]}, theirs {then[:12]}"
                )
            chosen.append(there[key])
    return tables, chosen


def _refuse_other(
    run: Run, result: Mapping[str, Any], content: Mapping[str, Any], where: str
) -> None:
    at = f" {content['commit'][:12]}" if content["commit"] else ""
    hint = f"; check out the commit{at} that it ran, and import it there"
    if result["signature"] != run.signature:
        raise ValueError(f"{where}: its settings are not this checkout's{hint}")
    if result["code"] != run.code:
        then, now = content["code"].get(result["code"], {}), bundle.reachable(run)
        other = sorted(path for path in then.keys() | now if then.get(path) != now.get(path))
        more = f" and {len(other) - 1} more" if len(other) > 1 else ""
        first = other[0] if other else "?"
        raise ValueError(f"{where}: other code: {first}{more} not as in this checkout{hint}")


def _registered(
    content: Mapping[str, Any], chosen: Experiment, scale: Scale, commit: str, file: Path
) -> Mapping[str, Any] | None:
    """What an experiment was to be judged by before its first run on the box.

    A box may not know what was known here: it has no history, and no results of other machines.
    """
    record: Mapping[str, Any] | None = content["experiments"][chosen.name]["registered"]
    if record is None or not lock.unregistered(chosen.name, scale.name):
        return None
    known = max(record["known"], runner.seen(chosen, scale, "local"))
    here = registration.record(chosen, scale, commit, known)
    if record["sha256"] != here["sha256"]:
        raise ValueError(
            f"{file}: {chosen.name}: it was registered with another design than"
            f" experiments/{chosen.name}.yaml has; check out the commit that it ran"
        )
    return here


def _take(
    results: Mapping[str, Mapping[str, Any]], chosen: Sequence[Run], commit: str,
    ids: Mapping[int, int], logs: Path,
) -> int:  # fmt: skip
    """Put results where ``ijepa ablate`` looks for them; how many were not known."""
    new = 0
    known = runner.known_results(chosen)
    for run in plan.unique(chosen):
        if runner.known(run, known):
            print(f"{run.key} ({run.name}): known already, kept as it is")
            continue
        source = results[run.name]["provenance"]
        stages = {stage: ids.get(number, number) for stage, number in source["runs"].items()}
        provenance = {**source, "baseline": commit, "runs": stages}
        target = bench.result(run.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(target, {**results[run.name], "provenance": provenance})
        if (log := logs / f"{run.name}.log").is_file():
            kept = bench.folder() / "import.logs"
            kept.mkdir(exist_ok=True)
            shutil.copyfile(log, kept / log.name)
        new += 1
    return new


def send(ids: Sequence[int]) -> None:
    """Bring runs into the database, if it can be reached."""
    try:
        done = sync.sync(environment.home(), ids)
    except errors.Failure as error:
        print(f"note: the database has them not yet: {error}; `ijepa runs sync`", file=sys.stderr)
    else:
        print(f"MongoDB: {len(done.written)} runs written, {done.unchanged} were there already")
