"""Names in figures: all can be drawn, fit, are told apart, and lead to the full ones."""

import dataclasses
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evaluated_run
import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font
from matplotlib.text import Text
from PIL import Image
from planted import Bench

from ijepa import config as configs
from ijepa.pages import labels
from ijepa.pages import run as pages
from ijepa.pages.figures import confusion
from ijepa.results import Results
from ijepa.results.accuracy import Confusion

SHARK = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"
CAT = "日本語 猫"
NAMES = (CAT, SHARK, *"abcdef")
ODD = [  # what else a folder may be called
    *("", " ", "_hidden", "a\nb", "a\u00a0b", "\u200b", "\udc80", "$x$", "naïve", "class 1"),
    *("…", "猫", "кошка", "class 2 (2)", SHARK + "!", SHARK.replace("white", "black")),
]
Drawn = list[Figure]


def stand_in(path: str) -> None:
    """A file where a figure belongs: saving one is the slow part."""
    if path.endswith(".png"):
        Image.new("RGB", (1, 1)).save(path)
    else:
        Path(path).write_text("<svg/>")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drawn]:
    """The figures that are saved; a warning of one is an error."""
    figures: Drawn = []

    def keep(self: Figure, path: str, **_: Any) -> None:
        if path.endswith(".png"):
            figures.append(self)
        stand_in(path)

    monkeypatch.setattr(Figure, "savefig", keep)  # they are laid out before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield figures


def texts(figure: Figure) -> list[Text]:
    """The words that a figure shows."""
    hidden = {t for axes in figure.axes if not axes.get_visible() for t in axes.findobj(Text)}
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for ticks in (axis.get_major_ticks(), axis.get_minor_ticks()):
            out = [tick for tick in ticks if not low <= tick.get_loc() <= high]
            hidden |= {text for tick in out for text in (tick.label1, tick.label2)}
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    return [text for text in shown if text not in hidden]


def assert_readable(figure: Figure) -> None:
    """Every character has a glyph, and every text lies in the figure."""
    for text in texts(figure):
        characters = set(text.get_text()) - {"\n"}
        assert labels.glyphs().issuperset(map(ord, characters)), text
        box = text.get_window_extent()
        assert -1 < box.x0 < box.x1 < figure.bbox.width + 1, text
        assert -1 < box.y0 < box.y1 < figure.bbox.height + 1, text


def matrix(classes: tuple[str, ...], task: str = "class") -> Confusion:
    counts = tuple(tuple(int(i == j) for j in range(len(classes))) for i in range(len(classes)))
    return Confusion(task, "linear", classes, counts, None)


def test_labels_can_be_drawn_fit_and_are_told_apart() -> None:
    rng = random.Random(0)
    for longest in (16, labels.CLASS, 56):
        for _ in range(300):
            names = rng.choices([*NAMES, *ODD, "x" * longest, "x" * (longest + 1)], k=12)
            shown = labels.labels(names, "class", longest)
            assert len(set(shown)) == len(shown) == len(names)
            assert max(map(len, shown)) <= longest
            assert labels.glyphs().issuperset(map(ord, "".join(shown)))
            assert all(label.strip() and label.isprintable() for label in shown)
            assert not any(label.startswith("_") for label in shown)


def test_a_name_that_can_be_drawn_is_its_own_label() -> None:
    names = ["a", "naïve", "кошка", "$x$", "x" * 24, "a_b", "a b", "…", "(2)"]
    assert labels.labels(names, "class", 24) == names


def test_what_is_changed_says_which_it_is() -> None:
    shown = labels.labels(["a", CAT, "class 2", "a", SHARK, SHARK + "!", "x" * 25], "class", 24)
    assert shown[:4] == ["a", "class 2 (2)", "class 2", "a (2)"]
    assert shown[4] == "great white sha…rcharias"
    assert shown[5] == "great white sha…charias!"
    assert shown[6] == "x" * 15 + "…" + "x" * 8
    again = labels.labels(["same " * 9 + "end", "same " * 10 + "end"], "class", 24)
    assert again[0] == "same same same…same end"
    assert again[1].endswith(" (2)")


def test_the_font_is_the_bundled_one_upright_and_bold() -> None:
    folder = Path(mpl.get_data_path(), "fonts", "ttf")
    for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
        assert labels.glyphs() <= get_font(folder / name).get_charmap().keys()
    assert {ord(c) for c in "aé…−ж"} <= labels.glyphs()
    assert ord("猫") not in labels.glyphs()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on data whose classes and tasks have odd names."""
    folder = tmp_path_factory.mktemp("run")
    tasks = {"kind": NAMES, "標籤": ("3", "4"), SHARK: ("3", "4"), "count": ("3", "4", "5", "6")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluated_run, "TASKS", tasks)
        evaluated_run.make(folder)
    return folder


@pytest.fixture(scope="module")
def numbers(built: Path) -> Results:
    """Those of its report."""
    with pytest.MonkeyPatch.context() as patch:
        evaluated_run.enter(patch, built)
        patch.setattr(Figure, "savefig", lambda _, path, **__: stand_in(path))
        return pages.build(configs.load(), built / "out" / "report")


def test_a_run_shows_every_name_and_has_the_key(
    built: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated_run.enter(monkeypatch, built)
    report = built / "out" / "report"
    numbers = pages.build(configs.load(), report)
    for figure in drawn:
        assert_readable(figure)
    words = {text.get_text() for figure in drawn for text in texts(figure)}
    shown, key = labels.of_run(numbers)
    for renamed in shown.confusion:
        assert words.issuperset(renamed.classes)
    assert words.issuperset(row.task for row in shown.table)
    rows = [[cell.shown for cell in row.cells] for row in key.rows]
    assert rows == [
        ["task 2", "task", "標籤"],
        ["great white…charias", "task", SHARK],
        ["class 1", "class (task: kind)", CAT],
        ["great white sha…rcharias", "class (task: kind)", SHARK],
    ]
    html, markdown = ((report / name).read_text() for name in ("index.html", "report.md"))
    assert key.html() in html
    assert key.markdown() in markdown
    assert numbers.confusion[0].classes == NAMES  # results.json has the full ones


def test_numbers_are_those_of_the_full_names(numbers: Results) -> None:
    shown, _ = labels.of_run(numbers)
    for before, after in zip(numbers.confusion, shown.confusion, strict=True):
        assert dataclasses.replace(after, task=before.task, classes=before.classes) == before
    for old, new in zip(numbers.table, shown.table, strict=True):
        assert dataclasses.replace(new, task=old.task) == old


MANY = {
    "names": NAMES,
    "two": (SHARK, CAT),
    "long": tuple(f"{SHARK} {i}" for i in range(30)),
}
HUNDRED = tuple(f"class number {i}" for i in range(100))


@pytest.mark.parametrize(
    "classes", [*MANY.values(), pytest.param(HUNDRED, marks=pytest.mark.slow)], ids=[*MANY, "100"]
)
def test_a_confusion_shows_every_class(
    numbers: Results, tmp_path: Path, drawn: Drawn, classes: tuple[str, ...]
) -> None:
    shown, _ = labels.of_run(dataclasses.replace(numbers, confusion=(matrix(classes),)))
    confusion.draw(shown, tmp_path / "confusion")
    (figure,) = drawn
    assert_readable(figure)
    panel = figure.axes[0]
    expected = labels.labels(classes, "class", labels.CLASS)
    for ticks in (panel.get_xticklabels(), panel.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == expected
    side = panel.get_window_extent().width / figure.dpi
    assert side > max(1, 0.2 * len(classes))  # inches: a number fits into a cell


def test_a_study_shows_every_variant_and_has_the_key(tmp_path: Path, drawn: Drawn) -> None:
    bench = Bench(tmp_path)
    names = ["multi-block", CAT, "_hidden", SHARK]
    points = {
        "start": {"label": "点", "x": None, "set": {}},
        "finer": {"label": f"finer: {SHARK}", "x": None, "set": {"model.patch_size": 2}},
    }
    variants = {
        f"v{i}": {"label": label, "set": {"mask.num_targets": i + 1}, "paper": None}
        for i, label in enumerate(names)
    }
    bench.experiment("grown", points=points, table=None, variants=variants)
    bench.lock("grown", "laptop", lambda variant, _: 50.0 - int(variant[1:]))
    numbers = bench.build("grown", "laptop")
    assert drawn
    for figure in drawn:
        assert_readable(figure)
        for axes in figure.axes:  # what stands beside a mark is in its panel, or below its title
            titles = [text for text in axes.get_children()
                      if isinstance(text, mpl.text.Text) and text.get_text()]  # fmt: skip
            above = [t.get_window_extent().y0 for t in titles if t not in axes.texts]
            top = max([axes.get_window_extent().y1, *above])
            assert all(text.get_window_extent().y1 <= top for text in axes.texts)
            assert axes.yaxis_inverted() == (axes.get_ylim()[1] == -0.5)  # only a list of rows is
    shown, key = labels.of_study(numbers)
    words = {" ".join(text.get_text().split()) for figure in drawn for text in texts(figure)}
    assert words.issuperset(variant.label for variant in shown.variants)
    assert words.issuperset(point.label for point in shown.points)
    rows = [[cell.shown for cell in row.cells] for row in key.rows]
    assert [row[1:] for row in rows] == [
        *(["variant", name] for name in names[1:]),
        *(["point", point["label"]] for point in points.values()),
    ]
    assert [row[0] for row in rows[:2]] == ["variant 2", "variant 3"]
    folder = bench.folder("grown", "laptop")
    assert key.html() in (folder / "index.html").read_text()
    assert key.markdown() in (folder / "report.md").read_text()


def test_where_every_name_can_be_drawn_nothing_changes(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.experiment()
    shown, key = labels.of_study(bench.numbers())
    assert shown == bench.numbers()
    assert not key
