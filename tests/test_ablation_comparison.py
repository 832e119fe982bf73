"""Reports that compare objectives: further metrics, trials, costs, figures, README's table."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from ijepa import cli
from ijepa.pages import look as axes
from ijepa.pages.study import charts, pages, readme, report, tables, words
from ijepa.study import collect as collecting
from ijepa.study import costs, experiment

Tree = dict[str, Any]

TABLE: Tree = {
    "title": "Made up", "question": "Which?", "table": 1, "source": "arXiv 2301.08243v3, Table 1",
    "metric": "class.linear.trained", "also": ["count.linear.trained"], "tuned": "recipes",
    "factor": ["objective.name"], "seeds": [0, 1, 2, 3],
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
    "claim": {"text": "Yes.", "by": "paper", "best": "ijepa", "margin": 0},
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
    "claim": {"text": "Nothing.", "by": "us", "reference": "ijepa_2", "margin": 0},
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


def cell(results: Tree, variant: str, point: str | None) -> Tree:
    found: Tree = next(
        c for c in results["cells"] if (c["variant"], c["point"]) == (variant, point)
    )
    return found


def test_further_metrics_stand_beside_and_a_missing_task_fails_no_run(folder: Path) -> None:
    results = report.gather("objectives", "laptop", folder)
    assert {run["status"] for run in results["runs"]} == {"done"}
    assert results["data"] == ["cifar10", "scenes"]
    assert "These runs learn from cifar10 and scenes." in results["protocol"][1]["text"]
    other = cell(results, "ijepa", "scenes")["also"]["count.linear.trained"]
    assert (other["n"], other["mean"]) == (2, 42.0)
    assert other["std"] == pytest.approx(8**0.5, rel=1e-5)  # of 40 and 44
    nothing = cell(results, "ijepa", "cifar10")["also"]["count.linear.trained"]
    assert (nothing["n"], nothing["mean"]) == (0, None)
    table = tables.accuracies(results)
    assert table.columns[-1] == "count (%)"
    shown = {(i, row.cells[0]): row.cells[-1] for i, row in enumerate(table.rows)}
    assert [text for (_, name), text in shown.items() if name == "I-JEPA"] == [
        "no task", "42.0 ± 2.8", "42.0 ± 2.8",
    ]  # fmt: skip
    assert [text for (_, name), text in shown.items() if name == "random init"] == [
        "no task", "30.0 ± 0.0", "30.0 ± 0.0",
    ]  # fmt: skip
    header, first, *_ = pages.sheet(results).splitlines()
    assert header.split(",")[-4:-1] == [f"count.linear.trained.{k}" for k in ("n", "mean", "std")]
    assert first.split(",")[-4:-1] == ["0", "", ""]


def test_published_numbers_stand_only_where_the_runs_are_theirs(folder: Path) -> None:
    results = report.gather("objectives", "laptop", folder)
    found = {(c["variant"], c["point"]): (c["paper"], c["gap"]) for c in results["cells"]}
    assert found["ijepa", "cifar10"] == (77.5, 0.0)
    assert {v for k, v in found.items() if k != ("ijepa", "cifar10")} == {(None, None)}
    (row,) = [c for c in results["figures"] if c["name"] == "accuracy"]
    assert row["alt"].endswith("In the paper: I-JEPA 77.5.")


def test_trials_are_counted_by_objective_in_the_lock_file(folder: Path) -> None:
    def runs() -> Tree:
        found: Tree = report.gather("objectives", "laptop", folder)["trials"]
        return found

    assert runs() == {
        "experiment": "recipes", "metric": "class.linear.held_out", "seeds": [100],
        "runs": {"ijepa": 2, "pixels": 2},
    }  # fmt: skip

    def fewer(content: Tree) -> None:
        content["results"]["pixels_2/100"] |= {"status": "failed", "reason": "it", "metrics": None}
        content["results"]["gone/100"] = {**content["results"]["pixels_1/100"], "variant": "gone"}

    change(folder, "recipes", fewer)
    assert runs()["runs"] == {"ijepa": 2, "pixels": 1}
    results = report.gather("objectives", "laptop", folder)
    column = tables.beside(results).columns.index("trials")
    rows = [r.cells[column] for r in tables.beside(results).rows if r.kind != "point"]
    assert rows == ["2", "1"] * 3
    (text,) = [p["text"] for p in results["protocol"] if p["title"].startswith("How the recipes")]
    assert "I-JEPA 2, pixels 1." in text
    assert "The trials have seed 100" in text
    assert "replaced there is not counted" in text
    (folder / "recipes.laptop.lock.json").unlink()
    results = report.gather("objectives", "laptop", folder)
    assert results["trials"]["runs"] == {"ijepa": 0, "pixels": 0}
    (text,) = [p["text"] for p in results["protocol"] if p["title"].startswith("How the recipes")]
    assert text.startswith("By no trial at this scale")


def test_an_exploration_claims_nothing_and_selects_on_held_out_images(folder: Path) -> None:
    results = report.gather("recipes", "laptop", folder)
    assert results["verdict"]["decision"] == "nothing is claimed"
    assert results["verdict"]["sentence"] == (
        "Nothing is claimed: the variants are compared with “2”."
    )
    assert results["comparisons"] == []
    assert [c["mean"] for c in results["cells"]] == [50.0, 51.0, 52.0, 53.0]
    assert [c["difference"] and c["difference"]["mean"] for c in results["cells"]] == [
        -1.0, None, 1.0, 2.0,
    ]  # fmt: skip
    assert results["baselines"] == [], "theirs are accuracies on test images"
    assert "no test image is in it" in results["protocol"][1]["text"]
    page = pages.write({**results, "figures": []}, folder)
    assert "pair by pair" not in page.read_text()
    assert "Pass band" not in (page.parent / "report.md").read_text()


def test_costs_are_means_over_seeds_and_ratios_to_the_reference(folder: Path) -> None:
    results = report.gather("objectives", "laptop", folder)
    table = tables.costs(results)
    assert table.columns == [
        "variant", "FLOPs an image", "FLOPs in all", "to the reference's", "images seen",
        "device time", "energy", "peak memory",
    ]  # fmt: skip
    rows = [list(row.cells) for row in table.rows if row.kind != "point"]
    # 90 MFLOP x 20,000 = 1.8 TFLOP, 0.75 of 120 x 20,000; 60 and 90 s; 7,200 J = 2 Wh
    assert rows[3] == ["pixels", "90 MFLOP", "1.8 TFLOP", "0.75 ×", "20,000", "1 min 15 s",
                       "2.00 Wh", "0.50 GiB"]  # fmt: skip
    # 90 MFLOP x 26,656 = 2.399 TFLOP
    assert rows[5][2:5] == ["2.4 TFLOP", "1.00 ×", "26,656"]

    def older(content: Tree) -> None:
        for one in content["results"].values():
            del one["pretrain"]["flops"], one["pretrain"]["flops_per_image"]
        for one in content["provenance"].values():
            del one["cost"]

    change(folder, "objectives", older)
    results = report.gather("objectives", "laptop", folder)
    assert tables.costs(results).rows == []
    assert "compute" not in {figure["name"] for figure in results["figures"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (34e6, "34 MFLOP"), (1.04e9, "1.04 GFLOP"), (2.8e12, "2.8 TFLOP"),
     (6.5e16, "65 PFLOP"), (1e18, "1 EFLOP"), (3.2e21, "3.2 ZFLOP")],
)  # fmt: skip
def test_flops_in_words(value: float | None, text: str) -> None:
    assert words.flops(value) == text


def test_metrics_in_words() -> None:
    assert words.metric("class.linear.trained") == "class, linear"
    assert words.metric("count.linear.trained", "class.linear.trained") == "count"
    assert words.metric("count.knn.trained", "class.linear.trained") == "count, kNN"
    held = words.metric("class.linear.held_out", "class.linear.trained")
    assert held == "class, linear, held out"


def test_compute_is_drawn_where_budgets_differ_and_lines_stay_within_a_data_set(
    folder: Path,
) -> None:
    results = report.gather("objectives", "laptop", folder)
    names = [figure["name"] for figure in results["figures"]]
    assert names[:3] == ["accuracy", "tradeoff", "compute"]
    assert "emergence" not in names, "these points are no budgets of one thing"
    assert costs.groups(results) == [["cifar10"], ["scenes", "scenes_compute"]]
    cells = [{"mean": 1.0, "flops": 100.0}, {"mean": 1.0, "flops": 105.0}]
    assert not costs.differ(cells)
    assert costs.differ([*cells, {"mean": 1.0, "flops": 106.0}])
    assert not costs.differ([*cells, {"mean": None, "flops": 999.0}, {"mean": 1, "flops": None}])
    assert not costs.differ(cells[:1])


def test_the_figures_show_every_variant_with_its_deviation(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float, float | None, float | None]] = []

    from matplotlib.axes import Axes

    plain = Axes.errorbar

    def errorbar(
        self: Axes, x: float, y: float, yerr: Any = None, xerr: Any = None, **more: Any
    ) -> Any:
        drawn.append((x, y, xerr, yerr))
        return plain(self, x, y, yerr=yerr, xerr=xerr, **more)

    monkeypatch.setattr(Axes, "errorbar", errorbar)
    results = report.gather("objectives", "laptop", folder)
    only = [figure for figure in results["figures"] if figure["name"] in ("tradeoff", "compute")]
    charts.draw({**results, "figures": only[:1]}, folder)
    deviation = (2.0**0.5, 8**0.5)  # of 80 and 82, of 40 and 44
    assert drawn[0][:2] == (81.0, 42.0)
    assert drawn[0][2:] == pytest.approx(deviation, rel=1e-5)
    assert [one[:2] for one in drawn] == [
        (81.0, 42.0), (60.5, 44.0), (30.0, 30.0), (20.0, 20.0),
        (81.0, 42.0), (65.0, 42.0), (30.0, 30.0), (20.0, 20.0),
    ]  # fmt: skip
    drawn.clear()
    charts.draw({**results, "figures": only[1:]}, folder)
    hours = 75 / 3600
    expected = [
        (1.2e12, 45.0), (0.9e12, 46.5), (hours, 45.0), (hours, 46.5),
        (2.4e12, 81.0), (2.4e12, 81.0), (1.8e12, 60.5), (2.39904e12, 65.0),
        (hours, 81.0), (hours, 81.0), (hours, 60.5), (hours, 65.0),
    ]  # fmt: skip
    for (x, y, *_), (cost, accuracy) in zip(drawn, expected, strict=True):
        assert x == pytest.approx(cost, rel=1e-5)
        assert y == accuracy
    for name in ("tradeoff", "compute"):
        assert (folder / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("xs", "expected"),
    [
        ([2e11, 6e12], [3e11, 1e12, 3e12]),
        ([1e10, 1e15], [1e10, 1e12, 1e14]),  # every second power
        ([2.8e12, 6.4e12], [3e12, 4e12, 5e12]),
        ([0.05, 0.45], [0.1, 0.3]),
        ([1.02e12, 1.08e12], [1.02e12, 1.08e12]),  # no round number is near
        ([7e12], [7e12]),
        ([6.2e12, 1.41e13], [6e12, 8e12, 1e13]),
        ([], []),
    ],
)
def test_a_logarithmic_axis_has_a_few_round_ticks(xs: list[float], expected: list[float]) -> None:
    assert axes.ticks(xs) == pytest.approx(expected)


def test_no_two_of_many_variants_look_alike() -> None:
    assert len(set(axes.looks(49))) == 49


README = f"before\n{readme.START}\nold\n{readme.END}\nafter\n"


def test_the_readmes_region_is_what_the_lock_file_gives(folder: Path) -> None:
    text = readme.rewritten(README, folder)
    assert text.startswith(f"before\n{readme.START}\n\nTop-1 accuracy in percent at laptop scale,")
    assert text.endswith(f"\n{readme.END}\nafter\n")
    assert "on as many images: 10,000 of CIFAR-10 and 20,000 of scenes." in text
    assert [line for line in text.splitlines() if line.startswith("|")] == [
        "| objective | CIFAR-10: class | scenes: class | scenes: count | FLOPs an image | compute"
        " | device time | trials |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| I-JEPA | 45.0 ± 1.4 | 81.0 ± 1.4 | 42.0 ± 2.8 | 120 MFLOP | 1.00 × | 1 min 15 s | 2 |",
        "| pixels | 46.5 ± 2.1 | 60.5 ± 0.7 | 44.0 ± 1.4 | 90 MFLOP | 0.75 × | 1 min 15 s | 2 |",
        "| random initialisation | 30.0 ± 0.0 | 30.0 ± 0.0 | 30.0 ± 0.0 |  |  |  |  |",
        "| raw pixels | 20.0 ± 0.0 | 20.0 ± 0.0 | 20.0 ± 0.0 |  |  |  |  |",
        "| objective | scenes: class | scenes: count | images of scenes |",
        "| --- | ---: | ---: | ---: |",
        "| I-JEPA | 81.0 ± 1.4 | 42.0 ± 2.8 | 20,000 |",
        "| pixels | 65.0 ± 1.4 | 42.0 ± 0.0 | 26,656 |",
        "| random initialisation | 30.0 ± 0.0 | 30.0 ± 0.0 |  |",
        "| raw pixels | 20.0 ± 0.0 | 20.0 ± 0.0 |  |",
    ]
    assert readme.rewritten(text, folder) == text


def test_a_readme_is_rewritten_once_and_one_without_a_region_never(folder: Path) -> None:
    path = folder / "README.md"
    assert readme.is_current(path, folder), "there is none"
    path.write_text("nothing of ours\n")
    assert not readme.write(path, folder)
    assert path.read_text() == "nothing of ours\n"
    path.write_text(README)
    assert not readme.is_current(path, folder)
    assert readme.write(path, folder)
    assert not readme.write(path, folder)
    (folder / "objectives.laptop.lock.json").unlink()
    assert readme.write(path, folder)
    assert "No results yet: `ijepa ablate objectives --scale laptop`" in path.read_text()


def test_the_committed_readme_is_what_the_committed_lock_files_give() -> None:
    text = (ROOT / "README.md").read_text()
    assert (text.count(readme.START), text.count(readme.END)) == (1, 1)
    assert readme.rewritten(text, ROOT / "experiments") == text


def test_report_writes_and_checks_the_readme(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "README.md"
    path.write_text(README)
    monkeypatch.setattr(readme, "README", path)
    monkeypatch.setattr(readme.write, "__defaults__", (path, folder))
    monkeypatch.setattr(readme.is_current, "__defaults__", (path, folder))
    monkeypatch.setattr(report, "check", lambda found: [])
    monkeypatch.setattr(report, "build", lambda *_: "built")
    monkeypatch.setattr(report, "index", lambda: "index")
    assert cli.main(["report", "--check"]) == 1
    assert f"{path}: not what the lock file gives" in capsys.readouterr().out
    assert cli.main(["report"]) == 0
    assert str(path) in capsys.readouterr().out
    assert cli.main(["report", "--check"]) == 0


def test_one_tree_gives_one_report_whatever_order_it_is_in(folder: Path) -> None:
    chosen = experiment.load("objectives", folder)
    scale = experiment.load_scale("laptop", folder)
    locked = json.loads((folder / "objectives.laptop.lock.json").read_text())
    first = collecting.collect(chosen, copy.deepcopy(locked), scale)
    locked["results"] = dict(reversed(locked["results"].items()))
    assert collecting.collect(chosen, locked, scale) == first
    assert first["trials"] is None
