"""What is behind a recorded number runs again: the same bytes, or where they part.

In the fast tests the commit's code is a stand-in of three stages; the slow ones run the real one.
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from safetensors.numpy import save_file
from test_ablate import EXPERIMENT as TEXT
from test_ablate import FIRST, Clone

from ijepa import cli
from ijepa.runtime import environment, files
from ijepa.study import compared, parting, plan, recorded, reproduce
from ijepa.study.recorded import DATA, Recorded

# Code of a commit: what `reproduce` asks of it, and stages that write what they were told.
STAND_IN = {
    "ijepa/__init__.py": "",
    "ijepa/config.py": """
import hashlib, json
def load(): return json.load(open("params.yaml"))
def signature(config): return hashlib.sha256(json.dumps(config).encode()).hexdigest()
""",
    "ijepa/study/__init__.py": "",
    "ijepa/study/experiment.py": """
import dataclasses
@dataclasses.dataclass
class Scale:
    seeds: int = 1
class Experiment:
    seeds = 0, 1
def load(name): return Experiment()
def load_scale(name): return Scale()
""",
    "ijepa/study/plan.py": """
import types
from ijepa import config
def committed_params(): return config.load()
def resolve(chosen, scale, tree):
    return [types.SimpleNamespace(key=f"a/{s}", changes={"train.lr": 0.5, "seed": s},
            signature="", code="the code") for s in chosen.seeds[:scale.seeds]]
""",
    "ijepa/stage.py": """
import json, os, pathlib, sys
params = json.load(open("params.yaml"))
told = {k: os.environ.get(f"IJEPA_{k}") for k in ("THREADS", "PRECISION", "PROCESSES", "DEVICE")}
out = pathlib.Path(sys.argv[2])
out.parent.mkdir(parents=True, exist_ok=True)
if params["seed"] == 9:
    sys.exit("error: it broke")
out.write_text(json.dumps([sys.argv[1], params, *told.values()]))
""",
    "dvc.yaml": """
stages:
  prepare: {cmd: python -m ijepa.stage prepare data/prepared/manifest.json, outs: [data/prepared]}
  pretrain:
    cmd: python -m ijepa.stage pretrain out/encoder.safetensors
    deps: [data/prepared]
    outs: [out/encoder.safetensors]
  evaluate:
    cmd: python -m ijepa.stage evaluate out/metrics.json
    deps: [out/encoder.safetensors]
    outs: [out/metrics.json]
  report: {cmd: "false", deps: [out/metrics.json], outs: [out/report]}
""",
    "params.yaml": '{"seed": 0, "train": {"lr": 0.1}}',
    ".gitignore": "/out\n/data\n/.ijepa\n",
}


def wrote(stage: str, seed: int = 1, threads: str = "3") -> str:
    """What a stage of the stand-in writes for the cell ``a/1``."""
    return json.dumps([stage, {"seed": seed, "train": {"lr": 0.5}}, threads, "fp32", "2", "cpu"])


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the stand-in at a later commit, with the lock file of an earlier one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_MONGO_URL", "off")
    for name in ("IJEPA_HOME", "IJEPA_THREADS", "IJEPA_PRECISION", "IJEPA_PROCESSES",
                 "IJEPA_DEVICE", "DVC_ROOT"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    for name, text in STAND_IN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    plan.git("init", "-q")
    commit()
    first = plan.git("rev-parse", "HEAD").strip()
    params = {"seed": 1, "train": {"lr": 0.5}}
    hashes = {"out/encoder.safetensors": sha(wrote("pretrain")),
              "out/metrics.json": sha(wrote("evaluate"))}  # fmt: skip
    result = {
        "status": "done", "signature": sha(json.dumps(params)), "code": "the code",
        "data": sha(wrote("prepare")), "encoder": hashes["out/encoder.safetensors"],
        "files": hashes, "metrics": {"class": 50.0}, "pretrain": None,
    }  # fmt: skip
    numerics = {"device": "cpu", "threads": 3, "precision": "fp32", "processes": 2}
    source = {"baseline": first, "commit": None, "numerics": numerics, "seconds": {"pretrain": 7}}
    lock(result, source)
    (tmp_path / "ijepa/stage.py").write_text("raise SystemExit('the code of today')")
    commit()
    return tmp_path


def commit() -> None:
    plan.git("add", "-A")
    plan.git("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one")


FILE = Path("experiments/two.smoke.lock.json")


def lock(result: dict[str, Any], source: dict[str, Any]) -> None:
    FILE.parent.mkdir(exist_ok=True)
    content = {"seeds": [1], "results": {"a/1": result}, "provenance": {"a/1": source}}
    files.write_json(FILE, content)


def change(part: str, **values: Any) -> None:
    """Change the lock file's only cell."""
    content = files.read_json(FILE)
    content[part]["a/1"] |= values
    files.write_json(FILE, content)


def test_a_cell_gives_its_bytes_again_by_the_code_and_numerics_on_record(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.reproduce(["two.smoke", "a/1"]) == 0
    said = capsys.readouterr().out
    assert "-S 'train.lr=0.5' -S 'seed=1'" in said
    assert said.count("  yes\n") == 3
    assert said.endswith("two.smoke a/1: every byte is the same\n")
    assert not plan.git("status", "--porcelain"), "nothing is left in the checkout"
    assert not (home / ".ijepa").exists()


def test_threads_of_a_stage_are_its_own_where_they_are_on_record(home: Path) -> None:
    hashes = {"out/encoder.safetensors": sha(wrote("pretrain")),
              "out/metrics.json": sha(wrote("evaluate", threads="2"))}  # fmt: skip
    change("results", files=hashes)
    assert reproduce.reproduce(["two.smoke", "a/1"]) == 1
    change("provenance", threads={"evaluate": 2})
    assert reproduce.reproduce(["two.smoke", "a/1"]) == 0


def test_a_planted_wrong_hash_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = files.read_json(FILE)["results"]["a/1"]["files"]
    change("results", files={**right, "out/metrics.json": "0" * 64})
    assert cli.main(["reproduce", "two.smoke", "a/1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "two.smoke a/1: 1 of 3 files differ"
    (line,) = (line for line in lines if line.endswith("  NO"))
    assert line.split() == ["out/metrics.json", "0" * 16, sha(wrote("evaluate"))[:16], "NO"]


def test_other_data_are_said_before_anything_trains(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("results", data="0" * 64)
    assert reproduce.reproduce(["two.smoke", "a/1"]) == 1
    said = capsys.readouterr().out
    assert "they part at the data, so nothing was trained" in said
    assert "pretrain: " not in said


def test_a_file_that_is_not_written_any_more_differs(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change("results", files={"out/gone": "0" * 64})
    assert reproduce.reproduce(["two.smoke", "a/1"]) == 1
    assert "no such file" in capsys.readouterr().out


def test_a_dry_run_says_what_and_how_long_and_runs_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.reproduce(["two.smoke", "a/1"], dry_run=True) == 0
    said = capsys.readouterr().out
    assert "0:00:07 (pretrain 7 s)" in said
    assert "fp32, 2 processes, 3 threads" in said
    assert "prepare: " not in said


@pytest.mark.parametrize(
    ("part", "values", "words"),
    [
        ("results", {"signature": "0" * 64}, "has other settings than is on record"),
        ("results", {"code": "another"}, "has other code than is on record"),
        ("results", {"status": "failed", "reason": "NaN"}, "a/1 failed: NaN"),
        ("provenance", {"baseline": None}, "its commit is not on record"),
        ("provenance", {"baseline": "1" * 40}, "git -C: fatal"),
        ("provenance", {"numerics": {"device": "cuda", "name": "H100"}}, "ran on H100"),
    ],
)
def test_what_cannot_be_repeated_is_one_line(
    home: Path, part: str, values: dict[str, Any], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    change(part, **values)
    with pytest.raises(ValueError, match=words) as error:
        reproduce.reproduce(["two.smoke", "a/1"])
    assert "\n" not in str(error.value)


def test_a_stage_that_fails_gives_its_reason(home: Path) -> None:
    record = dataclasses.replace(
        recorded.read(["two.smoke", "a/1"]), cell=None, signature=None, params={"seed": 9}
    )
    path, folder = home / "clone", home
    reproduce.bench.clone(home, path, record.commit)
    assert reproduce.resolve(record, path, {}) == {"seed": 9}
    with pytest.raises(reproduce.Failure, match="prepare: it broke"):
        reproduce.run(record, path, folder, {"PYTHONPATH": str(path)})


@pytest.mark.parametrize(
    "words",
    [["none.smoke", "a/1"], ["two.smoke", "a/2"], ["12"], ["reports/none"], ["."], [],
     ["a", "b", "c"]],
)  # fmt: skip
def test_what_is_not_on_record_is_one_line(
    home: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_default_run_is_what_dvc_lock_says(home: Path) -> None:
    plan.git("checkout", "-q", "HEAD~1", "--", "ijepa")
    inside = home / "data/prepared"
    inside.mkdir(parents=True)
    params = {"seed": 4, "train": {"lr": 0.5}}
    wanted = json.dumps(["prepare", params, None, None, None, None])
    (inside / "manifest.json").write_text(wanted)
    digest = compared.md5(inside)
    lines = {"schema": "2.0", "stages": {
        "config": {"params": {"params.yaml": params}},
        "prepare": {"outs": [{"path": "data/prepared", "md5": digest}]}}}  # fmt: skip
    files.write_json(Path("dvc.lock"), lines)
    with pytest.raises(ValueError, match="not as in HEAD"):
        recorded.read([])
    commit()
    assert reproduce.reproduce([]) == 0
    lines["stages"]["prepare"]["outs"][0]["md5"] = "0" * 32 + ".dir"  # type: ignore[index]
    files.write_json(Path("dvc.lock"), lines)
    commit()
    assert reproduce.reproduce(["."]) == 1


@pytest.mark.parametrize("same", [True, False])
def test_the_default_run_has_the_numerics_of_the_published_report_of_its_bytes(
    home: Path, same: bool
) -> None:
    """DVC records none, and with other threads the bytes are others."""
    published = files.read_json(ROOT / "reports/default/results.json")
    runs = {one["name"]: one["run"]["numerics"] for one in published["provenance"]["stages"]}
    out = Path("out/pretrain.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text('{"loss": 1}')
    content = out.read_bytes()
    published["provenance"]["files"] = {str(out): hashlib.sha256(content).hexdigest()}
    Path("reports/default").mkdir(parents=True)
    files.write_json(Path("reports/default/results.json"), published)
    md5 = hashlib.md5(content if same else b"").hexdigest()
    lines = {"stages": {"pretrain": {"outs": [{"path": str(out), "md5": md5}]}}}
    files.write_json(Path("dvc.lock"), lines)
    commit()
    record = recorded.read([])
    if not same:
        assert (record.numerics, record.threads) == (None, {})
        return
    assert record.threads == {name: runs[name]["threads"] for name in ("pretrain", "evaluate")}
    assert record.numerics is not None
    assert record.numerics.items() >= runs["pretrain"].items()
    assert record.numerics["torch"] == published["provenance"]["versions"]["torch"]


def test_a_published_run_is_the_commit_and_the_settings_of_its_report() -> None:
    record = recorded.read([str(ROOT / "reports/cifar10")])
    results = files.read_json(ROOT / "reports/cifar10/results.json")
    assert record.commit == results["provenance"]["stages"][1]["run"]["commit"]
    assert record.signature == results["run"]["signature"]
    assert record.params == results["parameters"]
    assert DATA in record.files
    assert record.history


def columns(**changed: list[float | None]) -> dict[str, list[float | None]]:
    return {
        "step": [1.0, 5.0, 9.0],
        "loss": [0.5, 0.4, 0.3],
        "rankme": [3.0, None, 4.0],
        **changed,
    }


def test_the_first_step_that_differs_is_named_with_all_that_differs_there() -> None:
    assert parting.first_step(columns(), columns()) == ""
    other = columns(loss=[0.5, 0.41, 0.9], rankme=[3.0, None, 5.0])
    text = parting.first_step(columns(), other)
    assert text == "step 5, equal up to step 1: loss 0.4 recorded, 0.41 here"
    assert parting.first_step(columns(), columns(loss=[0.6, 0.4, 0.3])).startswith("step 1: loss")
    tiny = columns(loss=[0.5, 0.4 + 1e-9, 0.3])
    assert parting.first_step(columns(), tiny) == "", "a published history has six digits"
    short = {name: values[:2] for name, values in columns().items()}
    assert parting.first_step(columns(), short) == "after 2 equal rows: 3 recorded, 2 here"


def test_the_first_tensor_that_differs_is_named_with_the_distance(tmp_path: Path) -> None:
    tensors = {name: np.ones((2, 2), np.float32) for name in "abc"}
    save_file(tensors, tmp_path / "one")
    assert parting.first_tensor(tmp_path / "one", tmp_path / "one") == ""
    tensors |= {"b": np.full((2, 2), 1.5, np.float32), "c": np.full((2, 2), 3, np.float32)}
    save_file(tensors, tmp_path / "two")
    text = parting.first_tensor(tmp_path / "one", tmp_path / "two")
    assert text == "b, the first of 2 of 3 tensors, by at most 0.5; all of them by at most 2"
    save_file({**tensors, "b": np.ones(3, np.float32)}, tmp_path / "shape")
    assert parting.first_tensor(tmp_path / "one", tmp_path / "shape").startswith("b: of shape")
    save_file({"a": tensors["a"]}, tmp_path / "names")
    assert parting.first_tensor(tmp_path / "one", tmp_path / "names") == "other tensors: b, c"


def test_why_has_step_tensor_machine_and_distance_of_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for folder, value in (("home/runs/3", 1.0), ("clone/out", 2.0)):
        (tmp_path / folder).mkdir(parents=True)
        rows = [{"step": 1, "loss": 0.5}, {"step": 2, "loss": value}]
        files.write_csv(tmp_path / folder / "history.csv", rows)
        encoder = {"weight": np.full(2, value, np.float32)}
        save_file(encoder, tmp_path / folder / "encoder.safetensors")
    files.write_json(tmp_path / "clone/out/metrics.json", {"class": {"linear": 51.5}})
    before = tmp_path / "home/runs/3"
    numerics = {**environment.numerics(), "instructions": "another"}
    record = Recorded(
        what="it", commit="", numerics=numerics, places=(before,),
        files={f"out/{p.name}": files.sha256(p) for p in before.iterdir()},
        numbers={"out/metrics.json": {"class": {"linear": 50.0, "knn": 1.0}}},
    )  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out/encoder.safetensors").write_bytes(b"of another run")
    rows = compared.compare(record, tmp_path / "clone")
    assert not any(row.same for row in rows)
    lines = list(compared.why(record, tmp_path / "clone", rows, {}))
    assert lines[0] == ("they part at step 2, equal up to step 1: loss 1.0 recorded, 2.0 here")
    assert lines[1].startswith("out/encoder.safetensors: weight, the first of 1 of 1 tensors")
    assert lines[2].startswith("otherwise on this machine: instructions another recorded, ")
    elsewhere = dataclasses.replace(record, numerics={**numerics, "name": "Abacus"})
    lines = list(compared.why(elsewhere, tmp_path / "clone", rows, {}))
    assert "processor Abacus recorded, " in lines[2]
    assert lines.pop(3).endswith(compared.PROCESSORS)
    assert lines[3:] == ["out/metrics.json class.linear: 50.0 recorded, 51.5 here, +1.5"]


@pytest.mark.slow
def test_a_folders_md5_is_dvcs(tmp_path: Path) -> None:
    for name, text in (("a/b.txt", "1"), ("a.txt", "2"), ("é", "3")):
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_text(text)
    for words in (["init", "--no-scm", "-q"], ["add", "-q", "folder"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=tmp_path, check=True)
    (out,) = files.read_yaml(tmp_path / "folder.dvc")["outs"]
    assert compared.md5(tmp_path / "folder") == out["md5"]


@pytest.mark.slow
def test_every_table_has_a_cell_whose_settings_and_code_its_commit_still_gives() -> None:
    from ijepa.study import lock as locks

    for name, scale in locks.listing():
        results = locks.read(name, scale)["results"]
        done = [key for key, result in results.items() if result["status"] == "done"]
        for key in done[:1]:
            assert reproduce.reproduce([f"{name}.{scale}", key], dry_run=True) == 0


@pytest.mark.slow
def test_a_cell_of_the_real_pipeline_gives_its_bytes_in_a_fresh_clone(tmp_path: Path) -> None:
    clone = Clone(ROOT, tmp_path / "clone")
    small = FIRST | {"base": "{train.epochs: 1, data.train_images: 400, data.test_images: 200}"}
    clone.commit(("experiments/first.yaml", TEXT.format(**small)))
    words = "first", "--only", "m1", "--seeds", "0", "--scale", "smoke", "--runner", "plain"
    status, said = clone.ijepa("ablate", *words)
    assert status == 0, said
    clone.git("add", "-f", "experiments/first.smoke.lock.json")
    clone.commit(("note", "results"))
    fresh = Clone(clone.path, tmp_path / "fresh")
    status, said = fresh.ijepa("reproduce", "first.smoke", "m1/0")
    assert status == 0, said
    assert said.count("  yes\n") == 7
    assert "first.smoke m1/0: every byte is the same" in said
