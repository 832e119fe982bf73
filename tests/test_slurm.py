"""The Slurm runner under a real Slurm of two nodes on this machine (``slurm_box``)."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import slurm_box

from ijepa.runtime import errors
from ijepa.study import slurm

ROOT = Path(__file__).resolve().parent.parent

# Stands for ijepa.study.job. Its work is a chain of hashes, so that any step done twice or left
# out shows; it saves only when it is told to stop, and takes a second for that.
WORK = """\
import hashlib, json, os, signal, sys, time
from pathlib import Path

job = json.loads(Path(sys.argv[1]).read_text())["jobs"][int(sys.argv[2])]
result = Path(job["result"])
saved = result.with_suffix(".saved")
state = json.loads(saved.read_text()) if saved.exists() else {"step": 0, "hash": "", "starts": []}
names = ("SLURMD_NODENAME", "IJEPA_THREADS", "OMP_NUM_THREADS")
place = {"at": state["step"], "cwd": os.getcwd(), **{name: os.environ[name] for name in names}}
state["starts"].append(place)
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
result.with_suffix(".running").touch()
while state["step"] < job["steps"]:
    if job.get("crash"):
        sys.exit("crash")
    if stop:
        time.sleep(1)
        saved.write_text(json.dumps(state))
        sys.exit(143)
    time.sleep(0.1)
    state["hash"] = hashlib.sha256((job["name"] + state["hash"]).encode()).hexdigest()
    state["step"] += 1
status = "failed" if job.get("fail") else "done"
result.write_text(json.dumps({**state, "status": status}))
sys.exit(status != "done")
"""


def chain(name: str, steps: int) -> str:
    """What the stand-in's work comes to."""
    made = ""
    for _ in range(steps):
        made = hashlib.sha256((name + made).encode()).hexdigest()
    return made


class Plan:
    """A plan file of stand-in jobs."""

    def __init__(self, folder: Path, *jobs: dict[str, Any]) -> None:
        self.file = folder / "table.smoke.json"
        self.jobs = [
            {
                "name": f"run-{i}",
                "steps": 10,
                "result": str(folder / "results" / f"{i}.json"),
                **job,
            }
            for i, job in enumerate(jobs)
        ]
        (folder / "results").mkdir()
        (folder / "work.py").write_text(WORK)
        self.file.write_text(json.dumps({"jobs": self.jobs}))

    def run(self, at_once: int, poll: Callable[[], None] = lambda: None) -> None:
        command = (sys.executable, str(self.file.parent / "work.py"))
        slurm.run(self.file, len(self.jobs), at_once, poll, command)

    def path(self, index: int, kind: str = "json") -> Path:
        return Path(self.jobs[index]["result"]).with_suffix(f".{kind}")

    def result(self, index: int) -> Any:
        return json.loads(self.path(index).read_text())

    def check(self, index: int) -> None:
        """The result is there and is that of an uninterrupted job."""
        result, job = self.result(index), self.jobs[index]
        assert result["step"] == job["steps"]
        assert result["hash"] == chain(job["name"], job["steps"])


@pytest.fixture(scope="module")
def box() -> Iterator[dict[str, str]]:
    if reason := slurm_box.missing():
        pytest.skip(reason)
    with slurm_box.box() as env:
        yield env


@pytest.fixture
def env(box: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An empty cluster, of which the environment knows."""
    for name, value in box.items():
        monkeypatch.setenv(name, value)
    for name in ("IJEPA_THREADS", "OMP_NUM_THREADS", "IJEPA_PROCESSES", "IJEPA_SBATCH"):
        monkeypatch.delenv(name, raising=False)
    yield box
    slurm_box.ask(box, "scancel", "--user=root")
    slurm_box.until(lambda: not slurm_box.ask(box, "squeue", "-h"), 60, "an empty queue")


def hurry(env: dict[str, str]) -> None:
    """Slurm lets a job that comes back wait two minutes; here three seconds.

    Not less: a node refuses to launch a job again in the second in which it has ended it.
    """
    soon = datetime.now() + timedelta(seconds=30)
    lines = slurm_box.ask(env, "squeue", "-h", "-r", "-t", "PD", "-o", "%F_%K %r %S").splitlines()
    for job, reason, start in (line.rsplit(maxsplit=2) for line in lines):
        if reason != "BeginTime" or start == "N/A":  # not planned yet: at the next look
            continue
        if datetime.fromisoformat(start) > soon:
            slurm_box.ask(env, "scontrol", "update", f"JobId={job}", "StartTime=now+3")


def once(when: Callable[[], object], then: Callable[[], object]) -> Callable[[], None]:
    """Does something once, as soon as it can."""
    done: list[bool] = []

    def poll() -> None:
        if not done and when():
            done.append(True)
            then()

    return poll


def running(env: dict[str, str]) -> dict[int, tuple[str, str]]:
    """The jobs that run now: array and node, by index."""
    lines = slurm_box.ask(env, "squeue", "-h", "-t", "R", "-o", "%K %F %N").splitlines()
    return {int(k): (array, node) for k, array, node in (line.split() for line in lines)}


@pytest.mark.slow
def test_an_array_runs_on_both_nodes(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("IJEPA_SBATCH", "--cpus-per-task=2 --comment='two words'")
    plan = Plan(tmp_path, *({"steps": 20} for _ in range(3)))
    looks: list[int] = []
    plan.run(2, lambda: looks.append(1))
    starts = []
    for index in range(3):
        plan.check(index)
        starts += plan.result(index)["starts"]
    assert {start["SLURMD_NODENAME"] for start in starts} == {"n1", "n2"}
    assert {(start["IJEPA_THREADS"], start["OMP_NUM_THREADS"]) for start in starts} == {("2", "7")}
    assert {start["cwd"] for start in starts} == {str(Path.cwd())}
    assert len(looks) > 2
    assert len(list((tmp_path / "table.smoke").glob("slurm-*_[012].out"))) == 3


@pytest.mark.slow
def test_a_requeued_job_goes_on_where_it_was(env: dict[str, str], tmp_path: Path) -> None:
    """All of the job's processes get SIGTERM, the job is put back and starts again."""
    plan = Plan(tmp_path, {"steps": 100}, {})
    requeue = once(
        lambda: plan.path(0, "running").exists(),
        lambda: slurm_box.ask(env, "scontrol", "requeue", f"{running(env)[0][0]}_0"),
    )

    def poll() -> None:
        requeue()
        hurry(env)

    plan.run(2, poll)
    plan.check(0)
    plan.check(1)
    first, second = (start["at"] for start in plan.result(0)["starts"])
    assert first == 0
    assert 0 < second < 100


@pytest.mark.slow
def test_a_preempted_job_makes_room_and_comes_back(env: dict[str, str], tmp_path: Path) -> None:
    """Slurm's warning reaches the batch script alone: the job saves, leaves and is put back.

    One of those preempted is the array's last, whose own id is the whole array's: the others must
    go on all the same.
    """
    plan = Plan(tmp_path, *({"steps": 100} for _ in range(4)))  # every core of the cluster
    urgent = tmp_path / "urgent"
    poll_urgent = once(
        lambda: all(plan.path(index, "running").exists() for index in range(4)),
        lambda: slurm_box.ask(
            env, "sbatch", "-p", "high", "-w", running(env)[3][1], "-c", "2", "-o", "/dev/null",
            f"--wrap=touch {urgent}",
        ),
    )  # fmt: skip

    def poll() -> None:
        poll_urgent()
        if urgent.exists():
            hurry(env)

    plan.run(4, poll)
    starts = []
    for index in range(4):
        plan.check(index)
        starts.append([start["at"] for start in plan.result(index)["starts"]])
    assert sorted(map(len, starts)) == [1, 1, 2, 2]
    assert all(0 < at < 100 for _, *again in starts for at in again)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_stopped_runner_takes_its_array_along(
    env: dict[str, str], tmp_path: Path, number: signal.Signals, error: type[BaseException]
) -> None:
    plan = Plan(tmp_path, *({"steps": 600} for _ in range(3)))
    before = signal.getsignal(signal.SIGTERM)
    stop = once(
        lambda: plan.path(0, "running").exists() and plan.path(1, "running").exists(),
        lambda: signal.raise_signal(number),
    )
    with pytest.raises(error):
        plan.run(2, stop)
    assert signal.getsignal(signal.SIGTERM) == before
    slurm_box.until(lambda: not slurm_box.ask(env, "squeue", "-h"), 30, "an empty queue")
    assert [plan.path(index, "saved").exists() for index in range(3)] == [True, True, False]


@pytest.mark.slow
def test_a_failed_job_stops_no_other(env: dict[str, str], tmp_path: Path) -> None:
    plan = Plan(tmp_path, {"steps": 30}, {"steps": 30, "fail": True}, {"steps": 30})
    most: list[int] = []
    plan.run(1, lambda: most.append(len(running(env))))
    assert [plan.result(index)["status"] for index in range(3)] == ["done", "failed", "done"]
    assert max(most) == 1


@pytest.mark.slow
def test_jobs_without_a_result_are_named(
    env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One crashes, one loses its node though an older attempt's result is there, one is well."""
    monkeypatch.setenv("IJEPA_SBATCH", "--no-requeue --cpus-per-task=2")
    plan = Plan(tmp_path, {"crash": True}, {"steps": 600}, {})
    plan.path(1).write_text('{"status": "failed"}')

    def lose_node() -> None:  # for a moment: its slurmd is well
        node = f"NodeName={running(env)[1][1]}"
        slurm_box.ask(env, "scontrol", "update", node, "State=DOWN", "Reason=test")

    with pytest.raises(errors.Failure) as caught:
        plan.run(3, once(lambda: plan.path(1, "running").exists(), lose_node))
    number = capfd.readouterr().out.split()[2].rstrip(":")
    assert str(caught.value) == (
        f"Slurm: 2 of 3 jobs left no result: run-0 ({number}_0 FAILED),"
        f" run-1 ({number}_1 NODE_FAIL); their output is in {tmp_path / 'table.smoke'}"
    )
    plan.check(2)


@pytest.mark.slow
def test_a_silent_slurm_ends_nothing(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every other call of squeue fails as it does while the controller restarts."""
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(
        f"#!/bin/bash\nif mkdir {tmp_path}/silent 2>/dev/null; then"
        " echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; fi\n"
        f'rmdir {tmp_path}/silent\nexec {shutil.which("squeue")} "$@"\n'
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    plan = Plan(tmp_path, {"steps": 50}, {})
    plan.run(2)
    plan.check(0)
    plan.check(1)


@pytest.mark.slow
def test_what_sbatch_refuses_is_told(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_SBATCH", "--partition=gpu")
    with pytest.raises(errors.Failure, match=r"^sbatch: .*[Ii]nvalid partition.*$"):
        Plan(tmp_path, {}).run(1)


@pytest.mark.slow
def test_a_job_that_cannot_start_says_why(
    env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("IJEPA_SBATCH", "--time=2:00:00")  # the partition has one hour
    looks: list[int] = []

    def poll() -> None:
        looks.append(1)
        if len(looks) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Plan(tmp_path, {}, {}).run(2, poll)
    assert capfd.readouterr().err.count("waits: PartitionTimeLimit\n") == 1


def test_no_slurm_and_bad_options_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(tmp_path, {})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"^--runner: 'slurm', but there is no sbatch"):
        plan.run(1)
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setenv("IJEPA_SBATCH", "--comment='")
    with pytest.raises(ValueError, match=r"^IJEPA_SBATCH: No closing quotation$"):
        plan.run(1)


def checkout(folder: Path) -> None:
    """A clone whose commit is the working copy; its smoke scale trains for a little longer."""

    def git(*arguments: str, cwd: Path = folder) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=cwd, capture_output=True, text=True, check=True
        )
        return done.stdout

    folder.mkdir()
    git("clone", "--quiet", "--no-checkout", str(ROOT), ".")
    files = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in files.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    scale = folder / "experiments/scales/smoke.yaml"
    text, count = re.subn(r"(?m)^train\.epochs: .*$", "train.epochs: 20", scale.read_text())
    assert count == 1
    scale.write_text(text)
    git("add", "--all")
    git("commit", "--quiet", "--message", "working copy")


def ablate(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Two variants with one seed: the whole of an ablation, in little."""
    science = ("target_scale", "--scale", "smoke", "--only", "s0100_0200", "s0150_0200")
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DVC_ROOT")}
    return subprocess.Popen(
        [sys.executable, "-m", "ijepa", "ablate", *science, "--seeds", "0", *options],
        cwd=folder,
        env={
            **inherited,
            "IJEPA_DEVICE": "cpu",
            "IJEPA_THREADS": "1",
            "IJEPA_MONGO_URL": "off",
            "IJEPA_CHECKPOINT_SECONDS": "100000",  # only who is told to stop saves
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_plan_on_slurm_equals_a_local_run(env: dict[str, str], tmp_path: Path) -> None:
    """The same numbers and the same weights, though Slurm takes one run off its node meanwhile."""
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        checkout(folder)
    with ablate(here, "--runner", "local", "--jobs", "1") as process:
        try:
            output, _ = process.communicate()
        finally:
            process.terminate()
    assert process.returncode == 0, output

    requeued: list[str] = []
    stopped: list[Path] = []

    def training() -> list[Path]:
        """Logs of jobs in the midst of training."""
        logs = there.glob(".ijepa/ablations/*.logs/*.log")
        return [log for log in logs if re.search(r"(?m)^step +\d+/", log.read_text())]

    def requeue() -> None:
        stopped.append(training()[0])
        plan = next(there.glob(".ijepa/ablations/*.runs.*.json"))
        logs = [Path(made["log"]) for made in json.loads(plan.read_text())["jobs"]]
        index = logs.index(stopped[0])
        requeued.append(f"{running(env)[index][0]}_{index}")
        slurm_box.ask(env, "scontrol", "requeue", *requeued)

    poll = once(training, requeue)
    with ablate(there, "--runner", "slurm", "--jobs", "2") as process:
        try:
            while process.poll() is None:
                poll()
                hurry(env)
                time.sleep(0.2)
        finally:
            process.terminate()
            output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "Restarts=1" in slurm_box.ask(env, "scontrol", "show", "job", *requeued)
    assert re.search(r"(?m): from step [1-9]\d* of 200$", stopped[0].read_text())

    one, other = (
        json.loads((folder / "experiments/target_scale.smoke.lock.json").read_text())
        for folder in (here, there)
    )
    assert len(one["results"]) == 2
    assert one["results"] == other["results"]
