"""The promises of the files around the code: presets, lock file, Makefile, README."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from packaging.requirements import Requirement
from packaging.version import Version
from ruamel.yaml import YAML

from ijepa import cli, config
from ijepa.runtime import environment

ROOT = Path(__file__).resolve().parent.parent
PRESETS = sorted((ROOT / "experiments/presets").glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    tree = YAML(typ="safe", pure=True).load(path.read_text())
    assert isinstance(tree, dict)
    return tree


def resolve(name: str) -> config.Config:
    """params.yaml under the preset, the way `dvc exp run -S key=value` would write it."""
    tree = read(ROOT / "params.yaml")
    for dotted, value in read(ROOT / f"experiments/presets/{name}.yaml").items():
        if dotted != "about":
            *sections, key = dotted.split(".")
            part = tree
            for section in sections:
                part = part.setdefault(section, {})
            part[key] = value
    return config.parse(tree, name)


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_preset_is_a_config_and_says_what_it_is(path: Path) -> None:
    assert read(path)["about"].strip()
    resolve(path.stem)


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_preset_survives_the_command_line(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dvc exp run $(ijepa preset NAME)` writes the science that the preset states."""
    monkeypatch.chdir(ROOT)
    assert cli.main(["preset", path.stem]) == 0
    words = capsys.readouterr().out.split()
    assert set(words[::2]) <= {"-S"}
    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    if words:  # DVC's own code for -S
        apply_overrides(params, words[1::2])
    assert config.signature(config.load(params)) == config.signature(resolve(path.stem))


def test_laptop_preset_is_the_default() -> None:
    default = config.load(ROOT / "params.yaml")
    assert config.signature(resolve("laptop")) == config.signature(default)
    named = ["laptop", "cifar10", *PAPER]
    others = {config.signature(resolve(name)) for name in named}
    assert len(others) == len(named), "two presets are the same science"


# Tables 1 and 5, Appendix A.1: pixels, patch, width, depth, heads, MLP width, predictor depth,
# epochs, millions of weights of the encoder (published with positions, class token and, for L, the
# classifier: 86, 307, 632, 1011).
PAPER = {
    "vit_b16_300ep": (224, 16, 768, 12, 12, 3072, 6, 300, 86),
    "vit_l16": (224, 16, 1024, 24, 16, 4096, 12, 600, 303),
    "vit_h14": (224, 14, 1280, 32, 16, 5120, 12, 300, 630),
    "vit_h14_official": (224, 14, 1280, 32, 16, 5120, 12, 300, 630),
    "vit_h16_448": (448, 16, 1280, 32, 16, 5120, 12, 300, 631),
    "vit_g16": (224, 16, 1408, 40, 16, 6144, 16, 44, 1011),
}


@pytest.mark.parametrize("name", PAPER)
def test_preset_has_the_papers_numbers(name: str) -> None:
    c = resolve(name)
    m = c.model
    mlp = int(m.width * m.mlp_ratio)
    # qkv, projection and two MLP layers, each with its bias; two norms a block; patch embedding
    block = 4 * m.width**2 + 4 * m.width + 2 * m.width * mlp + mlp + m.width + 4 * m.width
    total = m.depth * block + (3 * m.patch_size**2 + 1) * m.width + 2 * m.width
    assert (
        c.data.image_size,
        m.patch_size,
        m.width,
        m.depth,
        m.heads,
        mlp,
        m.predictor_depth,
        c.train.epochs,
        round(total / 1e6),
    ) == PAPER[name]
    assert (m.predictor_width, m.predictor_heads) == (384, m.heads)
    assert c.train.batch_size == 2048
    assert (c.train.lr, c.train.lr_final, c.train.weight_decay) == (1e-3, 1e-6, (0.04, 0.4))
    options = config.as_tree(c)
    assert options["objective"]["ema"] == [0.996, 1.0]
    assert options["mask"]["target_scale"] == [0.15, 0.2]
    assert options["mask"]["context_scale"] == [0.85, 1.0]


def test_official_preset_differs_in_the_named_options_alone() -> None:
    paper, official = (config.as_tree(resolve(n)) for n in ("vit_h14", "vit_h14_official"))
    changed = {
        f"{section}.{key}": (value, official[section][key])
        for section in paper
        if isinstance(paper[section], dict)
        for key, value in paper[section].items()
        if value != official[section][key]
    }
    assert changed == {
        "mask.geometry": ("paper", "official"),
        "mask.truncate_group": (None, 128),
        "objective.loss": ("l2", "smooth_l1"),
        "train.lr_start": (1e-4, 2e-4),
        "train.warmup_epochs": (15.0, 40.0),
        "train.weight_decay_schedule": ("linear", "cosine"),
    }


def pins() -> list[tuple[Requirement, int]]:
    """The lock file's requirements, each with the number of its hashes."""
    joined = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [
        line for line in joined.splitlines() if line.strip() and not line.startswith(("#", " "))
    ]
    return [(Requirement(line.split("--hash")[0]), line.count("--hash=sha256:")) for line in lines]


def test_lock_pins_everything_by_hash_and_names_no_host() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)|^-", text, re.MULTILINE)
    for pin, hashes in pins():
        assert hashes > 0, f"{pin} has no hash"
        assert [s.operator for s in pin.specifier] == ["=="], f"{pin} is not one version"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_lock_satisfies_pyproject(python: str, platform: str) -> None:
    machine = {"linux": "x86_64", "darwin": "arm64"}[platform]
    here = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    locked: dict[str, Version] = {}
    for pin, _ in pins():
        if pin.marker is None or pin.marker.evaluate(here):
            assert pin.name not in locked, f"{pin.name} is pinned twice"
            locked[pin.name] = Version(next(iter(pin.specifier)).version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    for extra in project["project"]["optional-dependencies"].values():
        wanted += extra
    for requirement in map(Requirement, wanted):
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert name in locked, f"{requirement} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(locked[name], prereleases=True), (
            f"requirements.lock has {name} {locked[name]}, pyproject.toml wants {requirement}"
        )


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    outer = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=outer, capture_output=True, text=True, check=False
    )


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_make_alone_lists_every_target() -> None:
    listed = {line.split()[0] for line in make().stdout.splitlines()[1:]}
    assert listed == targets()


def test_make_refuses_an_old_python_in_one_line(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    old = tmp_path / "old python"  # a space, to see the quoting
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = make("setup", f"PYTHON={old}", cwd=tmp_path)
    assert result.returncode != 0
    assert f"error: PYTHON: {old} is not Python 3.11 or newer" in result.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_only_what_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    code = "\n".join(re.findall(r"`[^`]+`|```.*?```", text, re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", code)) <= targets()
    assert set(re.findall(r"IJEPA_[A-Z_]+", text)) <= set(environment.VARIABLES)
    assert set(re.findall(r"ijepa preset ([a-z0-9_]+)", code)) <= {p.stem for p in PRESETS}
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (ROOT / link).exists(), f"{page} links to {link}"


def test_readme_lists_every_variable_and_preset() -> None:
    text = (ROOT / "README.md").read_text()
    assert set(environment.VARIABLES) <= set(re.findall(r"IJEPA_[A-Z_]+", text))
    assert {"laptop", "cifar10", *PAPER} <= set(re.findall(r"`([a-z0-9_]+)`", text))
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", text.partition("| preset | is |")[2], re.MULTILINE)
    assert set(rows) <= {p.stem for p in PRESETS}
