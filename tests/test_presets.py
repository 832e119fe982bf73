"""What a preset or a table's run is, it says itself: nothing of a user's params.yaml is in it."""

import copy
from typing import Any

import pytest

from ijepa import config as configs
from ijepa import presets, seeds
from ijepa.config import Config
from ijepa.runtime import files
from ijepa.study import experiment as experiments
from ijepa.study import plan

# All that a preset or a scale leaves to params.yaml, and why
LEFT = {
    "seed": "which run of the setting it is",
    **{f"seeds.{part}": "the same; of a table's run they are null" for part in seeds.PARTS},
    "data.bad_images": "what is done about broken files of a user's own copy of the data",
    "data.max_bad_fraction": "the same",
    "data.duplicates": "whether equal images stop a user; no number, and no signature, is of it",
}
# Presets that are no setting by themselves
PARTS = {
    "laptop": "it is params.yaml",
    **dict.fromkeys(
        (
            f"recipe_{objective}{where}"
            for objective in ("ijepa", "pixels", "mae", "data2vec", "ibot")
            for where in ("", "_cifar10")
        ),
        "an objective's keys over any data and encoder; the tables' scales have the rest",
    ),
}
WHOLE = sorted(set(experiments.names(experiments.FOLDER / "presets")) - set(PARTS))


def bare() -> dict[str, Any]:
    """params.yaml without any key but those left to it."""
    tree: dict[str, Any] = {}
    for section, content in files.read_yaml(configs.PARAMS).items():
        if isinstance(content, dict):
            tree[section] = {k: v for k, v in content.items() if f"{section}.{k}" in LEFT}
        elif section in LEFT:
            tree[section] = content
    return tree


def resolved(tree: dict[str, Any], changes: dict[str, Any]) -> Config:
    """A key that nobody sets is refused as missing."""
    tree = copy.deepcopy(tree)
    presets.apply(tree, changes, "here")
    return configs.parse(tree, "here")


@pytest.mark.parametrize("name", WHOLE)
def test_a_preset_is_the_same_whatever_params_yaml_says(name: str) -> None:
    changes = presets.load(name)[1]
    assert not changes.keys() & LEFT.keys()
    assert resolved(bare(), changes) == resolved(files.read_yaml(configs.PARAMS), changes)


@pytest.mark.parametrize("name", experiments.names())
@pytest.mark.parametrize("scale", experiments.names(experiments.FOLDER / "scales"))
def test_a_tables_runs_are_the_same_whatever_params_yaml_says(name: str, scale: str) -> None:
    experiment, at = experiments.load(name), experiments.load_scale(scale)
    ours = files.read_yaml(configs.PARAMS)
    for cell, variant, point in experiments.cells(experiment):
        changes = experiments.changes(experiment, at, variant, point, 0)
        assert resolved(bare(), changes) == resolved(ours, changes), cell


def test_a_users_other_params_change_no_run_of_a_plan() -> None:
    """By signature, so that it is known again: the tables that take most from presets."""
    theirs = files.read_yaml(configs.PARAMS)
    presets.apply(
        theirs,
        {
            "objective.name": "mae", "objective.target_masking": "input", "train.flip": False,
            "mask.context_ratio": 0.25, "train.clip_norm": 1.0, "evaluate.encoder": "context",
            "data.objects": [1, 2], "model.init": "official", "evaluate.linear.epochs": 3,
        },
        "theirs",
    )  # fmt: skip
    for name in ("objectives", "masking_strategy"):
        experiment, scale = experiments.load(name), experiments.load_scale("laptop")
        ours = plan.resolve(experiment, scale, files.read_yaml(configs.PARAMS))
        others = plan.resolve(experiment, scale, theirs)
        assert [run.identity for run in ours] == [run.identity for run in others]


def test_a_recipe_sets_every_option_of_its_objective_and_of_masks_of_its_own() -> None:
    """Multi-block masks are every table's, and of the scale."""
    for name in (name for name in PARTS if name.startswith("recipe_")):
        changes = presets.load(name)[1]
        config = resolved(files.read_yaml(configs.PARAMS), changes)
        sections = ["objective"] if config.mask.name == "multiblock" else ["objective", "mask"]
        for section in sections:
            options = getattr(config, section).options
            assert {f"{section}.{key}" for key in configs.as_tree(options)} <= changes.keys(), name


# Typed from the released code and its commands, not from the presets: beit/README.md and
# run_cyclical.py of data2vec_vision; main_ibot.py, loader.py, utils.py and README.md of ibot.
RELEASED: dict[str, dict[str, Any]] = {
    "data2vec_vit_l16": {
        "model.init": "beit", "model.layer_scale": 1e-5, "objective.top_layers": 6,
        "objective.beta": 2.0, "objective.target_norm": "layer", "mask.block_patches": 16,
        "train.lr_start": 0.0, "train.lr": 1e-3, "train.lr_final": 1e-5,
        "train.warmup_epochs": 80, "train.betas": [0.9, 0.999], "train.clip_norm": 3.0,
        "train.weight_decay": 0.05, "train.batch_size": 64 * 64, "train.color_jitter": 0.4,
    },
    "ibot_vit_l16": {
        "model.init": "official", "objective.prototypes": 8192, "objective.head_hidden": 2048,
        "objective.head_bottleneck": 256, "objective.student_temp": 0.1,
        "objective.ema": [0.996, 1.0], "mask.target_scale": [0.1, 0.5],
        "mask.unmasked": 1 / 2, "mask.block_patches": (14 // 3) ** 2, "train.lr_start": 0.0,
        "train.lr_final": 1e-6, "train.warmup_epochs": 10, "train.betas": [0.9, 0.999],
        "train.clip_norm": 3.0, "train.weight_decay": [0.04, 0.4], "train.grayscale": 0.2,
        "train.weight_decay_schedule": "cosine", "train.color_jitter": 0.4,
        "train.blur": (1.0 + 0.1 + 10 * 0.5) / 12, "train.solarize": 0.2 / 12,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_a_rivals_preset_has_the_values_of_its_released_code(name: str) -> None:
    changes = presets.load(name)[1]
    for key, value in RELEASED[name].items():
        wanted = pytest.approx(value, abs=0.01) if "blur" in key or "solar" in key else value
        assert changes[key] == wanted, key
    if name == "data2vec_vit_l16":
        assert round(changes["mask.target_scale"] * 14 * 14) == 120
