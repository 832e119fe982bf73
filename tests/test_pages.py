"""What all pages share: tables, numbers as text, figures, records."""

import csv
import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ijepa import variants
from ijepa.pages import index, look, page, run, study, style, text
from ijepa.pages.figures import probes
from ijepa.pages.table import Cell, Row, Table, tex
from ijepa.pages.text import interval, number, plus_minus, points, probability, scaled
from ijepa.results.accuracy import Accuracy
from ijepa.runtime.records import plain, restore

NASTY = "a|b <i>& 50 % of {x_1}\\ #2 $3 ~^"
TABLE = Table(
    ["name", "here (%)", "empty", "hash"],
    [
        Row([NASTY], "group"),
        Row(
            [NASTY, Cell("1.2", 1.23456, "#runs", "better"), "n/a", Cell("ab", "abcd", code=True)],
            "reference",
            [NASTY],
            "runs",
        ),
        Row(["second", "n/a", "", Cell("1\n2", code=True)]),
    ],
    text=["hash"],
)


def test_a_table_escapes_in_every_form() -> None:
    html = str(TABLE.html())
    escaped = "a|b &lt;i&gt;&amp; 50 % of {x_1}\\ #2 $3 ~^"
    assert html.count(escaped) == 3, "heading, first cell and note"
    assert "<i>" not in html
    assert '<td class="n better"><a class="trace" href="#runs">1.2</a></td>' in html
    assert '<code title="abcd">ab</code>' in html
    assert "<code>1<br>2</code>" in html
    assert '<tbody id="runs">' in html
    lines = TABLE.markdown().splitlines()
    assert lines[1] == "|---|---:|---:|---|"
    for line in lines:
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 5, line
    assert lines[-1] == "| second | n/a |  | 1, 2 |"
    rows = TABLE.latex(NASTY, "l").split("\\midrule")[1]
    assert r"a|b $<$i$>$\& 50 \% of \{x\_1\}\textbackslash{} \#2 \$3" in rows
    assert "<" not in rows.replace("$<$", "")


@pytest.mark.parametrize(
    "name",
    ["<img src=x onerror=alert(1)>", "</td>", "<!-- x", "<?php", "[x](http://e.vil)", "![x](y)",
     "[x][y]", "[x]: http://e.vil", "\\<b>", "\\[x](y)", "[a [b](c)](d)", "&lt;b&gt;"],
)  # fmt: skip
def test_a_name_in_markdown_is_no_markup(name: str) -> None:
    assert text.inert(text.inert(name)) == text.inert(name)
    for shown in (text.inert(name), f"| {text.markdown(name)} |\n|---|", f"a {text.inert(name)}"):
        html = MarkdownIt("commonmark").enable("table").render(shown)
        assert not re.search(r"<(?!/?(p|table|thead|tr|th|tbody)>)", html), html


def test_plain_words_of_a_markdown_page_stay_as_they_are() -> None:
    plain = "p < 0.05, a<=b, [39.1, 41.2], x [y], 5 > 3 & more"
    assert text.inert(plain) == plain


def test_latex_sets_what_ascii_has_not() -> None:
    assert tex("−1.0 ± 2 ≥ “q”, é ％ 図\u00a01") == r"$-$1.0 $\pm$ 2 $\ge$ ``q'', é \% ? 1"
    assert tex("[−1, +1]*").startswith("{[}")


def test_a_csv_has_the_values_in_full_and_no_headings() -> None:
    header, *rows = csv.reader(TABLE.csv().splitlines())
    assert header == list(TABLE.columns)
    assert rows[0] == [NASTY, "1.23456", "", "abcd"]
    assert len(rows) == 2


def test_a_column_that_says_nothing_goes_and_no_number_with_it() -> None:
    lean = TABLE.lean()
    assert list(lean.columns) == ["name", "here (%)", "hash"]
    assert lean.csv().splitlines()[1].endswith("1.23456,abcd")
    assert list(lean.without("hash").columns) == ["name", "here (%)"]
    assert not Table(["a", "b"], [Row(["x", "n/a"])]).lean(), "names alone are no table"
    with pytest.raises(AssertionError):
        Table(["a", "b"], [Row(["x"])])


def test_numbers_as_text() -> None:
    assert number(-1.26, signed=True) == "−1.3"
    assert number(None) == interval(None, 1.0) == probability(None) == scaled(None, "B") == "n/a"
    assert plus_minus(50.0, 48.5, 51.5) == "50.0 ± 1.5"
    assert plus_minus(50.0, None, None) == "50.0"
    # what decides a verdict must not look like zero
    assert points(0.04) == "+0.04"
    assert interval(0.01, 3.0, signed=True) == "[+0.01, +3.00]"
    assert [probability(p) for p in (0.0004, 0.0123, 0.5)] == ["< 0.001", "0.012", "0.50"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(34e6, "34 MFLOP"), (1.04e9, "1.04 GFLOP"), (6.5e16, "65 PFLOP"), (1e18, "1 EFLOP"),
     (999.6e9, "1 TFLOP"), (12.0, "12 FLOP")],
)  # fmt: skip
def test_quantities_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert scaled(value, "FLOP").replace("\u00a0", " ") == text


def test_every_figure_is_one_file_and_on_one_page() -> None:
    shown = [
        *index.FIGURES,
        *study.FIGURES,
        *(one for section in run.SECTIONS.values() for one in section),
    ]
    names = [one.__name__.rpartition(".")[2] for one in shown]
    assert sorted(names) == variants.names("pages.figures")


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
    assert look.ticks(xs) == pytest.approx(expected)


def test_points_that_would_cover_each_other_are_moved_apart() -> None:
    moved = np.log(look.apart([1e12, 4e12, 4e12, 1.6e13]))
    assert np.diff(moved).min() > 0.05 * (moved[-1] - moved[0])
    assert moved[1:3].mean() == pytest.approx(np.log(4e12)), "around their own place"
    assert look.apart([4e12, 1e12]) == pytest.approx([4e12, 1e12])


def test_no_two_of_many_variants_look_alike() -> None:
    assert len(set(look.looks(49))) == 49


def test_marks_of_seeds_stand_out_from_white() -> None:
    """WCAG 2.1, 1.4.11: 3 to 1 for what must be seen to understand a figure."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in to_rgb(style.SEED)]  # fmt: skip
    luminance = float(np.dot([0.2126, 0.7152, 0.0722], linear))
    assert 1.05 / (luminance + 0.05) >= 3


def test_a_bars_number_stands_above_its_interval() -> None:
    axes = Figure().subplots()
    row = Accuracy(
        task="class", data="", split="test", images=100, probe="linear", share=1.0, shots=None,
        encoder="trained", chance=10.0, accuracy=50.0, low=44.0, high=56.0, held_out=None,
        max=None, selected=None, difference=None, difference_low=None, difference_high=None,
        verdict=None,
    )  # fmt: skip
    probes.bars(axes, [row])
    (label,) = (text for text in axes.texts if text.get_text() == "50.0")
    assert label.get_position()[1] > 56.0
    assert label.get_verticalalignment() in ("bottom", "baseline")


def test_a_legend_names_all_once_and_in_order() -> None:
    figure = Figure()
    panels = figure.subplots(1, 2)
    for axes in panels:
        for name in ("b", "a"):
            axes.plot([0], [0], label=name)
    look.legend(figure, panels, ["a", "b", "nobody"])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_prose_is_parted_by_its_titles(monkeypatch: pytest.MonkeyPatch) -> None:
    from jinja2 import DictLoader, Environment

    environment = Environment(
        loader=DictLoader({"t": "## A\none\n  two\n\n## B\n\n## C\n1\u00a0%"})
    )
    monkeypatch.setattr(page, "_environment", lambda inert: environment)
    assert page.paragraphs("t") == [("A", "one two"), ("C", "1\u00a0%")]


@dataclass(frozen=True, slots=True)
class Inner:
    """A part."""

    value: float | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outer:
    """A whole."""

    first: Inner
    second: Inner | None
    by_name: dict[str, Inner]
    pairs: tuple[tuple[str, int], ...]


def test_a_record_comes_back_from_its_json() -> None:
    outer = Outer(
        Inner(1.5, ("a", "b")), None, {"x": Inner(None), "y": Inner(2)}, (("a", 1), ("b", 2))
    )
    assert restore(Outer, json.loads(json.dumps(plain(outer)))) == outer
    assert plain(Inner(1.23456789)) == {"value": 1.23457, "names": []}
    assert plain(Inner(float("nan"))) == plain(Inner(None))
    assert restore(Inner, {"value": 1.0}) == Inner(1.0)  # a file from before there were names
    with pytest.raises(ValueError, match="Inner: not of this version; it differs in value"):
        restore(Inner, {"names": []})
    with pytest.raises(ValueError, match="Inner: not of this version; it differs in other"):
        restore(Inner, {"value": 1.0, "names": [], "other": 1})
