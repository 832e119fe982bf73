"""The fault test: what it counts, that its controls fire, and that it finds nothing here."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

QUICK = (
    "damage", "kill train", "kill prepare", "kill evaluate", "signal train", "kill group",
    "kill sync", "outage", "database changed", "damage before sync", "full disk: limit",
    "controls",
)  # fmt: skip


@pytest.fixture
def torture(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import torture.damage
    import torture.trials

    yield torture
    for name in [name for name in sys.modules if name.partition(".")[0] == "torture"]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_few_trials_of_each_kind_lose_nothing_and_every_control_fires(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/torture.py"), "--trials", "2", "--minutes", "20",
         "--only", ",".join(QUICK), "--work", str(tmp_path), "--out", str(tmp_path / "all")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    trials = json.loads((tmp_path / "all.json").read_text())
    assert {trial["kind"] for trial in trials} == set(QUICK), done.stdout + done.stderr
    bad = [trial for trial in trials if trial["verdict"] in ("lost", "unclear")]
    assert not bad, bad
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_trial_is_a_function_of_seed_kind_and_number(torture: ModuleType) -> None:
    draws = {
        key: torture.trials.generator(*key).random()
        for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    }
    assert len(set(draws.values())) == 4
    assert all(torture.trials.generator(*key).random() == draw for key, draw in draws.items())


def test_a_second_call_goes_on_and_a_line_that_was_cut_is_done_again(
    torture: ModuleType, tmp_path: Path
) -> None:
    def make(rng: random.Random) -> object:
        return torture.trials.Outcome("row", "survived", 1, str(rng.random()))

    def run(file: str, wanted: int, until: float = time.monotonic() + 100) -> list[object]:
        path = tmp_path / file
        torture.trials.run({"a": make, "b": make}, {"a": wanted, "b": 2}, 0, path, until)
        return sorted((t.kind, t.number, t.note) for t in torture.trials.read(path))

    assert run("none", 4, until=0) == []
    once = run("once", 4)
    assert [trial[:2] for trial in once] == [*(("a", i) for i in range(4)), ("b", 0), ("b", 1)]
    run("twice", 3)
    with (tmp_path / "twice").open("a") as file:
        file.write('{"row": "ro')
    assert run("twice", 4) == once


def test_a_trial_that_the_script_spoils_is_void(torture: ModuleType, tmp_path: Path) -> None:
    def make(rng: random.Random) -> object:
        raise OSError("no room for a trial")

    torture.trials.run({"a": make}, {"a": 1}, 0, tmp_path / "all", time.monotonic() + 100)
    done = torture.trials.read(tmp_path / "all")
    assert [trial.verdict for trial in done] == ["void"]
    assert "| **all** | 1 | 0 | 0 | 0 | 0 | 0 | 1 |  | 0 |" in torture.trials.table(done)


def test_the_bound_is_the_rule_of_three_or_wilsons(torture: ModuleType) -> None:
    assert torture.trials.bound(0, 1000) == "0.3%"
    assert torture.trials.bound(0, 1) == "100.0%"
    assert torture.trials.bound(1, 10) == "40.4%"  # Wilson: 0.0179 to 0.4042
    assert torture.trials.bound(0, 0) == ""


def test_what_was_damaged_differs_and_keeps_its_clock(torture: ModuleType, tmp_path: Path) -> None:
    path, rng, ways = tmp_path / "file", random.Random(0), set()
    for _ in range(200):
        path.write_bytes(data := bytes(8) + rng.randbytes(rng.randrange(1, 5)) + bytes(4))
        before = path.stat().st_mtime_ns
        changed, how = torture.damage.damaged(data, rng)
        torture.damage.write(path, changed)
        assert path.read_bytes() == changed != data
        assert path.stat().st_mtime_ns == before
        ways.add(how.split()[0])
        if how.endswith("flipped"):
            bits = int.from_bytes(changed) ^ int.from_bytes(data)
            assert len(changed) == len(data)
            assert bits.bit_count() == 1
    assert ways >= {"bit", "cut", "zeros", "emptied"}


@pytest.mark.parametrize(
    ("status", "text", "differs", "mended", "verdict"),
    [
        (0, "", [], False, "no effect"),
        (0, "", [], True, "survived"),
        (0, "note: out/x.bin: damaged", [], False, "survived"),
        (0, "", ["out/y"], True, "lost"),
        (0, "note: out/x.bin: damaged", ["out/y"], False, "lost"),  # said, and wrong all the same
        (2, "error: out/x.bin: damaged", ["out/y"], False, "survived"),
        (2, "error: something", ["out/y"], False, "unclear"),
        (2, "out/x.bin was said undisturbed", ["out/y"], False, "unclear"),
        (1, "Traceback ... out/x.bin", [], False, "unclear"),
        (99, "out/x.bin", [], False, "unclear"),
        (-11, "out/x.bin", [], False, "unclear"),
    ],
)
def test_verdict(
    torture: ModuleType, status: int, text: str, differs: list[str], mended: bool, verdict: str
) -> None:
    states, place = torture.states, torture.place
    reader = states.Reader("state", lambda: None)
    undisturbed = states.Reading([], ["out/y"], {}, ["out/x.bin was said undisturbed"], [], 1.0)
    ended = place.Ended(status, "", text)
    given = torture.damage.judge(reader, undisturbed, Path("out/x.bin"), ended, differs, mended)
    assert given == verdict


def test_a_damaged_run_of_the_journal_may_cost_its_own_lines_alone(torture: ModuleType) -> None:
    reader = torture.states.Reader("state", lambda: None, names=True, apart=True)
    undisturbed = torture.states.Reading([], [], {}, [], [], 1.0)
    file, said = Path("home/runs/26112617300500/run.json"), "note: run.json: damaged"

    def judge(err: str, differs: list[str]) -> str:
        ended = torture.place.Ended(0, "", err)
        return str(torture.damage.judge(reader, undisturbed, file, ended, differs, False))

    assert judge(said, ["26112617300500", "row 26112617300500"]) == "survived"
    assert judge("", ["26112617300500"]) == "lost"
    assert judge(said, ["26112617300500", "26112617300501"]) == "lost"
