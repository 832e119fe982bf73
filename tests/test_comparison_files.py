"""The files that compare objectives: recipes, their trials, and runs that tables share."""

import dataclasses
import json

import pytest
from ruamel.yaml import YAML

from ijepa import config as configs
from ijepa import presets
from ijepa.config import Config
from ijepa.runtime import files
from ijepa.study import experiment as experiments
from ijepa.study import lock
from ijepa.study.experiment import Experiment, Scale

OBJECTIVES = ("ijepa", "pixels", "mae", "data2vec", "ibot")
TABLES = ("objectives", "compute", "augmentations")
TRIALS = {"recipes": "", "recipes_cifar10": "_cifar10"}  # experiment -> end of its recipes' names
REPORTS = {"recipes": "crossing", "recipes_cifar10": "targets"}  # a table of theirs, with a margin
COMMON = {  # that every recipe sets, so that none rests on another's or on a scale's choice
    "objective.name", "mask.name", "mask.target_scale", "train.crop_scale", "train.color_jitter",
    "train.grayscale", "train.blur", "train.solarize", "train.lr", "train.weight_decay",
    "train.clip_norm",
}  # fmt: skip
# What the published recipes set and the tables drop, because all variants share it
SHARED = {
    "data.name", "data.path", "data.image_size", "data.train_fraction", "model.patch_size",
    "model.width", "model.depth", "model.heads", "model.mlp_ratio", "model.init",
    "model.layer_scale", "model.predictor_width", "model.predictor_depth", "model.predictor_heads",
    "train.epochs", "train.warmup_epochs", "train.crop_aspect", "train.lr_schedule",
    "train.shards",
    "mask.geometry", "mask.num_targets", "mask.context_scale", "mask.min_context",
    "mask.context_ratio", "mask.truncate_group",
}  # fmt: skip


def config(experiment: Experiment, scale: Scale, variant: str, point: str, seed: int) -> Config:
    tree = files.read_yaml(configs.PARAMS)
    of = experiment.variants[variant], experiment.points[point]
    presets.apply(tree, experiments.changes(experiment, scale, *of, seed), "here")
    return configs.parse(tree, "here")


def selecting(config: Config) -> float:
    """The share of the training images whose labels select."""
    evaluate = config.evaluate
    return evaluate.train_fraction * evaluate.held_out * evaluate.folds


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("where", TRIALS.values())
def test_a_recipe_is_its_objectives_own_and_sets_what_all_set(name: str, where: str) -> None:
    recipe = presets.load(f"recipe_{name}{where}")[1]
    assert recipe["objective.name"] == name
    assert recipe.keys() >= COMMON
    assert not recipe.keys() & SHARED
    for table in TABLES:
        experiment = experiments.load(table)
        if any(v.set.get("objective.name") == name for v in experiment.variants.values()):
            assert recipe.keys() <= set(experiment.factor), table


@pytest.mark.parametrize("name", TABLES)
def test_published_recipes_lose_only_what_all_variants_share(name: str) -> None:
    """Of a variant's preset the factor's keys count and no others."""
    experiment = experiments.load(name)
    tree = YAML(typ="safe", pure=True).load((experiments.FOLDER / f"{name}.yaml").read_text())
    for variant in tree["variants"].values():
        if preset := variant["at"]["paper"].get("preset"):
            dropped = set(presets.load(preset)[1]) - set(experiment.factor) - SHARED
            assert {key.partition(".")[0] for key in dropped} <= {"evaluate"}, preset


@pytest.mark.parametrize("trials", TRIALS)
def test_each_objective_gets_as_many_trials_on_a_seed_of_their_own(trials: str) -> None:
    recipes = experiments.load(trials)
    assert recipes.metric.endswith(".held_out"), "no test image selects"
    assert all(metric.endswith(".held_out") for metric in recipes.also)
    names = [v.set["objective.name"] for v in recipes.variants.values()]
    assert {name: names.count(name) for name in names} == dict.fromkeys(OBJECTIVES, 4)
    tuned = [
        one for name in experiments.names() if (one := experiments.load(name)).tuned == "recipes"
    ]
    assert {one.name for one in tuned} >= set(TABLES)
    assert recipes.seeds == (100,)
    assert not {100} & {seed for one in tuned for seed in one.seeds}
    assert recipes.claim.pairs == ()


@pytest.mark.parametrize("tried", TRIALS)
def test_no_trial_beats_a_recipe_by_the_margin_of_its_tables(tried: str) -> None:
    """On held-out images, by the committed lock file; without one it is the first trial."""
    recipes = experiments.load(tried)
    results = lock.read(tried, "laptop")["results"]
    margin = experiments.load(REPORTS[tried]).claim.margin
    task, probe, which = recipes.metric.split(".")
    for name in OBJECTIVES:
        trials = [v for v in recipes.variants.values() if v.set["objective.name"] == name]
        about, recipe = presets.load(f"recipe_{name}{TRIALS[tried]}")
        assert ("not yet tuned" in about) == (not results)
        (chosen,) = (trial.name for trial in trials if trial.set == recipe)
        if not results:
            assert chosen == trials[0].name
            continue
        found = {trial.name: results[f"{trial.name}/100"] for trial in trials}
        values = {
            trial: one["metrics"][task][probe][which] if one["status"] == "done" else -1.0
            for trial, one in found.items()
        }
        assert max(values.values()) - values[chosen] < margin, name


def test_points_on_cifar10_take_the_recipes_of_cifar10() -> None:
    """Both of them, so that the reference of equal compute is the run of the point before."""
    laptop = experiments.load_scale("laptop")
    for table in ("objectives", "augmentations"):
        experiment = experiments.load(table)
        points = {name for name in experiment.points if name.startswith("cifar10")}
        for variant in experiment.variants.values():
            assert variant.points.keys() == points
            name = variant.set["objective.name"]
            for point in points:
                recipe = presets.load(f"recipe_{name}_cifar10")[1]
                own = experiments.changes(experiment, laptop, variant, experiment.points[point], 0)
                given = {key: own[key] for key in recipe}
                views = ("color_jitter", "grayscale", "blur", "solarize")
                strengths = {f"train.{view}": variant.set[f"train.{view}"] for view in views}
                assert given == {**recipe, **strengths}, f"{variant.name}@{point}"


def test_trials_are_runs_of_the_tables_settings() -> None:
    """Of the point scenes, so that what is chosen is what is used."""
    recipes, objectives = experiments.load("recipes"), experiments.load("objectives")
    scale = experiments.load_scale("laptop")
    for name in OBJECTIVES:
        used = config(objectives, scale, name, "scenes", 100)
        assert used.data.options.render_seed == 1, "no table reports on what chose the recipes"
        assert used.data.options.test_images == 20_000
        tree, trial = files.read_yaml(configs.PARAMS), recipes.variants[f"{name}_1"]
        changes = experiments.changes(recipes, scale, trial, None, 100)
        changes |= presets.load(f"recipe_{name}")[1]  # the trial's own keys, whichever won
        presets.apply(tree, changes, name)
        made = configs.parse(tree, name)
        assert selecting(made) * 20_000 >= 2000
        assert made.data.options.render_seed == 0
        assert dataclasses.replace(made, evaluate=used.evaluate, data=used.data) == used
        images = [dataclasses.replace(c.data.options, render_seed=0, test_images=1)
                  for c in (made, used)]  # fmt: skip
        assert images[0] == images[1]


def test_trials_on_cifar10_are_runs_of_the_tables_settings() -> None:
    trials, objectives = experiments.load("recipes_cifar10"), experiments.load("objectives")
    scale = experiments.load_scale("laptop")
    for name in OBJECTIVES:
        used = config(objectives, scale, name, "cifar10", 100)
        tree, trial = files.read_yaml(configs.PARAMS), trials.variants[f"{name}_1"]
        changes = experiments.changes(trials, scale, trial, None, 100)
        changes |= presets.load(f"recipe_{name}_cifar10")[1]
        presets.apply(tree, changes, name)
        made = configs.parse(tree, name)
        assert selecting(made) * 50_000 >= 2000
        assert dataclasses.replace(made, evaluate=used.evaluate) == used


def test_tables_share_runs_where_they_can() -> None:
    objectives, compute, augmentations = (experiments.load(name) for name in TABLES)
    laptop, gpu = (experiments.load_scale(name) for name in ("laptop", "gpu"))
    for name in ("ijepa", "mae", "data2vec", "ibot"):
        for scale, budget in ((laptop, "large"), (gpu, "medium")):
            here = config(objectives, scale, name, "scenes", 0)
            assert config(compute, scale, name, budget, 0) == here
    for point in ("cifar10", "scenes"):
        plain = config(augmentations, laptop, "ijepa_none", point, 0)
        strong = config(augmentations, laptop, "ijepa_photometric", point, 0)
        assert plain == config(objectives, laptop, "ijepa", point, 0)
        changed = dataclasses.replace(
            plain.train, color_jitter=0.4, grayscale=0.2, blur=0.5, solarize=0.1
        )
        assert strong.train == changed
        assert strong == dataclasses.replace(plain, train=changed)


@pytest.mark.parametrize(("point", "images"), [("cifar10", 10_000), ("scenes", 20_000)])
def test_at_laptop_scale_all_see_as_many_images_in_one_encoder(point: str, images: int) -> None:
    objectives, scale = experiments.load("objectives"), experiments.load_scale("laptop")
    found = [config(objectives, scale, name, point, 0) for name in OBJECTIVES]
    count = {"cifar10": 50_000, "scenes": 20_000}[point]
    assert {round(c.train.epochs * count) for c in found} == {images}
    assert {c.train.batch_size for c in found} == {32}
    assert len({json.dumps(configs.as_tree(c.model)) for c in found}) == 1
    assert len({json.dumps(configs.as_tree(c.data)) for c in found}) == 1
    assert (found[0].model.width, found[0].model.depth) == (64, 4)
    shape = {"cifar10": (32, 4), "scenes": (48, 8)}[point]
    assert (found[0].data.image_size, found[0].model.patch_size) == shape
    assert min(selecting(c) * count for c in found) >= 2000
    assert {c.evaluate.probes for c in found} == {("linear", "knn")}
