"""One run of a plan, as its own process: ``python -m ijepa.study.job PLAN INDEX``.

It runs the stages as a DVC experiment in a clone of this checkout at the plan's commit
(``bench``), so the user's files are never touched, and writes what came out to the job's result
file. Done work returns at once; interrupted work goes on from its checkpoint. Runners (``local``,
``slurm``) only start it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa.runtime import errors, files, launch
from ijepa.study import bench, outcome

_GRACE = 120  # seconds that an interrupted stage has to save its checkpoint


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Run job INDEX of the plan file; 0 when its result is there and good."""
    launch.die_with_parent(signal.SIGTERM)
    launch.adopt_orphans()
    plan = files.read_json(Path(arguments[0]))
    job = plan["jobs"][int(arguments[1])]
    shared, file, log = Path(plan["bench"]), Path(job["result"]), Path(job["log"])
    with (
        launch.raising(numbers=(signal.SIGTERM, signal.SIGINT)),
        files.shared(shared.with_suffix(".lock")),  # the runner makes the bench anew, alone
        files.locked(file.with_suffix(".lock")),  # equal jobs of two plans run one by one
    ):
        result = read(file)
        if result is None or result["status"] != "done":
            with bench.own(shared, plan["commit"], job["name"]) as path:
                status = experiment(plan, job, path, log)
                result = outcome.gather(plan, job, path, status, log)
            files.write_json(file, result)
    return 0 if result["status"] == "done" else 1


def read(path: Path) -> dict[str, Any] | None:
    """A result file's content; None when the job never ended."""
    return files.read_json(path) if path.is_file() else None


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
    variables = {**os.environ, **plan["variables"], "PATH": paths, "DVC_NO_ANALYTICS": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=path,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=launch.die_with_parent,
        )
        try:
            return child.wait()
        except SystemExit:
            end_group(child.pid)
            raise


def end_group(group: int, grace: float = _GRACE) -> None:
    """SIGTERM to a process group, patience until all of it has gone, then SIGKILL."""
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:  # a zombie of ours keeps the group alive
                    pass
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(errors.run(main))
