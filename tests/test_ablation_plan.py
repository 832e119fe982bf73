"""Which runs an experiment asks for, which of them are known, and what a lock file keeps."""

import dataclasses
import itertools
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from ijepa import cli
from ijepa.runtime import files
from ijepa.study import experiment as experiments
from ijepa.study import lock, outcome, plan
from ijepa.study.plan import Run

TREE = files.read_yaml(ROOT / "params.yaml")


def resolve(folder: Path, name: str, variants: dict[str, Any], **more: Any) -> list[Run]:
    """The smoke runs of an experiment; ``variants`` maps a name to its dotted keys."""
    if not (folder / "scales").is_dir():
        shutil.copytree(ROOT / "experiments/scales", folder / "scales")
        shutil.copytree(ROOT / "experiments/presets", folder / "presets")
    keys = sorted({key for changes in variants.values() for key in changes})
    tree = {
        "title": name, "question": "?", "table": None, "source": "Ours: a test.",
        "metric": "class.linear.trained", "factor": keys, "seeds": [0, 1, 2, 3, 4, 5],
        "variants": {v: {"label": v, "set": set_, "paper": None} for v, set_ in variants.items()},
        "claim": {"text": "?", "by": "us", "best": next(iter(variants)), "margin": 1,
                  "looks": [6]},
        **more,
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(json.dumps(tree))  # JSON is YAML
    experiment = experiments.load(name, folder)
    scale = dataclasses.replace(experiments.load_scale("smoke", folder), seeds=2)
    return plan.resolve(experiment, scale, TREE)


def test_equal_science_is_one_run_in_whatever_table_and_words(tmp_path: Path) -> None:
    scale = "mask.target_scale"
    first = resolve(tmp_path, "first", {"a": {scale: 0.2}, "b": {scale: [0.15, 0.25]}})
    second = resolve(
        tmp_path, "second",
        {"same": {"objective.pixel_norm": False}, "other": {"objective.name": "pixels"}},
        base={scale: [0.2, 0.2]},
    )  # fmt: skip
    assert [run.key for run in first] == ["a/0", "a/1", "b/0", "b/1"]  # seeds of the scale
    by_key = {run.key: run for run in (*first, *second)}
    for seed in (0, 1):  # 0.2 is [0.2, 0.2], and the objective ijepa has no pixels
        assert by_key[f"a/{seed}"].signature == by_key[f"same/{seed}"].signature
        assert by_key[f"a/{seed}"].name == by_key[f"same/{seed}"].name
    once = plan.unique([*first, *second])
    assert [run.key for run in once] == ["a/0", "a/1", "b/0", "b/1", "other/0", "other/1"]
    assert len({run.name for run in once}) == 6
    other_code = [dataclasses.replace(run, code="0" * 64) for run in first]
    assert plan.unique([*first, *other_code]) == [*first, *other_code]


def test_a_run_says_only_what_it_changes_and_names_its_point(tmp_path: Path) -> None:
    runs = resolve(
        tmp_path, "early", {"m1": {"mask.num_targets": 1}, "m4": {"mask.num_targets": 4}},
        points={p: {"label": p, "x": x, "set": {"train.epochs": x}} for p, x in
                (("short", 1), ("long", 2))},
    )  # fmt: skip
    cells = itertools.product(("short", "long"), ("m1", "m4"), (0, 1))
    assert [r.key for r in runs] == [f"{v}@{point}/{seed}" for point, v, seed in cells]
    assert [(runs[0].variant, runs[0].point, runs[0].seed)] == [("m1", "short", 0)]
    assert runs[0].changes["mask.num_targets"] == 1
    assert runs[0].changes["train.epochs"] == 1
    assert {"seed", "model.mlp_ratio"}.isdisjoint(runs[0].changes)
    assert "mask.num_targets" not in runs[2].changes, "params.yaml has 4 already"
    assert runs[1].changes["seed"] == 1


def test_runs_share_data_unless_what_is_prepared_differs(tmp_path: Path) -> None:
    few = resolve(tmp_path, "few", {"a": {"data.train_fraction": 0.5},
                                    "b": {"data.train_fraction": 1.0}})  # fmt: skip
    assert len({run.data for run in few}) == 1
    sizes = resolve(
        tmp_path, "sizes", {"a": {"data.image_size": 32}, "b": {"data.image_size": 48}}
    )
    assert sizes[0].data == few[0].data != sizes[2].data


def test_a_value_that_cannot_be_names_file_scale_run_and_key(tmp_path: Path) -> None:
    where = r"experiments/wrong\.yaml at scale smoke: a/0: mask\.num_targets: 0 is not "
    with pytest.raises(ValueError, match=rf"^{where}[^\n]*$"):
        resolve(tmp_path, "wrong", {"a": {"mask.num_targets": 0}, "b": {"mask.num_targets": 1}})


@pytest.mark.parametrize("key", ["metric", "also"])
@pytest.mark.parametrize("place", ["base", "variants"])
def test_a_metric_that_a_run_would_have_no_number_for_is_refused(
    tmp_path: Path, key: str, place: str
) -> None:
    attentive = "class.attentive.trained"
    more: dict[str, Any] = {"also": [attentive]} if key == "also" else {"metric": attentive}
    one, two = ["linear", "attentive"], ["linear", "logistic"]
    given = [{"mask.num_targets": n} for n in (1, 2)]
    if place == "base":  # of all variants
        probes = more["base"] = {"evaluate.probes": one}
        assert resolve(tmp_path, "right", dict(zip("ab", given, strict=True)), **more)
        probes["evaluate.probes"] = two
    else:
        given = [{"evaluate.probes": probes} for probes in (one, two)]
    with pytest.raises(ValueError, match="is of none of") as refusal:
        resolve(tmp_path, "wrong", dict(zip("ab", given, strict=True)), **more)
    assert str(refusal.value) == (
        f"experiments/wrong.yaml at scale smoke: {'a' if place == 'base' else 'b'}/0: {key}:"
        f" {attentive!r} is of none of evaluate.probes: linear, logistic"
    )


def test_a_commit_whose_parameters_are_no_yaml_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan.git("init", "-q")
    Path("params.yaml").write_text("seed: [0\n")
    plan.git("add", "-A")
    plan.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")
    with pytest.raises(ValueError, match=r"^params\.yaml of HEAD: not YAML: [^\n]+line 1"):
        plan.committed_params()


def run(key: str, signature: str, code: str = "new") -> Run:
    variant, _, seed = key.partition("/")
    return Run(key, variant, None, int(seed), {}, signature, "data", code)


def result(run: Run, accuracy: float | None, started: int = 1) -> dict[str, Any]:
    """What a job leaves; a failed one without an accuracy."""
    done = accuracy is not None
    return {
        "status": "done" if done else "failed",
        "reason": None if done else "loss is not finite",
        "signature": run.signature,
        "code": run.code,
        "data": "d" if done else None,
        "encoder": "e" if done else None,
        "metrics": {"class": {"linear": {"trained": accuracy}}} if done else None,
        "pretrain": {"collapsed": False} if done else None,
        "provenance": {"name": run.name, "runs": {"pretrain": started}, "seconds": {}},
    }


def write(folder: Path, runs: Sequence[Run], *results: dict[str, Any]) -> Any:
    made = {(found["signature"], found["code"]): found for found in results}
    return json.loads(lock.write("table", "smoke", runs, made, folder).read_text())


def test_a_lock_file_gives_back_what_was_written(tmp_path: Path) -> None:
    assert lock.read("table", "smoke", tmp_path)["results"] == {}
    assert lock.known(tmp_path) == {}
    runs = [run("b/1", "s1"), run("a/0", "s2"), run("a/1", "s3"), run("a/2", "s4")]
    one, two, bad = result(runs[0], 50.25), result(runs[1], 12.5), result(runs[2], None)
    content = write(tmp_path, runs, one, two, bad)
    del content["sha256"]
    assert content == lock.read("table", "smoke", tmp_path)
    assert lock.listing(tmp_path) == [("table", "smoke")]
    assert content["seeds"] == [0, 1, 2]
    assert set(content["results"]) == {"a/0", "a/1", "b/1"}, "what has not run is missing"
    cell = content["results"]["b/1"]
    assert (cell["variant"], cell["point"], cell["seed"]) == ("b", None, 1)
    assert content["results"]["a/1"]["reason"] == "loss is not finite"
    known = lock.known(tmp_path)
    assert set(known) == {("s1", "new"), ("s2", "new")}, "a failed run is run again"
    assert known["s1", "new"]["metrics"] == one["metrics"]
    (tmp_path / "again").mkdir()
    again = write(tmp_path / "again", runs, *known.values())
    assert again["results"] == {key: content["results"][key] for key in ("b/1", "a/0")}
    assert again["provenance"] == {key: content["provenance"][key] for key in ("b/1", "a/0")}


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    runs = [run("b/0", "s1"), run("a/0", "s2")]
    files = []
    for started, order in ((1, 1), (1, -1), (2, 1)):
        folder = tmp_path / f"{started}{order}"
        folder.mkdir()
        results = [result(r, 50.0, started) for r in runs]
        write(folder, runs[::order], *results[::-order])
        files.append(lock.path("table", "smoke", folder))
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().endswith(b"}\n")
    first, later = (json.loads(files[i].read_text()) for i in (0, 2))
    assert first["results"] == later["results"]
    assert first["provenance"] != later["provenance"]


def test_results_of_older_code_stay_until_replaced_and_of_other_science_go(tmp_path: Path) -> None:
    old = [run("a/0", "s1", "old"), run("b/0", "s2", "old"), run("gone/0", "s3", "old")]
    write(tmp_path, old, *(result(r, 50.0) for r in old))
    new = [run("a/0", "s1"), run("b/0", "changed")]
    content = write(tmp_path, new)
    assert set(content["results"]) == set(content["provenance"]) == {"a/0"}
    assert content["results"]["a/0"]["code"] == "old"
    assert ("s1", "new") not in lock.known(tmp_path), "numbers of older code are no result of ours"
    broken = {**result(new[0], 60.0), "status": "failed", "reason": "the disk is full"}
    content = write(tmp_path, new, broken)
    assert content["results"]["a/0"]["code"] == "old", "what failed takes no good result"
    content = write(tmp_path, new, result(new[0], 60.0))
    assert content["results"]["a/0"]["code"] == "new"


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"results": {', "<<<<<<< HEAD\n{}"])
def test_a_damaged_lock_file_is_one_line(tmp_path: Path, text: str) -> None:
    file = lock.path("table", "smoke", tmp_path)
    file.write_text(text)
    with pytest.raises(ValueError, match=r"table\.smoke\.lock\.json: not a lock file; `git ") as e:
        lock.known(tmp_path)
    assert "\n" not in str(e.value)


def test_no_flipped_bit_of_a_lock_file_passes(tmp_path: Path) -> None:
    """Every bit of a small one: it is refused by name, or what it says is the same."""
    write(tmp_path, [run("a/0", "s1")], result(run("a/0", "s1"), 50.0))
    file = lock.path("table", "smoke", tmp_path)
    written, content = file.read_bytes(), lock.read("table", "smoke", tmp_path)
    told: list[str] = []
    for place in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[place // 8] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            assert lock.read("table", "smoke", tmp_path) == content
        except ValueError as error:
            told.append(str(error))
    assert all(line.startswith(f"{file}: ") for line in told)
    assert len(told) > 7.5 * len(written)


def test_a_lock_file_of_before_the_seal_is_read_and_the_next_is_sealed(tmp_path: Path) -> None:
    runs = [run("a/0", "s1"), run("b/0", "s2")]
    content = write(tmp_path, runs[:1], result(runs[0], 50.0))
    file = lock.path("table", "smoke", tmp_path)
    file.write_text(json.dumps({k: v for k, v in content.items() if k != "sha256"}))
    assert lock.read("table", "smoke", tmp_path)["results"].keys() == {"a/0"}
    assert "sha256" in write(tmp_path, runs, result(runs[1], 60.0))
    file.write_text(file.read_text().replace("60.0", "61.0"))
    with pytest.raises(ValueError, match=r"not as it was written: .*`git checkout .*` restores"):
        lock.read("table", "smoke", tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Running stage 'pretrain':\nerror: loss is nan at step 3\nERROR: failed to reproduce",
         "loss is nan at step 3"),
        ("error: of the child\nerror: of the stage\nValueError: x", "of the stage"),
        ("Traceback (most recent call last):\n  File x\nKeyError: 'a'\n\nDuring that:\n\n"
         "Traceback (most recent call last):\nOSError: no space\nERROR: failed to reproduce",
         "OSError: no space"),
        ("Traceback:\ntorch.OutOfMemoryError: CUDA out of memory. Tried\nERROR: failed",
         "torch.OutOfMemoryError: CUDA out of memory. Tried"),
        ("Traceback:\n  File x\nAssertionError\nERROR: failed to reproduce", "AssertionError"),
        ("ERROR: 'x' is busy\n\nfor help: dvc.org", "'x' is busy"),
        ("  0%|  |\rslurmstepd: killed\n\n", "slurmstepd: killed"),
    ],
)  # fmt: skip
def test_the_reason_of_a_failure_is_the_line_nearest_to_its_cause(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "log").write_text(text)
    assert outcome.reason(tmp_path / "log") == reason


LEFT = [
    "out/encoder.safetensors", "out/history.csv", "out/pretrain.json", "out/metrics.json",
    "out/evaluation/evaluation.json", "out/evaluation/predictions.npz",
]  # fmt: skip


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run whose stages have ended."""
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    path = tmp_path / "run"
    (path / "out/evaluation").mkdir(parents=True)
    for name in LEFT:
        files.write_json(path / name, {"tasks": {}})
    with (path / "out/evaluation/predictions.npz").open("wb") as file:
        np.savez(file, labels=np.arange(9))
    for folder, names in outcome._READ.items():
        files.write_sums(path / folder, names)
    return path


@pytest.mark.parametrize("name", [None, *LEFT])
def test_a_file_that_is_not_what_a_stage_wrote_is_no_result(ended: Path, name: str | None) -> None:
    """A disk may lose a bit between the stage and whoever copies its numbers."""
    if name:
        content = bytearray((ended / name).read_bytes())
        content[-1] ^= 32
        (ended / name).write_bytes(content)
    job = {"name": "one", "target": "evaluate", "signature": "s", "code": "c"}
    found = outcome.gather({"commit": "of it"}, job, ended, 0, ended / "log")
    assert found["status"] == ("failed" if name else "done")
    assert (found["metrics"] is None) == bool(name)
    if name:
        assert f"{Path(name).name}: damaged: its SHA-256 is not that of" in found["reason"]


def test_a_failure_without_a_word_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\n")
    assert outcome.reason(tmp_path / "log") == f"no output; {tmp_path / 'log'}"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["target_scale", "--only", "s0150"], "--only: 's0150' is not one of s0075_0200, "),
        (["target_scale", "--seeds", "99"], "--seeds: '99' is not one of 0"),
        (["target_scal"], "experiments/target_scal.yaml: no such experiment; did you mean "),
        (["target_scale", "--jobs", "-1"], "--jobs: -1 is not a whole number >= 0\n"),
        (["target_scale", "--until-decided", "--seeds", "0"], "--seeds: not with --until-decided"),
        (["target_scale", "--until-decided", "--only", "m1"], "--only: not with --until-decided"),
        (["recipes", "--until-decided"], "experiments/recipes.yaml: claim: it claims nothing"),
        ([], "ijepa ablate: name experiments, or say --all"),
        (["target_scale", "--all"], "ijepa ablate: name experiments, or say --all"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ablate", *arguments, "--scale", "smoke"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {line}")
    assert (said.err.count("\n"), said.out) == (1, "")


def test_only_takes_a_variant_or_one_of_its_points(capsys: pytest.CaptureFixture[str]) -> None:
    only = ["--only", "random@longer", "pixels", "--seeds", "0"]
    assert cli.main(["ablate", "emergence", "--scale", "laptop", "--dry-run", *only]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[-2] for line in lines if line.startswith("  ")}
    points = ("start", "longer", "larger", "finer")
    assert cells == {"random@longer/0", *(f"pixels@{point}/0" for point in points)}


def test_any_registered_seed_runs_also_beyond_those_of_the_scale(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A claim that its look decided may need more on the board."""
    words = ["ablate", "targets", "--scale", "smoke", "--dry-run", "--seeds", "0", "23"]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[-2] for line in lines if line.startswith("  ")}
    variants = ("representations", "pixels")
    assert cells == {f"{variant}/{seed}" for variant in variants for seed in (0, 23)}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with one commit, to stand in."""
    monkeypatch.chdir(tmp_path)
    for name in ("code.py", "out/metrics.json", "dvc.lock", "experiments/a.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    person = ("-c", "user.name=t", "-c", "user.email=t@t")
    for words in (("init", "-q"), ("add", "-A"), (*person, "commit", "-q", "-m", "one")):
        subprocess.run(["git", *words], check=True)
    return tmp_path


def test_a_dirty_tree_is_refused_and_results_are_no_dirt(scratch: Path) -> None:
    plan.refuse_dirty_tree()
    lock_file = "experiments/a.smoke.lock.json"  # .tmp: the runner was killed while it wrote
    for name in ("out/metrics.json", "out/new.csv", "dvc.lock", lock_file, f"{lock_file}.tmp",
                 "reports/ablations/a/report.md"):  # fmt: skip
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text("2\n")
    plan.refuse_dirty_tree()
    (scratch / "new.py").write_text("")
    with pytest.raises(ValueError, match=r"^new\.py: not as in HEAD; commit \(or remove\) it"):
        plan.refuse_dirty_tree()
    (scratch / "code.py").write_text("2\n")
    with pytest.raises(ValueError, match=r"^code\.py and 1 more: not as in HEAD"):
        plan.refuse_dirty_tree()


def test_what_git_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ValueError, match=r"^git status: fatal: not a git repository[^\n]*$"):
        plan.refuse_dirty_tree()
