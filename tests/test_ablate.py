"""``ijepa ablate`` in a clone of this repository, with real DVC: sharing, kill -9, failures."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from ijepa.tracking import runs

pytestmark = pytest.mark.slow

# `first` and `second` share a run: m1 and usual are one science in other words.
EXPERIMENT = """\
title: {name}
question: Does the runner keep its promises?
table: null
source: "Ours: a test."
metric: class.linear.trained
seeds: [0, 1, 2, 3, 4, 5]
base: {base}
factor: {factor}
variants: {variants}
claim: {{text: Nothing., by: us, best: {best}, margin: 1, looks: [6]}}
"""
FIRST = {
    "name": "first",
    "base": "{train.epochs: 10}",
    "factor": "[mask.num_targets]",
    "variants": """
  m1: {label: "1", set: {mask.num_targets: 1}, paper: null}
  m4: {label: "4", set: {mask.num_targets: 4}, paper: null}""",
    "best": "m4",
}
SECOND = {
    "name": "second",
    "base": "{train.epochs: 10.0, mask.num_targets: 1, data.bad_images: fail}",
    "factor": "[train.lr, train.lr_start]",
    "variants": """
  usual: {label: usual, set: {train.lr: 0.001}, paper: null}
  wild: {label: wild, set: {train.lr: 1.0e+30, train.lr_start: 1.0e+30}, paper: null}""",
    "best": "usual",
}
NAN = r"NaN or infinity at step \d+ [^\n]+"


class Clone:
    """A clone of the repository with the two experiments, and the command in it."""

    def __init__(self, source: Path, path: Path) -> None:
        self.path = path
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("IJEPA_", "DVC_"))}
        self.env |= {"IJEPA_MONGO_URL": "off", "IJEPA_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self.env |= {"IJEPA_DEVICE": "cpu", "IJEPA_CHECKPOINT_SECONDS": "0"}  # every step
        subprocess.run(["git", "clone", "--quiet", source, path], check=True)

    def commit(self, *files: tuple[str, str]) -> None:
        for name, text in files:
            (self.path / name).write_text(text)
        self.git("add", "-A")
        self.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "test")

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, capture_output=True, text=True, check=True
        )
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ijepa", "ablate", *arguments, "--scale", "smoke"],
            cwd=self.path, env=self.env, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ablate(self, *arguments: str) -> tuple[int, str]:
        runner = self.start(*arguments)
        try:
            output = runner.communicate(timeout=900)[0]
        except BaseException:
            runner.terminate()
            raise
        return runner.returncode, output

    def ijepa(self, *arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "ijepa", *arguments],
            cwd=self.path, env=self.env, text=True, capture_output=True, timeout=900, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def vouch(self, name: str) -> tuple[int, str]:
        return self.ijepa("vouch", name, "--scale", "smoke")

    def replace(self, file: str, old: str, new: str) -> None:
        """Change a line of code, in a commit."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, old
        self.commit((file, text.replace(old, new)))

    def lock(self, name: str) -> Any:
        return json.loads((self.path / f"experiments/{name}.smoke.lock.json").read_text())

    def recorded(self) -> list[str]:
        """The stages that ran, as the journal has them."""
        files = sorted(self.path.glob(".ijepa/runs/*/config.json"))
        return [json.loads(file.read_text())["stage"] for file in files]

    def processes(self, words: str = "") -> list[int]:
        """Living processes that work somewhere in the clone."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                here = (process / "cwd").readlink().is_relative_to(self.path)
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has gone, or is nobody's business
            if here and command and words in command:
                found.append(int(process.name))
        return found

    def logs(self) -> str:
        files = self.path.glob(".ijepa/ablations/*.logs/ijepa-*.log")
        return "\n".join(file.read_text() for file in files)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HEAD of this repository, with the experiments in a commit."""
    clone = Clone(ROOT, tmp_path_factory.mktemp("ablate") / "source")
    files = [(f"experiments/{e['name']}.yaml", EXPERIMENT.format(**e)) for e in (FIRST, SECOND)]
    clone.commit(*files)
    return clone.path


@pytest.fixture(scope="module")
def clone(source: Path) -> Clone:
    """Where both experiments have run, one variant of which cannot be trained."""
    made = Clone(source, source.with_name("clone"))
    made.first = made.ablate("first", "second", "--jobs", "2")  # type: ignore[attr-defined]
    return made


def until(true: Callable[[], object], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def test_tables_share_a_run_and_a_failure_stops_no_other(clone: Clone) -> None:
    status, output = clone.first  # type: ignore[attr-defined]
    assert status == 1, output
    assert "smoke: 2 experiments, 4 cells, 3 runs (1 shared): 3 to do, 0 known" in output
    assert re.search(rf"^\[\d/3\] wild/0: FAILED: {NAN}$", output, re.MULTILINE), output
    assert re.search(rf"^failed: wild/0 \(ijepa-\w+-\w+\): {NAN}$", output, re.MULTILINE)
    first, second = clone.lock("first"), clone.lock("second")
    wild = second["results"]["wild/0"]
    assert wild["status"] == "failed"
    assert re.fullmatch(NAN, wild["reason"])
    assert wild["metrics"] is wild["encoder"] is wild["pretrain"] is None
    assert {run["status"] for run in first["results"].values()} == {"done"}, first
    shared = first["results"]["m1/0"], second["results"]["usual/0"]
    assert shared[0] == {**shared[1], "variant": "m1"}
    assert first["provenance"]["m1/0"] == second["provenance"]["usual/0"]
    assert first["results"]["m4/0"]["encoder"] != shared[0]["encoder"]
    stages = clone.recorded()
    assert [stages.count(s) for s in ("prepare", "pretrain", "evaluate", "report")] == [1, 3, 2, 0]
    assert clone.processes() == []
    assert clone.git("status", "--porcelain", "--untracked-files=all") == ""


# What of a result's provenance names a clock, a memory's size, a record or DVC's own commit.
OF_ITS_OWN = ("commit", "runs", "seconds")
OF_ITS_OWN_COST = ("device_seconds", "wall_seconds", "peak_memory_gib")


def same(content: Any) -> str:
    """A lock file's text without what two equal runs on one machine differ in."""
    del content["sha256"]
    for source in content["provenance"].values():
        assert {*OF_ITS_OWN} <= source.keys()
        for key in OF_ITS_OWN:
            del source[key]
        for key in OF_ITS_OWN_COST if source["cost"] else ():
            del source["cost"][key]
    return json.dumps(content, sort_keys=True, indent=1)


def test_without_git_and_dvc_it_comes_home_as_the_same_lock_file(
    clone: Clone, source: Path
) -> None:
    box = Clone(source, source.with_name("box"))
    shutil.rmtree(box.path / ".git")
    shutil.rmtree(box.path / ".dvc")
    (box.path / "blocked/dvc").mkdir(parents=True)
    (box.path / "blocked/dvc/__init__.py").write_text("raise ImportError('there is no DVC here')")
    box.env["PYTHONPATH"] = str(box.path / "blocked")
    status, output = box.ablate("first", "second", "--runner", "plain", "--jobs", "2")
    assert status == 1, output
    assert re.search(rf"^failed: wild/0 \(ijepa-\w+-\w+\): {NAN}$", output, re.MULTILINE), output
    assert not list(box.path.glob(".ijepa/ablations/cells/ijepa-*")), "no copy of a run is left"

    home = Clone(source, source.with_name("home"))
    bundle = box.path / ".ijepa/ablations/first+second.smoke.tar.gz"
    status, output = home.ijepa("import", str(bundle))
    assert status == 1, output
    for name in ("first", "second"):
        mine, local = home.lock(name), clone.lock(name)
        for key, entry in mine["provenance"].items():
            ids = entry["runs"]
            assert ids.keys() == local["provenance"][key]["runs"].keys()
            records = {s: runs.load(home.path / f".ijepa/runs/{n}") for s, n in ids.items()}
            assert all(record and record.stage == s for s, record in records.items())
        assert same(mine) == same(local)
    assert sorted(home.recorded()) == sorted(clone.recorded())
    assert home.git("status", "--porcelain", "--untracked-files=all") == ""
    status, output = home.ablate("first")
    assert (status, "0 to do, 2 known" in output) == (0, True), output


def test_a_result_leads_to_its_commit_and_its_runs(clone: Clone) -> None:
    found, run = (clone.lock("first")[part]["m4/0"] for part in ("provenance", "results"))
    kept = json.loads(clone.git("show", f"{found['commit']}:out/metrics.json"))
    assert kept["class"]["linear"] == run["metrics"]["class"]["linear"]
    assert found["baseline"] == clone.git("rev-parse", "HEAD").strip()
    assert set(found["runs"]) == set(found["seconds"]) == {"prepare", "pretrain", "evaluate"}
    for stage, number in found["runs"].items():
        record = runs.load(clone.path / f".ijepa/runs/{number}")
        assert record is not None
        assert (record.stage, record.data, record.status) == (stage, run["data"], "COMPLETED")


def test_what_is_known_is_not_run_again_and_what_failed_is(clone: Clone) -> None:
    before = clone.recorded()
    bytes_before = (clone.path / "experiments/first.smoke.lock.json").read_bytes()
    status, output = clone.ablate("first")
    assert (status, clone.recorded()) == (0, before), output
    assert "2 runs (0 shared): 0 to do, 2 known\n" in output
    assert (clone.path / "experiments/first.smoke.lock.json").read_bytes() == bytes_before
    status, output = clone.ablate("first", "second")
    assert status == 1
    assert "1 to do, 2 known" in output
    assert clone.recorded() == [*before, "pretrain"], "the failed run alone is tried again"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere kill -9 leaves children alive")
def test_killed_twice_it_ends_with_the_same_bytes_and_no_orphans(
    clone: Clone, source: Path
) -> None:
    killed = Clone(source, source.with_name("killed"))
    arguments = ("first", "--only", "m1")

    def trains(resumed: bool) -> bool:
        begin = re.search(r"from step (\d+) of 100\n(step +\d+/100.*\n){3}", killed.logs())
        return bool(begin) and (int(begin[1]) > 0) == resumed  # type: ignore[index]

    runner = killed.start(*arguments)
    until(lambda: trains(resumed=False), "training")
    os.killpg(runner.pid, signal.SIGKILL)
    runner.communicate()
    until(lambda: not killed.processes(), "the end of all processes", 130)
    runner = killed.start(*arguments)
    until(lambda: trains(resumed=True), "training from the checkpoint")
    jobs = killed.processes("ijepa.study.job")
    assert len(jobs) == 1
    for pid in (runner.pid, *jobs):
        os.kill(pid, signal.SIGKILL)
    runner.communicate()
    until(lambda: not killed.processes(), "the end of all processes", 130)
    status, output = killed.ablate(*arguments)
    assert status == 0, output
    whole, mine = clone.lock("first"), killed.lock("first")
    assert mine["results"].keys() == {"m1/0"}
    assert json.dumps(mine["results"]["m1/0"]) == json.dumps(whole["results"]["m1/0"])
    assert re.search(r"from step [1-9]\d* of 100", killed.logs())
    source_of = mine["provenance"]["m1/0"]
    record = runs.load(killed.path / f".ijepa/runs/{source_of['runs']['pretrain']}")
    assert record
    assert record.seconds
    earlier = source_of["cost"]["earlier_seconds"]
    assert earlier > 0
    assert source_of["seconds"]["pretrain"] == record.seconds + earlier, "of all its processes"
    assert killed.processes() == []
    assert not list(killed.path.glob(".ijepa/ablations/jobs/*")), "no copy of a run is left"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("factor:", "factors:", r"experiments/first\.yaml: factors: .*did you mean factor\?"),
        ("set: {mask.num_targets: 4}", "set: {mask.num_target: 4}",
         r"experiments/first\.yaml: variants\.m4\.set: mask\.num_target: params\.yaml has no such"
         r" key; did you mean mask\.num_targets\?"),
        ("  m4:", "  m1:", r"experiments/first\.yaml: m1: written twice \(line \d+\)"),
        ("num_targets: 4}", "num_targets: 1}",
         r"experiments/first\.yaml: variants: m1 and m4 are the same settings .*"),
        ("train.epochs: 10}", "train.epochs: 11}",
         r"experiments/first\.yaml: not as in HEAD; commit \(or remove\) it first, .*"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_runs_nothing(
    clone: Clone, old: str, new: str, line: str
) -> None:
    file, before = clone.path / "experiments/first.yaml", clone.recorded()
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    try:
        status, output = clone.ablate("first")
    finally:
        file.write_text(text)
    assert re.fullmatch(
        rf"(first: exploratory.*\n)?(smoke: 1 experiment,.*\n)?error: {line}\n", output
    ), output
    assert (status, clone.recorded()) == (2, before)


def test_a_refactoring_is_vouched_for_and_a_change_is_not(clone: Clone) -> None:
    before = clone.lock("first")
    clone.replace("ijepa/schedule.py", "if step < warmup:", "if not step >= warmup:")
    assert "2 to do, 0 known" in clone.ablate("first", "--dry-run")[1]
    status, output = clone.vouch("first")
    assert (status, "the same bytes" in output) == (0, True), output
    vouched = clone.lock("first")
    (voucher,) = vouched.pop("vouched")
    assert vouched.pop("sha256") != before.pop("sha256")
    assert vouched == before, "a voucher is added, and no result touched"
    assert voucher["code"] == before["results"]["m1/0"]["code"] != voucher["as"]
    (shown,) = voucher["shown"].values()
    assert shown["older"] == "as recorded"
    assert shown["files"] in [run["files"] for run in before["results"].values()]
    assert voucher["numerics"]["threads"] == 1
    assert "0 to do, 2 known" in clone.ablate("first", "--dry-run")[1]

    clone.replace("ijepa/schedule.py", "math.pi * progress", "3 * progress")
    status, output = clone.vouch("first")
    assert status == 1
    assert re.search(r"encoder: \w+ before, \w+ now", output), output
    assert clone.lock("first")["vouched"] == [voucher]
    # what showed the difference is itself a run of today's code
    assert "1 to do, 1 known" in clone.ablate("first", "--dry-run")[1]
