"""params.yaml and `dvc exp run -S`: it writes what it changes and no more, and that is seen."""

import copy
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dumps_yaml, loads_yaml

from ijepa import config as configs
from ijepa import preflight, presets, variants, workspace
from ijepa.runtime import files

TEXT = (ROOT / "params.yaml").read_text()
VALUES = presets.leaves(files.read_yaml(ROOT / "params.yaml"))


def rewritten(path: Path, changes: dict[str, Any]) -> str:
    """The file as DVC's own code for ``-S`` writes it."""
    path.write_text(TEXT)
    apply_overrides(path, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
    return path.read_text()


def other(value: Any) -> Any:
    """A value of the same kind; whether it is allowed is not asked."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*map(other, value), 0.7]
    return {str: "other", int: 41, float: 0.41, type(None): 3}[type(value)]


def test_params_yaml_is_in_the_form_that_dvc_writes(tmp_path: Path) -> None:
    assert dumps_yaml(loads_yaml(TEXT, typ="rt")) == TEXT
    first = next(iter(VALUES))
    assert rewritten(tmp_path / "params.yaml", {first: VALUES[first]}) == TEXT


@pytest.mark.parametrize(
    "key", [key for key, value in VALUES.items() if not isinstance(value, list)]
)
def test_a_change_of_a_value_is_a_change_of_its_line(key: str, tmp_path: Path) -> None:
    lines = rewritten(tmp_path / "params.yaml", {key: other(VALUES[key])}).splitlines()
    assert len(lines) == len(TEXT.splitlines())
    changed = [new for new, old in zip(lines, TEXT.splitlines(), strict=True) if new != old]
    assert [line.split(":")[0].strip() for line in changed] == [key.rpartition(".")[2]]


def test_no_change_loses_a_comment_and_changed_back_it_is_the_same_file(tmp_path: Path) -> None:
    def words(text: str) -> list[str]:
        return re.findall(r"#.*|^$", text, re.MULTILINE)

    path = tmp_path / "params.yaml"
    changed = rewritten(path, {key: other(value) for key, value in VALUES.items()})
    assert words(changed) == words(TEXT)
    apply_overrides(path, [f"{key}={json.dumps(value)}" for key, value in VALUES.items()])
    assert path.read_text() == TEXT


def git(*arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose one commit has params.yaml, and the working folder."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    (tmp_path / "params.yaml").write_text(TEXT)
    git("add", "params.yaml")
    git("commit", "-qm", "first")
    return tmp_path


def test_what_differs_from_the_commit_is_one_line(checkout: Path) -> None:
    assert workspace.remark() == ""
    apply_overrides(checkout / "params.yaml", ["mask.target_scale=0.2", "train.epochs=1"])
    commit = git("rev-parse", "--short", "HEAD")
    line = (
        f"params.yaml differs from HEAD ({commit}) in: mask.target_scale 0.2 (was [0.15, 0.2]),"
        " train.epochs 1 (was 7); `git restore params.yaml` starts clean"
    )
    assert workspace.remark() == line
    git("commit", "-qam", "second")
    assert workspace.remark() == "", "what is committed is no difference"


def test_a_copy_of_the_checkout_is_not_what_a_user_would_restore(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC sets DVC_ROOT to the user's checkout, wherever `--temp` and `--queue` run."""
    apply_overrides(checkout / "params.yaml", ["train.epochs=1"])
    monkeypatch.setenv("DVC_ROOT", str(checkout))
    assert workspace.remark().endswith(" (was 7); `git restore params.yaml` starts clean")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("other")))
    assert workspace.remark().endswith("in: train.epochs 1 (was 7)")


def test_many_changes_are_counted(checkout: Path) -> None:
    apply_overrides(
        checkout / "params.yaml", [f"seeds.{part}=1" for part in configs.Seeds.__slots__]
    )
    assert "more" not in workspace.remark()
    apply_overrides(checkout / "params.yaml", ["train.lr=1", "train.epochs=1"])
    assert " and 1 more (`dvc params diff`); " in workspace.remark()
    apply_overrides(checkout / "params.yaml", ["train.lr=0.001", "train.epochs=7"])
    apply_overrides(
        checkout / "params.yaml", ["seed=2", "train.lr=1", "~train.flip", "++mask.x=a"]
    )
    line = workspace.remark()
    assert line.startswith("params.yaml differs from HEAD (")
    assert "seed 2 (was 0), seeds.init 1 (was null), " in line
    assert " and 3 more (`dvc params diff`); " in line
    assert line.count("(was ") == 6


def test_differences_are_those_of_values_alone() -> None:
    before = files.read_yaml(ROOT / "params.yaml")
    after = copy.deepcopy(before)
    assert workspace.differences(before, after) == []
    del after["train"]["lr"]
    after["mask"]["new"] = "a"
    after["data"]["name"] = None
    assert set(workspace.differences(before, after)) == {
        "train.lr absent (was 0.001)", "mask.new a (was absent)", "data.name null (was scenes)",
    }  # fmt: skip


@pytest.mark.parametrize(
    "damage", ["no git", "below", "no commit", "not YAML", "theirs", "a list"]
)
def test_where_nobody_can_tell_nothing_is_said(
    damage: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkout / "params.yaml"
    if damage == "no git":
        monkeypatch.setenv("PATH", "")
    elif damage == "below":  # a run's folder within the checkout
        (checkout / "below").mkdir()
        shutil.copy(path, checkout / "below/params.yaml")
        monkeypatch.chdir(checkout / "below")
    elif damage == "no commit":
        shutil.rmtree(checkout / ".git")
        git("init", "-q")
    elif damage == "not YAML":
        path.write_text("a: [1")
    else:
        path.write_text({"theirs": "a: [1", "a list": "- 1\n"}[damage])
        git("commit", "-qam", "bad")
        path.write_text(TEXT)
    with Path("params.yaml").open("a") as file:
        file.write("new: 1\n")
    assert workspace.remark() == ""


def test_the_first_stage_says_it_also_where_it_refuses(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And it leaves the file, with whatever a user wrote there, as it is."""
    apply_overrides(checkout / "params.yaml", ["mask.name=multiblok", "train.epochs=1"])
    before = (checkout / "params.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"^params\.yaml: mask\.name: 'multiblok' is not one of"):
        preflight.main()
    (line,) = capsys.readouterr().out.splitlines()
    assert "in: mask.name multiblok (was multiblock), train.epochs 1 (was 7); `git restore" in line
    assert (checkout / "params.yaml").read_bytes() == before


def test_after_the_first_stage_git_sees_a_change_of_equal_length(checkout: Path) -> None:
    """As DVC leaves it: an index that is later than a file of the same second and length."""
    path, later = checkout / "params.yaml", time.time() + 60
    before = path.stat()
    path.write_text(TEXT.replace("num_targets: 4", "num_targets: 0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    git("config", "core.trustctime", "false")
    os.utime(checkout / ".git/index", (later, later))
    git("restore", "params.yaml")
    assert path.read_text() != TEXT, "git does not see it"
    with pytest.raises(ValueError, match="num_targets"):
        preflight.main()
    git("restore", "params.yaml")
    assert path.read_text() == TEXT


def test_a_file_that_cannot_be_aged_stops_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    apply_overrides(checkout / "params.yaml", ["train.epochs=1"])
    monkeypatch.setattr(os, "utime", refused)
    preflight.main()


def test_the_first_stage_writes_what_the_others_are_a_function_of(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preflight.main()
    assert capsys.readouterr().out == "", "nothing differs"
    assert sorted(p.stem for p in (checkout / "out/inputs").iterdir()) == sorted(configs.STAGES)


def test_no_result_can_depend_on_what_is_said() -> None:
    config = configs.load(ROOT / "params.yaml")
    for stage in configs.STAGES:
        reached = variants.closure(*variants.entries(config, stage))
        assert not {"ijepa.workspace", "ijepa.preflight"} & set(reached)
