"""The report says what the results say, in the same bytes each time, also when they are broken."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ijepa import config as configs
from ijepa import report
from ijepa.config import Config
from ijepa.datasets import Item, Source, Split
from ijepa.evaluation import scores
from ijepa.masks import Keys
from ijepa.masks.multiblock import sample
from ijepa.model import vit
from ijepa.pages.run import build as building
from ijepa.pages.run import charts, collect, figures, provenance, views, words
from ijepa.pages.run.charts import accuracy, curves
from ijepa.probes import Draw, Result, choose
from ijepa.runtime import environment, files
from ijepa.store.read import open_store
from ijepa.store.write import write_store
from ijepa.tracking import journal
from tests.conftest import TINY, params

CLASSES = ("a|b", "<b>c</b>", "$d$")  # each breaks a page that does not escape
TASKS = {  # the first is not the alphabet's first
    "kind": CLASSES,
    "a<|b": ("3", "4"),
    "count": ("3", "4", "5", "6"),
    "distance": ("<= 8", "8-9", "> 9"),
}
RATES = {  # probe -> how often each encoder is right; finetune has no pixels
    "linear": {"trained": 0.9, "random_init": 0.4, "pixels": 0.85},
    "knn": {"trained": 0.2, "random_init": 0.7, "pixels": 0.5},
    "logistic": {"trained": 0.6, "random_init": 0.3, "pixels": 0.5},
    "finetune": {"trained": 0.8, "random_init": 0.75},
}


def make_run(folder: Path) -> None:
    """What the stages before the report leave in a working directory; no training."""
    from ruamel.yaml import YAML

    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(
            params(**{**TINY, "data.name": "cifar10", "evaluate.probes": ["linear", "knn"]}), file
        )
    settings, rng = configs.load(folder / "params.yaml"), np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        pixels[::3, :, :8] //= 4
        made = [
            Item(p, {task: i % len(names) for task, names in TASKS.items()}, str(i))
            for i, p in enumerate(pixels)
        ]
        return Split(count, lambda: iter(made))

    source = Source({"train": split(24), "test": split(60)}, TASKS, {"name": "made"})
    write_store(source, folder / "data" / "prepared")
    data, out = open_store(folder / "data" / "prepared"), folder / "out"
    (out / "evaluation").mkdir(parents=True)
    vit.save(vit.create(16, settings.model, 1), out / "encoder.safetensors", {})
    labels, counts = data.splits["test"].labels, {"train": 20, "held_out": 4, "test": 60}
    outcomes = [
        scores.Outcome("", "test", counts, TASKS, labels, made_up(rng, TASKS, labels)),
        elsewhere(rng),
    ]
    about = {"encoder": "target encoder", "encoders": list(RATES["linear"])}
    about |= {"probes": list(RATES), "precision": "fp32", "pixels_side": 16}
    evaluation = scores.summarise(about, outcomes)
    files.write_json(out / "evaluation" / "evaluation.json", evaluation)
    scores.write_predictions(out / "evaluation" / "predictions.npz", outcomes)
    rows = [
        {"step": i, "images": 8 * i, "loss": 1 / i, "lr": 1e-3, "weight_decay": 0.04,
         "ema": 0.99, "context_ratio": 0.4, "feature_std": 0.5, "rankme": 3.0 + i}
        for i in range(1, 30)
    ]  # fmt: skip
    files.write_csv(out / "history.csv", rows)
    end = {"images": 232, "collapsed": False, "health": "healthy", "feature_std": 0.5}
    end |= {"flops": 232 * 5 * 10**9, "flops_per_image": 5e9, "rankme": 32.0}
    files.write_json(out / "pretrain.json", end)


Labels = Mapping[str, np.ndarray]


def made_up(
    rng: np.random.Generator, tasks: Mapping[str, tuple[str, ...]], labels: Labels
) -> dict[tuple[str, str], dict[str, Result]]:
    """Predictions of every probe and encoder; those of logistic also with few labels."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for (probe, kind), rate in (
        ((probe, kind), rate) for probe, rates in RATES.items() for kind, rate in rates.items()
    ):
        for task, truth in labels.items():
            wrong = (truth + 1) % len(tasks[task])

            def guess(rate: float, truth: Any = truth, wrong: Any = wrong) -> np.ndarray:
                return np.where(rng.random(len(truth)) < rate, truth, wrong)

            draws = tuple(
                Draw(k, d, guess(rate * share))
                for k, share in ((1, 0.5), (5, 0.8), (20, 1.0))
                for d in range(3)
                if probe == "logistic"
            )
            found.setdefault((probe, kind), {})[task] = choose(
                ({"features": "last"}, {"features": "last2"}),
                np.stack([truth[:4], wrong[:4]]), truth[:4],
                np.stack([guess(rate), guess(1.0 if probe == "knn" else 0.0)]), draws,
            )  # fmt: skip
    return found


def elsewhere(rng: np.random.Generator) -> scores.Outcome:
    """Another data set that the encoder is transferred to."""
    tasks, labels = {"class": ("x", "<i>y</i>")}, {"class": np.arange(40) % 2}
    counts = {"train": 12, "held_out": 4, "test": 40}
    return scores.Outcome("else", "val", counts, tasks, labels, made_up(rng, tasks, labels))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    make_run(folder)
    return folder


@pytest.fixture(scope="module")
def built(run: Path) -> Path:
    """The report of that run, built once."""
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, run)
        building.build(configs.load(), run / "out" / "report")
    return run / "out" / "report"


def enter(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.chdir(folder)
    patch.setenv("IJEPA_HOME", str(folder / "home"))
    patch.setenv("IJEPA_MONGO_URL", "off")


@pytest.fixture
def inside(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run to break, as the working directory."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("report"))
    enter(monkeypatch, folder)
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are the slow part; a test about words does without the charts."""
    for name in ("accuracy", "few_label", "curves", "realised", "confusion"):

        def dot(_: Any, path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (1, 1)).save(f"{path}.png")
            Path(f"{path}.svg").write_text("<svg/>")

        monkeypatch.setattr(charts, name, dot)


def tree(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


class Page(HTMLParser):
    """The tags, and the words, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.mark.slow
def test_same_inputs_same_bytes(
    built: Path, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, run)
    shutil.rmtree(run / "home")  # the features are computed again too
    building.build(configs.load(), tmp_path / "again")
    first, again = tree(built), tree(tmp_path / "again")
    assert len(first) == 3 + 5 + 2 * 8
    assert [name for name in first if first[name] != again.get(name)] == []
    assert first.keys() == again.keys()


@pytest.mark.slow
def test_same_bytes_from_another_process(built: Path, inside: Path) -> None:
    (inside / "matplotlibrc").write_text("font.family: serif\nxtick.labelsize: 20\n")
    code = (
        "from pathlib import Path; from ijepa import config; from ijepa.pages.run import build;"
        "build.build(config.load(), Path('again'))"
    )
    root = str(Path(__file__).parents[1])
    variables = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], env=variables | {"PYTHONPATH": root}, check=True)
    assert tree(built) == tree(inside / "again")


def test_page_loads_nothing(built: Path) -> None:
    text = (built / "index.html").read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            target = attributes.get(name) or "#"
            kept = target.startswith(("#", "data:image/")) or (built / target).is_file()
            assert kept, (tag, target[:80])
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text
    for svg in (built / "figures").glob("*.svg"):
        for target in re.findall(r'href="([^"]*)"', svg.read_text()):
            assert target.startswith(("#", "data:image/")), (svg.name, target[:80])
        assert "<dc:date>" not in svg.read_text()


def test_every_figure_has_alt_caption_and_files(built: Path) -> None:
    found = json.loads((built / "results.json").read_text())["figures"]
    images = [dict(a) for tag, a in Page((built / "index.html").read_text()).tags if tag == "img"]
    assert [image["alt"] for image in images] == [figure["alt"] for figure in found]
    assert {figure["name"] for figure in found} == {
        *("accuracy", "few_label", "confusion", "training", "masks", "context"),
        *("patches", "neighbours"),
    }
    assert all(len(figure["alt"]) > 20 and len(figure["caption"]) > 20 for figure in found)
    assert "95 % intervals over test images" in found[0]["caption"]
    for figure in found:
        for kind in ("png", "svg"):
            assert (built / "figures" / f"{figure['name']}.{kind}").stat().st_size > 1000


def test_pages_show_the_numbers_of_the_json(built: Path) -> None:
    table = json.loads((built / "results.json").read_text())["table"]
    evaluation = json.loads((built.parent / "evaluation" / "evaluation.json").read_text())
    assert len(table) == 5 * (3 * 3 + 2)
    for row in table:
        cell = evaluation["tasks"][row["task"]][row["probe"]][row["encoder"]]
        assert (row["accuracy"], row["held_out"], row["max"]) == (
            pytest.approx(cell["accuracy"], 1e-5),
            pytest.approx(cell["held_out"], 1e-5),
            pytest.approx(cell["max_over_candidates"], 1e-5),
        )
    lines = (built / "report.md").read_text().splitlines()
    at = lines.index("| " + " | ".join(words.COLUMNS) + " |")
    shown = [
        re.split(r" *(?<!\\)\| *", line)[1:-1] for line in lines[at + 2 : at + 2 + len(table)]
    ]
    assert [[cell.replace("\\|", "|") for cell in line] for line in shown] == [
        words.cells(row) for row in table
    ]
    page = "".join(Page((built / "index.html").read_text()).words)
    for row in table:
        assert f"{row['accuracy']:.1f}" in page
    assert table[0]["task"] == "kind"


def test_names_of_classes_are_text(built: Path) -> None:
    page = (built / "index.html").read_text()
    assert "<b>c</b>" not in page
    assert "&lt;b&gt;c&lt;/b&gt;" in page
    assert "a<|b" not in page
    assert "a&lt;|b" in page


def test_parameters_are_exact(built: Path, run: Path) -> None:
    settings = configs.load(run / "params.yaml")
    found = json.loads((built / "results.json").read_text())["parameters"]
    assert found == json.loads(json.dumps(configs.as_tree(settings)))
    assert found["train"]["crop_aspect"][1] == 4 / 3


def test_what_is_missing_is_said(inside: Path, undrawn: None) -> None:
    for name in (
        "history.csv",
        "pretrain.json",
        "encoder.safetensors",
        "evaluation/predictions.npz",
    ):
        (inside / "out" / name).unlink()
    shutil.rmtree(inside / "data")
    found = building.build(configs.load(), inside / "r")
    assert [figure["name"] for figure in found["figures"]] == [
        *("accuracy", "few_label", "masks", "context")
    ]
    text = (inside / "r" / "report.md").read_text()
    for name in (
        "out/history.csv",
        "out/pretrain.json",
        "encoder",
        "predictions",
        "data/prepared",
    ):
        assert re.search(rf"\*\*Missing:\*\* \S*{name}", text), name
    assert (
        "There is no health record" in found["headline"]["sentence"] + found["health"]["sentence"]
    )
    assert text.count("no record here") >= 3


def test_a_figure_that_is_not_drawn_again_is_gone(inside: Path, undrawn: None) -> None:
    (inside / "out" / "encoder.safetensors").unlink()  # saves the time of looking through it
    building.build(configs.load(), inside / "r")
    assert (inside / "r" / "figures" / "training.png").exists()
    (inside / "out" / "history.csv").unlink()
    building.build(configs.load(), inside / "r")
    assert not (inside / "r" / "figures" / "training.png").exists()


def test_what_is_not_a_number_is_rendered(inside: Path, undrawn: None) -> None:
    (inside / "out" / "encoder.safetensors").unlink()
    path = inside / "out" / "evaluation" / "evaluation.json"
    evaluation = json.loads(path.read_text())
    broken = evaluation["tasks"]["kind"]
    broken["linear"]["trained"]["accuracy"] = float("nan")
    broken["linear"]["trained"]["low"] = None
    broken["linear"]["pixels"] = {}
    broken["differences"]["linear"]["pixels"]["low"] = float("nan")
    path.write_text(json.dumps(evaluation))
    history = (inside / "out" / "history.csv").read_text().splitlines()
    cells = history[9].split(",")
    history[9] = ",".join([*cells[:2], "nan", *cells[3:-1], ""])
    (inside / "out" / "history.csv").write_text("\n".join(history))
    found = building.build(configs.load(), inside / "r")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads((inside / "r" / "results.json").read_text(), parse_constant=refuse)
    rows = {(r["task"], r["probe"], r["encoder"]): r for r in found["table"]}
    assert words.cells(rows["kind", "linear", "trained"])[3:5] == ["n/a", "n/a"]
    assert rows["kind", "linear", "pixels"]["verdict"] is None
    assert "1 could not be made" in found["headline"]["score"]
    assert "There is no accuracy" in found["headline"]["sentence"]
    assert found["history"]["loss"][8] is None
    assert found["history"]["rankme"][8] is None
    assert "not a number in 1 of" in found["health"]["sentence"]
    assert "n/a" in "".join(Page((inside / "r" / "index.html").read_text()).words)
    assert words.line(found).startswith("report: out/report/index.html — kind linear n/a %")
    accuracy([row for row in found["table"] if row["task"] == "kind"], inside / "accuracy")
    curves(found["history"] | {"ema": [None] * 29}, inside / "curves")
    assert (inside / "curves.svg").stat().st_size > 1000


def test_no_evaluation_is_one_line(inside: Path) -> None:
    path = inside / "out" / "evaluation" / "evaluation.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(ValueError, match=r"evaluation\.json: not JSON"):
        building.build(configs.load(), inside / "r")
    path.unlink()
    with pytest.raises(ValueError, match=r"evaluation\.json: no such file; `dvc repro evaluate`"):
        building.build(configs.load(), inside / "r")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 2, "better"), (-2, -0.1, "worse"), (-1, 1, "undecided"), (0, 1, "undecided"),
     (-1, 0, "undecided"), (None, 1, None)],
)  # fmt: skip
def test_a_difference_is_decided_by_its_interval(
    low: float | None, high: float | None, said: str | None
) -> None:
    assert words.verdict(low, high) == said


def test_a_limit_beside_zero_does_not_look_like_zero() -> None:
    assert words.interval(0.02, 0.9, signed=True) == "[+0.02, +0.90]"
    assert words.interval(-1.04, 0.3, signed=True) == "[−1.0, +0.3]"


def row(encoder_name: str, accuracy: float, difference: float = 0.0, half: float = 1.0) -> Any:
    low, high = difference - half, difference + half
    return {
        "task": "class", "probe": "linear", "encoder": encoder_name, "chance": 10.0,
        "accuracy": accuracy, "low": accuracy - 1.4, "high": accuracy + 1.4, "held_out": 50.0,
        "selected": {}, "difference": difference, "difference_low": low, "difference_high": high,
        "verdict": words.verdict(low, high),
    }  # fmt: skip


def test_headline_says_won_lost_and_undecided() -> None:
    rows = [row("trained", 52.1), row("random_init", 58.1, -6.0), row("pixels", 51.9, 0.2)]
    text = words.headline(rows, "class", "linear", 5000, "test")
    assert "52.1 % of 5,000 test images" in text
    assert "worse than its own random initialisation (58.1 %; difference −6.0 points" in text
    assert "not told apart from raw pixels (51.9 %; difference +0.2 points, −0.8 to +1.2)" in text
    assert "better" not in text
    assert "0 are won, 1 lost and 1 undecided" in words.score(rows)


def test_last_line() -> None:
    table = [row("trained", 52.1), row("random_init", 40.2), row("pixels", 11.0)]
    found = {"headline": {"task": "class", "probe": "linear"}, "table": table}
    assert words.line(found) == (
        "report: out/report/index.html — class linear 52.1 ± 1.4 % (random init 40.2, pixels"
        " 11.0); Omniboard: make omniboard"
    )


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"collapsed": True, "health": "collapsed: x"}, "collapsed: at its end"),
        ({"collapsed": False, "health": "partly collapsed: effective rank fell"}, "partly"),
        ({"collapsed": False, "health": "healthy: x"}, "did not collapse"),
        ({}, "says nothing about a collapse"),
        (None, "no health record"),
    ],
)
def test_health_in_words(end: dict[str, Any] | None, said: str) -> None:
    assert said in words.health(end, 128, 0)


def test_fixed_images_depend_on_labels_alone() -> None:
    labels = np.array([2, 2, 0, 0, 0, 1, 2])
    assert views.fixed(labels, 5).tolist() == [2, 5, 0, 3, 1]
    assert views.fixed(labels, 99).tolist() == [2, 5, 0, 3, 1, 4, 6]


def test_neighbours_are_the_nearest_by_cosine() -> None:
    rng = np.random.default_rng(0)
    found = rng.normal(size=(40, 6)).astype(np.float32) + 100  # a mean far from zero says nothing
    found[7] = found.mean(0) + 3 * (found[3] - found.mean(0))  # the same direction, longer
    queries = np.array([3, 11])
    nearest = views.neighbours(found, queries, 5)
    assert nearest[0, 0] == 7
    centred = found.astype(np.float64) - found.mean(0)
    for query, listed in zip(queries, nearest, strict=True):
        by_hand = [
            (-a @ centred[query] / np.linalg.norm(a) / np.linalg.norm(centred[query]), i)
            for i, a in enumerate(centred)
            if i != query
        ]
        assert listed.tolist() == [i for _, i in sorted(by_hand)[:5]]


def test_components_share_a_basis_and_explain_what_they_show() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(4, 6, 3)) * [3.0, 2.0, 1.0]
    patches = (latent @ np.linalg.qr(rng.normal(size=(10, 3)))[0].T).astype(np.float32)
    patches[2, 5] = patches[0, 1]
    colours, explained = views.components(patches, (2, 3))
    assert colours.shape == (4, 2, 3, 3)
    assert (colours[2, 1, 2] == colours[0, 0, 1]).all()
    assert sum(explained) == pytest.approx(1, abs=1e-6)
    assert explained == sorted(explained, reverse=True)
    grey, nothing = views.components(np.ones((2, 6, 10), np.float32), (2, 3))
    assert (grey == 0).all()
    assert nothing == [0, 0, 0]


def tile(path: Path, column: int, number: int = 0) -> np.ndarray:
    """A tile in a gallery of 16 px and 2 targets: an image, its context, its targets."""
    left = 10 + column * 138 + 10 * min(column, 2) + 582 * (number % 2)
    top = 44 + 138 * (number // 2)
    return np.asarray(Image.open(path))[top : top + 128, left : left + 128, :3]


def test_gallery_without_data_hides_exactly_what_is_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., Config]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = make_config()
    assert not figures.mask_gallery(settings, tmp_path / "masks", 3)
    assert (tmp_path / "masks.svg").is_file()
    masks = sample(Keys(0, 0, np.zeros(3, np.int64), np.arange(3)), (4, 4), settings.mask.options)
    assert (tile(tmp_path / "masks.png", 0) != 232).all()
    assert len(set(masks.context_valid.sum(1).tolist())) > 1  # so that padding is in play
    for number, column, index, valid in (
        part
        for i in range(3)
        for part in (
            (i, 1, masks.context[i], masks.context_valid[i]),
            (i, 2, masks.targets[i, 0], masks.targets_valid[i, 0]),
            (i, 3, masks.targets[i, 1], masks.targets_valid[i, 1]),
        )
    ):
        seen = (tile(tmp_path / "masks.png", column, number) != 232).all(2)
        patches = seen.reshape(4, 32, 4, 32).all((1, 3)).ravel()
        assert np.flatnonzero(patches).tolist() == sorted(index[valid].tolist())
        assert seen.mean() == len(index[valid]) / 16  # and no part of any other patch


def test_gallery_shows_the_first_batch(
    built: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ijepa.training.batches import Batches

    monkeypatch.chdir(run)
    batch = Batches(open_store().splits["train"], configs.load())[0]
    wanted = batch.views[0][0].permute(1, 2, 0).numpy().repeat(8, 0).repeat(8, 1)
    assert (tile(built / "figures" / "masks.png", 0) == wanted).all()


def test_shares_are_of_the_masks_that_are_drawn(make_config: Callable[..., Config]) -> None:
    settings = make_config()
    shares = figures.mask_shares(settings, 64)
    keys = Keys(0, 0, np.zeros(64, np.int64), np.arange(64))
    masks = sample(keys, (4, 4), settings.mask.options)
    assert shares["masks"] == sum(shares["context"]["counts"]) == 64
    assert shares["context"]["mean"] == pytest.approx(
        masks.context_valid.sum(1).numpy().mean() / 16
    )
    assert sum(shares["target"]["counts"]) == 2 * 64
    assert shares["target"]["largest"] == masks.targets_valid.sum(2).max() / 16


def test_running_mean_keeps_constants_and_gaps() -> None:
    assert charts.smooth(np.full(100, 3.0)) == pytest.approx(np.full(100, 3.0))
    assert charts.smooth(np.array([1.0])).tolist() == [1.0]
    values = np.arange(9.0)
    values[4] = np.nan
    assert charts.smooth(values)[[3, 5]].tolist() == [2.5, 5.5]
    assert np.isnan(charts.smooth(values)[4])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "n/a"), (7.4, "7 s"), (60, "1 min 00 s"), (419.7, "7 min 00 s"), (7270, "2 h 01 min")],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


def test_provenance_is_the_run_that_made_these_bytes(inside: Path) -> None:
    settings = configs.load()
    outs = [Path(path) for path in provenance.OUTS["evaluate"]]
    journal.record("evaluate", settings, lambda run: None, outs=outs)
    stages = {s["stage"]: s["run"] for s in provenance.gather(open_store())["stages"]}
    assert stages["evaluate"]["status"] == "COMPLETED"
    assert stages["evaluate"]["signature"] == configs.signature(settings)
    assert stages["pretrain"] is None
    outs[0].write_text(outs[0].read_text() + " ")
    stages = {s["stage"]: s["run"] for s in provenance.gather(open_store())["stages"]}
    assert stages["evaluate"] is None


def test_the_cost_of_training_is_of_the_run_that_made_these_bytes(inside: Path) -> None:
    """Its clock is in the journal alone; what is counted is in the results."""
    outs = [Path(path) for path in provenance.OUTS["pretrain"]]
    cost = {"device_seconds": 90.0, "energy_joules": None, "energy_source": None,
            "peak_memory_gib": 0.5, "devices": 2, "device": "a | processor"}  # fmt: skip
    assert provenance.gather(None)["cost"] is None
    journal.record("pretrain", configs.load(), lambda run: run.info(cost=cost), outs=outs)
    assert provenance.gather(None)["cost"] == cost
    outs[1].write_text(outs[1].read_text() + " ")
    assert provenance.gather(None)["cost"] is None


def test_pages_have_the_cost_that_is_known(built: Path) -> None:
    """No journal was there: operations and images, and neither time nor energy."""
    for name, sign in (("index.html", "</td>"), ("report.md", " |")):
        text = (built / name).read_text()
        for value in ("5\u00a0GFLOP", "1.16\u00a0TFLOP", "232"):
            assert f"{value}{sign}" in text
        assert "device time" not in text


def test_stage_records_itself_and_says_where_the_report_is(
    inside: Path,
    undrawn: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["report"])
    report.main()
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"report: out/report/index\.html — kind linear \d+\.\d ± \d", said)
    (folder,) = (environment.home() / "runs").iterdir()
    entry = json.loads((folder / "run.json").read_text())
    assert entry["status"] == "COMPLETED"
    assert {"index.html", "results.json", "report.md", "accuracy.png"} <= set(entry["artifacts"])
    assert entry["result"] == pytest.approx(
        float(said.split("linear ")[1].split(" ")[0]), abs=0.05
    )
    monkeypatch.setattr(sys, "argv", ["report", "--line"])
    report.main()
    assert capsys.readouterr().out.splitlines() == [said]
    shutil.rmtree("out/report")
    with pytest.raises(ValueError, match=r"results\.json: no such file"):
        report.main()
    monkeypatch.setattr(sys, "argv", ["report", "--lines"])
    with pytest.raises(ValueError, match="'--lines' is not --line"):
        report.main()


def test_numbers_lose_their_noise_alone() -> None:
    tree = {"a": [0.1 + 0.2, float("inf"), 10**12, True], "b": {1: 123456.789}}
    assert collect.plain(tree) == {"a": [0.3, None, 10**12, True], "b": {"1": 123457.0}}
