"""dvc.yaml: what makes "up to date" true, and none of DVC's silent traps."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, params
from ruamel.yaml import YAML

from ijepa import variants

# Code that can change no number of a stage: how parameters are read (their values are dependencies
# themselves), what is printed, where things lie, how processes start.
NEUTRAL = {
    "checkpoint",
    "config",
    "console",
    "environment",
    "launch",
    "logbook",
    "meter",
    "results",
    "strict",
}
NEUTRAL |= {"variants", "tracking"}
# The module that does a stage's work where the stage only starts it, and what it finds by name.
WORK = {
    "pretrain": ["train", "masks.multiblock", "objectives.ijepa"],
    "prepare": ["datasets.scenes"],
    "evaluate": [f"probes.{name}" for name in variants.names("probes")],
}

# What a stage imports and does not use: the recording parent, docstrings, and half of a module
# (reading a store imports the writing of one, batches import the masks' types).
UNUSED: dict[str, set[str]] = {
    "prepare": set(),
    "pretrain": {"datasets", "packing", "pretrain"},
    "evaluate": {"datasets", "masks", "packing", "presets"},
    "report": {"datasets", "packing"},
}


def stages() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return loaded


def path_of(module: str) -> Path:
    base = ROOT / "ijepa" / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def imports(module: str) -> set[str]:
    """Modules of ijepa that a module names in its import statements, without the leading ijepa."""
    found = set()
    for node in ast.walk(ast.parse(path_of(module).read_text())):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "ijepa"
        ):
            parent = node.module.removeprefix("ijepa").removeprefix(".")
            for alias in node.names:
                child = f"{parent}.{alias.name}".removeprefix(".")
                found.add(child if path_of(child).exists() else parent)
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("ijepa.") for a in node.names if a.name.startswith("ijepa.")
            }
    return found - {""}


def closure(*modules: str) -> set[str]:
    """The modules and all that they import, neutral code aside."""
    seen: set[str] = set()
    queue = list(modules)
    while queue:
        module = queue.pop()
        if module not in seen and module.split(".")[0] not in NEUTRAL:
            seen.add(module)
            queue += imports(module)
    return seen


@pytest.mark.parametrize("stage", ["prepare", "pretrain", "evaluate", "report"])
def test_a_stage_depends_on_the_code_that_can_change_its_outputs(stage: str) -> None:
    named = set()
    for dep in stages()[stage]["deps"]:
        if dep.startswith("ijepa/"):
            filled = dep.replace("${data.name}", "scenes").replace("${mask.name}", "multiblock")
            file = ROOT / filled.replace("${objective.name}", "ijepa")
            assert file.exists(), dep
            named |= set(file.rglob("*.py")) if file.is_dir() else {file}
    starts = [stage, *WORK.get(stage, [])]
    needed = {path_of(module) for module in closure(*starts) - UNUSED[stage]}
    missing = sorted(str(file.relative_to(ROOT)) for file in needed - named)
    assert not missing, f"{stage} imports but does not name {missing}"


@pytest.mark.parametrize(
    ("stage", "key", "family"),
    [
        ("prepare", "data", "datasets"),
        ("pretrain", "mask", "masks"),
        ("pretrain", "objective", "objectives"),
    ],
)
def test_a_stage_names_the_code_of_every_variant(stage: str, key: str, family: str) -> None:
    """So no variant imports another of its family: the stage names the chosen one alone."""
    for name in variants.names(family):
        named = {dep.replace(f"${{{key}.name}}", name) for dep in stages()[stage]["deps"]}
        files = [path_of(m) for m in closure(f"{family}.{name}") - UNUSED[stage]]
        missing = {str(file.relative_to(ROOT)) for file in files} - named
        assert not missing, f"{family}.{name} imports what {stage} does not name: {missing}"


def test_preparing_depends_on_every_key_of_data_but_the_fraction() -> None:
    """Which images of the prepared set a run trains on is pretraining's affair."""
    named = stages()["prepare"]["params"]
    assert {f"data.{key}" for key in params()["data"]} - set(named) == {"data.train_fraction"}


def test_no_output_switches_the_run_cache_off() -> None:
    """orchestration 1, traps 1-3: cache: false outs and persist do so, without a word."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for name, stage in stages().items():
        assert all(isinstance(out, str) for out in stage.get("outs", [])), name
        for out in stage.get("outs", []):
            assert f"/{out}" in ignored, f"a failing stage leaves {out} to git add"
        for kind in ("metrics", "plots"):
            for entry in stage.get(kind, []):
                ((path, options),) = entry.items()
                assert options["cache"] is False, path
                assert f"/{path}" not in ignored, f"{path}: ignored metrics are lost"


def test_stages_run_as_modules_of_the_working_folder() -> None:
    """orchestration 1, trap 7: anything else runs the main checkout's code in an experiment."""
    for name, stage in stages().items():
        assert stage["cmd"] == f"python -m ijepa.{name}"


def test_names_are_checked_before_dvc_misses_their_files() -> None:
    """DVC runs the stages of a file in its order where none needs another's outputs."""
    text = (ROOT / "dvc.yaml").read_text()
    assert next(iter(stages())) == "config"
    assert stages()["config"].keys() == {"cmd", "params"}
    assert set(stages()["config"]["params"]) == set(re.findall(r"\$\{(.+?)\}", text))


def test_compiled_files_are_no_part_of_a_hash_and_analytics_are_off() -> None:
    assert {"__pycache__", "*.pyc"} <= set((ROOT / ".dvcignore").read_text().split())
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text()
