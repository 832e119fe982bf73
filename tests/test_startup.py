"""What starts often loads little; what is read of a variant without import is the variant's."""

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT, params, tiny

from ijepa import config as configs
from ijepa import pretrain, strict, variants
from ijepa.runtime import environment

VARIANTS = [
    pytest.param(family, name, id=f"{family}-{name}")
    for family in ("datasets", "masks", "objectives", "probes")
    for name in variants.names(family)
]
HEAVY = {"torch", "torchvision", "timm", "pyarrow", "scipy", "sklearn", "matplotlib", "sacred"}
RECORDER = {"pandas", "pyarrow", "sacred"}  # Sacred loads the other two where they are installed


def loaded(program: str) -> set[str]:
    """The installed packages that a new process has loaded at the program's end."""
    program += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          text=True, check=True)  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


def test_parameters_are_checked_and_code_is_hashed_without_the_libraries_that_compute() -> None:
    """Of all variants: ``keys`` asks every one, each preset and experiment chooses others."""
    modules = loaded("""
from ijepa import config, variants
config.keys()
chosen = config.load()
for stage in config.STAGES:
    config.parameters(chosen, stage), variants.files(*variants.entries(chosen, stage))
""")
    assert "numpy" in modules, "the masks' check draws some"
    assert not modules & (HEAVY | RECORDER)


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch counts the GPUs")
@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("import ijepa.pretrain; from ijepa.runtime import environment; environment.hardware()",
         RECORDER),
        ("import ijepa.prepare; from ijepa import variants; variants.load('datasets', 'scenes')",
         RECORDER),
        ("import ijepa.report", set()),
        ("from ijepa import cli; cli.main('ablate loss --scale smoke --dry-run'.split())",
         {"scipy"}),
        ("from ijepa import cli; cli.main('ablate --list'.split())", {"scipy"}),
        ("from ijepa import cli; cli.main('runs list --json'.split())", set()),
    ],
    ids=["pretrain", "prepare", "report", "ablate-dry-run", "ablate-list", "runs-list"],
)  # fmt: skip
def test_a_door_that_computes_nothing_loads_no_torch(program: str, allowed: set[str]) -> None:
    assert loaded(program) & HEAVY <= allowed


@pytest.mark.parametrize(("family", "name"), VARIANTS)
def test_what_a_variant_declares_is_its_own(
    family: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One class; and, as that would hide it, the whole source says the same as a part of it."""
    module, options = variants.load(family, name), variants.declared(family, name, "Options")
    assert options is module.Options
    monkeypatch.setattr(strict, "_CLASSES", {})
    whole: dict[str, Any] = {"__name__": module.__name__}
    exec(compile(Path(str(module.__file__)).read_text(), name, "exec"), whole)
    assert whole["Options"] is not options
    assert whole["Options"].__doc__ == options.__doc__
    said, expected = (
        [(f.name, f.type, f.metadata.get("allowed")) for f in dataclasses.fields(cls)]
        for cls in (options, whole["Options"])
    )
    assert said == expected
    check = variants.declared(family, name, "check")
    assert (check is None) == (not hasattr(module, "check"))
    assert check is None or check.__code__.co_code == module.check.__code__.co_code


def test_declared_options_are_equal_to_the_modules_and_travel_to_other_processes() -> None:
    """Read first, in a process that imports the module later."""
    done = subprocess.run(
        [sys.executable, "-c", """
import pickle, sys
from ijepa import config
options = config.load().mask.options
assert "ijepa.masks.multiblock" not in sys.modules
sys.stdout.buffer.write(pickle.dumps(options))
from ijepa.masks import multiblock
assert isinstance(options, multiblock.Options)
"""],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    assert pickle.loads(done.stdout) == configs.parse(params(), "params.yaml").mask.options


def test_only_what_a_name_needs_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is unknown to the test is: a shared value of the family, an alias, a branch."""
    files = {
        "__init__.py": "import nowhere\nSHARED = ('a', 'b')\nOTHER = nowhere.thing\n",
        "mine.py": """
import nowhere, json as j
from ijepa.masks import SHARED as ours, OTHER
from nowhere import thing
try:
    from nowhere import fast as tool
except ImportError:
    tool = j
LIMIT = len(ours) * tool.loads("2")
class Options(thing): pass
def check(grid, options):
    if grid > LIMIT: raise ValueError(f"grid: {grid} is more than {LIMIT}")
""",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    spec = SimpleNamespace(
        origin=str(tmp_path / "__init__.py"), submodule_search_locations=[str(tmp_path)]
    )
    monkeypatch.setattr(variants.importlib.util, "find_spec", lambda _: spec)
    variants._declared.cache_clear()
    assert variants.names("masks") == ["mine"]
    check = variants.declared("masks", "mine", "check")
    check(4, None)
    with pytest.raises(ValueError, match=r"grid: 5 is more than 4"):
        check(5, None)
    assert variants.declared("masks", "mine", "views") is None
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        variants.declared("masks", "mine", "Options")
    with pytest.raises(ValueError, match=r"^'other' is not one of mine$"):
        variants.declared("masks", "other", "check")
    variants._declared.cache_clear()


def test_the_processors_bf16_is_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    says = torch.cpu.get_capabilities()
    expected = bool(says.get("avx512_bf16") or says.get("amx_bf16"))
    assert environment._fast_bf16("cpu") == expected
    for flags, fast in (("fpu avx512_bf16 sse", True), ("amx_bf16", True), ("avx512f", False)):
        monkeypatch.setattr(environment, "_cpuinfo", lambda _, flags=flags: flags)
        assert environment._fast_bf16("cpu") == fast


@pytest.mark.parametrize(
    ("device", "told", "cores", "change", "expected"),
    [
        ("cpu", "0", 2, {}, 1), ("cpu", "0", 8, {}, 7), ("cpu", "0", 1, {}, 1),
        ("cpu", "2", 2, {}, 2), ("cuda", "0", 8, {}, 8),
        # 8 images of 16 patches: 24 * 128 tokens * width**2 FLOPs, and attention's, pass 1.2e9
        ("cpu", "0", 8, {"model.width": 640}, 8), ("cpu", "0", 8, {"model.width": 576}, 7),
    ],
)  # fmt: skip
def test_short_operations_leave_a_core_free(
    device: str, told: str, cores: int, change: dict[str, Any], expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("IJEPA_THREADS", told)
    hardware = environment.Hardware(device, "fp32", 1, int(told) or cores)
    assert pretrain.with_threads(tiny(**change), hardware).threads == expected
