"""Run the jobs of a plan with Python alone: no DVC, no git, as on a box that has but the files.

Each job has a folder of its own below ``.ijepa/ablations/cells``: links to the code, and a
``params.yaml`` with the job's changes. There the stages of ``dvc.yaml`` run that its target needs.
Runs of equal data share one prepared data set. A stage that has ended is not run again, as long as
what it is a function of is as it was (``preflight.main`` writes that, each time).
"""

import contextlib
import copy
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa import presets
from ijepa.runtime import files
from ijepa.store.read import PREPARED
from ijepa.study import bench, local, plan, process

_LINKED = ("ijepa", "dvc.yaml")  # what the stages read of the tree


def run(file: Path, count: int, jobs: int, poll: Callable[[], None]) -> None:
    """Run every job of a plan as ``local`` does, on this machine."""
    local.run(file, count, jobs, poll)


def shared() -> dict[str, Any]:
    """Of a plan: what its jobs share; they run the files of the working tree."""
    bench.folder().mkdir(parents=True, exist_ok=True)
    params = files.read_yaml(configs.PARAMS)
    return {"bench": None, "commit": plan.head(), "params": params, "variables": bench.places()}


@contextlib.contextmanager
def own(whole: Mapping[str, Any], job: Mapping[str, Any]) -> Iterator[Path]:
    """The folder of a job; it is kept when the job is interrupted, and when it prepares data.

    Args:
        whole: the plan; ``params`` is the tree's ``params.yaml``.
        job: of the plan; ``needs`` is the job that prepares its data, or None.

    Raises:
        ValueError: the tree is not what it was when the plan was made.
    """
    path = _folder(job["name"])
    identity = {"signature": job["signature"], "code": job["code"]}
    known = path / "identity.json"
    if path.exists() and not (known.is_file() and files.read_json(known) == identity):
        shutil.rmtree(path)  # a name is a part of the identity: two may have the same
    path.mkdir(parents=True, exist_ok=True)
    files.write_json(known, identity)
    tree = copy.deepcopy(whole["params"])
    presets.apply(tree, job["changes"], job["name"])
    files.write_json(path / "params.yaml", tree)  # JSON is YAML
    links = {Path(name): Path.cwd() / name for name in _LINKED}
    if job["needs"]:
        links[PREPARED] = _folder(job["needs"]) / PREPARED
    for name, target in links.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)
    config = configs.load(path / "params.yaml")
    if job["needs"] and (configs.signature(config), plan.code(config)) != tuple(identity.values()):
        raise ValueError(f"{job['name']}: code or parameters were changed after the run was begun")
    yield path
    if job["needs"]:
        shutil.rmtree(path)


def _folder(name: str) -> Path:
    return (bench.folder() / "cells" / name).resolve()


def result(name: str) -> Path:
    """The result file of a job that prepares data."""
    return _folder(name).with_suffix(".json")


def stages(whole: Mapping[str, Any], job: Mapping[str, Any], path: Path, log: Path) -> int:
    """Run the stages that a job's target needs, as far as they have not ended; the exit status."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        for name, stage in needed(files.read_yaml(path / "dvc.yaml"), job["target"]).items():
            if name == "prepare" and job["needs"]:
                continue
            ended, inputs = path / f"{name}.ended", path / configs.INPUTS / f"{name}.json"
            read = inputs.read_text() if inputs.exists() else ""
            if stage.get("always_changed"):  # what it leaves persists
                ended.unlink(missing_ok=True)
            elif ended.exists() and ended.read_text() == read:
                continue
            else:
                for out in outputs(stage):  # as DVC does: what a stage leaves is all its own
                    shutil.rmtree(path / out, ignore_errors=True)
                    (path / out).unlink(missing_ok=True)
            # told as DVC tells them: the record's name, and that a stage ends with its parent
            told = {"DVC_EXP_NAME": job["name"], "DVC_STAGE": name}
            command = shlex.split(stage["cmd"])
            command[0] = sys.executable if command[0] == "python" else command[0]
            status = process.run(command, path, {**whole["variables"], **told}, output)
            if status:
                return status
            ended.write_text(read)
    return 0


def needed(pipeline: Mapping[str, Any], target: str) -> dict[str, Mapping[str, Any]]:
    """The stages of ``dvc.yaml`` whose outputs a stage needs, itself included, in their order."""
    every: dict[str, Mapping[str, Any]] = pipeline["stages"]
    makers = {out: name for name, stage in every.items() for out in outputs(stage)}
    wanted, queue = set[str](), [target]
    while queue:
        name = queue.pop()
        wanted.add(name)
        queue += [makers[dep] for dep in every[name].get("deps", ()) if dep in makers]
    return {name: stage for name, stage in every.items() if name in wanted}


def outputs(stage: Mapping[str, Any]) -> list[str]:
    """The files and folders that a stage of ``dvc.yaml`` writes; one with options is a mapping."""
    listed = [*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())]
    return [out if isinstance(out, str) else next(iter(out)) for out in listed]
