"""The experiment and scale files, and the loader that refuses wrong ones."""

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides

from ijepa import config as configs
from ijepa import masks, presets, seeds, variants
from ijepa.config import Config
from ijepa.evaluation import labelling
from ijepa.masks import Keys
from ijepa.runtime import files
from ijepa.study import experiment as experiments
from ijepa.study import plan
from ijepa.study.experiment import Experiment, Point, Scale, Variant

SCALES = ("gpu", "laptop", "paper", "smoke")

# Table -> variant -> top-1 as published, typed from the paper's tables and not from the files.
PUBLISHED: dict[str, tuple[int, dict[str, float | None]]] = {
    "masking_strategy": (6, {"multiblock": 54.2, "rasterized": 15.5, "block": 20.2,
                             "random": 17.6}),
    "targets": (7, {"representations": 66.9, "pixels": 40.7}),
    "target_scale": (8, {"s0075_0200": 19.2, "s0100_0200": 39.2, "s0125_0200": 42.4,
                         "s0150_0200": 54.2, "s0200_0250": 38.9, "s0200_0300": 33.6}),
    "context_scale": (9, {"c040_100": 31.2, "c065_100": 47.1, "c075_100": 49.3, "c085_100": 54.2}),
    "num_targets": (10, {"m1": 9.0, "m2": 22.0, "m3": 48.5, "m4": 54.2}),
    "target_masking": (11, {"output": 67.3, "input": 56.1}),
    "predictor_depth": (12, {"shallow": 64.0, "deep": 66.9}),
    "weight_decay": (13, {"growing": 77.8, "fixed": 76.4}),
    "weight_decay_finetune": (13, {"growing": 69.4, "fixed": 70.7}),
    "predictor_width": (14, {"bottleneck": 70.7, "full": 68.4}),
    "model_scaling": (1, {"small": 72.9, "medium": 77.5, "large": 79.3}),
    "resolution": (1, {"low": 79.3, "high": 81.1}),
    "data_scale": (5, {"tenth": 87.5, "third": None, "all": 89.5}),
    "objectives": (1, {"ijepa": 77.5, "pixels": None, "mae": 76.0, "data2vec": 77.3,
                       "ibot": 81.0}),
}  # fmt: skip
OURS = ("target_scale_matched", "context_scale_matched", "num_targets_matched", "mask_geometry",
        "target_norm", "ema", "loss", "emergence", "compute", "augmentations",
         "recipes", "recipes_cifar10", "variance")  # fmt: skip


def cells(experiment: Experiment) -> Iterator[tuple[str, Variant, Point | None]]:
    for point in experiment.points.values() or [None]:
        for variant in experiment.variants.values():
            yield f"{variant.name}@{point.name}" if point else variant.name, variant, point


def resolve(
    experiment: Experiment, scale: Scale, variant: Variant, point: Point | None = None
) -> Config:
    tree = files.read_yaml(configs.PARAMS)
    where = f"{experiment.name} at {scale.name}: {variant.name}"
    # variance.yaml fixes parts of the seed at 0
    presets.apply(tree, experiments.changes(experiment, scale, variant, point, 1), where)
    return configs.parse(tree, where)


@pytest.fixture(scope="module")
def scales() -> dict[str, Scale]:
    return {name: experiments.load_scale(name) for name in SCALES}


def test_there_is_a_file_for_each_table() -> None:
    assert set(experiments.names()) >= {*PUBLISHED, *OURS}
    assert set(experiments.names(Path("experiments/scales"))) >= set(SCALES)
    assert {table for table, _ in PUBLISHED.values()} >= {1, *range(5, 15)}


@pytest.mark.parametrize("name", experiments.names())
def test_every_cell_is_a_valid_config_of_its_own_at_every_scale(
    name: str, scales: dict[str, Scale]
) -> None:
    """Whatever files there are: one's own must only be possible, too."""
    check_cells(experiments.load(name), scales)


def check_cells(experiment: Experiment, scales: Mapping[str, Scale]) -> None:
    for scale in scales.values():
        plan.refuse_equals(experiment, scale, presets.leaves(files.read_yaml(configs.PARAMS)))
        seen: dict[str, str] = {}
        for cell, variant, point in cells(experiment):
            config = resolve(experiment, scale, variant, point)
            if point is None or point.equal_compute is None:
                other = seen.setdefault(configs.signature(config), cell)
                assert other == cell, f"{cell} and {other} are one run at {scale.name}"
            for metric in (experiment.metric, *experiment.also):
                assert metric.split(".")[1] in config.evaluate.probes


TRIALS = {"recipes", "recipes_cifar10"}  # of one seed


@pytest.mark.parametrize("name", sorted({*PUBLISHED, *OURS} - TRIALS))
def test_a_table_has_the_seeds_that_its_scales_ask_for(
    name: str, scales: dict[str, Scale]
) -> None:
    seeds = experiments.load(name).seeds
    assert len(seeds) >= max(scale.seeds for scale in scales.values())


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_numbers_are_the_papers_and_its_claim_is_what_they_show(name: str) -> None:
    experiment, (table, numbers) = experiments.load(name), PUBLISHED[name]
    assert experiment.table == table
    assert f"Table {table}:" in experiment.source
    assert {v.name: v.paper for v in experiment.variants.values()} == numbers
    assert experiment.claim.by == "paper"
    for better, worse in experiment.claim.pairs:
        first, second = numbers[better], numbers[worse]
        assert first is None or second is None or first > second


@pytest.mark.parametrize(
    ("scale", "images"),  # of the training split; at smoke all labels select, and they are few
    [("laptop", 50_000), ("laptop", 20_000), ("gpu", 50_000), ("paper", 1_281_167)],
)
def test_at_least_two_thousand_labels_select(scale: str, images: int) -> None:
    tree = files.read_yaml(Path("params.yaml"))
    for changes in ({}, experiments.load_scale(scale).changes):
        presets.apply(tree, changes, scale)
        settings = configs.parse(tree, scale).evaluate
        count = images if changes else tree["data"]["train_images"]
        _, folds = labelling.split(
            0, settings.train_fraction, settings.held_out, settings.folds, count
        )
        assert sum(map(len, folds)) >= 2000


@pytest.mark.parametrize("name", OURS)
def test_what_the_paper_does_not_say_is_ours(name: str) -> None:
    experiment = experiments.load(name)
    assert (experiment.table, experiment.claim.by) == (None, "us")
    assert experiment.source.startswith("Ours: ")
    assert {variant.paper for variant in experiment.variants.values()} == {None}


# What Tables 6-12 and Appendix A.1 say about each row's run: (width, depth, epochs, patch,
# predictor blocks, predictor width) of the reference variant.
PROTOCOLS = {
    "masking_strategy": (768, 12, 300, 16, 6, 384),
    "targets": (1024, 24, 500, 16, 12, 384),
    "target_scale": (768, 12, 300, 16, 6, 384),
    "context_scale": (768, 12, 300, 16, 6, 384),
    "num_targets": (768, 12, 300, 16, 6, 384),
    "target_masking": (1280, 32, 300, 16, 12, 384),
    "predictor_depth": (1024, 24, 500, 16, 12, 384),
    "weight_decay": (1024, 24, 600, 16, 12, 384),
    "weight_decay_finetune": (1024, 24, 600, 16, 12, 384),
    "predictor_width": (1024, 24, 600, 16, 12, 384),
    "model_scaling": (1280, 32, 300, 14, 12, 384),
    "resolution": (1280, 32, 300, 16, 12, 384),
    "data_scale": (1280, 32, 66, 14, 12, 384),
    "objectives": (1024, 24, 600, 16, 12, 384),
}


FINETUNED = ("predictor_width", "weight_decay_finetune")  # Table 14, half of Table 13


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_the_papers_scale_is_the_papers_protocol(name: str, scales: dict[str, Scale]) -> None:
    experiment = experiments.load(name)
    point = next((p for p in experiment.points.values() if p.published), None)
    variant = experiment.variants[experiment.claim.reference]
    config = resolve(experiment, scales["paper"], variant, point)
    model, train = config.model, config.train
    found = (model.width, model.depth, train.epochs, model.patch_size)
    assert (*found, model.predictor_depth, model.predictor_width) == PROTOCOLS[name]
    assert train.batch_size == 2048
    evaluate, probe = config.evaluate, experiment.metric.split(".")[1]
    few = name == "weight_decay_finetune" or experiment.table not in (1, 5, 13)
    share = evaluate.options["finetune"].fraction if probe == "finetune" else 1.0
    assert evaluate.train_fraction * share == (0.01 if few else 1.0)
    assert (probe == "finetune") == (name in FINETUNED)
    if probe == "finetune":  # Appendix A.2 for ViT-L/16, 1 % of the labels
        recipe = evaluate.options["finetune"]
        assert (recipe.epochs, recipe.batch_size, recipe.lr) == (50, 512, (3e-5,))
        assert (recipe.weight_decay, recipe.layer_decay, recipe.label_smoothing) == (
            0.05,
            0.75,
            0.1,
        )


@pytest.mark.parametrize("name", FINETUNED)
@pytest.mark.parametrize("scale", ["laptop", "gpu"])
def test_on_cifar10_as_large_a_share_of_the_labels_is_fine_tuned_on(
    name: str, scale: str, scales: dict[str, Scale]
) -> None:
    experiment = experiments.load(name)
    for variant in experiment.variants.values():
        evaluate = resolve(experiment, scales[scale], variant).evaluate
        share = evaluate.train_fraction * evaluate.options["finetune"].fraction
        assert share * 50_000 == pytest.approx(500)


def test_sizes_of_the_paper_are_those_of_its_presets(scales: dict[str, Scale]) -> None:
    sizes = experiments.load("model_scaling")
    for variant, preset in (("medium", "vit_l16"), ("large", "vit_h14")):
        tree = files.read_yaml(configs.PARAMS)
        presets.apply(tree, presets.load(preset)[1], preset)
        model = resolve(sizes, scales["paper"], sizes.variants[variant]).model
        assert model == configs.parse(tree, preset).model


def test_the_reference_of_the_laptops_tables_is_one_run(scales: dict[str, Scale]) -> None:
    """Runs are shared by signature: a table costs its other variants alone."""
    found = set()
    for name in ("masking_strategy", "targets", "target_scale", "context_scale", "num_targets",
                 "target_masking", "mask_geometry", "target_norm", "ema"):  # fmt: skip
        table = experiments.load(name)
        config = resolve(table, scales["laptop"], table.variants[table.claim.reference])
        found.add(configs.signature(config))
    assert len(found) == 1


@pytest.mark.parametrize("scale", ["smoke", "laptop", "gpu"])
def test_fractions_of_the_data_are_seen_equally_long(scale: str, scales: dict[str, Scale]) -> None:
    experiment, seen = experiments.load("data_scale"), set()
    for variant in experiment.variants.values():
        config = resolve(experiment, scales[scale], variant)
        count = {"smoke": 320, "laptop": 50_000, "gpu": 50_000}[scale]
        images = int(config.train.epochs * round(config.data.train_fraction * count))
        warmup = config.train.warmup_epochs / config.train.epochs
        seen.add((images // config.train.batch_size, round(warmup, 9)))
    assert len(seen) == 1
    assert len({v.set["data.train_fraction"] for v in experiment.variants.values()}) == 3


@pytest.mark.parametrize(
    "name", ["target_scale_matched", "context_scale_matched", "num_targets_matched"]
)
def test_matched_variants_see_equally_many_patches_and_are_the_papers_otherwise(
    name: str, scales: dict[str, Scale]
) -> None:
    experiment = experiments.load(name)
    keys = Keys(0, 0, np.zeros(256, np.int64), np.arange(256))
    for scale in scales.values():
        lengths = set()
        for variant in experiment.variants.values():
            config = resolve(experiment, scale, variant)
            sample = variants.load("masks", config.mask.name).sample
            masks = sample(keys, configs.grid(config), config.mask.options)
            lengths |= set(masks.context_valid.sum(1).tolist())
            # what is lost to redraws stays small: see the comments in the files
            free = dataclasses.replace(config.mask.options, context_ratio=None, min_context=1)
            drawn = sample(keys, configs.grid(config), free).context_valid.sum(1)
            assert (drawn < max(lengths)).float().mean() < 0.15
        assert len(lengths) == 1, (scale.name, lengths)
    table = experiments.load(name.removesuffix("_matched"))
    assert {v.name: v.set for v in table.variants.values()} == {
        v.name: v.set for v in experiment.variants.values()
    }


# One's own files beside these: nothing has to be listed anywhere.

MINE = """\
title: Masks of my own
question: How much should be hidden?
metric: class.linear.trained
seeds: [0, 1, 2, 3, 4, 5]
base: {mask.name: mine}
variants:
  half: {set: {mask.share: 0.5}}
  none: {set: {mask.share: null}}
claim: {text: Half is enough., best: half, margin: 1, looks: [6]}
"""
MASK = """\
from dataclasses import dataclass
from ijepa.masks.random import sample
from ijepa.strict import maybe, once, real

@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    share: float | None = maybe(real(0, 1))

def check(grid, options):
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The experiments of the repository with four files of one's own, the mask's among them."""
    folder, code = tmp_path / "experiments", tmp_path / "masks"
    shutil.copytree(experiments.FOLDER, folder)
    code.mkdir()
    for path, text in {
        folder / "mine.yaml": MINE,
        folder / "scales/mine.yaml": "about: Mine.\nseeds: 1\nminutes: 1\ntrain.lr: 0.5\n",
        folder / "presets/mine.yaml": "about: Mine.\nmask.name: mine\nmask.share: 0.25\n",
        code / "mine.py": MASK,
    }.items():
        path.write_text(text)
    places: list[str] = masks.__path__  # of the package's spec as well
    places.append(str(code))
    caches = configs.keys, configs._option_names
    for cache in caches:
        cache.cache_clear()
    yield folder
    places.remove(str(code))
    sys.modules.pop("ijepa.masks.mine", None)
    for cache in caches:
        cache.cache_clear()


def test_the_laws_hold_of_ones_own_experiment_scale_preset_and_mask(own: Path) -> None:
    experiment = experiments.load("mine", own)
    assert experiment.factor == ("mask.share",)
    assert {v.label: v.paper for v in experiment.variants.values()} == {"half": None, "none": None}
    assert (experiment.table, experiment.source, experiment.claim.by) == (None, "Ours", "us")
    names = experiments.names(own / "scales")
    assert set(names) == {*SCALES, "mine"}
    scales = {name: experiments.load_scale(name, own) for name in names}
    check_cells(experiment, scales)
    for scale in scales.values():
        half, none = (resolve(experiment, scale, v) for v in experiment.variants.values())
        assert (half.mask.options.share, none.mask.options.share) == (0.5, None)
        assert configs.signature(half) != configs.signature(none)
    assert set(presets.load("mine", own / "presets")[1]) == {"mask.name", "mask.share"}
    tables = [experiments.load(name, own) for name in sorted({*PUBLISHED, *OURS})]
    assert tables == [experiments.load(name) for name in sorted({*PUBLISHED, *OURS})]


def test_a_key_of_ones_own_is_checked_like_any_other(own: Path) -> None:
    for old, new, words in (
        ("{mask.share: 0.5}", "{mask.shar: 0.5}", "has no such key; did you mean mask.share?"),
        (
            "{mask.share: 0.5}",
            "{mask.share: 5}",
            "mask.share: 5 is not null or a number in [0, 1]",
        ),
        ("{mask.share: null}", "{train.lr: 0.1}", "mask.share: missing; null or a number in [0, "),
    ):
        (own / "mine.yaml").write_text(MINE.replace(old, new))
        with pytest.raises(ValueError, match=f"{re.escape(words)}.*") as caught:
            check_cells(experiments.load("mine", own), {"smoke": experiments.load_scale("smoke")})
        assert "\n" not in str(caught.value)


def test_the_runs_of_a_plan_say_keys_that_params_yaml_lacks(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "code", lambda config: "code")  # the mask's file lies elsewhere
    tree, scale = files.read_yaml(configs.PARAMS), experiments.load_scale("smoke", own)
    runs = plan.resolve(experiments.load("mine", own), scale, tree)
    assert [run.changes["mask.share"] for run in runs] == [0.5, None]


@pytest.mark.parametrize("value", [0.5, None, [1, 2], True, "text"])
def test_dvc_takes_a_new_key_with_two_plus_signs_and_an_old_one_as_without(
    value: object, tmp_path: Path
) -> None:
    """How ``ijepa.study.job`` and ``ijepa preset`` say it, by DVC's own code for -S."""
    path, text = tmp_path / "params.yaml", configs.PARAMS.read_text()
    said = json.dumps(value)
    path.write_text(text)
    apply_overrides(path, [f"++mask.share={said}", f"++evaluate.mine.k={said}"])
    tree, before = (
        presets.leaves(files.read_yaml(path)),
        presets.leaves(files.read_yaml(configs.PARAMS)),
    )
    assert tree == {**before, "mask.share": value, "evaluate.mine.k": value}
    read = []
    for plus in ("", "++"):
        path.write_text(text)
        apply_overrides(path, [f"{plus}mask.num_targets={said}", f"{plus}train.flip={said}"])
        read.append(path.read_bytes())
    assert read[0] == read[1]
    path.write_text(text)
    with pytest.raises(InvalidArgumentError):
        apply_overrides(path, [f"mask.share={said}"])


# The loader, on a small experiment that is right but for one thing.

SEEDS = "seeds: [3, 5, 7, 9, 11, 13]"
GOOD = """\
title: Loss
question: Which?
table: null
source: Ours
metric: class.linear.trained
factor: [objective.loss, train.lr]
seeds: [3, 5, 7, 9, 11, 13]
base: {train.epochs: 2}
at:
  big: {preset: wide, model.heads: 4}
variants:
  a: {label: A, set: {objective.loss: l2}, at: {big: {train.lr: 0.5}}, paper: 54.2}
  b: {label: B, set: {objective.loss: smooth_l1}, paper: null}
  c: {label: C, set: {train.lr: 0.25}, paper: null}
claim: {text: A, by: us, best: a, margin: 0.5, looks: [6]}
"""
POINTS = """\
points:
  p: {label: P, x: 1, set: {train.batch_size: 8}, at: {big: {train.batch_size: 16}}}
  q: {label: Q, x: null, set: {train.batch_size: 4}}
"""
RECIPES = GOOD.replace("title: Loss", "title: Recipes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {
        "table.yaml": GOOD,
        "recipes.yaml": RECIPES,
        "scales/big.yaml": "about: Big\nseeds: 2\nminutes: 5\npreset: wide\ntrain.lr: 0.125\n",
        "scales/small.yaml": "about: Small\nseeds: 1\nminutes: 0.5\ntrain.epochs: 9\n",
        "presets/wide.yaml": "about: Wide\nmodel.width: 128\nmodel.heads: 8\ntrain.lr: 0.75\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_file_becomes_an_experiment(folder: Path) -> None:
    experiment = experiments.load("table", folder)
    assert experiment.variants["a"].paper == 54.2
    assert experiment.factor == ("objective.loss", "train.lr")
    assert experiment.claim.pairs == (("a", "b"), ("a", "c"))
    assert (experiment.claim.reference, experiment.claim.margin) == ("a", 0.5)
    assert experiment.points == {}
    scale = experiments.load_scale("big", folder)
    assert (scale.seeds, scale.minutes, scale.preset) == (2, 5.0, "wide")


def test_of_the_places_that_set_a_key_the_last_counts(folder: Path) -> None:
    (folder / "table.yaml").write_text(GOOD + POINTS)
    experiment = experiments.load("table", folder)
    big, small = (experiments.load_scale(name, folder) for name in ("big", "small"))
    a, b, p = experiment.variants["a"], experiment.variants["b"], experiment.points["p"]
    follow = {f"seeds.{part}": None for part in seeds.PARTS}
    assert experiments.changes(experiment, big, a, p, 5) == {
        **follow,
        "model.width": 128,  # the preset's
        "model.heads": 4,  # `at`, over its preset
        "train.epochs": 2,  # base
        "train.batch_size": 16,  # point.at, over point.set
        "objective.loss": "l2",
        "train.lr": 0.5,  # variant.at, over at's preset, over the scale's, over its preset
        "seed": 5,
    }
    assert experiments.changes(experiment, big, b, None, 3)["train.lr"] == 0.75
    assert experiments.changes(experiment, small, b, p, 3) == follow | {
        "train.epochs": 2, "train.batch_size": 8, "objective.loss": "smooth_l1", "seed": 3,
    }  # fmt: skip
    everywhere = {"train.lr": 0.5, "train.epochs": 7}
    swapped = dataclasses.replace(experiment, at={"small": everywhere})
    found = experiments.changes(swapped, small, experiment.variants["c"], None, 3)
    assert (found["train.lr"], found["train.epochs"]) == (0.25, 7)  # variant.set over at over base


def test_a_variant_may_have_settings_of_its_own_at_a_point(folder: Path) -> None:
    own = "set: {train.lr: 0.25}, points: {q: {preset: wide, objective.loss: l2}}"
    big = f"{own}, at: {{big: {{train.lr: 0.3}}}}"
    (folder / "table.yaml").write_text(GOOD.replace("set: {train.lr: 0.25}", big) + POINTS)
    experiment = experiments.load("table", folder)
    small, large = (experiments.load_scale(name, folder) for name in ("small", "big"))

    def settings(scale: Scale, point: Point | None) -> tuple[object, object]:
        of = experiments.changes(experiment, scale, experiment.variants["c"], point, 3)
        return of.get("train.lr"), of.get("objective.loss")

    p, q = experiment.points.values()
    assert settings(small, None) == settings(small, p) == (0.25, None)
    assert settings(small, q) == (0.75, "l2"), "of its preset the factor's keys, over `set`"
    assert settings(large, q) == (0.3, "l2"), "`at` comes last"


def test_a_row_takes_of_a_preset_what_the_factor_has_and_the_rest_is_shared(folder: Path) -> None:
    text = GOOD.replace(
        "set: {train.lr: 0.25}",
        "set: {preset: wide, objective.loss: smooth_l1}, at: {big: {train.lr: 0.3}}",
    )
    text = text.replace("at: {big: {train.lr: 0.5}}", "at: {big: {preset: wide}}")
    points = POINTS.replace("set: {train.batch_size: 4}", "set: {preset: flat}")
    (folder / "presets/flat.yaml").write_text("about: Flat\nmodel.depth: 1\n")
    (folder / "table.yaml").write_text(text + points)
    found = experiments.load("table", folder)
    c, a = found.variants["c"], found.variants["a"]
    assert c.set == {"train.lr": 0.75, "objective.loss": "smooth_l1"}  # no width, no heads
    assert a.at["big"] == {"train.lr": 0.75}
    assert found.points["q"].set == {"model.depth": 1}
    (folder / "table.yaml").write_text(text + points.replace("preset: flat", "preset: wide"))
    with pytest.raises(ValueError, match=r"points\.q: train\.lr: is in factor"):
        experiments.load("table", folder)


def test_a_factor_is_what_is_named_or_what_the_variants_set(folder: Path) -> None:
    def factor(line: str, old: str = "", new: str = "") -> tuple[str, ...]:
        text = GOOD.replace("factor: [objective.loss, train.lr]\n", line).replace(old, new)
        (folder / "table.yaml").write_text(text)
        return experiments.load("table", folder).factor

    assert factor("") == ("objective.loss", "train.lr")
    rows = "set: {train.lr: 0.25}", "set: {train.lr: 0.25, train.flip: false}"
    assert factor("factor: [train, objective.loss]\n", *rows) == (
        "train.lr", "train.flip", "objective.loss",
    )  # fmt: skip
    # a preset of `set` adds its keys, one under `at` none
    assert factor("", rows[0], "set: {preset: wide}") == (
        "objective.loss", "train.lr", "model.width", "model.heads",
    )  # fmt: skip
    at = "at: {big: {train.lr: 0.5}}", "at: {big: {preset: wide}}"
    assert factor("", *at) == ("objective.loss", "train.lr")
    assert experiments.load("table", folder).variants["a"].at["big"] == {"train.lr": 0.75}


def test_more_metrics_trials_and_an_exploration(folder: Path) -> None:
    more = "also: [count.linear.trained, class.knn.held_out]\ntuned: recipes\n"
    (folder / "table.yaml").write_text(GOOD.replace("best: a", "reference: b") + more)
    found = experiments.load("table", folder)
    assert found.also == ("count.linear.trained", "class.knn.held_out")
    assert found.tuned == "recipes"
    assert (found.claim.pairs, found.claim.reference) == ((), "b")
    plain = experiments.load("recipes", folder)
    assert (plain.also, plain.tuned) == ((), None)


def test_points_may_be_equal_only_where_their_lengths_differ(folder: Path) -> None:
    equal = POINTS.replace("q: {label: Q,", "q: {label: Q, equal_compute: a,")
    equal = equal.replace("set: {train.batch_size: 4}", "set: {train.batch_size: 8}")
    equal = equal.replace(", at: {big: {train.batch_size: 16}}", "")
    (folder / "table.yaml").write_text(GOOD + equal)
    points = experiments.load("table", folder).points
    assert [p.equal_compute for p in points.values()] == [None, "a"]
    assert [p.published for p in points.values()] == [True, True]
    refuse_equals(folder, GOOD + equal)
    with pytest.raises(ValueError, match="variants: a@p and a@q are the same settings"):
        refuse_equals(folder, GOOD + equal.replace(" equal_compute: a,", ""))
    same = GOOD.replace("set: {train.lr: 0.25}", "set: {objective.loss: smooth_l1}")
    with pytest.raises(ValueError, match="variants: b@p and c@p are the same settings"):
        refuse_equals(folder, same + equal)


def refuse_equals(folder: Path, text: str, scale: str = "small") -> None:
    (folder / "table.yaml").write_text(text)
    experiment, params = experiments.load("table", folder), files.read_yaml(configs.PARAMS)
    at = experiments.load_scale(scale, folder)
    plan.refuse_equals(experiment, at, presets.leaves(params), folder)


def test_variants_of_the_same_settings_are_refused_at_the_scale_where_they_are(
    folder: Path,
) -> None:
    """So a scale of one's own spoils no table at another."""
    for old, new, words in (
        ("objective.loss: smooth_l1", "objective.loss: l2", "a and b are the same settings at sc"),
        ("train.lr: 0.25", "train.lr: 0.001", "a and c are the same settings at scale small; "),
    ):
        with pytest.raises(ValueError, match=rf"table\.yaml: variants: {words}"):
            refuse_equals(folder, GOOD.replace(old, new))
    refuse_equals(folder, GOOD.replace("train.lr: 0.25", "train.lr: 0.001"), "big")
    with pytest.raises(ValueError, match=r"b and c are the same settings at scale big"):
        refuse_equals(folder, GOOD.replace("train.lr: 0.25", "objective.loss: smooth_l1"), "big")


@pytest.mark.parametrize(
    ("form", "pairs"),
    [
        ("best: b", [("b", "a"), ("b", "c")]),
        ("order: [c, a, b]", [("c", "a"), ("a", "b")]),
        ("pairs: [[b, c], [b, a]]", [("b", "c"), ("b", "a")]),
    ],
)
def test_every_form_of_a_claim_is_pairs(
    folder: Path, form: str, pairs: list[tuple[str, str]]
) -> None:
    (folder / "table.yaml").write_text(GOOD.replace("best: a", form))
    claim = experiments.load("table", folder).claim
    assert list(claim.pairs) == pairs
    assert claim.reference == pairs[0][0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title:", "titel:", "titel: 'Loss': unknown key; did you mean title?"),
        ("title: Loss\n", "", "title: missing; a text is needed"),
        ("title: Loss", "title: 3", "title: 3 is not a text"),
        ("title: Loss", "title: ''", "title: '' is not a text"),
        ("table: null", "table: 8.5", "table: 8.5 is not a whole number or null"),
        (SEEDS, "seeds: 3", "seeds: 3 is not a list of values, each a whole number"),
        (SEEDS, "seeds: [3, 3]", "seeds: [3, 3] is empty or names one twice"),
        (SEEDS, "seeds: []", "seeds: [] is empty"),
        (SEEDS, "seeds: [-1]", "seeds: -1 is not a whole number >= 0"),
        (".linear.", ".liner.", "metric: 'class.liner.trained' is not TASK.PROBE.trained"),
        (".linear.trained", ".linear.pixels", "metric: 'class.linear.pixels' is not TASK."),
        ("seeds:", "also: [count.linear]\nseeds:", "also: 'count.linear' is not TASK.PROBE.tra"),
        ("seeds:", "also: [class.linear.trained]\nseeds:", "] names one twice, or the metric"),
        ("seeds:", "also: count\nseeds:", "also: 'count' is not a list of values, each a text"),
        ("seeds:", "tuned: recipe\nseeds:", "tuned: 'recipe' is not one of recipes; did you mean"),
        ("seeds:", "tuned: table\nseeds:", "tuned: 'table' is not one of recipes"),
        ("  b:", "  a:", "a: written twice (line 13)"),
        ("  b:", "  b-1:", "variants: b-1: is no name"),
        ("base: {train.epochs:", "base: {train.epoch:",
         "base: train.epoch: params.yaml has no such key; did you mean train.epochs?"),
        ("base: {train.epochs: 2}", "base: {train: 2}", "base: train: params.yaml has no such"),
        ("base: {train.epochs: 2}", "base: {seed: 2}", "base: seed: 2: only `seeds` sets it"),
        ("base: {train.epochs: 2}", "base: 2", "base: 2 is not a mapping"),
        ("train.lr: 0.25", "seed: 1", "variants.c.set: seed: 1: only `seeds` sets it"),
        ("train.lr: 0.25", "train.flip: true", "variants.c: train.flip: is not in factor: obj"),
        ("{train.lr: 0.25}", "{train.lr: 0.25}, points: {p: {train.lr: 1}}",
         "variants.c.points: 'p' is not one of "),
        ("{train.lr: 0.25}", "{train.lr: 0.25}, points: {p: 1}", "variants.c.points.p: 1 is not"),
        ("{train.lr: 0.25}, paper: null}\n",
         "{train.lr: 0.25}, points: {p: {train.flip: true}}, paper: null}\n" + POINTS,
         "variants.c: train.flip: is not in factor: obj"),
        ("big: {train.lr: 0.5}", "big: {train.flip: true}", "variants.a: train.flip: is not in"),
        ("factor: [objective.loss, train.lr]", "factor: [objective.loss, train.lr, train.flip]",
         "factor: train.flip: no variant sets it"),
        ("factor: [objective.loss, ", "factor: [objective.los, ",
         "factor: objective.los: params.yaml has no such key; did you mean objective.loss?"),
        ("preset: wide", "preset: wid", "at.big: preset: 'wid' is not one of wide; did you mean"),
        ("  big: {preset", "  bi: {preset", "at: 'bi' is not one of big, small; did you mean"),
        ("at: {big: {train", "at: {bi: {train", "variants.a.at: 'bi' is not one of big, small"),
        ("paper: 54.2", "paper: 542", "variants.a: paper: 542 is not a percentage"),
        ("paper: 54.2", "paper: .nan", "variants.a: paper: nan is not a number or null"),
        ("source: Ours\n", "", "source: missing; a text is needed, whence the paper's numbers"),
        ("[objective.loss, train.lr]", "[objective.loss, train.lr, mask]",
         "factor: mask: params.yaml has no such key"),
        ("margin: 0.5", "margin: 0", "claim.margin: 0 is not a number > 0: the smallest"),
        ("margin: 0.5, ", "", "claim.margin: 0 is not a number > 0: the smallest"),
        ("looks: [6]", "looks: [5, 6]", "claim.looks: [5, 6] is not numbers of seeds, asc"),
        ("looks: [6]", "looks: [6, 6]", "claim.looks: [6, 6] is not numbers of seeds, ascending"),
        ("looks: [6]", "looks: []", "claim.looks: [] is not numbers of seeds"),
        ("looks: [6]", "looks: [6, 7]", "claim.looks: 7 is the last, and `seeds` has 6"),
        ("looks: [6]", "error: 0.5, looks: [6]", "claim.error: 0.5 is not a number above 0 and"),
        (", looks: [6]", "", "claim.looks: 24 is the last, and `seeds` has 6"),
        ("looks: [6]", "points: [p], looks: [6]", "claim.points: 'p' is not one of "),
        ("claim:", POINTS.replace("x: 1", "x: 1, margin: 0") + "claim:",
         "points.p.margin: 0 is not a number > 0"),
        ("by: us", "by: me", "claim.by: 'me' is not one of paper, us"),
        ("best: a", "best: d", "claim.best: 'd' is not one of a, b, c"),
        ("best: a", "reference: d", "claim.reference: 'd' is not one of a, b, c"),
        ("best: a", "order: [a, d]", "claim.order: 'd' is not one of a, b, c"),
        ("best: a", "order: [a]", "claim.order: ['a']: two variants at least"),
        ("best: a", "pairs: [[a, b], [b, a]]", "claim.pairs: [['a', 'b'], ['b', 'a']]: two var"),
        ("best: a", "pairs: [[a, a]]", "claim.pairs: [['a', 'a']]: two variants at least"),
        ("best: a", "best: a, order: [a, b]", "claim: best, order: give one of best, order, "),
        ("best: a, ", "", "claim: none: give one of best, order, pairs"),
        ("claim:", POINTS.replace("train.batch_size", "train.lr") + "claim:",
         "points.p: train.lr: is in factor"),
        ("claim:", POINTS.replace("x: 1", "x: 1, equal_compute: d") + "claim:",
         "points.p.equal_compute: 'd' is not one of a, b, c"),
        ("claim:", POINTS.replace("x: 1", "x: 1, published: 1") + "claim:",
         "points.p: published: 1 is not true or false"),
        ("train.lr: 0.25", "preset: wid", "variants.c.set: preset: 'wid' is not one of wide"),
        ("claim:", POINTS.replace("x: 1", "x: one") + "claim:", "points.p: x: 'one' is not a nu"),
        ("claim:", "- claim:", "not YAML: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_file_key_value_and_what_is_allowed(
    folder: Path, old: str, new: str, words: str
) -> None:
    assert GOOD.count(old) == 1, old
    (folder / "table.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        experiments.load("table", folder)
    message = str(caught.value)
    assert words in message
    assert message.startswith(f"{folder / 'table.yaml'}: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds: 2", "seeds: 0", "seeds: 0 is not a number above 0"),
        ("seeds: 2", "seeds: two", "seeds: 'two' is not a whole number"),
        ("minutes: 5", "minute: 5", "minute: 5: unknown key; did you mean minutes?"),
        ("preset: wide", "preset: wider", "preset: 'wider' is not one of wide"),
        (
            "train.lr: 0.125",
            "train.lrr: 1",
            "train.lrr: params.yaml has no such key; did you mean",
        ),
    ],
)
def test_what_is_wrong_in_a_scale_is_one_line(
    folder: Path, old: str, new: str, words: str
) -> None:
    path = folder / "scales/big.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        experiments.load_scale("big", folder)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_an_unknown_experiment_or_scale_gets_a_hint() -> None:
    with pytest.raises(ValueError, match=r"_scal\.yaml: no such experiment; did you mean targ"):
        experiments.load("target_scal")
    with pytest.raises(ValueError, match=r"scales/lap\.yaml: no such scale; did you mean laptop"):
        experiments.load_scale("lap")
