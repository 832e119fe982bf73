"""Results of a box without git and DVC: what comes home, what is refused, and what each job runs.

The runs themselves are planted here; ``test_ablate`` does it with real stages.
"""

import io
import json
import math
import shutil
import signal
import tarfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ijepa.datasets import Item, Source, Split
from ijepa.runtime import files, launch
from ijepa.store.read import PREPARED, open_store
from ijepa.store.write import write_store
from ijepa.study import bench, lock, merge, outcome, plain, plan, runner
from ijepa.study import job as study_job
from ijepa.study.plan import Run
from ijepa.tracking import runs as journal

TABLE = {
    "title": "Two", "question": "?", "table": None, "metric": "class.linear.trained",
    "seeds": [0, 1, 2, 3, 4, 5], "factor": ["mask.num_targets"],
    "variants": {"a": {"set": {"mask.num_targets": 4}}, "b": {"set": {"mask.num_targets": 1}}},
    "claim": {"text": "?", "best": "a", "margin": 0.1, "looks": [6]},
}  # fmt: skip
FIRST_ID = 26010112000000


def record(home: Path, number: int, stage: str, name: str, uuid: str) -> None:
    """A run of the journal, as much of it as is read."""
    folder = home / "runs" / str(number)
    folder.mkdir(parents=True)
    start = "2026-01-01T12:00:00"
    run = {"meta": {"uuid": uuid, "pid": 1, "process": "p"}, "status": "COMPLETED",
           "start_time": start, "stop_time": start, "host": {},
           "experiment": {}, "artifacts": []}  # fmt: skip
    config = {"stage": stage, "signature": "s", "seed": 0, "experiment": name, "commit": "",
              "data": "d"}  # fmt: skip
    files.write_json(folder / "run.json", run)
    files.write_json(folder / "config.json", config)
    (folder / ".sync").touch()


class Places:
    """A box with the files alone, and a repository of the same; one of them is where we are."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.box, self.home, self.monkeypatch = folder / "box", folder / "home", monkeypatch
        monkeypatch.setenv("IJEPA_MONGO_URL", "off")
        monkeypatch.delenv("IJEPA_HOME", raising=False)
        monkeypatch.setattr(runner, "execute", self.execute)
        self.box.mkdir()
        for name in ("scales", "presets"):
            shutil.copytree(ROOT / "experiments" / name, self.box / "experiments" / name)
        shutil.copyfile(ROOT / "params.yaml", self.box / "params.yaml")
        self.write(self.box)
        shutil.copytree(self.box, self.home)
        (self.home / ".gitignore").write_text("/.ijepa/\n")
        self.at_home()
        plan.git("init", "-q")
        self.commit()
        self.bundle = self.box / ".ijepa/ablations/two.smoke.tar.gz"
        self.broken: set[str] = set()
        self.data = "1" * 64

    def write(self, folder: Path, **changed: Any) -> None:
        (folder / "experiments/two.yaml").write_text(json.dumps({**TABLE, **changed}))

    def commit(self) -> None:
        plan.git("add", "-A")
        plan.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")

    def at_home(self) -> None:
        self.monkeypatch.chdir(self.home)

    def execute(
        self, todo: Sequence[Run], label: str, jobs: int, how: str, until: float,
        data: Mapping[str, str],
    ) -> dict[str, Any]:  # fmt: skip
        """What each run leaves: a result, and a record of its training and its data."""
        whole, home = {"commit": plan.head()}, Path(".ijepa")
        first = FIRST_ID + len(journal.listing(home))
        self.known = data
        name = f"data-{todo[0].data[:12]}-{todo[0].code[:4]}"
        record(home, first, "prepare", name, f"uuid {first}")
        for number, run in enumerate(todo, first + 1):
            job = {"name": run.name, "signature": run.signature, "code": run.code}
            record(home, number, "pretrain", run.name, f"uuid {number}")
            result = outcome.failed(whole, job, "it broke")
            if run.variant not in self.broken:
                result |= {"status": "done", "reason": None, "encoder": f"of {run.key}",
                           "data": self.data}  # fmt: skip
                result["provenance"]["runs"] = {"prepare": first, "pretrain": number}
            bench.result(run.name).parent.mkdir(parents=True, exist_ok=True)
            files.write_json(bench.result(run.name), result)
            log = bench.folder() / "two.smoke.logs" / f"{run.name}.log"
            log.parent.mkdir(exist_ok=True)
            log.write_text(f"log of {run.key}")
        record(home, number + 1, "pretrain", "of nobody's table", "other")
        return {}

    def run(self, *only: str) -> int:
        """Run the table on the box, then go home."""
        self.monkeypatch.chdir(self.box)
        status = runner.ablate(["two"], "smoke", only, runner="plain")
        self.at_home()
        return status

    def nothing_was_taken(self) -> bool:
        left = {path.name for path in (self.home / ".ijepa").rglob("*")}
        return left <= {"ablations"} and not lock.path("two", "smoke").exists()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    return Places(tmp_path, monkeypatch)


def one_line(file: Path) -> str:
    """What an import of a file is refused with."""
    with pytest.raises(ValueError, match=r".+") as refusal:
        merge.merge(file)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_what_a_box_ran_is_the_lock_file_here_and_the_commit_is_this_one(places: Places) -> None:
    assert places.run() == 0
    assert merge.merge(places.bundle) == 0
    here, there = lock.read("two", "smoke"), lock.read("two", "smoke", places.box / "experiments")
    head = plan.head()
    assert there["registered"]["commit"] is None
    assert here["registered"] == {**there["registered"], "commit": head}
    assert here["results"] == there["results"]
    assert len(here["results"]) == 2
    for key, source in here["provenance"].items():
        assert source == {**there["provenance"][key], "baseline": head}
    kept = journal.listing(places.home / ".ijepa")
    assert [run.id for run in kept] == [FIRST_ID + n for n in (2, 1, 0)], "nobody else's run"
    assert not (kept[0].folder / ".sync").exists()
    before = lock.path("two", "smoke").read_bytes()
    assert merge.merge(places.bundle) == 0, "again: nothing is doubled"
    assert lock.path("two", "smoke").read_bytes() == before
    assert len(journal.listing(places.home / ".ijepa")) == 3


def test_a_tree_that_is_no_commits_runs_under_none_and_comes_home(places: Places) -> None:
    """A copy may have the ``.git`` of another commit; what other runners refuse, plain takes."""
    shutil.copytree(places.home / ".git", places.box / ".git")
    (places.box / "README.md").write_text("More than the commit has.")
    places.monkeypatch.chdir(places.box)
    assert plan.head() is None
    with pytest.raises(ValueError, match="not as in HEAD"):
        runner.ablate(["two"], "smoke", (), runner="local")
    assert places.run() == 0
    assert merge.merge(places.bundle) == 0
    provenance = lock.read("two", "smoke")["provenance"]
    assert {source["baseline"] for source in provenance.values()} == {plan.head()} != {None}


def test_a_run_whose_id_is_taken_here_gets_another_and_its_result_says_so(places: Places) -> None:
    record(places.home / ".ijepa", FIRST_ID + 1, "evaluate", "mine", "mine")
    places.run()
    merge.merge(places.bundle)
    runs = {run.id: run for run in journal.listing(places.home / ".ijepa")}
    assert runs.keys() == {FIRST_ID + n for n in range(4)}
    assert runs[FIRST_ID + 1].experiment == "mine"
    locked = lock.read("two", "smoke")["provenance"]
    for source in locked.values():
        assert runs[source["runs"]["pretrain"]].experiment == source["name"]
        assert runs[source["runs"]["prepare"]].stage == "prepare"
    merge.merge(places.bundle)
    assert lock.read("two", "smoke")["provenance"] == locked
    assert len(journal.listing(places.home / ".ijepa")) == 4


def test_a_failure_comes_home_with_its_reason_and_its_log(places: Places) -> None:
    places.broken = {"b"}
    assert places.run() == 1
    assert merge.merge(places.bundle) == 1
    result = lock.read("two", "smoke")["results"]["b/0"]
    assert (result["status"], result["reason"]) == ("failed", "it broke")
    (log,) = (places.home / ".ijepa/ablations/import.logs").iterdir()
    assert log.read_text() == "log of b/0"
    places.broken = set()
    assert places.run() == merge.merge(places.bundle) == 0, "what failed is replaced"


def test_what_is_known_here_stays(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    places.run("a")
    file = next((places.box / ".ijepa/ablations/results").iterdir())
    (places.home / ".ijepa/ablations/results").mkdir(parents=True)
    mine = json.loads(file.read_text()) | {"encoder": "of my own"}
    files.write_json(places.home / ".ijepa/ablations/results" / file.name, mine)
    merge.merge(places.bundle)
    assert lock.read("two", "smoke")["results"]["a/0"]["encoder"] == "of my own"
    assert "a/0 (" in capsys.readouterr().out


@pytest.mark.parametrize(("told", "known"), [(0, 3), (4, 4)])
def test_what_was_known_here_before_the_box_ran_is_known(
    places: Places, told: int, known: int
) -> None:
    """Whoever deletes a lock file has seen it; a box that has but the files cannot tell."""
    file = lock.path("two", "smoke")
    seen = {key: {"status": "done"} for key in ("a/0", "b/0", "b/5")}
    file.write_text(json.dumps({"results": seen}))
    places.commit()
    file.unlink()
    places.commit()
    with places.monkeypatch.context() as patch:
        patch.setattr(runner, "seen", lambda *_: told)
        places.run()
    places.at_home()
    merge.merge(places.bundle)
    assert lock.read("two", "smoke", places.box / "experiments")["registered"]["known"] == told
    assert lock.read("two", "smoke")["registered"]["known"] == known


def test_an_import_that_was_killed_knows_none_of_its_own_results(places: Places) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    places.run()
    with places.monkeypatch.context() as patch:
        patch.setattr(lock, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            merge.merge(places.bundle)
    assert merge.merge(places.bundle) == 0
    assert lock.read("two", "smoke")["registered"]["known"] == 0


def test_seeds_of_a_part_come_home_beside_those_that_were_here(places: Places) -> None:
    places.run("a")
    merge.merge(places.bundle)
    assert lock.read("two", "smoke")["results"].keys() == {"a/0"}
    shutil.rmtree(places.box / ".ijepa")
    lock.path("two", "smoke", places.box / "experiments").unlink()
    places.run("b")
    merge.merge(places.bundle)
    assert lock.read("two", "smoke")["results"].keys() == {"a/0", "b/0"}


def test_no_table_is_of_two_raw_data_sets_of_one_name(places: Places) -> None:
    """Equal settings, another prepared set: the raw files were exchanged, or are the box's own."""
    places.run("a")
    merge.merge(places.bundle)
    shutil.rmtree(places.box / ".ijepa")
    lock.path("two", "smoke", places.box / "experiments").unlink()
    places.data = "2" * 64
    places.run("b")
    assert one_line(places.bundle) == (
        f"{places.bundle}: two b/0: it is of other raw data than this checkout's results, or of"
        " another IJEPA_STORAGE: its data hash is 222222222222, theirs 111111111111"
    )
    assert lock.read("two", "smoke")["results"].keys() == {"a/0"}
    places.monkeypatch.chdir(places.box)
    lock.path("two", "smoke").unlink()  # as where it was killed: the job's own result is there
    runner.ablate(["two"], "smoke", ["a"], runner="plain")
    assert list(places.known.values()) == ["2" * 64], "what those that run now are held against"


def test_results_of_other_code_are_refused_and_name_the_file(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.run()
    monkeypatch.setattr(plan, "code", lambda config: "newer")
    real = runner.bundle.reachable
    changed = {"ijepa/model/vit": "newer"}
    monkeypatch.setattr(runner.bundle, "reachable", lambda run: {**real(run), **changed})
    line = one_line(places.bundle)
    assert "two a/0: other code: ijepa/model/vit not as in this checkout" in line
    assert places.nothing_was_taken()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"base": {"train.lr": 0.002}}, "two a/0: its settings are not this checkout's"),
        ({"seeds": [7, 8, 9, 10, 11, 12]}, "two a/0: this checkout has no such run at scale sm"),
        ({"error": 0.01}, "registered with another design"),
        (None, "no such experiment"),
    ],
)  # fmt: skip
def test_results_of_another_experiment_are_refused(
    places: Places, changed: dict[str, Any] | None, words: str
) -> None:
    places.run()
    if changed is None:
        (places.home / "experiments/two.yaml").unlink()
    else:
        claim = {**TABLE["claim"], **{k: changed.pop(k) for k in {"error"} & changed.keys()}}
        places.write(places.home, **changed, claim=claim)
    assert "not as in HEAD" in one_line(places.bundle), "the commit must be the tree's"
    places.commit()
    assert words in one_line(places.bundle)
    assert places.nothing_was_taken()


def packed(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize("name", ["../evil", "../../evil", "runs/../../evil"])
def test_nothing_is_unpacked_outside_of_the_folder(places: Places, name: str) -> None:
    file = packed(places.home.parent / "evil.tar.gz", (tarfile.TarInfo(name), b"evil"))
    assert "refused" in one_line(file)
    file = packed(file, (link("runs", ".."), b""), (tarfile.TarInfo("runs/evil"), b"evil"))
    assert "is a link or a device: refused" in one_line(file)
    assert not list(places.home.parent.rglob("evil"))
    assert places.nothing_was_taken()


def test_what_is_no_bundle_is_one_line(places: Places) -> None:
    places.run()
    whole, file = places.bundle.read_bytes(), places.home.parent / "some.tar.gz"
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]  # in the checksum
    for damaged in (b"", b"text", whole[: len(whole) // 2], whole[:-9], whole[40:], flipped):
        file.write_bytes(damaged)
        assert f"{file}: no bundle of runs, or damaged: " in one_line(file)
    assert "No such file" in one_line(Path("nowhere.tar.gz"))
    for content in (b"{}", b"[]", b"<", b'{"format": 0}'):
        packed(file, (tarfile.TarInfo("bundle.json"), content))
        assert "no bundle of runs, or of another version" in one_line(file)
    assert "no bundle of runs" in one_line(packed(file, (tarfile.TarInfo("other"), b"")))
    assert places.nothing_was_taken()


def test_the_stages_of_a_job_are_those_of_the_pipeline_that_its_target_needs() -> None:
    pipeline = files.read_yaml(ROOT / "dvc.yaml")
    assert list(plain.needed(pipeline, "evaluate")) == [
        "config",
        "prepare",
        "pretrain",
        "evaluate",
    ]
    assert list(plain.needed(pipeline, "prepare")) == ["config", "prepare"]
    assert list(plain.needed(pipeline, "report")) == list(pipeline["stages"])
    assert {outcome.ENCODER, outcome.HISTORY} < set(
        plain.outputs(pipeline["stages"]["pretrain"])
    ), "those with options too"


STAGES = """\
stages:
  config: {cmd: python -m steps config, always_changed: true, outs: [inputs]}
  prepare: {cmd: python -m steps prepare, deps: [inputs], outs: [data/prepared]}
  pretrain: {cmd: python -m steps pretrain, deps: [data/prepared], outs: [out/of]}
  evaluate: {cmd: python -m steps evaluate, deps: [out/of], outs: [seen]}
"""
STEPS = """\
import os, sys
from pathlib import Path
stage, home, data = sys.argv[1], Path(os.environ["IJEPA_HOME"]), Path("data/prepared")
with (home / "ran").open("a") as ran:
    print(os.environ["DVC_EXP_NAME"], os.environ["DVC_STAGE"], file=ran)
if stage == "config":
    Path("out/inputs").mkdir(parents=True, exist_ok=True)
    raw = home / "raw"
    Path("out/inputs/prepare.json").write_text(raw.read_text() if raw.exists() else "")
if stage == "prepare":
    data.mkdir(parents=True)
    (data / "image").touch()
if stage == "pretrain":
    Path("out/of").write_text(Path("params.yaml").read_text())
if stage == "evaluate":
    Path("seen").mkdir()
    (data / "image").read_bytes()
if (home / f"fail.{stage}").exists():
    sys.exit("error: no luck")
"""


class Tree:
    """A tree with stages that take no time, and the jobs of a plan there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = folder / ".ijepa"
        self.home.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("IJEPA_HOME", str(self.home))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        (folder / "steps.py").write_text(STEPS)
        (folder / "dvc.yaml").write_text(STAGES)
        (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        self.whole = plain.shared()
        self.data = {"name": "data-1", "changes": {}, "target": "prepare", "needs": None,
                     "signature": "1", "code": "2"}  # fmt: skip
        config = plan.parsed(self.whole["params"], {"mask.num_targets": 2}, "here")
        self.job = {
            "name": "one", "changes": {"mask.num_targets": 2}, "target": "evaluate",
            "needs": "data-1", "signature": plan.configs.signature(config),
            "code": plan.code(config),
        }  # fmt: skip

    def run(self, job: dict[str, Any]) -> int:
        with plain.own(self.whole, job) as path:
            self.path = path
            status = plain.stages(self.whole, job, path, self.home / "log")
            if status:
                raise SystemExit(status)  # as an interrupted job ends
        return status

    def ran(self) -> list[str]:
        lines = (self.home / "ran").read_text().splitlines()
        (self.home / "ran").unlink()
        return lines


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_data_is_prepared_once_and_a_stage_that_has_ended_is_not_run_again(tree: Tree) -> None:
    assert tree.run(tree.data) == 0
    assert tree.ran() == ["data-1 config", "data-1 prepare"]
    (tree.home / "fail.evaluate").touch()
    with pytest.raises(SystemExit):
        tree.run(tree.job)
    assert tree.ran() == ["one config", "one pretrain", "one evaluate"]
    assert outcome.reason(tree.home / "log") == "no luck"
    (tree.home / "fail.evaluate").unlink()
    assert tree.run(tree.job) == 0
    assert tree.ran() == ["one config", "one evaluate"]
    assert not tree.path.exists(), "the result is elsewhere"
    assert (plain.result("data-1").with_suffix("") / "data/prepared/image").exists()


def test_data_is_prepared_again_where_the_raw_files_are_others(tree: Tree) -> None:
    tree.run(tree.data)
    tree.ran()
    for content, again in (("one", True), ("one", False), ("two", True)):
        (tree.home / "raw").write_text(content)
        tree.run(tree.data)
        assert tree.ran() == ["data-1 config", *["data-1 prepare"] * again]


def test_a_folder_of_another_run_with_the_same_name_is_not_used(tree: Tree) -> None:
    tree.run(tree.data)
    (tree.home / "fail.evaluate").touch()
    with pytest.raises(SystemExit):
        tree.run(tree.job)
    assert json.loads((tree.path / "out/of").read_text())["mask"]["num_targets"] == 2
    config = plan.parsed(tree.whole["params"], {"mask.num_targets": 3}, "here")
    other = {**tree.job, "changes": {"mask.num_targets": 3}}
    tree.ran()
    with pytest.raises(SystemExit):
        tree.run({**other, "signature": plan.configs.signature(config)})
    assert tree.ran() == ["one config", "one pretrain", "one evaluate"]
    assert json.loads((tree.path / "out/of").read_text())["mask"]["num_targets"] == 3


@pytest.mark.parametrize("key", ["signature", "code"])
def test_a_tree_that_was_changed_under_a_run_is_refused(tree: Tree, key: str) -> None:
    with pytest.raises(ValueError, match=r"^one: code or parameters were changed after the run"):
        tree.run({**tree.job, key: "of before"})
    assert not (tree.home / "ran").exists()


class Jobs:
    """In place of the runner: each job leaves its result at once, or none does."""

    def __init__(
        self, fails: Callable[[dict[str, Any]], bool], data: Mapping[str, str] | None = None
    ) -> None:
        self.fails, self.ran, self.data = fails, list[str](), data or {}

    def run(self, file: Path, count: int, jobs: int, poll: Callable[[], None]) -> None:
        whole = json.loads(file.read_text())
        assert len(whole["jobs"]) == count > 0
        for job in whole["jobs"]:
            self.ran.append(job["name"])
            result = (
                outcome.failed(whole, job, "no disk")
                if self.fails(job)
                else outcome._empty(whole, job) | {"data": self.data.get(job["signature"])}
            )
            Path(job["result"]).parent.mkdir(parents=True, exist_ok=True)
            files.write_json(Path(job["result"]), result)
            poll()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working tree without git, results or experiments."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("IJEPA_HOME", raising=False)


def two_data_sets() -> list[Run]:
    params = {"data.render_seed": [0, 0, 1]}
    return [
        Run(
            f"v/{n}",
            "v",
            None,
            n,
            {"data.render_seed": seed},
            f"{n}" * 64,
            f"{seed}" * 64,
            "c" * 64,
        )
        for n, seed in enumerate(params["data.render_seed"])
    ]


@pytest.mark.usefixtures("box")
def test_data_that_cannot_be_prepared_fails_its_runs_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = Jobs(lambda job: job["name"].startswith("data-0"))
    monkeypatch.setattr(plain, "run", jobs.run)
    runs = two_data_sets()
    results = runner.execute(runs, "here", 1, "plain")
    assert {name[:8] for name in jobs.ran} == {"data-000", "data-111", runs[2].name[:8]}
    reasons = [(results[run.name] or {})["reason"] for run in runs]
    assert reasons == ["prepare: no disk", "prepare: no disk", None]


@pytest.mark.usefixtures("box")
def test_a_job_that_has_prepared_data_says_which() -> None:
    image = Item(np.zeros((4, 4, 3), np.uint8), {"class": 0}, "made")
    split = Split(1, lambda: iter([image]))
    source = Source({"train": split, "test": split}, {"class": ("a",)}, {"name": "made"})
    write_store(source, PREPARED)
    of = {"name": "data", "target": "prepare", "signature": "s", "code": "c"}
    result = outcome.gather({"commit": None}, of, Path(), 0, Path("log"))
    assert result["data"] == open_store().hash


@pytest.mark.usefixtures("box")
def test_runs_of_other_raw_data_than_known_results_have_do_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = Jobs(lambda job: False, {"0" * 64: "e" * 64, "1" * 64: "f" * 64})
    monkeypatch.setattr(plain, "run", jobs.run)
    runs = two_data_sets()
    known = {"0" * 64: "d" * 64}
    for more in ({}, {"1" * 64: "f" * 64}):  # the second time the data is there already
        jobs.ran = []
        results = runner.execute(runs, "here", 1, "plain", data=known | more)
        assert jobs.ran[2:] == [runs[2].name]
        reasons = [(results[run.name] or {})["reason"] for run in runs]
        other = (
            "prepare: the raw data in IJEPA_DATA_ROOT are not those of the results that are"
            " known, or IJEPA_STORAGE is another: the data hash is eeeeeeeeeeee, it was"
            " dddddddddddd"
        )
        assert reasons == [other, other, None]


@pytest.mark.usefixtures("box")
def test_when_the_time_is_up_what_has_ended_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = Jobs(lambda job: False)
    monkeypatch.setattr(plain, "run", jobs.run)
    clock = iter([0.0, 0.0, 0.0, 0.0, *[math.inf] * 9])  # two data sets, and the look after them
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    runs = two_data_sets()
    results = runner.execute(runs, "here", 1, "plain", until=1.0)
    assert jobs.ran[-2:] == [runs[0].name, runs[1].name]
    assert [bool(results[run.name]) for run in runs] == [True, True, False]
    assert "the time is up: 2 of 3 have ended" in capsys.readouterr().out


@pytest.mark.usefixtures("box")
def test_the_time_is_up_also_at_the_last_look_after_the_jobs_have_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the local runner looks: while they run, and once more when they have ended."""

    def looked(_plan: Path, _count: int, _jobs: int, poll: Callable[[], None]) -> None:
        try:
            poll()
        finally:
            poll()

    monkeypatch.setattr(plain, "run", looked)
    runs = two_data_sets()
    results = runner.execute(runs, "here", 1, "plain", until=-math.inf)
    assert results == {run.name: None for run in runs}
    assert capsys.readouterr().out.count("the time is up: 0 of 2 have ended") == 1


@pytest.mark.usefixtures("box")
def test_a_signal_is_not_taken_for_the_time_that_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last look is after the jobs have saved, and by then the time may be up as well."""

    def stopped(_plan: Path, _count: int, _jobs: int, poll: Callable[[], None]) -> None:
        try:
            raise SystemExit(128 + signal.SIGTERM)
        finally:
            poll()

    monkeypatch.setattr(plain, "run", stopped)
    with pytest.raises(SystemExit) as ended:
        runner.execute(two_data_sets(), "here", 1, "plain", until=-math.inf)
    assert ended.value.code == 128 + signal.SIGTERM


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("key", ["signature", "code"])
def test_what_another_run_left_under_a_name_is_nobodys_result(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name has the first digits of the hashes alone, so two runs may have the same."""
    jobs, runs = Jobs(lambda job: False), two_data_sets()
    monkeypatch.setattr(plain, "run", jobs.run)
    runner.execute(runs, "here", 1, "plain")
    for file in Path(".ijepa/ablations").rglob("*.json"):
        content = files.read_json(file)
        if "status" in content:
            files.write_json(file, {**content, key: f"{content[key][:12]} of another"})
    capsys.readouterr()
    monkeypatch.setattr(plain, "run", lambda *_: None)
    assert runner.execute(runs, "here", 1, "plain") == {run.name: None for run in runs}
    monkeypatch.setattr(plain, "run", jobs.run)
    assert all(runner.execute(runs, "here", 1, "plain").values())
    assert "[3/3] v/2: done" in capsys.readouterr().out, "each is told when it ends"


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize(("target", "other", "times"), [
    ("evaluate", {}, 0),
    ("evaluate", {"signature": "of another"}, 1),
    ("evaluate", {"code": "of another"}, 1),
    ("prepare", {}, 2),  # its stages see whether the raw data are what they were
])  # fmt: skip
def test_a_job_is_done_by_its_own_result_alone(
    target: str, other: dict[str, str], times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for of_the_process in ("die_with_parent", "adopt_orphans"):
        monkeypatch.setattr(launch, of_the_process, lambda *_: None)
    ran = list[str]()

    def stages(whole: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
        ran.append(one["name"])
        return outcome._empty(whole, one)

    monkeypatch.setattr(study_job, "_without", stages)
    one = {"name": "one", "target": target, "signature": "s", "code": "c",
           "result": "results/one.json"}  # fmt: skip
    whole = {"bench": None, "commit": None, "jobs": [one]}
    files.write_json(Path("plan.json"), whole)
    Path("results").mkdir()
    files.write_json(Path(one["result"]), outcome._empty(whole, {**one, **other}))
    for _ in range(2):
        assert study_job.main(["plan.json", "0"]) == 0
    assert ran == ["one"] * times
    assert study_job.own(Path(one["result"]), "s", "c")


def test_a_result_of_other_code_under_the_name_of_a_run_stays_away(places: Places) -> None:
    places.run()
    folder = places.box / ".ijepa/ablations/results"
    stale = next(f for f in folder.iterdir() if json.loads(f.read_text())["encoder"] == "of b/0")
    files.write_json(stale, json.loads(stale.read_text()) | {"code": "of before"})
    lock.path("two", "smoke", places.box / "experiments").unlink()
    places.run("a")
    merge.merge(places.bundle)
    assert lock.read("two", "smoke")["results"].keys() == {"a/0"}
