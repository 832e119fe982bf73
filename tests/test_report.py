"""The page of a run says what its results say, in the same bytes each time, broken or not."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import evaluated_run
import numpy as np
import pytest
from conftest import ROOT
from evaluated_run import CLASSES, enter
from markdown_it import MarkdownIt
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image
from ruamel.yaml import YAML

from ijepa import config as configs
from ijepa import report, results, variants
from ijepa.config import Config
from ijepa.masks import Keys
from ijepa.masks.multiblock import sample
from ijepa.pages import page, text
from ijepa.pages import run as pages
from ijepa.pages.figures import confusion, few_label, masks, probes, training
from ijepa.pages.text import interval, listed, method, spoken
from ijepa.results import Results, accuracy
from ijepa.results.accuracy import Accuracy, Curve, Point
from ijepa.results.training import Training
from ijepa.runtime import environment, files
from ijepa.store.read import open_store
from ijepa.training.meter import Spent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    evaluated_run.make(folder)
    return folder


@pytest.fixture(scope="module")
def built(run: Path) -> Path:
    """The report of that run, built once."""
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, run)
        pages.build(configs.load(), run / "out" / "report")
    return run / "out" / "report"


@pytest.fixture(scope="module")
def planted(built: Path) -> Results:
    return results.read(built / "results.json")


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
    for chart in pages.CHARTS:

        def dot(_: Any, path: Path) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (1, 1)).save(f"{path}.png")
            Path(f"{path}.svg").write_text("<svg/>")

        monkeypatch.setattr(chart, "draw", dot)


def tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


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
    pages.build(configs.load(), tmp_path / "again")
    first, again = tree(built), tree(tmp_path / "again")
    assert len(first) == 3 + 2 * 8
    assert [name for name in first if first[name] != again.get(name)] == []
    assert first.keys() == again.keys()


@pytest.mark.slow
def test_same_bytes_from_another_process(built: Path, inside: Path) -> None:
    (inside / "matplotlibrc").write_text("font.family: serif\nxtick.labelsize: 20\n")
    code = (
        "from pathlib import Path; from ijepa import config; from ijepa.pages import run;"
        "run.build(config.load(), Path('again'))"
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


def test_pages_are_made_of_the_results_alone(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / "figures", tmp_path / "figures")
    pages.write(results.read(built / "results.json"), tmp_path)
    for name in ("index.html", "report.md"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_every_figure_has_alt_caption_and_files(built: Path, planted: Results) -> None:
    shown = [part for members in pages.figures(planted).values() for part in members]
    assert [part.number for part in shown] == list(range(1, 9))
    images = [dict(a) for tag, a in Page((built / "index.html").read_text()).tags if tag == "img"]
    assert [image["alt"] for image in images] == [part.words.alt for part in shown]
    for part in shown:
        assert min(len(part.words.alt), len(part.words.caption)) > 20
        for kind in ("png", "svg"):
            assert (built / "figures" / f"{part.name}.{kind}").stat().st_size > 1000


def test_a_figure_without_its_numbers_is_left_out(planted: Results) -> None:
    empty = dataclasses.replace(
        planted, table=(), few_label=(), confusion=(), history=None, representation=None,
        masks=dataclasses.replace(planted.masks, masks=0),
    )  # fmt: skip
    every = [chart for members in pages.SECTIONS.values() for chart in members]
    assert all(chart.needs(planted) for chart in every)
    assert not any(chart.needs(empty) for chart in every)
    assert set(pages.CHARTS) == {chart for chart in every if not chart.words(planted).picture}


def cells(text: str) -> list[list[str]]:
    """The words of every row of the tables of a page."""
    rows = re.findall(r"<tr.*?</tr>", text, re.S)
    texts = (re.findall(r"<t[dh].*?</t[dh]>", row, re.S) for row in rows)
    return [[" ".join("".join(Page(cell).words).split()) for cell in row] for row in texts]


def test_pages_show_the_numbers_of_the_json(built: Path, planted: Results) -> None:
    """Row by row, in HTML and in Markdown."""
    html = [row for row in cells((built / "index.html").read_text()) if len(row) == 8][1:]
    lines = [
        [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in (built / "report.md").read_text().splitlines()
    ]
    text = [row for row in lines if len(row) == 8 and row[1] and set(row[1]) != {"-"}][1:]
    assert html == text
    assert len(html) == len(planted.table)
    for shown, row in zip(html, planted.table, strict=True):
        first = row.encoder == "trained"  # of a probe, whose name stands once
        assert shown[0] == (method(row.probe, row.share, row.shots) if first else "")
        assert shown[1] == spoken(row.encoder)
        assert shown[2] == f"{row.accuracy:.1f}"
        assert shown[3] == f"[{row.low:.1f}, {row.high:.1f}]"
        assert shown[4] == f"{row.max:.1f}"
        if row.encoder != "trained":
            assert abs(float(shown[5].replace("−", "-")) - (row.difference or 0)) <= 0.05 + 1e-9
            assert shown[6] == interval(row.difference_low, row.difference_high, signed=True)
            assert shown[7].split()[-1] == row.verdict


def test_names_of_classes_and_data_are_text(built: Path, planted: Results, tmp_path: Path) -> None:
    html = (built / "index.html").read_text()
    assert CLASSES[1] not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "a<|b" not in html
    assert "a&lt;|b" in html
    data = planted.parameters["data"] | {"name": "<b>d</b>"}
    parameters = planted.parameters | {"data": data}
    shutil.copytree(built / "figures", tmp_path / "figures")
    pages.write(dataclasses.replace(planted, parameters=parameters), tmp_path)
    html = (tmp_path / "index.html").read_text()
    assert "<b>d</b>" not in html
    assert "&lt;b&gt;d&lt;/b&gt;" in html
    for folder in (built, tmp_path):
        text = (folder / "report.md").read_text()
        made = Page(MarkdownIt("commonmark").enable("table").render(text))
        kinds = {tag for tag, _ in made.tags}
        assert not kinds & {"b", "i", "a"}
        figures = [about["src"] for tag, about in made.tags if tag == "img"]
        assert all(str(source).startswith("figures/") for source in figures)
        assert len(figures) == len(set(figures)) == 8
        words = [*made.words, *(str(about.get("alt")) for _, about in made.tags)]
        assert any(CLASSES[1] in shown for shown in words)  # and shown as it is


def test_equal_images_are_said(built: Path, planted: Results, tmp_path: Path) -> None:
    shutil.copytree(built / "figures", tmp_path / "figures")
    assert planted.provenance.equal_images == {}
    assert "equal images" not in (built / "index.html").read_text()
    equal = {"test in train": 1234, "in two classes": 2}
    told = dataclasses.replace(planted.provenance, equal_images=equal)
    pages.write(dataclasses.replace(planted, provenance=told), tmp_path)
    for name in ("index.html", "report.md"):
        text = " ".join((tmp_path / name).read_text().split())
        assert "equal images: 1,234 of test in train, 2 in two classes. The accuracies cou" in text
    told = dataclasses.replace(told, equal_images={"val in train": 3})
    pages.write(dataclasses.replace(planted, provenance=told), tmp_path)
    assert "3 of val in train.</p>" in (tmp_path / "index.html").read_text()


def test_what_is_missing_is_said(inside: Path, undrawn: None) -> None:
    names = ("history.csv", "pretrain.json", "encoder.safetensors", "evaluation/predictions.npz")
    for name in names:
        (inside / "out" / name).unlink()
    shutil.rmtree(inside / "data")
    pages.build(configs.load(), inside / "r")
    drawn = {path.stem for path in (inside / "r" / "figures").glob("*.svg")}
    assert drawn == {"probes", "few_label", "masks", "mask_sizes"}
    text = (inside / "r" / "report.md").read_text()
    for name in (*(f"out/{name}" for name in names), "data/prepared"):
        assert f"**Missing:** {name};" in text
    assert "There is no health record" in text
    assert text.count(pages.UNRECORDED) >= 3
    assert "Left out" in (inside / "r" / "index.html").read_text()


def test_neighbours_of_a_class_are_counted(planted: Results, run: Path) -> None:
    seen = planted.representation
    assert seen
    split = open_store(run / "data" / "prepared").splits["test"]
    labels = split.labels["kind"]
    assert seen.shown == len(seen.ids) * 5
    for name, neighbours in seen.neighbours.items():
        alike = [
            labels[near] == labels[q]
            for q, n in zip(seen.ids, neighbours, strict=True)
            for near in n
        ]
        assert seen.same[name] == sum(alike)


def test_the_stage_depends_on_words_and_published_numbers() -> None:
    """Which no import reaches."""
    stage = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]["report"]
    folder = ROOT / "ijepa" / "pages"
    for path in (p for p in folder.rglob("*") if p.is_file() and not p.suffix.startswith(".py")):
        assert any(path.is_relative_to(ROOT / dep) for dep in stage["deps"]), path


def test_a_figure_that_is_not_drawn_again_is_gone(inside: Path, undrawn: None) -> None:
    (inside / "out" / "encoder.safetensors").unlink()  # saves the time of looking through it
    pages.build(configs.load(), inside / "r")
    assert (inside / "r" / "figures" / "training.png").exists()
    (inside / "out" / "history.csv").unlink()
    pages.build(configs.load(), inside / "r")
    assert not (inside / "r" / "figures" / "training.png").exists()


def test_what_is_not_a_number_is_rendered(built: Path, planted: Results, tmp_path: Path) -> None:
    broken = [
        dataclasses.replace(row, accuracy=None, low=None, difference=None, verdict=None)
        for row in planted.table
    ]
    history = dict.fromkeys(planted.history or {}, (None,) * 29)
    history["images"] = (planted.history or {})["images"]
    damaged = dataclasses.replace(planted, table=tuple(broken), history=history)
    shutil.copytree(built / "figures", tmp_path / "figures")
    pages.write(damaged, tmp_path)
    assert cells((tmp_path / "index.html").read_text())[2][2:4] == ["n/a", "n/a"]
    probes.draw(damaged, tmp_path / "bars")
    training.draw(damaged, tmp_path / "curves")
    assert (tmp_path / "curves.svg").stat().st_size > 1000


def test_health_is_drawn_where_it_was_read(planted: Results) -> None:
    """Between two readings it is neither missing nor not a number: a point each, and no cross."""
    rows = planted.history or {}
    images = np.array(rows["images"], dtype=float)
    axes = Figure().subplots()
    values = np.full(29, np.nan)
    values[[0, 14, 28]] = 3.0, 2.0, 4.0
    training._panel(axes, "rankme", images, values)
    (line,) = axes.lines
    assert list(line.get_xdata()) == [images[0], images[14], images[28]]
    assert (list(line.get_ydata()), line.get_marker()) == ([3, 2, 4], "o")
    assert axes.get_xlim() == (0, images[-1])
    axes = Figure().subplots()
    training._panel(axes, "loss", images, values)
    assert [len(line.get_xdata()) for line in axes.lines if line.get_marker() == "x"] == [26]


def said(tree: Results) -> dict[str, str]:
    return dict(page.paragraphs("run.words.j2", r=tree))


def row(encoder: str, accuracy: float | None, difference: float = 0.0) -> Accuracy:
    empty = dict.fromkeys(field.name for field in dataclasses.fields(Accuracy))
    low, high = difference - 1, difference + 1
    known = {"task": "class", "probe": "linear", "encoder": encoder, "share": 1.0, "chance": 10.0}
    known |= {"accuracy": accuracy, "low": 50.0, "high": 53.5, "difference": difference}
    known |= {"difference_low": low, "difference_high": high}
    return Accuracy(**{**empty, **known, "verdict": results.accuracy.verdict(low, high)})


def test_the_headline_claims_what_the_intervals_decide(planted: Results) -> None:
    rows = (row("trained", 52.1), row("random_init", 58.1, -6.0), row("pixels", 51.9, 0.2))
    tree = dataclasses.replace(planted, table=rows, headline=("class", "linear"))
    text = said(tree)["headline"]
    assert text.index("worse than") < text.index("58.1") < text.index("not told apart from")
    assert "52.1 %" in text
    assert "(95 % interval 50.0 to 53.5; chance 10.0 %)" in text
    assert "−6.0 points, −7.0 to −5.0" in text
    assert "better" not in text
    assert "0 are won, 1 lost and 1 undecided" in said(tree)["score"]
    assert text.startswith("A linear probe on the frozen encoder gets the class of")
    tuned = tuple(dataclasses.replace(one, probe="finetune") for one in rows)
    text = said(dataclasses.replace(tree, table=tuned, headline=("class", "finetune")))["headline"]
    assert text.startswith("The encoder after fine-tuning gets the class of")
    lost = dataclasses.replace(rows[0], accuracy=None)
    assert "no accuracy" in said(dataclasses.replace(tree, table=(lost,)))["headline"]


@pytest.mark.parametrize(
    ("collapsed", "health", "words"),
    [
        (True, "collapsed: x", "collapsed: at its end"),
        (False, "partly collapsed: effective rank fell", "partly collapsed"),
        (False, "healthy: x", "No sign of a collapse"),
        (None, "", "says nothing about a collapse"),
    ],
)
def test_health_is_told_by_the_alarm_and_the_numbers_beside_where_they_began(
    collapsed: bool | None, health: str, words: str, planted: Results
) -> None:
    end = dataclasses.replace(
        planted.training or Training(*[None] * 5, "", None, None),
        collapsed=collapsed, health=health, feature_std=0.1, rankme=5.0,
    )  # fmt: skip
    history = {"loss": (1.0, None), "feature_std": (0.125, 0.1), "rankme": (5.2, 5.0)}
    told = said(dataclasses.replace(planted, training=end, history=history))["health"]
    assert words in told
    assert "not a number in 1 of" in told
    assert re.findall(r"\d+\.\d+", told) == ["0.100", "0.125", "5.0", "5.2"]
    assert "healthy" not in told, "a network before training is no less so"
    assert ("does not say that anything was learned" in told) == (words == "No sign of a collapse")


@pytest.mark.parametrize("numbers", [{"feature_std": None}, {"rankme": None}])
def test_no_absence_of_a_collapse_without_numbers(
    numbers: dict[str, None], planted: Results
) -> None:
    end = dataclasses.replace(
        planted.training or Training(*[None] * 5, "", None, None),
        **{"collapsed": False, "health": "x", "feature_std": 0.1, "rankme": 5.0, **numbers},
    )
    told = said(dataclasses.replace(planted, training=end, history=None))["health"]
    assert "says nothing about a collapse" in told


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"name": "scenes"}, "scenes"),
        ({"name": "scenes", "path": "flowers"}, "scenes"),
        ({"name": "folder", "path": "flowers"}, "flowers"),
        ({"name": "folder", "path": "sets/flowers/"}, "flowers"),
        ({"name": "parquet", "path": "/data/birds"}, "birds"),
        ({"name": "folder", "path": "."}, "."),
    ],
)
def test_a_title_names_the_data_set(
    data: dict[str, Any], name: str, planted: Results, tmp_path: Path
) -> None:
    parameters = {**planted.parameters, "data": {**planted.parameters["data"], **data}}
    parameters["train"] = {**parameters["train"], "epochs": 1.0}
    results = dataclasses.replace(planted, parameters=parameters)
    objective = variants.load("objectives", parameters["objective"]["name"])
    told = dict(page.paragraphs("run.protocol.j2", r=results, objective=objective))
    assert f"“{name}” for 1 epoch in" in " ".join(told["What was trained"].split())
    assert text.dataset(data) == name


def test_where_no_candidate_is_ever_right_held_out_is_no_result() -> None:
    """One labelled image of each class: left out, nothing else has its class."""
    told = {"accuracy": 30.0, "held_out": 0.0, "grid": [{"held_out": 0.0}, {"held_out": 0.0}]}
    rows = accuracy.table({"tasks": {"class": {"logistic": {"trained": told}}}}, ["class"], {})
    assert rows[0].held_out is None
    assert rows[0].accuracy == 30.0
    del told["grid"]  # nothing says what was tried
    rows = accuracy.table({"tasks": {"class": {"logistic": {"trained": told}}}}, ["class"], {})
    assert rows[0].held_out == 0.0
    told["grid"] = [{"held_out": 0.0}, {"held_out": 12.5}]  # another candidate was
    rows = accuracy.table({"tasks": {"class": {"logistic": {"trained": told}}}}, ["class"], {})
    assert rows[0].held_out == 0.0


def test_the_table_of_costs_has_what_is_known(planted: Results) -> None:
    spent = Spent(90.0, 5400.0, "rapl", 0.5, 1, "a | processor")

    def rows(cost: Spent | None) -> dict[str, str]:
        known = dataclasses.replace(planted.provenance, cost=cost)
        table = pages.cost(dataclasses.replace(planted, provenance=known))
        return {row.cells[0].shown: row.cells[1].shown for row in table.rows}

    counted = {"operations per image": "5\u00a0GFLOP", "operations in all": "1.16\u00a0TFLOP",
               "of these useful": "928\u00a0GFLOP", "images seen": "232"}  # fmt: skip
    assert rows(None) == counted
    assert rows(spent) == counted | {
        "device time": "1 min 30 s", "energy": "5.4\u00a0kJ", "peak memory": "0.5 GiB"
    }  # fmt: skip
    silent = dataclasses.replace(spent, energy_joules=None, energy_source=None)
    assert rows(silent)["energy"] == "not reported"
    assert not pages.cost(dataclasses.replace(planted, training=None))


def test_error_bars_of_few_labels_are_the_spread_of_the_draws() -> None:
    points = (Point(1, 10.0, 3.0, (7.0, 13.0)), Point(5, 50.0, None, (50.0,)))
    axes = Figure().subplots()
    few_label.lines(axes, [Curve("t", "p", e, 5.0, points) for e in ("trained", "pixels")])
    bars = [part for part in axes.containers if isinstance(part, ErrorbarContainer)]
    assert [bar.get_label() for bar in bars] == ["trained", "raw pixels"]
    for bar in bars:
        (low, high), (same, again) = (s[:, 1] for s in bar[2][0].get_segments())
        assert (low, high, same, again) == pytest.approx((7, 13, 50, 50))
    assert axes.get_xscale() == "log"


def test_bars_stand_around_their_probe_when_an_encoder_is_missing() -> None:
    tuned = [
        dataclasses.replace(row(e, 50.0), probe="finetune") for e in ("trained", "random_init")
    ]
    rows = [*tuned, *(row(e, 50.0) for e in ("trained", "random_init", "pixels"))]
    axes = Figure().subplots()
    probes.bars(axes, rows)
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axes.patches]
    assert np.mean(middles[:2]) == pytest.approx(0)
    assert np.mean(middles[2:]) == pytest.approx(1)
    assert set(axes.get_legend_handles_labels()[1]) == {
        *("trained", "random init", "raw pixels", "chance")
    }


def test_a_confusion_is_read_by_its_diagonal(planted: Results) -> None:
    first, *ordered = planted.confusion
    counts = ((9, 1, 0), (0, 5, 5), (0, 0, 10))
    reading = confusion.reading(dataclasses.replace(first, counts=counts))
    assert reading == f"most often right: {CLASSES[2]} (100 %); least often: {CLASSES[1]} (50 %)"
    for matrix in ordered:
        assert f"off by {matrix.distance.mean:.2f} classes" in confusion.reading(matrix)


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
    assert not masks.draw(settings, tmp_path / "masks", 3)
    assert (tmp_path / "masks.svg").is_file()
    drawn = sample(Keys(0, 0, np.zeros(3, np.int64), np.arange(3)), (4, 4), settings.mask.options)
    assert (tile(tmp_path / "masks.png", 0) != 232).all()
    assert len(set(drawn.context_valid.sum(1).tolist())) > 1  # so that padding is in play
    for number, column, index, valid in (
        part
        for i in range(3)
        for part in (
            (i, 1, drawn.context[i], drawn.context_valid[i]),
            (i, 2, drawn.targets[i, 0], drawn.targets_valid[i, 0]),
            (i, 3, drawn.targets[i, 1], drawn.targets_valid[i, 1]),
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


def test_running_mean_keeps_constants_and_gaps() -> None:
    assert training.smooth(np.full(100, 3.0)) == pytest.approx(np.full(100, 3.0))
    assert training.smooth(np.array([1.0])).tolist() == [1.0]
    values = np.arange(9.0)
    values[4] = np.nan
    assert training.smooth(values)[[3, 5]].tolist() == [2.5, 5.5]
    assert np.isnan(training.smooth(values)[4])


def test_stage_records_itself_and_says_where_the_report_is(
    inside: Path,
    undrawn: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["report"])
    report.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"report: out/report/index\.html — kind linear \d+\.\d ± \d", last)
    (folder,) = (environment.home() / "runs").iterdir()
    entry = json.loads((folder / "run.json").read_text())
    assert entry["status"] == "COMPLETED"
    assert {"index.html", "results.json", "report.md", "probes.png"} <= set(entry["artifacts"])
    assert entry["result"] == pytest.approx(
        float(last.split("linear ")[1].split(" ")[0]), abs=0.05
    )
    monkeypatch.setattr(sys, "argv", ["report", "--line"])
    report.main()
    assert capsys.readouterr().out.splitlines() == [last]
    shutil.rmtree("out/report")
    with pytest.raises(ValueError, match=r"results\.json: no such file"):
        report.main()
    monkeypatch.setattr(sys, "argv", ["report", "--lines"])
    with pytest.raises(ValueError, match="'--lines' is not --line"):
        report.main()


@pytest.mark.parametrize(
    ("numbers", "words"),
    [([], ""), ([3], "3"), ([2, 0, 1], "0, 1, 2"), (range(24), "0 to 23"),
     ([7, 0, 1, 2, 3, 9, 10], "0 to 3, 7, 9, 10")],
)  # fmt: skip
def test_many_seeds_are_named_by_the_first_and_the_last(
    numbers: Sequence[int], words: str
) -> None:
    assert listed(numbers) == words


def test_a_damaged_result_is_named_before_a_page_is_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One flipped bit or a cut in what an earlier stage left; never a traceback, never a page."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    enter(monkeypatch, folder)
    rng, settings = np.random.default_rng(0), configs.load()
    for name in ("encoder.safetensors", "history.csv", "pretrain.json",
                 "evaluation/evaluation.json", "evaluation/predictions.npz"):  # fmt: skip
        path = folder / "out" / name
        whole = path.read_bytes()
        for bit in rng.choice(len(whole) * 8, 20, replace=False).tolist():
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            with pytest.raises(ValueError, match=rf"{path.name}: damaged: .* `dvc repro -f"):
                pages.build(settings, folder / "made")
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"{path.name}: damaged"):
            pages.build(settings, folder / "made")
        path.write_bytes(whole)
    assert not (folder / "made").exists()


def test_a_damaged_report_does_not_say_its_headline(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("results.json", "index.html", "report.md"):
        shutil.copy(built / name, tmp_path / name)
    files.write_sums(tmp_path, ["index.html", "report.md", "results.json"])
    assert report.line(tmp_path).startswith(f"report: {tmp_path / 'index.html'}")
    path = tmp_path / "results.json"
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(ValueError, match=r"results\.json: damaged: .*`dvc repro -f report`"):
        report.line(tmp_path)
