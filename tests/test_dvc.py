"""dvc.yaml: what makes "up to date" true, and none of DVC's silent traps."""

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, params, tiny
from ruamel.yaml import YAML

from ijepa import config as configs
from ijepa import evaluate, preflight, prepare, variants
from ijepa.config import Config
from ijepa.store.read import open_store
from ijepa.training import loop

STAGES = ("prepare", "pretrain", "evaluate", "report")


def stages() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    return loaded


def leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value; an entry of a list of mappings goes by its number."""
    if isinstance(tree, list) and tree and isinstance(tree[0], Mapping):
        tree = {"": tree, **{str(number): entry for number, entry in enumerate(tree)}}
    if not isinstance(tree, Mapping):
        return {prefix.rstrip("."): tree}
    inner = [leaves(value, f"{prefix}{key}.") if key else {prefix.rstrip("."): value}
             for key, value in tree.items()]  # fmt: skip
    return {key: value for part in inner for key, value in part.items()}


# What a stage is a function of: its file in out/inputs, and files of earlier stages.


def test_every_stage_depends_on_its_inputs_and_lists_no_code_and_no_key() -> None:
    graph = stages()
    assert list(graph) == ["config", *STAGES]
    for stage in STAGES:
        assert f"out/inputs/{stage}.json" in graph[stage]["deps"]
        assert "params" not in graph[stage]
        # words of pages, that no import reaches, may stand beside it; code may not
        listed = [ROOT / dep for dep in graph[stage]["deps"] if dep.startswith("ijepa")]
        assert not [path for path in listed if path.suffix == ".py" or [*path.rglob("*.py")]]
    assert graph["config"]["deps"] == ["ijepa"]
    assert graph["config"]["outs"] == [
        {f"out/inputs/{stage}.json": {"persist": True}} for stage in STAGES
    ]
    # raw data may have changed, which DVC cannot see
    assert [name for name in graph if graph[name].get("always_changed")] == ["config"]
    sections = [field.name for field in dataclasses.fields(Config)]
    assert sorted(graph["config"]["params"]) == sorted(sections), "dvc exp show has every key"


def test_files_of_earlier_stages_are_dependencies_of_those_that_read_them() -> None:
    made = {
        path if isinstance(path, str) else next(iter(path)): name
        for name, stage in stages().items()
        for kind in ("outs", "metrics", "plots")
        for path in stage.get(kind, [])
    }
    names = list(stages())
    for name, stage in stages().items():
        for dep in stage["deps"]:
            own = dep.split("/")[0] == "ijepa"
            assert own or names.index(made[dep]) < names.index(name)


def test_config_writes_the_code_and_the_parameters_of_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(json.dumps(params()))
    preflight.main()
    config = configs.load()
    for stage in STAGES:
        inputs = json.loads(Path(f"out/inputs/{stage}.json").read_text())
        assert inputs["code"] == variants.files(*variants.entries(config, stage))
        assert inputs["parameters"] == configs.parameters(config, stage)


def changed(before: Config, after: Config) -> set[str]:
    """The stages whose parameters differ."""
    return {s for s in STAGES if configs.parameters(before, s) != configs.parameters(after, s)}


ALL = set(STAGES)


@pytest.mark.parametrize(
    ("start", "key", "value", "stale"),
    [
        ({}, "seed", 1, ALL - {"prepare"}),
        ({}, "data.render_seed", 1, {"prepare", "report"}),
        ({}, "data.image_size", 32, ALL),
        ({}, "data.train_fraction", 0.5, {"pretrain", "report"}),
        ({}, "mask.num_targets", 3, {"pretrain", "report"}),
        ({}, "train.color_jitter", 0.4, {"pretrain", "report"}),
        ({}, "model.depth", 3, ALL - {"prepare"}),
        ({}, "evaluate.view", "squash", {"evaluate", "report"}),
        # no key of what is not chosen
        ({}, "data.path", "flowers", set()),
        ({}, "mask.block_patches", 3, set()),
        ({}, "objective.prototypes", 8, set()),
        ({}, "evaluate.knn", {"k": 5, "temperature": 0.1}, {"evaluate", "report"}),
        ({"evaluate.probes": ["linear"]}, "evaluate.knn", {"k": 5, "temperature": 0.1}, set()),
        # a transfer set takes what it does not say from data
        ({"evaluate.transfer": [{"name": "folder"}]}, "data.path", "b", {"evaluate", "report"}),
        ({"evaluate.transfer": [{"name": "folder", "path": "a"}]}, "data.path", "b", set()),
        (
            {"data.name": "cifar10", "evaluate.transfer": [{"name": "scenes"}]},
            "data.render_seed", 1, {"evaluate", "report"},
        ),
        (
            {"data.name": "cifar10", "evaluate.transfer": [{"name": "scenes"}]},
            "data.train_fraction", 0.5, {"pretrain", "report"},
        ),
    ],
)  # fmt: skip
def test_a_changed_key_makes_those_stages_stale_that_it_can_alter(
    start: dict[str, Any], key: str, value: Any, stale: set[str]
) -> None:
    assert changed(tiny(**start), tiny(**{**start, key: value})) == stale


class Reads:
    """Which keys of a config are read, by whatever code, while it is recorded."""

    def __init__(self, config: Config) -> None:
        self.keys: set[str] = set()
        self._places = {id(config): ""}
        for section in dataclasses.fields(config):
            self._name(getattr(config, section.name), f"{section.name}.")

    def _name(self, part: Any, prefix: str) -> None:
        if not dataclasses.is_dataclass(part):
            return
        self._places[id(part)] = prefix
        options = getattr(part, "options", None)
        if isinstance(options, Mapping):
            for name, one in options.items():
                self._name(one, f"{prefix}{name}.")
        else:
            self._name(options, prefix)
        for number, entry in enumerate(getattr(part, "transfer", ())):
            self._name(entry, f"{prefix}transfer.{number}.")

    @contextlib.contextmanager
    def recorded(self, config: Config) -> Iterator[None]:
        """Of a whole config as a tree, what is taken from the tree."""
        classes = {type(part) for part in self._parts(config)}
        with pytest.MonkeyPatch.context() as patch:
            for cls in classes:
                fields = {field.name for field in dataclasses.fields(cls)} - {"options"}

                def get(part: Any, name: str, fields: set[str] = fields) -> Any:
                    value = object.__getattribute__(part, name)
                    place = self._places.get(id(part))  # None: of an encoder's file, say
                    leaf = name in fields and not dataclasses.is_dataclass(value)
                    if leaf and place is not None and not _about_the_run():
                        self.keys.add(f"{place}{name}")
                    return value

                patch.setattr(cls, "__getattribute__", get)

            def as_tree(config: Any) -> Any:
                if not isinstance(config, Config):
                    return AS_TREE(config)
                tree = plain_tree(config)
                return tree if _about_the_run() else Tree(tree, "", self.keys)

            patch.setattr(configs, "as_tree", as_tree)
            yield

    def _parts(self, part: Any) -> Iterator[Any]:
        if isinstance(part, Mapping):
            part = tuple(part.values())
        if isinstance(part, tuple):
            for one in part:
                yield from self._parts(one)
        elif dataclasses.is_dataclass(part):
            yield part
            for field in dataclasses.fields(part):
                yield from self._parts(getattr(part, field.name))


class Tree(dict[str, Any]):
    """A config as a tree that records what is taken from it; compared or listed, all of it."""

    def __init__(self, tree: Mapping[str, Any], prefix: str, keys: set[str]) -> None:
        super().__init__(
            {
                k: Tree(v, f"{prefix}{k}.", keys) if isinstance(v, dict) else v
                for k, v in tree.items()
            }
        )
        self._prefix, self._keys = prefix, keys

    def _all(self) -> None:
        self._keys |= set(leaves(dict(super().items()), self._prefix))

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if not isinstance(value, Tree):
            self._keys.add(f"{self._prefix}{key}")
        return value

    def items(self) -> Any:
        self._all()
        return super().items()

    def __eq__(self, other: object) -> bool:
        self._all()
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]


AS_TREE = configs.as_tree


def plain_tree(config: Config) -> dict[str, Any]:
    tree: dict[str, Any] = AS_TREE(config)
    return tree


def _about_the_run() -> bool:
    """Whether who reads names the run or its code for all stages, and computes nothing."""
    frame = sys._getframe(2)
    if frame.f_globals["__name__"].startswith("ijepa.tracking."):
        return True
    codes = {
        f.__code__ for f in (variants.entries, configs.signature, configs.parameters, plain_tree)
    }
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


SCENES = {"data.train_images": 64, "data.test_images": 24}
RUNS: list[dict[str, Any]] = [
    {"evaluate.probes": ["linear", "knn"], "evaluate.transfer": [{"name": "scenes"}]},
    {"objective.name": "ibot", "objective.local_size": 8, "mask.name": "blockwise",
     "train.color_jitter": 0.4, "train.blur": 0.5, "evaluate.probes": ["few_shot"]},
    {"objective.name": "mae", "mask.name": "random", "evaluate.encoder": "context",
     "evaluate.probes": ["attentive"]},
    {"objective.name": "data2vec", "mask.name": "block", "evaluate.view": "squash",
     "evaluate.probes": ["logistic"]},
    {"objective.name": "pixels", "mask.name": "rasterized", "evaluate.probes": ["finetune"]},
]  # fmt: skip
SHORT = {
    "evaluate.linear": {"norm": ["batch"], "lr": [0.1], "weight_decay": [0.0], "epochs": 1,
                        "batch_size": 16},
    "evaluate.attentive": {"lr": [0.001], "weight_decay": [0.0], "epochs": 1, "batch_size": 16,
                           "heads": 2},
    "evaluate.few_shot": {"shots": [1], "draws": 1, "l2": 0.1},
    "evaluate.logistic": {"fraction": 1.0, "l2": [0.1], "folds": 2},
    "evaluate.finetune": {"fraction": 1.0, "epochs": 1, "warmup_epochs": 0, "lr": [0.001],
                          "weight_decay": 0.05, "layer_decay": 0.75, "label_smoothing": 0.1,
                          "batch_size": 16, "crop_scale": [0.6, 1.0], "flip": True,
                          "randaugment": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    "change", RUNS, ids=lambda run: f"{run.get('objective.name', 'ijepa')}-"
    + "-".join(run["evaluate.probes"])
)  # fmt: skip
def test_a_stage_reads_no_key_that_it_does_not_depend_on(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the report nothing has to be shown: it depends on every key."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"IJEPA_HOME": str(tmp_path / "home"), "IJEPA_DEVICE": "cpu",
                        "IJEPA_THREADS": "1", "IJEPA_MONGO_URL": "off"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    Path("out").mkdir()
    config = tiny(**{**SCENES, **SHORT, "train.epochs": 1, "train.warmup_epochs": 0, **change})
    monkeypatch.setattr(configs, "load", lambda: config)

    def train() -> None:
        loop.train(config, open_store(), torch.device("cpu"), "fp32", 0, 1)

    read: dict[str, set[str]] = {}
    for stage, run in (
        ("prepare", prepare.main),
        ("pretrain", train),
        ("evaluate", evaluate.main),
    ):
        reads = Reads(config)
        with reads.recorded(config):
            run()
        read[stage] = reads.keys
    assert configs.parameters(config, "report") == configs.as_tree(config)
    for stage, keys in read.items():
        unnamed = keys - set(leaves(configs.parameters(config, stage)))
        assert not unnamed, f"{stage} reads {sorted(unnamed)} and does not depend on them"
    # and the recorder sees what is read
    assert {"data.render_seed", "data.bad_images"} <= read["prepare"]
    assert {"data.train_fraction", "train.lr", "train.betas", "mask.name"} <= read["pretrain"]
    assert "model" in {key.partition(".")[0] for key in read["evaluate"]}
    (first, *_) = config.evaluate.probes
    probe = dataclasses.fields(config.evaluate.options[first])
    assert {f"evaluate.{first}.{option.name}" for option in probe} <= read["evaluate"]
    if config.evaluate.transfer:
        assert "evaluate.transfer.0.render_seed" in read["evaluate"]


def test_no_output_switches_the_run_cache_off() -> None:
    """Of DVC: cache: false outs and persist do so, without a word. ``config`` runs each time."""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for name, stage in stages().items():
        outs = stage.get("outs", [])
        assert name == "config" or all(isinstance(out, str) for out in outs), name
        for out in (out if isinstance(out, str) else next(iter(out)) for out in outs):
            places = {f"/{out}", f"/{Path(out).parent}/"}
            assert places & set(ignored), f"a failing stage leaves {out} to git add"
        for kind in ("metrics", "plots"):
            for entry in stage.get(kind, []):
                ((path, options),) = entry.items()
                assert options["cache"] is False, path
                assert f"/{path}" not in ignored, f"{path}: ignored metrics are lost"


def test_stages_run_as_modules_of_the_working_folder() -> None:
    """Anything else runs the main checkout's code in an experiment."""
    for name, stage in stages().items():
        module = {"config": "preflight"}.get(name, name)
        assert stage["cmd"] == f"python -m ijepa.{module}"


def test_compiled_files_are_no_part_of_a_hash_and_analytics_are_off() -> None:
    assert {"__pycache__", "*.pyc"} <= set((ROOT / ".dvcignore").read_text().split())
    assert "analytics = false" in (ROOT / ".dvc" / "config").read_text()


# dvc.lock and the numbers of the default run, which `dvc exp diff` compares with.

LOCK = ROOT / "dvc.lock"


@pytest.mark.skipif(not LOCK.is_file(), reason="no run of params.yaml is here")
def test_the_lock_file_is_of_this_pipeline_these_parameters_and_these_files() -> None:
    lock = YAML(typ="safe").load(LOCK.read_text())["stages"]
    graph, whole = stages(), YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    assert list(lock) == list(graph)
    made: dict[str, str] = {}
    for name, stage in graph.items():
        written = {entry["path"]: entry["md5"] for entry in lock[name].get("outs", [])}
        read = {entry["path"]: entry["md5"] for entry in lock[name].get("deps", [])}
        outs = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        assert lock[name]["cmd"] == stage["cmd"]
        assert set(read) == set(stage["deps"])
        assert set(written) == {out if isinstance(out, str) else next(iter(out)) for out in outs}
        assert {path: made[path] for path in read if path in made} == {
            path: md5 for path, md5 in read.items() if path in made
        }, f"{name} is of another run than what it reads"
        made |= written
    assert lock["config"]["params"]["params.yaml"] == whole
    for path in ("out/metrics.json", "out/pretrain.json", "out/history.csv"):
        md5 = hashlib.md5((ROOT / path).read_bytes()).hexdigest()
        assert md5 == made[path], f"{path}: is not of dvc.lock's run"
