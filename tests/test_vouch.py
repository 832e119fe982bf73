"""What a refactoring may carry over: which choices are covered, which bytes compared."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import params

from ijepa import config as configs
from ijepa.study import experiment, lock, plan, vouch
from ijepa.study.plan import Run
from ijepa.study.vouch import Locked

DONE = {
    "status": "done", "data": "d", "encoder": "e", "files": {"a": "1", "b": "2"},
    "metrics": {"class": {"linear": {"trained": 50.0}}}, "pretrain": {"loss": 1.0},
}  # fmt: skip


def locked(key: str, choices: str, seconds: float) -> Locked:
    run = Run(key, "v", None, 0, {}, key, "data", "new")
    chosen = frozenset((letter, "on") for letter in choices)
    return Locked("made", run, DONE, {"seconds": {"pretrain": seconds}, "baseline": "c"}, chosen)


@pytest.mark.parametrize("seed", range(20))
def test_a_cover_makes_every_choice_of_its_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = [
        locked(str(i), "".join(rng.choice(list("abcdefgh"), rng.integers(1, 5))), 9 * rng.random())
        for i in range(12)
    ]
    sample = vouch.cover(group)
    made = [one.choices for one in sample]
    assert set().union(*made) == set().union(*(one.choices for one in group))
    for left_out in range(len(sample)):  # each was taken for something the earlier ones lack
        earlier = set().union(*made[:left_out])
        assert made[left_out] - earlier


def test_of_equals_the_cheapest_run_covers() -> None:
    group = [locked(str(s), "ab", s) for s in (90.0, 30.0, 60.0)]
    assert [one.run.key for one in vouch.cover(group)] == ["30.0"]


def test_choices_are_names_switches_and_zeros_and_not_amounts() -> None:
    def chosen(**dotted: Any) -> frozenset[tuple[str, str]]:
        return vouch.choices(configs.as_tree(configs.parse(params(**dotted), "params.yaml")))

    plain = chosen()
    for change in (
        {"seed": 7}, {"train.lr": 0.002}, {"model.width": 32}, {"train.crop_scale": [0.5, 1.0]},
    ):  # fmt: skip
        assert chosen(**change) == plain, change
    for change in (
        {"objective.name": "pixels"}, {"mask.name": "random"}, {"train.flip": False},
        {"objective.target_norm": "none"}, {"train.color_jitter": 0.1}, {"train.clip_norm": 1.0},
        {"evaluate.probes": ["knn"]}, {"evaluate.view": "squash"}, {"data.name": "cifar10"},
    ):  # fmt: skip
        assert chosen(**change) != plain, change


def test_what_both_have_is_compared_and_a_failure_is_never_the_same() -> None:
    assert vouch.differences(DONE, DONE) == []
    older = {**DONE, "files": None}  # of a lock file from before it had hashes
    assert vouch.differences(older, DONE) == []
    for part, value in (
        ("data", "x"), ("encoder", "x"), ("files", {"a": "1", "b": "x"}),
        ("metrics", {"class": {"linear": {"trained": 50.01}}}), ("pretrain", {"loss": 2.0}),
    ):  # fmt: skip
        (line,) = vouch.differences(DONE, {**DONE, part: value})
        assert line.startswith(part)
    failed = {"status": "failed", "reason": "NaN"}
    for before, after in itertools.product((DONE, failed), (DONE, failed, None)):
        assert bool(vouch.differences(before, after)) == (before is failed or after is not DONE)


def written(folder: Path, name: str, codes: str = "ab") -> None:
    results = {f"v/{s}": {**DONE, "signature": f"s{s}", "code": c} for s, c in enumerate(codes)}
    provenance = {key: {"seconds": {}} for key in results}
    content = {"seeds": [0, 1], "results": results, "provenance": provenance}
    (folder / f"{name}.laptop.lock.json").write_text(json.dumps(content))


def planned(*codes: str, signature: str = "s") -> list[Run]:
    return [
        Run(f"v/{seed}", "v", None, seed, {}, f"{signature}{seed}", "data", code)
        for seed, code in enumerate(codes)
    ]


def stands(folder: Path, name: str, runs: list[Run]) -> list[str]:
    return list(lock.standing(lock.read(name, "laptop", folder), runs).values())


def test_a_voucher_counts_for_the_results_that_it_names_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path, name, "aa")
    voucher = {"code": "a", "as": "new", "results": ["v/0"]}
    lock.vouch("one", "laptop", voucher, tmp_path)
    lock.vouch("one", "laptop", {**voucher, "as": "newer"}, tmp_path)
    known = lock.known(tmp_path)
    assert {("s0", "new"), ("s0", "newer"), ("s0", "a"), ("s1", "a")} <= known.keys()
    assert ("s1", "new") not in known
    assert stands(tmp_path, "one", planned("new", "new")) == ["vouched", "older"]
    assert stands(tmp_path, "two", planned("new", "new")) == ["older", "older"]
    assert stands(tmp_path, "one", planned("a", "a")) == ["today", "today"]
    assert stands(tmp_path, "one", planned("a", "a", signature="other")) == ["older", "older"]
    lock.vouch("one", "laptop", {**voucher, "results": ["v/1"]}, tmp_path)
    assert stands(tmp_path, "one", planned("new", "new")) == ["vouched", "vouched"]
    assert len(lock.read("one", "laptop", tmp_path)["vouched"]) == 2


def test_what_other_runs_have_shown_stays_apart(tmp_path: Path) -> None:
    written(tmp_path, "one", "aa")
    first = {"code": "a", "as": "new", "results": ["v/0"], "shown": {"one v/0": {}}}
    lock.vouch("one", "laptop", first, tmp_path)
    second = {**first, "results": ["v/1"], "shown": {"one v/1": {}}}
    lock.vouch("one", "laptop", second, tmp_path)
    assert lock.read("one", "laptop", tmp_path)["vouched"] == [first, second]
    assert stands(tmp_path, "one", planned("new", "new")) == ["vouched", "vouched"]


def test_a_voucher_is_for_a_code_and_not_for_a_cell(tmp_path: Path) -> None:
    written(tmp_path, "one", "ab")
    lock.vouch("one", "laptop", {"code": "a", "as": "new", "results": ["v/0", "v/1"]}, tmp_path)
    assert stands(tmp_path, "one", planned("new", "new")) == ["vouched", "older"]
    assert ("s1", "new") not in lock.known(tmp_path)


def test_a_voucher_goes_with_its_result_and_with_no_other(tmp_path: Path) -> None:
    """Into the lock file of another experiment that has the run, and not beyond the result."""
    written(tmp_path, "one", "aa")
    written(tmp_path, "two", "xa")  # its second result is of the older code, and nobody vouches
    lock.vouch("one", "laptop", {"code": "a", "as": "new", "results": ["v/0"]}, tmp_path)
    runs = planned("new", "new")
    lock.write("two", "laptop", runs, lock.known(tmp_path), tmp_path)
    assert stands(tmp_path, "two", runs) == ["vouched", "older"]
    lock.write("one", "laptop", runs, {}, tmp_path)
    assert stands(tmp_path, "one", runs) == ["vouched", "older"]
    fresh = {run.identity: {**DONE, "code": "new", "signature": run.signature, "reason": None,
                            "provenance": {"seconds": {}}} for run in runs}  # fmt: skip
    lock.write("one", "laptop", runs, fresh, tmp_path)
    assert stands(tmp_path, "one", runs) == ["today", "today"]
    assert "vouched" not in lock.read("one", "laptop", tmp_path)


def test_seeds_that_looks_have_added_are_of_todays_code_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scale has fewer seeds than a table that went on until it was decided."""
    name, scale = "target_norm", experiment.load_scale("smoke")
    tree = plan.committed_params()
    runs = plan.resolve(experiment.load(name), dataclasses.replace(scale, seeds=12), tree)
    assert scale.seeds < 12
    content = {
        "seeds": list(range(12)), "provenance": {},
        "results": {r.key: {"signature": r.signature, "code": r.code} for r in runs},
    }  # fmt: skip
    monkeypatch.setattr(lock, "read", lambda *_: content)
    stands = vouch.standing(name, "smoke")
    assert stands == {run.key: "today" for run in runs}
    assert len(stands) == 24
