"""``ijepa ablate --until-decided``, with planted results in place of runs."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ijepa.study import lock, plan, runner, stopping
from ijepa.study.plan import Run

Executed = list[list[str]]
TABLE = {
    "title": "Made up", "question": "?", "metric": "class.linear.trained",
    "factor": ["mask.num_targets"], "seeds": [7, *range(7), *range(8, 24)],
    "variants": {"a": {"set": {"mask.num_targets": 4}}, "b": {"set": {"mask.num_targets": 1}}},
    "claim": {"text": "?", "best": "a", "margin": 0.1},
}  # fmt: skip


class Desk:
    """Experiments in a git repository, and results that come without a run."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.executed = folder, Executed()
        self.shift: dict[str, float] = {}
        self.broken: set[str] = set()
        self.dies_after: int | None = None
        (folder / "experiments").mkdir()
        for name in ("scales", "presets"):
            (folder / "experiments" / name).symlink_to(ROOT / "experiments" / name)
        (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
        monkeypatch.chdir(folder)
        monkeypatch.setenv("IJEPA_HOME", str(folder / "home"))
        plan.git("init", "-q")
        monkeypatch.setattr(runner, "execute", self.execute)
        monkeypatch.setattr(plan, "refuse_dirty_tree", lambda: None)

    def table(self, name: str, shift: float, **changed: Any) -> None:
        """An experiment whose first variant is better by so many standard deviations."""
        self.shift[name] = shift
        tree = {**TABLE, **changed, "title": name}
        base = {"train.lr": 0.001 * len(self.shift), **changed.get("base", {})}  # none is shared
        path = self.folder / f"experiments/{name}.yaml"
        path.write_text(json.dumps({**tree, "base": base}))
        plan.git("add", "-A")
        plan.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", name)

    def execute(
        self, todo: Sequence[Run], label: str, jobs: int, how: str, until: float,
        data: Mapping[str, str],
    ) -> Mapping[str, Any]:  # fmt: skip
        self.executed.append([run.key for run in todo])
        registered = [lock.read(name, "smoke").get("registered") for name in self.shift]
        assert all(registered), "before the first cell runs"
        for count, run in enumerate(todo):
            if count == self.dies_after:
                raise KeyboardInterrupt
            name = list(self.shift)[round(run.changes.get("train.lr", 0.001) / 0.001) - 1]
            noise = float(np.random.default_rng(run.seed).normal())
            value = 50 + (self.shift[name] + noise if run.variant == "a" else 0)
            bad = run.key in self.broken
            result = {
                "status": "failed" if bad else "done", "reason": "it broke" if bad else None,
                "signature": run.signature, "code": run.code, "data": None, "encoder": None,
                "metrics": None if bad else {"class": {"linear": {"trained": value}}},
                "pretrain": None, "provenance": {"seconds": {"pretrain": 60.0}},
            }  # fmt: skip
            path = self.folder / f"home/ablations/results/{run.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(result))
        return {}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def seeds(keys: Sequence[str]) -> list[int]:
    return sorted({int(key.partition("/")[2]) for key in keys})


def test_it_stops_at_the_look_that_decides(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.table("clear", 5.0)
    assert stopping.run(["clear"], "smoke") == 0
    assert [seeds(keys) for keys in desk.executed] == [[0, 1, 2, 3, 4, 7]]
    said = capsys.readouterr().out
    assert "clear: 6 seeds: holds (a - b +" in said
    assert len(lock.read("clear", "smoke")["seeds"]) == 6


def test_the_undecided_go_on_together_and_the_decided_get_no_more_seeds(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.table("clear", 5.0)
    desk.table("same", 0.0)
    assert stopping.run([], "smoke") == 0  # all that claim something
    counts = [len(keys) for keys in desk.executed]
    assert counts == [24, 12, 24], "6 seeds of two tables, then 6 and 12 more of one"
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("same: ")]
    assert [line.split(" (")[0] for line in lines] == [
        "same: 6 seeds: undecided", "same: 12 seeds: undecided", "same: 24 seeds: undecided",
    ]  # fmt: skip
    assert "the next look is at 12" in lines[0]
    assert lines[2].endswith("it was the last look")
    assert len(lock.read("same", "smoke")["seeds"]) == 24


def test_killed_anywhere_it_goes_on_and_runs_nothing_twice(desk: Desk) -> None:
    desk.table("same", 0.0)
    for after in (3, 8):
        desk.dies_after = after
        with pytest.raises(KeyboardInterrupt):
            stopping.run(["same"], "smoke")
    desk.dies_after = None
    assert stopping.run(["same"], "smoke") == 0
    first, second, third, *_ = desk.executed
    assert (first[3:], second[8:]) == (second, third)
    done = [*first[:3], *second[:8], *third, *itertools.chain(*desk.executed[3:])]
    assert len(done) == len(set(done)) == 48
    before = len(desk.executed)
    assert stopping.run(["same"], "smoke") == 0
    assert len(desk.executed) == before, "all is known"


def test_a_failed_run_stops_its_table_before_the_look(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.table("clear", 5.0)
    desk.broken = {"b/3"}
    assert stopping.run(["clear"], "smoke") == 1
    assert "clear: 6 seeds: no verdict, for runs are missing" in capsys.readouterr().out
    assert len(desk.executed) == 1
    desk.broken = set()
    assert stopping.run(["clear"], "smoke") == 0
    assert desk.executed[1] == ["b/3"]


def test_a_plain_call_keeps_the_seeds_of_an_earlier_one(desk: Desk) -> None:
    desk.table("same", 0.0)
    stopping.run(["same"], "smoke")
    before = lock.read("same", "smoke")
    assert runner.ablate(["same"], "smoke") == 0  # the scale has one seed
    assert lock.read("same", "smoke") == before


def test_looks_are_those_that_were_registered(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.table("same", 0.0, claim={**TABLE["claim"], "looks": [6, 9]})  # type: ignore[dict-item]
    desk.dies_after = 0
    with pytest.raises(KeyboardInterrupt):
        stopping.run(["same"], "smoke")
    desk.dies_after = None
    desk.shift.clear()
    desk.table("same", 0.0)
    assert stopping.run(["same"], "smoke") == 0
    said = capsys.readouterr().out
    assert "same: exploratory, not as registered: looks [6, 9] -> [6, 12, 24]" in said
    assert "same: 9 seeds: undecided" in said
    assert len(lock.read("same", "smoke")["seeds"]) == 9


def test_a_dry_run_says_the_least_and_the_most_that_it_may_take(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.table("same", 0.0)
    assert stopping.run(["same"], "smoke", dry_run=True) == 0
    assert capsys.readouterr().out == (
        "same: looks at 6, 12, 24 seeds: at least 6 seeds, 12 runs, 12 to do, about 6 min with 1"
        " at once; at most 24 seeds, 48 runs, 48 to do, about 24 min with 1 at once\n"
    )
    assert desk.executed == []
    assert lock.unregistered("same", "smoke")


def test_later_seeds_of_older_code_stay_and_do_not_count(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.table("same", 0.0)
    stopping.run(["same"], "smoke")
    capsys.readouterr()
    monkeypatch.setattr(plan, "code", lambda config: "newer")
    desk.shift["same"], desk.broken = 0.3, {"b/8"}  # so that it ends before the second look
    assert stopping.run(["same"], "smoke") == 1
    first = [float(np.random.default_rng(seed).normal()) + 0.3 for seed in (7, *range(5))]
    said = capsys.readouterr().out
    assert f"same: 6 seeds: undecided (a - b {np.mean(first):+.2f} [" in said
    content = lock.read("same", "smoke")
    codes = [result["code"] for result in content["results"].values()]
    assert (len(content["seeds"]), codes.count("newer")) == (24, 23)
    assert content["results"]["b/8"]["status"] == "done", "of older code: a failure takes nothing"


def test_a_metric_that_no_run_has_a_number_for_is_one_line(desk: Desk) -> None:
    desk.table("same", 0.0, metric="shape.linear.trained")
    line = (
        r"^experiments/same\.smoke\.lock\.json: registered: metric: 'shape\.linear\.trained': no"
        r" run has a number for it; they have class\.linear\.trained$"
    )
    with pytest.raises(ValueError, match=line):
        stopping.run(["same"], "smoke")
    assert len(lock.read("same", "smoke")["results"]) == 12, "what ran is kept"


def test_what_can_never_be_decided_is_not_begun(desk: Desk) -> None:
    desk.table("same", 0.0)
    desk.dies_after = 0
    with pytest.raises(KeyboardInterrupt):
        stopping.run(["same"], "smoke")
    variants = {"a": TABLE["variants"]["a"], "c": TABLE["variants"]["b"]}  # type: ignore[index]
    desk.table("same", 0.0, variants=variants)
    with pytest.raises(ValueError, match="variants: b of the registered claim is not there"):
        stopping.run(["same"], "smoke")


def test_numbers_of_older_code_are_known_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.table("same", 0.0)
    desk.shift["same"] = 5.0
    assert stopping.run(["same"], "smoke") == 0
    monkeypatch.setattr(plan, "code", lambda config: "newer")
    desk.table("again", 0.0, base={"train.lr": 0.001})
    runner.ablate(["again"], "smoke", seeds=[0, 1, 2, 3, 4, 7])
    assert lock.read("again", "smoke")["registered"]["known"] == 12


def test_known_are_results_of_the_claimed_pairs_and_no_others(desk: Desk) -> None:
    desk.table("clear", 5.0)
    assert stopping.run(["clear"], "smoke") == 0  # knows one target, and four
    few, many = ({"set": {"mask.num_targets": n}} for n in (2, 3))
    shared = {"mask.num_targets": 4}
    for name, pairs, known in (("beside", [["a", "b"]], 0), ("within", [["c", "b"]], 12)):
        desk.table(
            name, 0.0, base={"train.lr": 0.001}, seeds=list(range(24)),
            variants={"a": few, "b": many, "c": {"set": shared}},
            claim={"text": "?", "pairs": pairs, "margin": 0.1},
        )  # fmt: skip
        runner.ablate([name], "smoke", seeds=[0, 1, 2, 3, 4, 7])
        assert lock.read(name, "smoke")["registered"]["known"] == known
