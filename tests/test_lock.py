"""Lock files: several processes lose none of its results, and what one had is not forgotten."""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from ijepa.study import experiment, lock, plan, runner
from ijepa.study.plan import Run


def runs(seeds: int, variants: str = "ab") -> list[Run]:
    return [
        Run(f"{v}/{s}", v, None, s, {}, f"{v}{s}", "data", "code")
        for v in variants
        for s in range(seeds)
    ]


def done(chosen: list[Run]) -> dict[tuple[str, str], Mapping[str, Any]]:
    one = {"status": "done", "provenance": {"seconds": {}}}
    return {r.identity: {**one, "signature": r.signature, "code": r.code} for r in chosen}


def keys(folder: Path) -> list[str]:
    content = lock.read("made", "laptop", folder)
    assert content["results"].keys() == content["provenance"].keys()
    assert content["seeds"] == sorted({one["seed"] for one in content["results"].values()})
    return sorted(content["results"])


def test_those_who_write_at_once_each_keep_what_the_others_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    read, planned = lock.read, runs(4)

    def slowly(*where: Any) -> dict[str, Any]:
        content = read(*where)
        time.sleep(0.02)
        return content

    monkeypatch.setattr(lock, "read", slowly)
    with ThreadPoolExecutor(8) as threads:
        writing = [
            threads.submit(lock.write, "made", "laptop", planned, done([run]), tmp_path)
            for run in planned
        ]
        for one in writing:
            one.result()
        vouching = [
            threads.submit(lock.vouch, "made", "laptop", {
                "code": "code", "as": f"new {run.key}", "results": [run.key]}, tmp_path)
            for run in planned
        ]  # fmt: skip
        for other in vouching:
            other.result()
    assert len(lock.read("made", "laptop", tmp_path)["vouched"]) == len(planned)
    assert keys(tmp_path) == sorted(run.key for run in planned)


def test_seeds_beyond_the_plan_stay_and_variants_beyond_it_go(tmp_path: Path) -> None:
    lock.write("made", "laptop", runs(4), done(runs(4)), tmp_path)
    lock.write("made", "laptop", runs(2), {}, tmp_path)  # planned before the others were there
    assert keys(tmp_path) == sorted(run.key for run in runs(4))
    lock.write("made", "laptop", runs(2, "a"), {}, tmp_path)
    assert keys(tmp_path) == ["a/0", "a/1", "a/2", "a/3"]


def test_what_a_deleted_lock_file_had_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("experiments")
    folder.mkdir()
    assert lock.published("made", "laptop") == set(), "without git nothing is to be seen"
    who = ("-c", "user.name=t", "-c", "user.email=t@t")
    plan.git("init", "--quiet")
    plan.git(*who, "commit", "--quiet", "--allow-empty", "-m", "empty")
    assert lock.published("made", "laptop") == set()
    for results in ({"a/0": "done", "b/0": "failed"}, {"b/0": "done"}, None):
        file = lock.path("made", "laptop")
        if results is None:
            file.unlink()
        else:
            content = {"results": {key: {"status": how} for key, how in results.items()}}
            file.write_text(json.dumps(content))
        plan.git("add", "-A")
        plan.git(*who, "commit", "--quiet", "-m", "one")
    assert lock.published("made", "laptop") == {"a/0", "b/0"}
    assert lock.published("other", "laptop") == set()


def test_what_was_seen_of_any_seed_counts_before_a_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    chosen, scale = experiment.load("weight_decay"), experiment.load_scale("laptop")
    all_seeds = replace(scale, seeds=len(chosen.seeds))
    last = plan.resolve(chosen, all_seeds, plan.committed_params())[-1]
    assert last.seed not in chosen.seeds[: scale.seeds]
    shown = set[str]()
    known = dict[tuple[str, str], Any]()
    monkeypatch.setattr(lock, "published", lambda *_: shown)
    monkeypatch.setattr(runner, "known_results", lambda _: known)
    assert runner.seen(chosen, scale, "local") == 0
    shown |= {last.key, "no such/0"}
    assert runner.seen(chosen, scale, "local") == 1
    known[last.signature, "older code"] = {}
    assert runner.seen(chosen, scale, "local") == 1
    shown.clear()
    assert runner.seen(chosen, scale, "local") == 1
