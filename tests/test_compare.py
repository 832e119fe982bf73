"""`ijepa exp`: what fits a terminal is true, and what is not an experiment's own is not there."""

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import params

from ijepa import cli, compare
from ijepa.compare import Row

NUMBERS = {
    "class": {
        "knn": {"trained": 20.0, "random_init": 19.0, "pixels": 18.0},
        "linear": {"trained": 30.25, "random_init": 21.0, "pixels": 11.0},
    },
    "count": {"linear": {"trained": 50.0, "random_init": 40.0}},
}
TRAINED = {"accuracy": 30.2512, "low": 27.0, "high": 34.0}
EVALUATION = {"tasks": {"class": {"linear": {"trained": TRAINED}}}}


def entry(rev: str, name: str | None, metrics: Any = NUMBERS, **dotted: Any) -> dict[str, Any]:
    """A revision as DVC prints it."""
    data = {
        "params": {"params.yaml": {"data": params(**dotted)}},
        "metrics": {"out/metrics.json": {"data": metrics}, "out/pretrain.json": {"data": {}}},
    }
    return {"rev": rev, "name": name, "data": data, "error": None, "experiments": None}


def shown(*experiments: dict[str, Any], **states: str) -> list[dict[str, Any]]:
    """The working copy, with numbers that are not its own, and a commit with experiments."""
    listed = [
        {"revs": [one], "name": one["name"],
         "executor": {"state": states[one["name"]]} if one["name"] in states else None}
        for one in experiments
    ]  # fmt: skip
    head = {**entry("a" * 40, "main"), "experiments": listed}
    return [entry("workspace", None, **{"train.lr": 9.0}), head]


def test_an_experiment_is_what_it_changed_and_its_own_numbers() -> None:
    better = copy.deepcopy(NUMBERS)
    better["class"]["linear"]["trained"] = 44.0
    listed = compare.rows(
        shown(entry("b" * 40, "wide", better, **{"mask.target_scale": 0.2, "seed": 1}))
    )
    assert [(row.name, row.commit, row.state) for row in listed] == [
        ("main", "a" * 40, ""), ("wide", "b" * 40, ""),
    ]  # fmt: skip
    assert listed[0].changes == ()
    assert listed[1].changes == ("seed 1 (was 0)", "mask.target_scale 0.2 (was [0.15, 0.2])")
    assert listed[1].metrics["class"]["linear"]["trained"] == 44.0


def test_numbers_of_other_code_than_the_commits_are_said() -> None:
    """Or one change would be two: what was changed, and the code since the commit's run."""
    for start, own, said in (("x", "y", True), ("x", "x", False), (None, "y", False)):
        both = shown(entry("b" * 40, "one", **{"seed": 1}))
        experiment = both[1]["experiments"][0]["revs"][0]
        for one, code in ((both[1], start), (experiment, own)):
            one["data"]["deps"] = {"ijepa": {"hash": code}} if code else {}
        changes = compare.rows(both)[1].changes
        assert changes[-1] == "seed 1 (was 0)"
        assert ("other code" in changes[0]) is said


@pytest.mark.parametrize("state", ["queued", "failed", "running"])
def test_one_without_results_has_none_though_dvc_shows_the_commits(state: str) -> None:
    """Its metrics are those that the commit has: of another setting."""
    _, row = compare.rows(shown(entry("b" * 40, "bad", **{"seed": 1}), bad=state))
    assert (row.metrics, row.state, row.changes) == ({}, state, ("seed 1 (was 0)",))
    text = compare.table([row], "class", "linear", 100, lambda commit: EVALUATION)
    assert "30" not in text
    assert text.splitlines()[-1].split() == ["bad", state, "seed", "1", "(was", "0)"]


def test_one_that_ended_well_in_the_queue_has_its_numbers() -> None:
    _, row = compare.rows(shown(entry("b" * 40, "good"), good="success"))
    assert (row.metrics, row.state) == (NUMBERS, "")


def test_the_working_copy_is_no_row() -> None:
    assert [row.name for row in compare.rows(shown())] == ["main"]


def test_a_commit_that_dvc_cannot_read_is_a_row_without_numbers() -> None:
    broken = {"rev": "c" * 40, "name": None, "data": None, "error": {"msg": "bad"}}
    (row,) = compare.rows([broken])
    assert row == Row("c" * 7, "c" * 40, "no numbers", {}, ())


MANY = tuple(f"evaluate.linear.key_{i} {'[0.1, 0.2]' * (i % 4)} (was null)" for i in range(9))


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 9])
def test_every_line_fits_and_no_change_is_lost_unsaid(width: int, count: int) -> None:
    listed = [
        Row("main", "a", "", NUMBERS, ()), Row("n" * 60, "b", "", NUMBERS, MANY[:count]),
        Row("no", "c", "failed", {}, ("seed 1 (was 0)",)),
    ]  # fmt: skip
    text = compare.table(listed, "class", "linear", width, lambda commit: EVALUATION)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert [f"key_{i} " in words for i in range(9)] == [i < min(count, 4) for i in range(9)]
    assert (f"and {count - 4} more" in words) == (count > 4)


def test_a_number_stands_beside_its_interval_and_baselines() -> None:
    row = Row("main", "a", "", NUMBERS, ())

    def last(task: str, probe: str, evaluation: Any) -> str:
        return compare.table([row], task, probe, 100, lambda commit: evaluation).splitlines()[-1]

    assert last("class", "linear", EVALUATION).split() == [
        "main",
        "30.2",
        "±",
        "3.5",
        "21.0",
        "11.0",
    ]
    assert last("class", "linear", {}).split() == ["main", "30.2", "21.0", "11.0"]
    assert last("class", "knn", EVALUATION).split() == ["main", "20.0", "19.0", "18.0"]
    assert last("count", "linear", {}).split() == ["main", "50.0", "40.0", "n/a"]
    assert last("class", "attentive", {}).split() == ["main", "n/a"]


def test_an_interval_of_another_number_is_left_out() -> None:
    row = Row("main", "a", "", NUMBERS, ())
    moved = {"tasks": {"class": {"linear": {"trained": {**TRAINED, "accuracy": 30.27}}}}}
    assert "±" not in compare.table([row], "class", "linear", 100, lambda c: moved).split("\n")[-1]


def test_the_headline_is_what_is_asked_else_class_and_linear_else_the_first() -> None:
    def chosen(metrics: Any, *asked: str | None) -> tuple[str, str]:
        return compare.headline([Row("a", "a", "", metrics, ())], *asked)

    assert chosen(NUMBERS, None, None) == ("class", "linear")
    assert chosen(NUMBERS, "count", None) == ("count", "linear")
    assert chosen(NUMBERS, None, "knn") == ("class", "knn")
    assert chosen({"z": {"few_shot": {}, "knn": {}}, "y": {"knn": {}}}, None, None) == ("y", "knn")
    assert chosen({}, None, None) == ("class", "linear"), "nothing has run yet"
    with pytest.raises(ValueError, match=r"^--task: 'colour' is not one of class, count$"):
        chosen(NUMBERS, "colour", None)
    with pytest.raises(ValueError, match=r"^--probe: 'knn' is not one of linear$"):
        chosen(NUMBERS, "count", "knn")


def test_outside_a_repository_dvc_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["exp"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: dvc exp show: ")
    assert "not inside of a DVC repository" in line


STAGE = """
import json, pathlib, sys
from ruamel.yaml import YAML
tree = YAML(typ="safe").load(pathlib.Path("params.yaml"))
if tree["seed"] > 1: sys.exit("no")
value = 30.25 + tree["seed"]
pathlib.Path("out/evaluation").mkdir(parents=True, exist_ok=True)
cell = {"trained": {"accuracy": value, "low": value - 2, "high": value + 2}}
written = {"tasks": {"class": {"linear": cell}}}
pathlib.Path("out/evaluation/evaluation.json").write_text(json.dumps(written))
numbers = {"class": {"linear": {"trained": value, "random_init": 20.0, "pixels": 10.0}}}
pathlib.Path("out/metrics.json").write_text(json.dumps(numbers))
"""


@pytest.mark.slow
def test_with_dvc_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that ran, and one that failed in the queue, of a pipeline of one stage."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: str) -> None:
        subprocess.run(arguments, check=True, capture_output=True)

    def dvc(*arguments: str) -> None:
        call(sys.executable, "-m", "dvc", *arguments)

    for line in ("init -q", "config user.name a", "config user.email a@b"):
        call("git", *line.split())
    dvc("init", "-q")
    Path("params.yaml").write_text("seed: 0\n")
    Path("stage.py").write_text(STAGE)
    stage = {
        "cmd": f"{sys.executable} stage.py", "deps": ["stage.py"], "params": ["seed"],
        "outs": ["out/evaluation"], "metrics": [{"out/metrics.json": {"cache": False}}],
    }  # fmt: skip
    Path("dvc.yaml").write_text(json.dumps({"stages": {"evaluate": stage}}))
    dvc("repro", "-q")
    call("git", "add", ".")
    call("git", "commit", "-qm", "first")
    dvc("exp", "run", "-q", "-n", "one", "-S", "seed=1")
    call("git", "restore", "params.yaml")
    dvc("exp", "run", "-q", "--queue", "-n", "two", "-S", "seed=2")
    subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--run-all"], capture_output=True)
    assert cli.main(["exp"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("experiment trained"))
    assert lines[at + 1].endswith(" 30.2 ± 2.0 20.0 10.0")
    assert sorted(itertools.islice(lines, at + 2, None)) == [
        "one 31.2 ± 2.0 20.0 10.0 seed 1 (was 0)", "two failed seed 2 (was 0)",
    ]  # fmt: skip
