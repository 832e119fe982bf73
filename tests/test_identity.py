"""A stale number must be impossible: what a number depends on is computed, and names it."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, params, tiny

from ijepa import features, variants
from ijepa.config import Config
from ijepa.evaluation import cache, labelling, probing, run
from ijepa.evaluation.probing import Job
from ijepa.model import vit
from ijepa.study import vouch

STAGES = ("prepare", "pretrain", "evaluate")
SMALL = {
    "data.train_images": 160, "data.test_images": 60, "data.image_size": 16,
    "model.patch_size": 4, "model.width": 16, "model.depth": 2, "model.predictor_width": 8,
    "mask.num_targets": 2, "mask.min_context": 2, "train.batch_size": 16, "train.epochs": 2,
    "train.warmup_epochs": 0.5, "evaluate.last_layers": 2,
    "evaluate.logistic": {"fraction": 0.4, "l2": [0.01, 1.0], "folds": 3},
    "evaluate.few_shot": {"shots": [1, 2], "draws": 2, "l2": 0.1},
    "evaluate.linear": {"norm": ["batch", "none"], "lr": [0.1, 0.3], "weight_decay": [0.01],
                        "epochs": 3, "batch_size": 32},
}  # fmt: skip

# One line each that alters a number of a small run: file, what stands there, what instead.
ALTERING = (
    ("seeds.py", "np.uint64(27)", "np.uint64(28)"),
    ("seeds.py", "purpose, *index) >> 1", "purpose, *index) >> 2"),
    ("schedule.py", "1 + math.cos(", "0.99 + math.cos("),
    ("schedule.py", "step / steps)", "step / (steps + 1))"),
    ("views.py", "[0.485, 0.456", "[0.486, 0.456"),
    ("features.py", "block.mean(1)", "block.amax(1)"),
    ("datasets/scenes.py", "_ASIDE = 0.3", "_ASIDE = 0.31"),
    ("datasets/__init__.py", 'side="left"', 'side="right") + (depth < 8.2) * (depth > 8'),
    ("datasets/_solids.py", "FLAT = ", "FLAT = 0.99 * "),
    ("masks/multiblock.py", 'f"mask/{attempt}"', 'f"mask/{attempt + 1}"'),
    ("masks/multiblock.py", "blocks(t, options", "blocks(0.5 * t, options"),
    ("model/vit.py", "part.eps = 1e-6", "part.eps = 1e-4"),
    ("model/vit.py", "self.norm(x))", "x)"),
    ("model/vit.py", "std = 1 / math.sqrt(fan_in)", "std = 1.01 / math.sqrt(fan_in)"),
    ("model/predictor.py", '"init/predictor"', '"init/encoder"'),
    ("model/teacher.py", "1 - momentum)", "(1 - momentum) / 2)"),
    ("model/flops.py", "return 2 * tokens", "return 3 * tokens"),
    ("objectives/ijepa.py", "schedule.linear(", "schedule.cosine("),
    ("training/loop.py", "betas=config.train.betas", "betas=(0.9, 0.96)"),
    ("training/loop.py", 'weight_decay * group["decays"]', "weight_decay"),
    ("training/batches.py", "place[:, 2] < 0.5", "place[:, 2] > 0.5"),
    ("training/batches.py", '"order", epoch', '"order", 2 * epoch'),
    ("training/health.py", "+ 1e-7", "+ 1e-6"),
    ("evaluation/labelling.py", "order[first:end]", "order[-end - 1 : -first - 1]"),
    ("evaluation/scores.py", "100 *", "99 *"),
    ("probes/linear.py", "_MOMENTUM = 0.9", "_MOMENTUM = 0.8"),
    ("probes/knn.py", "/ options.temperature", "* options.temperature"),
    ("probes/few_shot.py", '"few-shot", draw', '"few-shot", draw + 1'),
    ("probes/_multinomial.py", "penalty[-1] = 0", "penalty[-1] = 1"),
    ("backbones/pixels.py", "images.float() / 255", "(images.float() / 255).square()"),
)

# Another way to write the same: the code is other code, the bytes are not.
PRESERVING = (
    ("seeds.py", "purpose, *index) >> 1", "purpose, *index) // 2"),
    ("schedule.py", "if step < warmup:", "if not step >= warmup:"),
    ("features.py", "_BATCH = 64", "_BATCH = 8 * 8"),
    ("datasets/scenes.py", "_ATTEMPTS, _SHRINK = 100, 0.97", "_ATTEMPTS = 100\n_SHRINK = 0.97"),
    ("masks/multiblock.py", "if not len(open_rows):", "if len(open_rows) == 0:"),
    ("model/teacher.py", "1 - momentum)", "-(momentum - 1))"),
    ("objectives/__init__.py", "LOSSES = ", "LOSSES: dict[str, object] = "),
    ("training/loop.py", "progress.step == steps", "steps == progress.step"),
    ("evaluation/labelling.py", "min(used, max(fold, ", "min(max(0, used), max(fold, "),
    ("probes/knn.py", "_ROWS = 1024", "_ROWS = 2048"),
)


def changed(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of the package in ``folder`` with one text replaced, wherever it stands."""
    shutil.copytree(ROOT / "ijepa", folder / "ijepa", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "ijepa" / file
    text = path.read_text()
    assert old in text, f"{file} has no {old!r}"
    path.write_text(text.replace(old, new))
    return folder


@pytest.fixture(autouse=True)
def fresh_closures() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """What ``variants`` remembers of files that a test is about to replace."""
    for function in (variants._imports, variants._statements):
        function.cache_clear()


def code_in(root: Path, patch: pytest.MonkeyPatch, *entries: str) -> str:
    """The code hash of entry points in a copy of the package."""
    with patch.context() as inside:
        inside.setattr(variants, "ROOT", root)
        forget()
        hashed = variants.code(*entries)
    forget()
    return hashed


def stages(config: Config) -> list[tuple[str, ...]]:
    return [variants.entries(config, stage) for stage in STAGES]


def test_a_closure_is_what_a_process_has_imported() -> None:
    """Python's own list of modules is the oracle: nothing that a stage loads is missing."""
    program = """
import importlib, json, sys
import ijepa.tracking.journal, ijepa.preflight  # and what they load: they alter no result
for entries in json.loads(sys.argv[1]):
    for entry in entries:
        importlib.import_module("ijepa." + entry)
    print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "ijepa"]))
"""
    wanted = [(), *stages(tiny())]
    command = [sys.executable, "-c", program, json.dumps(wanted)]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    recorder, *loaded = [set(json.loads(line)) for line in lines.splitlines()]
    for number in range(1, len(wanted)):
        entries = [entry for stage in wanted[: number + 1] for entry in stage]
        assert loaded[number - 1] - recorder <= set(variants.closure(*entries))


def test_imports_in_functions_and_packages_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "__init__": "", "a": "def f():\n    from ijepa.b import c\n", "b/__init__": "X = 1\n",
        "b/c": "import ijepa.d, json, numpy.linalg\n", "d": "", "e": "",
        "tracking/__init__": "import ijepa.e\n",
    }.items():  # fmt: skip
        path = tmp_path / "ijepa" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(variants, "ROOT", tmp_path)
    assert variants.closure("a") == ["ijepa", "ijepa.a", "ijepa.b", "ijepa.b.c", "ijepa.d"]
    assert variants.libraries("a").keys() == {"numpy"}
    (tmp_path / "ijepa/a.py").write_text("from ijepa import tracking\n")
    forget()
    assert variants.closure("a") == ["ijepa", "ijepa.a"], "what is told of results alters none"


def test_words_are_no_code_and_everything_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ijepa/a.py"
    file.parent.mkdir()
    (file.parent / "__init__.py").touch()

    def hashed(text: str) -> str:
        file.write_text(text)
        return code_in(tmp_path, monkeypatch, "a")

    plain = hashed('def f(x):\n    return x + "# 1"\n')
    about = '"""Wörter.\n\n    More.\n    """'
    worded = f'"""About."""\n\n\ndef f(x):  # why\n    {about}\n    return x + "# 1"\n'
    assert hashed(worded) == plain
    assert hashed(worded.replace("# 1", "# 2")) != plain
    assert hashed(worded.replace("x +", "2 * x +")) != plain
    assert hashed(worded.replace("    return", "return")) != plain
    joined = 'def ä(x): "ö"; return x\n'  # code before and after a docstring in its line
    assert hashed(joined) == hashed(joined.replace("ö", "other"))
    assert (
        len({hashed(joined.replace(old, new)) for old, new in (("ä", "b"), ("x\n", "1\n"))}) == 2
    )
    text = 'X = """\n a \n\n b # c\n"""\n'  # a text's spaces, blank lines and signs are its own
    others = [text.replace(old, "", 1) for old in (" \n", "\n\n", " # c")]
    assert len({hashed(text), *map(hashed, others)}) == 4


def test_relative_imports_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closure would not follow them."""
    (tmp_path / "ijepa").mkdir()
    (tmp_path / "ijepa/__init__.py").touch()
    for line in ("from . import b", "from .b import c"):
        (tmp_path / "ijepa/a.py").write_text(line + "\n")
        with pytest.raises(AssertionError, match="relative import"):
            code_in(tmp_path, monkeypatch, "a")


@pytest.mark.parametrize("family", ["backbones", "datasets", "masks", "objectives", "probes"])
def test_a_new_variant_makes_no_other_result_unknown(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [entry for stage in stages(tiny()) for entry in stage]
    before = variants.code(*entries)
    copied = changed(tmp_path, "seeds.py", "import hashlib", "import hashlib")
    (copied / "ijepa" / family / "mine.py").write_text("VALUE = 1\n")
    assert code_in(copied, monkeypatch, *entries) == before
    assert code_in(copied, monkeypatch, *entries, f"{family}.mine") != before


def test_evaluation_reaches_no_training() -> None:
    """Nor any encoder of others, nor a probe or a data set that the run does not name."""
    config = tiny(**{"evaluate.probes": ["linear", "knn"]})
    reached = variants.closure(*variants.entries(config, "evaluate"))
    assert not [name for name in reached if name.startswith(("ijepa.training", "ijepa.masks."))]
    families = ("ijepa.backbones.", "ijepa.probes.", "ijepa.datasets.", "ijepa.objectives.")
    assert {name for name in reached if name.startswith(families) and "._" not in name} == {
        "ijepa.backbones.ijepa", "ijepa.backbones.pixels", "ijepa.probes.knn",
        "ijepa.probes.linear",
    }  # fmt: skip


def test_no_module_is_loaded_by_a_name_that_a_closure_cannot_see() -> None:
    """``variants.load`` is the one way; the runner's two files run jobs, and no code of theirs."""
    for path in (ROOT / "ijepa").rglob("*.py"):
        dynamic = "import_module(" in path.read_text() or "__import__(" in path.read_text()
        assert not dynamic or path.name in ("variants.py", "runner.py"), path


def test_a_changed_split_is_seen_through_the_caches(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run evaluates; the images that select become others; what is remembered must not count.

    At version 0.1 the second evaluation wrote the first one's bytes.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    vit.save(vit.create(16, tiny().model, 99), Path("encoder.safetensors"), {})
    config = tiny(**{"evaluate.probes": ["linear", "knn"], "evaluate.held_out": 0.25})
    job = Job(config, "encoder.safetensors", store_path)

    def evaluated(home: str) -> bytes:
        monkeypatch.setenv("IJEPA_HOME", str(tmp_path / home))
        run.evaluate(job, Path("out"), Path("out/metrics.json"))
        return Path("out/predictions.npz").read_bytes()

    first = evaluated("home")
    assert evaluated("home") == first
    old, new = "order[first:end]", "order[-end - 1 : -first - 1]"
    copied = changed(tmp_path / "copy", "evaluation/labelling.py", old, new)
    source = (copied / "ijepa/evaluation/labelling.py").read_text()
    exec(compile(source, "labelling", "exec"), module := {"__name__": "changed"})
    monkeypatch.setattr(labelling, "split", module["split"])
    monkeypatch.setattr(variants, "ROOT", copied)
    forget()
    assert evaluated("home") == evaluated("empty") != first


def test_caches_are_named_by_all_that_computes(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path))
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    config = tiny()
    vit.save(vit.create(16, config.model, 99), tmp_path / "encoder.safetensors", {})
    job = Job(config, str(tmp_path / "encoder.safetensors"), store_path)
    backbone, (_, store) = job.backbones()["trained"], job.sets()[0]
    train, _ = probing.views(config, backbone, store)

    def names() -> tuple[str, str]:
        written: list[str] = []
        with monkeypatch.context() as inside:
            inside.setattr(cache, "_write", lambda path, _: written.append(path.name))
            cache.result(["a"], "knn", dict)
        return features.cache_file("pooled", backbone, 1, train).name, written[0]

    seen = {names()}
    for variable, value in (("THREADS", "5"), ("PRECISION", "fp32"), ("PRECISION", "bf16")):
        monkeypatch.setenv(f"IJEPA_{variable}", value)
        seen.add(names())
    monkeypatch.setattr(variants, "libraries", lambda *_: {"torch": "9"})
    seen.add(names())
    monkeypatch.setattr(variants, "code", lambda *_: "other")
    seen.add(names())
    assert len(seen) == len({one for one, _ in seen}) == len({two for _, two in seen}) >= 5


def test_a_probes_result_is_named_by_all_that_it_is_a_function_of(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path))
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    vit.save(vit.create(16, tiny().model, 99), tmp_path / "encoder.safetensors", {})
    named = list[str]()
    monkeypatch.setattr(cache, "result", lambda *by: named.append(json.dumps(by[:2])))

    def names(probe: str = "knn", encoder: str = "trained", **change: Any) -> str:
        job = Job(tiny(**change), str(tmp_path / "encoder.safetensors"), store_path)
        probing.fit(job, job.backbones()[encoder], job.sets()[0][1], probe)
        return named[-1]

    first = names()
    others = [
        names("linear"), names(encoder="random_init"),
        names(**{"evaluate.train_fraction": 0.5}), names(**{"evaluate.held_out": 0.4}),
        names(**{"evaluate.folds": 3}), names(**{"evaluate.view": "squash"}),
        names(**{"evaluate.knn": {"k": 1, "temperature": 0.07}}),
        names(**{"seeds.labels": 7}), names(**{"seeds.probe": 7}),
    ]  # fmt: skip
    assert len({first, *others}) == 1 + len(others)
    assert names(**{"train.epochs": 9, "seeds.mask": 7}) == first, "what the weights are of"


def small_run(package: Path, folder: Path) -> dict[str, Any]:
    """Prepare, train and evaluate with the package in a folder: its code, and all it wrote."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ijepa"]:
        del sys.modules[name]
    sys.path.insert(0, str(package))
    os.chdir(folder)
    os.environ |= {"IJEPA_HOME": str(folder / "home"), "IJEPA_DEVICE": "cpu"}
    import torch

    from ijepa import config as configs
    from ijepa import variants
    from ijepa.evaluation import probing, run
    from ijepa.store.read import open_store
    from ijepa.store.write import write_store
    from ijepa.training import loop

    assert Path(str(variants.__file__)).is_relative_to(package)
    config = configs.parse(params(**copy.deepcopy(SMALL)), "params.yaml")
    source = variants.load("datasets", config.data.name).load(config.data.options, folder)
    write_store(source, Path("prepared"))
    loop.train(config, open_store(Path("prepared")), torch.device("cpu"), "fp32", 0, 1)
    job = probing.Job(config, "out/encoder.safetensors", Path("prepared"))
    run.evaluate(job, Path("out"), Path("out/metrics.json"))
    files = ["prepared/manifest.json", "out/history.csv", "out/encoder.safetensors",
             "out/pretrain.json", "out/predictions.npz", "out/metrics.json"]  # fmt: skip
    entries = [entry for stage in STAGES for entry in variants.entries(config, stage)]
    return {
        "status": "done",
        "code": variants.code(*entries),
        "files": {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in files},
        "metrics": json.loads(Path("out/metrics.json").read_text()),
    }


def forked(package: Path, folder: Path) -> dict[str, Any]:
    """``small_run`` in a copy of this process, which has torch loaded; it ends without clean-up,
    for what torch's threads wait for at an exit stayed in this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, of threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            (folder / "result.json").write_text(json.dumps(small_run(package, folder)))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


@pytest.mark.slow
def test_what_alters_a_number_makes_it_unknown_and_the_rest_can_be_vouched_for(
    tmp_path: Path,
) -> None:
    def result(number: int, change: tuple[str, str, str]) -> dict[str, Any]:
        folder = tmp_path / str(number)
        package = changed(folder / "package", *change)
        made = forked(package, folder)
        shutil.rmtree(folder)
        return made

    original = result(0, ("seeds.py", "import hashlib", "import hashlib"))
    again = result(1, ("seeds.py", "import hashlib", "import hashlib"))
    assert again == original, "a run repeats itself, or nothing below says anything"
    stale, harmless = [], []
    for number, change in enumerate(ALTERING, 2):
        other = result(number, change)
        assert vouch.differences(original, other), f"{change} alters nothing"
        stale += [change] * (other["code"] == original["code"])
    for number, change in enumerate(PRESERVING, 2 + len(ALTERING)):
        other = result(number, change)
        assert other["code"] != original["code"], change
        harmless += [change] * bool(vouch.differences(original, other))
    assert not stale, "results that would be taken for today's"
    assert not harmless, "these were meant to alter nothing"
    assert (len(ALTERING), len(PRESERVING)) == (30, 10)
