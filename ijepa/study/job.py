"""One run of a plan, as its own process: ``python -m ijepa.study.job PLAN INDEX``.

It runs the stages as a DVC experiment in a clone of this checkout at the plan's commit
(``bench``), so the user's files are never touched; or, where the plan has no bench, one after
another in a folder of their own (``plain``). What came out goes to the job's result file. Done
work returns at once; interrupted work goes on from its checkpoint. Runners (``local``, ``slurm``,
``plain``) only start it.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa.runtime import errors, files, launch
from ijepa.study import bench, outcome, plain, process


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Run job INDEX of the plan file; 0 when its result is there and good."""
    launch.die_with_parent(signal.SIGTERM)
    launch.adopt_orphans()
    plan = files.read_json(Path(arguments[0]))
    job = plan["jobs"][int(arguments[1])]
    file = Path(job["result"])
    with (
        launch.raising(numbers=(signal.SIGTERM, signal.SIGINT)),
        _bench_stays(plan),
        files.locked(file.with_suffix(".lock")),  # equal jobs of two plans run one by one
    ):
        result = own(file, job["signature"], job["code"])
        # prepared data are looked after each time, by the stages: the raw data may have changed
        if result is None or result["status"] != "done" or job["target"] == "prepare":
            result = _with_dvc(plan, job) if plan["bench"] else _without(plan, job)
            files.write_json(file, result)
    return 0 if result["status"] == "done" else 1


def _bench_stays(plan: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """While it is held, no runner makes the bench anew."""
    if not plan["bench"]:
        return contextlib.nullcontext()
    return files.shared(Path(plan["bench"]).with_suffix(".lock"))


def _with_dvc(plan: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    with bench.own(Path(plan["bench"]), plan["commit"], job["name"]) as path:
        status = experiment(plan, job, path, Path(job["log"]))
        result = outcome.gather(plan, job, path, status, Path(job["log"]))
        if result["metrics"] is not None:
            result["provenance"]["commit"] = bench.keep(path, plan["commit"], job["name"])
    return result


def _without(plan: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    with plain.own(plan, job) as path:
        status = plain.stages(plan, job, path, Path(job["log"]))
        return outcome.gather(plan, job, path, status, Path(job["log"]))


def read(path: Path) -> dict[str, Any] | None:
    """A result file's content; None when the job never ended."""
    return files.read_json(path) if path.is_file() else None


def own(path: Path, signature: str, code: str) -> dict[str, Any] | None:
    """``read``, of a result of these settings and this code; None where it is of others.

    A name has 12 digits of the one hash and 4 of the other: two runs may have the same.
    """
    result = read(path)
    if result and (result["signature"], result["code"]) == (signature, code):
        return result
    return None


def written(job: Mapping[str, Any]) -> int:
    """When a job's result was written, in ns; 0 without one."""
    path = Path(job["result"])
    # Listing the folder makes a network file system look for news; asking for a name may not.
    if not path.parent.is_dir() or path.name not in os.listdir(path.parent):  # noqa: PTH208
        return 0
    return path.stat().st_mtime_ns


def experiment(plan: Mapping[str, Any], job: Mapping[str, Any], path: Path, log: Path) -> int:
    """Run the job's stages as a DVC experiment; its exit status.

    A signal of ``main``'s is handed on to the stages as SIGTERM, and waits until they have saved.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "exp", "run"]
    for key, value in job["changes"].items():
        # ++: a variant's own key need not stand in params.yaml
        command += ["-S", f"++{key}={json.dumps(value)}"]
    command += ["--name", job["name"], job["target"]]
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # stages say `python`
    variables = {**plan["variables"], "PATH": paths, "DVC_NO_ANALYTICS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return process.run(command, path, variables, output)


if __name__ == "__main__":
    sys.exit(errors.run(main))
