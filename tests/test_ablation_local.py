"""The bench is clean again after anything, and local jobs end with their runner."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ROOT

from ijepa.runtime import files
from ijepa.study import bench, local, plan

# Stands for ijepa.study.job: goes on until it is told to end, or to save.
JOB = """\
import json, os, signal, sys, time
from pathlib import Path

index, folder = sys.argv[2], Path(sys.argv[1]).parent
kind = json.loads(Path(sys.argv[1]).read_text())["jobs"][int(index)]

def save(*_):
    time.sleep(0.5)
    (folder / f"{index}.saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
places = ("IJEPA_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "IJEPA_PROCESSES")
made = {"pid": os.getpid(), **{name: os.environ.get(name) for name in places}}
(folder / f"{index}.part").write_text(json.dumps(made))
(folder / f"{index}.part").rename(folder / f"{index}.started")
while not (folder / f"{index}.go").exists():
    time.sleep(0.02)
(folder / f"{index}.ended").touch()
sys.exit(1 if kind == "fail" else 0)
"""
RUNNER = """\
import sys
from pathlib import Path
from ijepa.study import local
local.run(Path(sys.argv[1]), 3, 2, lambda: None)
"""


class Jobs:
    """Stand-in jobs, and files that say how far each of them is."""

    def __init__(self, folder: Path, *kinds: str) -> None:
        self.folder, self.file = folder, folder / "plan.json"
        self.file.write_text(json.dumps({"jobs": kinds}))
        package = folder / "ijepa/study"  # `python -m` finds it before the real one
        package.mkdir(parents=True)
        for name, text in (("../__init__", ""), ("__init__", ""), ("job", JOB)):
            (package / f"{name}.py").write_text(text)

    def at(self, state: str) -> list[int]:
        return sorted(int(path.stem) for path in self.folder.glob(f"*.{state}"))

    def running(self) -> list[int]:
        return sorted({*self.at("started")} - {*self.at("ended"), *self.at("saved")})

    def go(self, *indices: int) -> None:
        for index in indices:
            (self.folder / f"{index}.go").touch()

    def read(self, index: int) -> dict[str, str | int | None]:
        made: dict[str, str | int | None] = json.loads(
            (self.folder / f"{index}.started").read_text()
        )
        return made


def until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def alive(pid: object) -> bool:
    """Whether a process runs; one that ended and that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.fixture
def cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    for name in ("IJEPA_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "IJEPA_PROCESSES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("cpu")
def test_jobs_run_a_few_at_a_time_and_a_failure_stops_no_other(tmp_path: Path) -> None:
    jobs, most = Jobs(tmp_path, "", "fail", "", "", ""), list[int]()

    def poll() -> None:
        running = jobs.running()
        most.append(len(running))
        assert len(jobs.at("ended")) < 5 or not running
        if len(running) == 2 or (running and len(jobs.at("started")) == 5):
            jobs.go(running[-1])  # the younger one, so that slots free out of order

    before = signal.getsignal(signal.SIGTERM)
    local.run(jobs.file, 5, 2, poll)
    assert jobs.at("ended") == [0, 1, 2, 3, 4]
    assert max(most) == 2
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("cpu")
def test_jobs_share_the_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    jobs = Jobs(tmp_path, "")
    jobs.go(0)
    local.run(jobs.file, 1, 1, lambda: None)
    assert jobs.read(0)["IJEPA_THREADS"] is None, "one alone chooses its own"
    assert local.share(0, 1) == {}
    share = local.share(0, cores)
    assert share["IJEPA_THREADS"] == share["OMP_NUM_THREADS"] == "1"
    assert jobs.read(0)["CUDA_VISIBLE_DEVICES"] is None
    assert local.share(0, 2 * cores)["IJEPA_THREADS"] == "1"
    monkeypatch.setenv("IJEPA_THREADS", "7")
    assert local.share(0, 2)["OMP_NUM_THREADS"] == "7"
    monkeypatch.setenv("IJEPA_DEVICE", "auto")
    monkeypatch.setattr(local, "visible_gpus", lambda: ["4", "6"])
    shares = [local.share(slot, 3) for slot in range(3)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["4", "6", "4"]
    assert {share["IJEPA_PROCESSES"] for share in shares} == {"1"}
    assert "CUDA_VISIBLE_DEVICES" not in local.share(0, 1), "one job has all GPUs"


@pytest.mark.usefixtures("cpu")
def test_an_exception_stops_the_jobs_and_waits_until_they_have_saved(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, "", "", "")

    def poll() -> None:
        if len(jobs.at("started")) == 2 and not jobs.at("saved"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.run(jobs.file, 3, 2, poll)
    assert jobs.at("saved") == jobs.at("started") == [0, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere kill -9 leaves children alive")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.usefixtures("cpu")
def test_a_stopped_or_killed_runner_leaves_no_job_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    jobs = Jobs(tmp_path, "", "", "")
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner/run.py").write_text(RUNNER)
    runner = subprocess.Popen(
        [sys.executable, "runner/run.py", str(jobs.file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        until(lambda: len(jobs.at("started")) == 2, "two jobs")
        runner.send_signal(number)
        status = runner.wait(60)
        if number == signal.SIGTERM:
            assert status == 143
            assert jobs.at("saved") == [0, 1], "it waits until they have saved"
        until(lambda: not any(alive(jobs.read(i)["pid"]) for i in (0, 1)), "the end of both jobs")
        assert jobs.at("saved") == jobs.at("started") == [0, 1]
    finally:
        runner.kill()
        jobs.go(0, 1, 2)


FAKE_DVC = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path("started").touch()
time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_told_to_stop_waits_until_its_stage_has_saved(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc/__init__.py").touch()
    (tmp_path / "dvc/__main__.py").write_text(FAKE_DVC)
    script = (
        "import signal, sys; from pathlib import Path\n"
        "from ijepa.runtime import launch; from ijepa.study import job\n"
        "with launch.raising(numbers=(signal.SIGTERM, signal.SIGINT)):\n"
        "    plan, one = {'variables': {}}, {'name': 'a', 'target': 'b', 'changes': {}}\n"
        "    path = Path(sys.argv[1])\n"
        "    job.experiment(plan, one, path, path / 'log')\n"
    )
    runner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        until((tmp_path / "started").exists, "the stage")
        runner.send_signal(number)
        runner.send_signal(number)
        assert runner.wait(60) == 128 + number
        assert (tmp_path / "saved").exists()
    finally:
        runner.kill()
        runner.wait()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repository to stand in, with DVC's folder; its HEAD."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IJEPA_HOME", raising=False)
    for name in (".dvc/config", "params.yaml", "ijepa/training/loop.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "params.yaml").write_text("1\n")
    (tmp_path / ".gitignore").write_text("/.ijepa/\n/out\n")
    (tmp_path / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    person = ("-c", "user.name=t", "-c", "user.email=t@t")
    for words in (("init", "-q"), ("add", "-A"), (*person, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *words], check=True)
    return plan.git("rev-parse", "HEAD").strip()


def test_a_job_has_a_clone_as_committed_whatever_a_killed_one_left(checkout: str) -> None:
    shared = bench.make(checkout, Path("/the/cache"))
    assert shared == bench.folder() / f"bench-{checkout[:12]}"
    with bench.own(shared, checkout, "job") as path:
        assert git(path, "rev-parse", "HEAD").strip() == checkout
        assert "dir = /the/cache" in (path / ".dvc/config.local").read_text()
        listed = git(path, "ls-files")
        with bench.own(shared, checkout, "other") as other:
            assert other != path
        assert not other.exists()
    assert not path.exists()
    shutil.copytree(shared, path)  # kill -9: nobody tidied up
    (path / "params.yaml").write_text("seed: 3\n")
    (path / "ijepa/training/loop.py").unlink()
    (path / "ijepa/training/new.py").touch()
    git(path, "update-ref", "refs/exps/stash", checkout)
    for name in (".git/index.lock", ".git/HEAD.lock", ".git/refs/exps/stash.lock",
                 ".dvc/tmp/rwlock", ".dvc/tmp/exps/standalone/tmpx/params.yaml"):  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    with bench.own(shared, checkout, "job") as again:
        assert again == path
        assert git(path, "status", "--porcelain") == ""
        assert git(path, "ls-files") == listed
        assert (path / "params.yaml").read_text() == "1\n"
        assert not (path / ".dvc/tmp").exists()
        assert git(path, "for-each-ref", "refs/exps") == ""
    assert plan.git("status", "--porcelain") == "", "the user's checkout is as it was"


def git(path: Path, *arguments: str) -> str:
    return plan.git("-C", str(path), *arguments)


@pytest.mark.parametrize("busy", [True, False])
def test_a_bench_that_others_are_in_says_what_it_waits_for(
    checkout: str, busy: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The jobs of a second `ijepa ablate` begin when those of the first have ended: hours."""
    said, events = list[str](), list[str]()

    def told() -> str:
        said.append(capsys.readouterr().out)
        return "".join(said)

    monkeypatch.setattr(bench, "cache", lambda: Path("/the/cache"))
    monkeypatch.setattr(bench, "make", lambda *_: events.append("made"))
    lock = bench.folder().resolve() / f"bench-{checkout[:12]}.lock"
    with ThreadPoolExecutor(1) as thread:
        with files.shared(lock) if busy else contextlib.nullcontext():
            second = thread.submit(bench.shared, "HEAD")
            if busy:
                until(lambda: "\n" in told(), "the line", 20)
            events += ["left"] * busy
        second.result(60)
    assert events == ["left", "made"][not busy :]
    line = f"waiting for the jobs of commit {checkout[:12]} that hold {lock}\n"
    assert told() == (line if busy else "")


def test_an_interrupted_clone_is_made_again(checkout: str) -> None:
    half = bench.folder() / f"bench-{checkout[:12]}"
    (half / ".git/objects").mkdir(parents=True)
    (half / ".git/HEAD").write_text("ref: refs/heads/main\n")
    path = bench.make(checkout, Path("/the/cache"))
    assert path == half
    assert (path / "ijepa/training/loop.py").is_file()


def test_the_bench_has_the_users_own_configuration_of_dvc(checkout: str) -> None:
    mine = "[core]\n    hardlink_lock = true\n[cache]\n    dir = elsewhere\n    type = copy\n"
    Path(".dvc/config.local").write_text(mine)
    path = bench.make(checkout, Path("/c"))
    made = {line.strip() for line in (path / ".dvc/config.local").read_text().splitlines()}
    links = 'type = "reflink,hardlink,symlink,copy"'
    assert {"hardlink_lock = true", links, "dir = /c"} <= made
    assert Path(".dvc/config.local").read_text() == mine


def test_a_group_is_gone_where_the_first_process_reaps_no_orphans() -> None:
    """In such a container orphans stay zombies; their group must not be waited for."""
    inner = (
        "import subprocess\n"
        "from ijepa.runtime import launch\n"
        "from ijepa.study import process\n"
        "launch.adopt_orphans()\n"
        "command = ['sh', '-c', 'sleep 600 & echo up; wait']\n"
        "child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "process.end_group(child.pid, 3600)\n"
        "print('gone')\n"
    )
    outer = (  # takes all orphans and reaps none
        "import ctypes, subprocess, sys\n"
        "ctypes.CDLL(None).prctl(36, 1)\n"
        f"subprocess.run([sys.executable, '-c', {inner!r}], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", outer], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "gone\n"


@pytest.mark.parametrize(
    ("gpus", "device", "per_gpu", "cores", "expected"),
    [([], "auto", 8, 4, 1), (["0", "1"], "auto", 3, 16, 6), (["0"], "auto", 8, 4, 4),
     (["0", "1"], "cpu", 3, 16, 1)],
)  # fmt: skip
def test_as_many_runs_at_once_as_gpus_take_and_cores_feed(
    gpus: list[str], device: str, per_gpu: int, cores: int, expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(local, "visible_gpus", lambda: gpus)
    monkeypatch.setattr(local.environment, "cores", lambda: cores)
    monkeypatch.setenv("IJEPA_DEVICE", device)
    assert local.jobs(per_gpu) == expected
