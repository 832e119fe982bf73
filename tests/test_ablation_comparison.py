"""Studies that compare objectives: further metrics, trials, costs and their figures."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from ijepa.pages import figure, study, study_tables, verdict
from ijepa.pages.figures import compute, tradeoff
from ijepa.study import experiment, lock, numbers, summary
from ijepa.study.numbers import Cell, Study

Tree = dict[str, Any]

TABLE: Tree = {
    "title": "Made up", "question": "Which?", "table": 1, "source": "arXiv 2301.08243v3, Table 1",
    "metric": "class.linear.trained", "also": ["count.linear.trained"], "tuned": "recipes",
    "factor": ["objective.name"], "seeds": [0, 1, 2, 3, 4, 5],
    "variants": {
        "ijepa": {"label": "I-JEPA", "set": {}, "paper": 77.5},
        "pixels": {"label": "pixels", "set": {"objective.name": "pixels"}, "paper": None},
    },
    "points": {
        "cifar10": {"label": "CIFAR-10 (paper X)", "x": None, "set": {"data.name": "cifar10"}},
        "scenes": {"label": "scenes", "x": None, "set": {"data.name": "scenes"},
                   "published": False},
        "scenes_compute": {"label": "scenes, equal compute", "x": None, "published": False,
                           "set": {"data.name": "scenes"}, "equal_compute": "ijepa"},
    },
    "claim": {"text": "Yes.", "by": "paper", "best": "ijepa", "margin": 1, "looks": [6]},
}  # fmt: skip
RECIPES: Tree = {
    **{k: v for k, v in TABLE.items() if k not in ("points", "tuned", "also")},
    "metric": "class.linear.held_out", "also": ["count.linear.held_out"], "seeds": [100],
    "factor": ["objective.name", "train.lr"],
    "variants": {
        "ijepa_1": {"label": "1", "set": {"train.lr": 0.1}, "paper": None},  # of the default
        "ijepa_2": {"label": "2", "set": {"objective.name": "ijepa"}, "paper": None},
        "pixels_1": {"label": "3", "set": {"objective.name": "pixels"}, "paper": None},
        "pixels_2": {"label": "4", "set": {"objective.name": "pixels", "train.lr": 0.2},
                     "paper": None},
    },
    "claim": {"text": "Nothing.", "by": "us", "reference": "ijepa_2"},
}  # fmt: skip
# (class, count) of seeds 0 and 1; CIFAR-10 has no count
VALUES: dict[tuple[str, str], list[tuple[float, float | None]]] = {
    ("ijepa", "cifar10"): [(44.0, None), (46.0, None)],
    ("pixels", "cifar10"): [(45.0, None), (48.0, None)],
    ("ijepa", "scenes"): [(80.0, 40.0), (82.0, 44.0)],
    ("pixels", "scenes"): [(60.0, 43.0), (61.0, 45.0)],
    ("ijepa", "scenes_compute"): [(80.0, 40.0), (82.0, 44.0)],
    ("pixels", "scenes_compute"): [(64.0, 42.0), (66.0, 42.0)],
}
FLOPS = {"ijepa": 120_000_000, "pixels": 90_000_000}
IMAGES = {"cifar10": 10_000, "scenes": 20_000, "scenes_compute": 26_656}


def result(variant: str, point: str | None, seed: int, metrics: Tree, images: int) -> Tree:
    flops = FLOPS[variant.partition("_")[0]]
    return {
        "variant": variant, "point": point, "seed": seed, "signature": f"{variant}{point}{seed}",
        "status": "done", "reason": None, "code": "c" * 64, "data": "d" * 64, "encoder": "e" * 64,
        "metrics": metrics,
        "pretrain": {"context_ratio": 0.4, "collapsed": False, "images": images,
                     "health": "healthy", "parameters": 200_000, "flops": flops * images,
                     "flops_per_image": flops},
    }  # fmt: skip


def origin(seconds: float) -> Tree:
    return {
        "name": "n", "commit": "a" * 40, "baseline": "b" * 40, "runs": {}, "machine": "a machine",
        "seconds": {"prepare": 1.0, "pretrain": seconds + 5, "evaluate": 9.0},
        "cost": {"device_seconds": seconds, "energy_joules": 7200.0, "energy_source": "rapl",
                 "peak_memory_gib": 0.5, "devices": 1, "device": "a machine"},
    }  # fmt: skip


def accuracies(value: float, held_out: float) -> Tree:
    return {"trained": value, "random_init": 30.0, "pixels": 20.0, "held_out": held_out}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Experiments, a scale of two seeds, and lock files."""
    (tmp_path / "scales").mkdir()
    (tmp_path / "scales/laptop.yaml").write_text("about: Made up.\nseeds: 2\nminutes: 1\n")
    (tmp_path / "objectives.yaml").write_text(json.dumps(TABLE))
    (tmp_path / "recipes.yaml").write_text(json.dumps(RECIPES))
    results, provenance = {}, {}
    for (variant, point), pairs in VALUES.items():
        for seed, (of_class, of_count) in enumerate(pairs):
            metrics = {"class": {"linear": accuracies(of_class, 1.0)}}
            if of_count is not None:
                metrics["count"] = {"linear": accuracies(of_count, 2.0)}
            images = 20_000 if variant == "ijepa" and point != "cifar10" else IMAGES[point]
            key = f"{variant}@{point}/{seed}"
            results[key] = result(variant, point, seed, metrics, images)
            provenance[key] = origin(60.0 + 30 * seed)
    write(tmp_path, "objectives", [0, 1], results, provenance)
    trials = {
        f"{v}/100": result(v, None, 100, {"class": {"linear": accuracies(10.0, 50.0 + i)}}, 9)
        for i, v in enumerate(RECIPES["variants"])
    }
    write(tmp_path, "recipes", [100], trials, {key: origin(1.0) for key in trials})
    return tmp_path


def write(folder: Path, name: str, seeds: list[int], results: Tree, provenance: Tree) -> None:
    content = {"experiment": name, "scale": "laptop", "seeds": seeds, "results": results,
               "provenance": provenance}  # fmt: skip
    (folder / f"{name}.laptop.lock.json").write_text(json.dumps(content))


def change(folder: Path, name: str, how: Any) -> None:
    path = folder / f"{name}.laptop.lock.json"
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


def read(folder: Path, name: str = "objectives") -> Study:
    return summary.read(name, "laptop", folder)


def cell(read: Study, variant: str, point: str | None) -> Cell:
    return next(c for c in read.cells if (c.variant, c.point) == (variant, point))


def prose(read: Study) -> dict[str, str]:
    return dict(study.protocol(read))


def test_further_metrics_stand_beside_and_a_missing_task_fails_no_run(folder: Path) -> None:
    found = read(folder)
    assert all(run.done for run in found.runs)
    assert found.data == ("cifar10", "scenes")
    assert "cifar10 and scenes" in prose(found)["What was run here"]
    other = cell(found, "ijepa", "scenes").also["count.linear.trained"]
    assert (other.n, other.mean) == (2, 42.0)
    assert other.std == pytest.approx(8**0.5)  # of 40 and 44
    nothing = cell(found, "ijepa", "cifar10").also["count.linear.trained"]
    assert (nothing.n, nothing.mean) == (0, None)
    table = study_tables.accuracies(found)
    last = len(table.columns) - 1
    shown = [
        (row.cells[0].shown, row.cells[last].shown) for row in table.rows if len(row.cells) > 1
    ]
    # n = 2: half of the interval is 12.706 times the deviation over the root of 2
    assert [text for name, text in shown if name == "I-JEPA"] == [
        "no task", "42.0 ± 25.4", "42.0 ± 25.4",
    ]  # fmt: skip
    assert [text for name, text in shown if name == "random init"] == [
        "no task", "30.0 ± 0.0", "30.0 ± 0.0",
    ]  # fmt: skip
    sd = list(table.columns).index("sd (points)")
    assert [row.cells[sd].shown for row in table.rows if len(row.cells) > 1][4:6] == ["1.4", "0.7"]
    header, first, *_ = study_tables.sheet(found).csv().splitlines()
    assert header.split(",")[-4:-1] == [f"count.linear.trained.{k}" for k in ("n", "mean", "std")]
    assert first.split(",")[-4:-1] == ["0", "", ""]


def test_published_numbers_stand_only_where_the_runs_are_theirs(folder: Path) -> None:
    papers = {(c.variant, c.point): (c.paper, c.gap) for c in read(folder).cells}
    assert papers.pop(("ijepa", "cifar10")) == (77.5, 0.0)
    assert set(papers.values()) == {(None, None)}


def test_trials_are_counted_by_objective_in_the_lock_file(folder: Path) -> None:
    assert read(folder).trials == numbers.Trials(
        "recipes", "class.linear.held_out", (100,), {"ijepa": 2, "pixels": 2}
    )

    def fewer(content: Tree) -> None:
        content["results"]["pixels_2/100"] |= {"status": "failed", "reason": "it", "metrics": None}
        content["results"]["gone/100"] = {**content["results"]["pixels_1/100"], "variant": "gone"}

    change(folder, "recipes", fewer)
    found = read(folder)
    assert found.trials is not None
    assert found.trials.runs == {"ijepa": 2, "pixels": 1}
    table = study_tables.beside(found)
    column = list(table.columns).index("trials")
    assert [r.cells[column].shown for r in table.rows if r.kind != "group"] == ["2", "1"] * 3
    assert "I-JEPA 2, pixels 1." in prose(found)["How the recipes were chosen"]
    (folder / "recipes.laptop.lock.json").unlink()
    found = read(folder)
    assert found.trials is not None
    assert found.trials.runs == {"ijepa": 0, "pixels": 0}
    assert prose(found)["How the recipes were chosen"].startswith("By no trial at this scale")


def test_what_was_run_is_said_of_what_was_run(folder: Path) -> None:
    """Which network, frozen or not, and which baselines; another plan has other words."""
    found = read(folder)
    assert found.encoders == (None,), "params.yaml says it"
    told = prose(found)["What was run here"]
    assert "a probe on the frozen encoder, its settings" in told
    assert "Random init and raw pixels went through the same probe." in told
    tuned = replace(found, metric="class.finetune.trained", baselines=found.baselines[:1])
    told = prose(tuned)["What was run here"]
    assert "frozen" not in told
    assert "fine-tuning the encoder, its settings" in told
    assert "Random init went through the same probe." in told
    assert "same probe" not in prose(replace(found, baselines=()))["What was run here"]
    held_out = prose(replace(found, metric="class.finetune.held_out"))["What was run here"]
    assert "frozen" not in held_out
    base = {"base": {"evaluate.encoder": "context"}}
    (folder / "objectives.yaml").write_text(json.dumps(TABLE | base))
    assert read(folder).encoders == ("context",)
    assert "frozen context encoder, its" in prose(read(folder))["What was run here"]
    (folder / "objectives.yaml").write_text(
        json.dumps(TABLE | {"base": {"evaluate.encoder": "target"}})
    )
    assert "frozen target encoder (where" in prose(read(folder))["What was run here"]


def test_what_chose_the_recipes_is_said_of_what_did(folder: Path) -> None:
    found = read(folder)
    assert found.trials is not None
    told = prose(found)["How the recipes were chosen"]
    assert "no test image chose" in told
    assert "seed 100, which no run here has." in told
    trials = replace(found.trials, metric="class.linear.trained", seeds=(1, 100))
    told = prose(replace(found, trials=trials))["How the recipes were chosen"]
    assert "no test image" not in told
    assert "accuracy on test images: they chose" in told
    assert "seed 1, 100; runs here have 1 too." in told


def test_an_exploration_claims_nothing_and_selects_on_held_out_images(folder: Path) -> None:
    found = read(folder, "recipes")
    assert found.verdict.decision == "nothing is claimed"
    assert "“2”" in verdict.sentence(found)
    assert found.pairs == ()
    assert [c.spread.mean for c in found.cells] == [50.0, 51.0, 52.0, 53.0]
    means = [c.difference and c.difference.spread.mean for c in found.cells]
    assert means == [-1.0, None, 1.0, 2.0]
    assert found.baselines == (), "theirs are accuracies on test images"
    assert "no test image is in it" in prose(found)["What was run here"]
    assert "How the recipes were chosen" not in prose(found)
    assert not study_tables.pairs(found)


def test_costs_are_means_over_seeds_and_ratios_to_the_reference(folder: Path) -> None:
    table = study_tables.costs(read(folder))
    rows = [
        {name: row.cells[i].shown.replace("\u00a0", " ") for i, name in enumerate(table.columns)}
        for row in table.rows
        if row.kind != "group"
    ]
    # 90 MFLOP x 20,000 = 1.8 TFLOP, 0.75 of 120 x 20,000; 60 and 90 s; 7,200 J = 2 Wh
    assert rows[3] == {
        "variant": "pixels", "with padding, an image": "90 MFLOP",
        "with padding, in all": "1.8 TFLOP",
        "relative to the reference": "0.75 ×", "images seen": "20,000",
        "device time": "1 min 15 s", "energy": "2.00 Wh", "peak memory": "0.50 GiB",
    }  # fmt: skip
    # 90 MFLOP x 26,656 = 2.399 TFLOP
    assert (rows[5]["with padding, in all"], rows[5]["relative to the reference"]) == (
        "2.4 TFLOP",
        "1.00 ×",
    )

    def padded(content: Tree) -> None:  # half of I-JEPA's are padding, of pixels' none
        for one in content["results"].values():
            share = 0.5 if one["variant"] == "ijepa" else 1.0
            one["pretrain"] |= {
                "flops_useful": share * one["pretrain"]["flops"],
                "flops_useful_per_image": share * one["pretrain"]["flops_per_image"],
            }

    change(folder, "objectives", padded)
    table = study_tables.costs(read(folder))
    heads = list(table.columns)
    shown = [row.cells[heads.index("relative to the reference")].shown for row in table.rows
             if row.kind != "group"]  # fmt: skip
    assert shown[3] == "1.50 ×", "90 useful MFLOP for I-JEPA's 60"
    useful = heads.index("useful FLOPs an image")
    assert table.rows[-1].cells[useful].shown == "90\u00a0MFLOP"

    def older(content: Tree) -> None:
        for one in content["results"].values():
            for count in ("flops", "flops_useful"):
                del one["pretrain"][count], one["pretrain"][f"{count}_per_image"]
        for one in content["provenance"].values():
            del one["cost"]

    change(folder, "objectives", older)
    assert not study_tables.costs(read(folder))
    assert not compute.needs(read(folder))


def test_metrics_in_words() -> None:
    assert verdict.metric("class.linear.trained") == "class, linear"
    assert verdict.metric("count.linear.trained", "class.linear.trained") == "count"
    assert verdict.metric("count.knn.trained", "class.linear.trained") == "count, kNN"
    held = verdict.metric("class.linear.held_out", "class.linear.trained")
    assert held == "class, linear, held out"


def test_compute_is_drawn_where_budgets_differ_and_lines_stay_within_a_data_set(
    folder: Path,
) -> None:
    found = read(folder)
    names = [shown.name for shown in figure.shown(study.FIGURES, found)]
    assert names[:3] == ["accuracy", "tradeoff", "compute"]
    assert "emergence" not in names, "these points are no budgets of one thing"
    assert compute.groups(found) == [["cifar10"], ["scenes", "scenes_compute"]]

    def of(*flops: float | None) -> list[Cell]:
        one = found.cells[0]
        return [replace(one, cost=replace(one.cost, flops=count)) for count in flops]

    assert not compute.differ(of(100.0, 105.0, None))
    assert compute.differ(of(100.0, 106.0))
    assert not compute.differ(of(100.0))
    nothing = replace(of(999.0)[0], spread=replace(found.cells[0].spread, n=0, mean=None))
    assert not compute.differ([*of(100.0, 105.0), nothing])


def test_the_figures_show_every_variant_with_its_deviation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float, float | None, float | None]] = []
    original = Axes.errorbar

    def errorbar(
        self: Axes, x: float, y: float, yerr: Any = None, xerr: Any = None, **more: Any
    ) -> Any:
        drawn.append((x, y, xerr, yerr))
        return original(self, x, y, yerr=yerr, xerr=xerr, **more)

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    found = read(folder)
    tradeoff.draw(found, folder / "tradeoff")
    assert drawn[0][2:] == pytest.approx((2.0**0.5, 8**0.5))  # of 80 and 82, of 40 and 44
    assert [one[:2] for one in drawn] == [
        (81.0, 42.0), (60.5, 44.0), (30.0, 30.0), (20.0, 20.0),
        (81.0, 42.0), (65.0, 42.0), (30.0, 30.0), (20.0, 20.0),
    ]  # fmt: skip
    drawn.clear()
    compute.draw(found, folder / "compute")
    hours = 75 / 3600
    expected = [
        (1.2e12, 45.0), (0.9e12, 46.5), (hours, 45.0), (hours, 46.5),
        (2.4e12, 81.0), (2.4e12, 81.0), (1.8e12, 60.5), (2.39904e12, 65.0),
        (hours, 81.0), (hours, 81.0), (hours, 60.5), (hours, 65.0),
    ]  # fmt: skip
    for (x, y, *_), (cost, accuracy) in zip(drawn, expected, strict=True):
        assert x == pytest.approx(cost)
        assert y == accuracy


def test_a_data_set_without_a_result_has_no_panel(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr(Axes, "set_title", lambda _, text, **__: titles.append(text))
    compute.draw(read(folder), folder / "compute")
    assert len(titles) == 2

    def begun(content: Tree) -> None:
        content["results"] = {
            key: one for key, one in content["results"].items() if one["point"] != "cifar10"
        }

    change(folder, "objectives", begun)
    titles.clear()
    compute.draw(read(folder), folder / "compute")
    assert len(titles) == 1, "what is drawn is still named"


def test_one_lock_file_gives_one_report_whatever_order_it_is_in(folder: Path) -> None:
    chosen = experiment.load("objectives", folder)
    scale = experiment.load_scale("laptop", folder)
    locked = dict(lock.read("objectives", "laptop", folder))
    first = summary.collect(chosen, copy.deepcopy(locked), scale)
    locked["results"] = dict(reversed(locked["results"].items()))
    assert summary.collect(chosen, locked, scale) == first
