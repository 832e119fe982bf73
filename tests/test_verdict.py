"""Pages of planted lock files of each kind show their numbers: verdicts, pairs, the board."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted import IMAGES, KINDS, Bench, Result, plant
from scipy import stats

from ijepa.pages import bar, board_table, index, readme, study, study_tables, text, verdict
from ijepa.pages.study_tables import UNTRAINED
from ijepa.pages.table import tex
from ijepa.runtime.records import plain
from ijepa.study import board
from ijepa.study.decision import FAILS, HOLDS
from ijepa.study.numbers import Study

OPENS = {
    "holds": "Holds at", "does not hold": "Does not hold at", "undecided": "Undecided at",
    "no difference": "No difference beyond",
}  # fmt: skip
# kind -> decision, the look that decided, whether it is by less than the margin
EXPECTED: dict[str, tuple[str, int | None, bool]] = {
    "holds": ("holds", 6, False),
    "holds_by_less": ("holds", 6, True),
    "does_not_hold": ("does not hold", 6, False),
    "holds_alone": ("holds", 6, False),
    "no_difference": ("no difference", 6, False),
    "undecided": ("undecided", None, False),
    "last_look": ("undecided", None, False),
    "between_looks": ("undecided", None, False),
    "before_the_first": ("undecided", None, False),
    "collapsed": ("undecided", None, False),
    "unregistered": ("holds", 6, False),
    "changed_later": ("holds", 6, False),
    "of_two_codes": ("holds", 6, False),
    "with_images": ("holds", 6, False),
    "not_run": ("undecided", None, False),
}


class Tables(HTMLParser):
    """The tables of a page: for each its heads, and its rows of cells as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.heads: list[list[str]] = []
        self.rows: list[list[list[str]]] = []
        self.text: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.heads.append([])
            self.rows.append([])
        elif tag == "tr" and self.rows:
            self.rows[-1].append([])
        elif tag in ("td", "th") and self.rows:
            self.text = ""

    def handle_data(self, data: str) -> None:
        if self.text is not None:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self.text is not None:
            self.rows[-1][-1].append(self.text)
            self.text = None
        elif tag == "thead":
            self.heads[-1] = self.rows[-1].pop()

    def named(self, head: str) -> list[dict[str, str]]:
        """Rows of the one table that has a column of this head, by the heads."""
        (place,) = [i for i, heads in enumerate(self.heads) if head in heads]
        heads = self.heads[place]
        return [
            dict(zip(heads, row, strict=True))
            for row in self.rows[place]
            if len(row) == len(heads)
        ]


def numbers_in(text: str) -> list[float]:
    """Every number of a text, in order."""
    return [float(n) for n in re.findall(r"[+-]?\d+(?:\.\d+)?", text.replace("−", "-"))]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A report of each kind without its figures, and the board over all."""
    bench = Bench(tmp_path_factory.mktemp("planted"))
    plant(bench)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "FIGURES", ())
        for kind in KINDS:
            if kind != "not_run":
                bench.build(kind)
    index.write(bench.reports, experiments=bench.experiments)
    return bench


def read(bench: Bench, kind: str) -> tuple[Study, str]:
    """A report's numbers and its page."""
    if kind == "not_run":
        return bench.numbers(kind), ""
    folder = bench.folder(kind)
    return study.read(folder), (folder / "index.html").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_verdict(bench: Bench, kind: str) -> None:
    of = read(bench, kind)[0].verdict
    assert (of.decision, of.look, of.negligible) == EXPECTED[kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "not_run"])
def test_the_sentence_has_the_effect_its_interval_and_the_seeds(bench: Bench, kind: str) -> None:
    of, page = read(bench, kind)
    text = verdict.sentence(of)
    pair = of.pairs[of.verdict.deciding or 0]
    spread = pair.comparison.spread
    assert spread.mean is not None
    for value in (spread.mean, spread.low, spread.high):
        assert value is not None
        assert any(abs(value - shown) <= 0.05 for shown in numbers_in(text)), (value, text)
    seeds = {spread.n, of.verdict.look or of.design.looks[-1]}
    assert seeds <= {int(n) for n in numbers_in(text)}
    assert of.as_registered != text.startswith("Exploratory")
    assert text.removeprefix("Exploratory. ").startswith(OPENS[of.verdict.decision])
    assert ("by less than the margin that matters" in text) == of.verdict.negligible
    later = of.verdict.look is not None and of.verdict.look != spread.n
    assert (f"seeds; with {spread.n}: " in text) == later
    for name in (pair.better, pair.worse):
        assert of.label(name) in text
    assert tex(text) in (bench.folder(kind) / "table.tex").read_text()
    badge = re.search(r'class="badge (\w+)">(.*?)<', page)
    assert badge is not None
    assert badge[2] == verdict.MARKS[of.verdict.decision]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "not_run"])
def test_every_cell_of_a_pair_is_its_number(bench: Bench, kind: str) -> None:
    of, page = read(bench, kind)
    rows = Tables(page).named("margin (points)")
    assert len(rows) == len(of.pairs)
    for row, pair in zip(rows, of.pairs, strict=True):
        spread, test = pair.comparison.spread, pair.test
        assert numbers_in(row["here (points, + is as claimed)"]) == [
            pytest.approx(spread.mean, abs=0.05)
        ]
        assert numbers_in(row[study_tables.INTERVAL]) == [
            pytest.approx(limit, abs=0.05) for limit in (spread.low, spread.high)
        ]
        assert (int(row["n"]), float(row["margin (points)"])) == (spread.n, test.margin)
        assert row["the pair is"] == verdict.PAIRS[test.decision]
        ps = [row.get(head, "n/a") for head in ("p ▲", "p ▼", "p ≈")]
        if test.adjusted is None:
            assert ps == ["n/a"] * 3, "no p below the first look"
            continue
        exact = (test.adjusted.above, test.adjusted.below, test.adjusted.same)
        for shown, p in zip(ps, exact, strict=True):
            assert p < 0.001 if shown == "< 0.001" else float(shown) == pytest.approx(p, abs=5e-3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "not_run"])
def test_one_table_of_a_page_has_p_and_heads_have_units(bench: Bench, kind: str) -> None:
    heads = Tables(read(bench, kind)[1]).heads
    assert sum(any(re.search(r"\bp\b", head) for head in table) for table in heads) == 1
    for table in heads:
        for head in table if "key" not in table else ():  # that of settings has no numbers
            if re.search("paper|here|minus|interval|margin|sd", head):
                assert re.search(r"\((points|%)", head), head
            if re.search("minus ref|here .points", head):
                assert "+ is" in head, "a difference has a direction"


def test_a_collapsed_run_is_marked_and_the_healthy_mean_stands_beside(bench: Bench) -> None:
    of, page = read(bench, "collapsed")
    values = [of.value(run) for run in of.runs if run.variant == "v1"]
    assert values[2] == 12.5
    cell = next(cell for cell in of.cells if cell.variant == "v1")
    assert cell.collapsed == (2,)
    healthy = [value for seed, value in enumerate(values) if seed != 2 and value is not None]
    assert cell.healthy.mean == pytest.approx(sum(healthy) / 5, rel=1e-5)
    head = next(h for h in study_tables.accuracies(of).columns if h.startswith("healthy"))
    rows = {row["variant"]: row for row in Tables(page).named(head)}
    marked = {
        name for name, row in rows.items() if any(verdict.COLLAPSED in v for v in row.values())
    }
    assert marked == {of.label("v1")}
    assert numbers_in(rows[of.label("v1")][head])[0] == pytest.approx(cell.healthy.mean, abs=0.05)
    assert rows[of.label("v2")][head] == ""
    other = study_tables.accuracies(read(bench, "holds")[0])
    assert not [head for head in other.columns if head.startswith("healthy")]


def test_an_undecided_claim_tells_what_its_other_pairs_show(bench: Bench) -> None:
    """Else “undecided” hides the largest effect of a table."""
    of, page = read(bench, "collapsed")
    better = next(pair for pair in verdict.claimed(of) if pair.test.decision == "holds")
    assert better is not verdict.deciding(of)
    told = f"{verdict.pair(of, better)} is ▲ better by itself, {verdict.effect(better)}"
    assert verdict.found(of) == told
    assert told in verdict.sentence(of)
    assert told in page
    assert verdict.found(read(bench, "undecided")[0]) == "", "none is decided"


def test_a_page_calls_no_network_healthy_and_says_on_what_machine_its_numbers_came_to_be(
    bench: Bench,
) -> None:
    of, page = read(bench, "collapsed")
    rows = Tables(page).named("machine")
    alarms = [row["state"].partition(":")[0] for row in rows]
    assert sorted(set(alarms)) == ["collapsed", "no alarm"]
    assert alarms.count("collapsed") == 1
    for run, row in zip(of.runs, rows, strict=True):
        assert row["machine"].split() == (run.machine or "nowhere").split()
    cell = next(cell for cell in of.cells if cell.collapsed)
    assert verdict.health(cell).startswith(f"{len(of.seeds) - 1} of {len(of.seeds)} ")


def test_what_was_changed_later_is_exploratory_and_decides_nothing(bench: Bench) -> None:
    of, page = read(bench, "changed_later")
    assert [pair.exploratory for pair in of.pairs] == [False, False, True]
    assert [pair.test.margin for pair in of.pairs] == [1.0, 1.0, 0.5]
    assert len(verdict.claimed(of)) == 2
    assert {(one.key, one.registered, one.today) for one in of.exploratory} == {
        ("margin", 1.0, 0.5), ("pair", None, 0.5)
    }  # fmt: skip
    texts = verdict.changes(of)
    assert len(texts) == len(of.exploratory)
    assert page.count("<b>Exploratory.</b>") == len(texts)
    assert [numbers_in(text)[-2:] for text in texts[:2]] == [[1.0, 0.5]] * 2
    assert "<b>Exploratory.</b>" not in read(bench, "holds")[1]
    for kind in ("unregistered", "changed_later"):
        assert not line(bench, kind).registered


def test_variants_of_different_code_are_flagged_by_table(bench: Bench) -> None:
    of, page = read(bench, "of_two_codes")
    assert {one.variants for one in of.codes} == {("v0", "v1"), ("v2",)}
    flag = re.search(r'<p class="note">(.*?)</p>', page, re.DOTALL)
    assert flag is not None
    assert numbers_in(flag[1])[0] == len(of.codes)
    assert all(commit[:10] in flag[1] for one in of.codes for commit in one.commits)
    assert '<p class="note">' not in read(bench, "holds")[1]


def test_intervals_say_over_what_they_are(bench: Bench) -> None:
    both, page = read(bench, "with_images")
    assert IMAGES >= 2
    assert {row["over"] for row in Tables(page).named("over")} == {"seeds and images"}
    assert {pair.comparison.over for pair in both.pairs} == {"seeds and images"}
    alone, page = read(bench, "holds")
    assert {row["over"] for row in Tables(page).named("over")} == {"seeds"}
    assert {pair.comparison.over for pair in alone.pairs} == {"seeds"}


def line(bench: Bench, kind: str) -> board.Line:
    (of,) = board_table.read(bench.reports)
    return next(line for line in of.lines if line.name == kind)


def test_the_board_has_a_line_for_each_claim_and_corrects_for_all(bench: Bench) -> None:
    (of,) = board_table.read(bench.reports)
    assert [one.name for one in of.lines] == list(KINDS)
    assert plain(board.build([read(bench, kind)[0] for kind in KINDS])) == plain(of)
    page = (bench.reports / "index.html").read_text()
    rows = Tables(page).named("on the board")
    seen = board_table.told(of)
    assert len(rows) == len(seen) == len(KINDS) - 1
    for row, one in zip(rows, seen, strict=True):
        assert one.pair is not None
        spread = one.pair.comparison.spread
        shown = numbers_in(row["effect (points, + is as claimed)"])
        assert shown == [
            pytest.approx(v, abs=0.05) for v in (spread.mean, spread.low, spread.high)
        ]
        assert (int(row["seeds"]), float(row["margin (points)"])) == (
            one.seeds, one.pair.test.margin
        )  # fmt: skip
        assert row["on the board"].startswith(verdict.MARKS[one.decision])
        assert row["by itself"].startswith(verdict.MARKS[one.alone])
    links = re.findall(r'<a class="trace" href="(.*?)"', page)
    assert links == [f"ablations/{one.name}.laptop/index.html" for one in seen]
    assert board_table.unseen(of) == [f"Table {len(KINDS)}, not_run"]
    alone = line(bench, "holds_alone")
    assert (alone.alone, alone.decision) == ("holds", "undecided"), "one of many may be luck"
    lines = (bench.reports / "index.md").read_text().splitlines()
    assert sum(text.startswith(("| ▲", "| ▼", "| ≈", "| ◇")) for text in lines) == len(seen)


def test_readme_has_every_claim_with_its_effect_under_its_verdict(bench: Bench) -> None:
    (of,) = board_table.read(bench.reports)
    told = board_table.told(of)
    first, *others = (text for text in readme.claims(bench.reports) if text)
    numbers = numbers_in(re.sub(r"\(\S*\)", "", first))  # without the link
    assert numbers[:2] == [len(of.lines), len(told)]
    seen = list[str]()
    for said in others:
        decided = next((d for d, mark in verdict.MARKS.items() if f"**{mark}**" in said), None)
        head, *parts = re.split(r"(?=\[[^\]]*\]\([^)]*/ablations/)", said)
        assert bool(parts) == bool(decided)
        assert numbers_in(head) == ([len(parts)] if parts else numbers_in(head))
        for part in parts:
            name = re.findall(r"/ablations/(\w+)\.laptop/report\.md\)", part)[0]
            one = line(bench, name)
            seen.append(name)
            assert one.pair is not None
            assert one.decision == decided
            spread = one.pair.comparison.spread
            assert f", {spread.n} seeds" in part
            assert ("exploratory" in part) == (not one.registered)
            sides = (re.escape(text.inert(label or "")) for label in (one.better, one.worse))
            named = re.search(f"for “{'” over “'.join(sides)}”", part)
            assert bool(named) == (decided != "undecided")
            effect = re.findall(r"\): (.*?\])", part)
            shown = numbers_in("".join(effect))
            limits = (spread.mean, spread.low, spread.high)
            assert shown == [pytest.approx(value, abs=0.06) for value in limits]
            assert (", margin " in part) == (decided == "no difference")
    assert sorted(seen) == sorted(one.name for one in told)
    assert readme.claims(bench.experiments) == [], "no board, nothing is said"


def test_a_bar_stands_where_its_numbers_are() -> None:
    places = [bar.place(value, 2.0) for value in (-99, -8, -2, 0, 2, 8, 99)]
    assert places[0] == places[1] == 0
    assert places[3] == bar.WIDTH / 2
    assert places[5] == places[6] == bar.WIDTH
    assert places[4] - places[3] == pytest.approx(bar.WIDTH / 2 / bar.REACH)
    assert all(a <= b for a, b in pairwise(places))


@pytest.mark.parametrize(
    ("mean", "low", "high", "margin", "ends"),
    [(1.0, 0.5, 1.5, 1.0, 0), (0.0, -9.0, 9.0, 1.0, 2), (3.0, 2.0, 5.0, 1.0, 1),
     (9.0, 8.0, 10.0, 1.0, 2), (1.0, 0.5, 1.5, 0.0, 0), (1.0, None, None, 1.0, 0)],
)  # fmt: skip
def test_a_bar_is_cut_with_an_arrow_at_the_ends_beyond(
    mean: float, low: float | None, high: float | None, margin: float, ends: int
) -> None:
    svg = str(bar.bar(mean, low, high, margin))
    assert svg.count('class="tip"') == ends
    assert ('class="band"' in svg) == (margin > 0)
    unit = margin or 1.5 * 1.1 / bar.REACH
    dot = re.search(r'cx="([\d.]+)"', svg)
    assert (dot is None) == (abs(mean) > bar.REACH * unit)
    if dot:
        assert float(dot[1]) == pytest.approx(bar.place(mean, unit), abs=0.06)
    for x in map(float, re.findall(r'[xM" LH]([\d.]+)', svg)):
        assert x <= bar.WIDTH


def test_nothing_is_drawn_without_an_effect() -> None:
    assert bar.bar(None, None, None, 1.0) == ""


def change_of(**given: Any) -> str:
    from ijepa.study.numbers import Change

    blank: dict[str, Any] = {"key": "margin", "name": "a > b", "registered": 1, "today": 2}
    return verdict._change(Change(**{**blank, **given}))


def test_every_kind_of_change_has_other_words() -> None:
    texts = [
        change_of(),
        change_of(registered=None),
        change_of(today=None),
        change_of(key="variant", registered="a" * 64, today="b" * 64),
        change_of(key="known", name="", registered=3, today=None),
        change_of(key="replaced", name="", registered=4, today=None),
    ]
    assert len(set(texts)) == len(texts)
    assert "a" * 64 not in texts[3]
    assert numbers_in(texts[4]) == [3]
    assert numbers_in(texts[5]) == [4]


def test_reports_are_told_apart_from_the_files_beside_them(bench: Bench, tmp_path: Path) -> None:
    reports = [(kind, "laptop") for kind in ("holds",)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "FIGURES", ())
        assert index.check(reports, bench.reports / "ablations", bench.experiments) == []
    for name in index.FILES:
        path = bench.reports / name
        if not path.is_file():
            continue  # the figure: nobody counted FLOPs here
        whole = path.read_bytes()
        path.write_text("typed")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(study, "FIGURES", ())
            differ = index.check(reports, bench.reports / "ablations", bench.experiments)
        assert differ == [path.as_posix()]
        path.write_bytes(whole)


@pytest.mark.parametrize(("gap", "says"), [(-3.0, "Does not hold"), (3.0, "Undecided")])
def test_pairs_that_have_not_run_are_counted(tmp_path: Path, gap: float, says: str) -> None:
    bench = Bench(tmp_path)
    bench.experiment(count=4)

    def first_alone(results: dict[str, Any]) -> None:
        for key in [key for key in results if key.startswith(("v2", "v3"))]:
            del results[key]

    bench.lock("made", "laptop", lambda variant, _: 60.0 + gap * (variant == "v0"), n=6,
               change=first_alone)  # fmt: skip
    said = verdict.sentence(bench.numbers())
    assert said.startswith(f"{says} at laptop scale")
    assert said.endswith(" 2 of the pairs have not reached the first look, the first 6 seeds.")


def test_variants_that_the_probe_does_not_tell_from_their_start_are_counted(
    tmp_path: Path,
) -> None:
    """Planted random init: 30 + seed, 32.5 on average."""
    bench = Bench(tmp_path)
    bench.experiment(count=3)
    means = {"v0": 60.0, "v1": 33.0, "v2": 20.0}
    bench.lock("made", "laptop", lambda variant, _: means[variant], n=6)
    numbers = bench.numbers()
    said = " The probe finds 1 of 3 variants above their random initialisation, and 1 below it"
    assert said in verdict.coverage(numbers)
    of = board.build([numbers])
    (line,) = board_table.unlearned(of)
    assert line.pair is not None
    assert [side.mean for side in line.learned] == [
        pytest.approx(means[name] - 32.5, abs=3) for name in (line.pair.better, line.pair.worse)
    ]
    (sides,) = board_table.learned(line)
    assert sides.count("[") == 2
    bench.lock("made", "laptop", lambda *_: 60.0, n=6)
    assert "The probe finds" not in verdict.coverage(bench.numbers())
    assert board_table.unlearned(board.build([bench.numbers()])) == []


def test_no_difference_names_the_margin_of_each_pair_and_the_ends_of_an_order(
    bench: Bench,
) -> None:
    of = bench.numbers("no_difference")
    first, *more = of.pairs
    assert "beyond 1 point at" in verdict.sentence(of)
    assert "Each pair is a step" not in verdict.sentence(of)
    wide = replace(first, test=replace(first.test, margin=5.0))
    said = verdict.sentence(replace(of, pairs=(wide, *more)))
    assert "No difference beyond its pair's 1 or 5 points at" in said
    names = [variant.name for variant in of.variants]
    steps = [replace(first, better=a, worse=b) for a, b in pairwise(names)]
    assert len(steps) > 1
    said = verdict.sentence(replace(of, pairs=tuple(steps)))
    assert said.endswith(" Each pair is a step: the ends may be further apart.")


def test_a_missing_first_seed_is_why_no_look_is_reached(bench: Bench) -> None:
    of = bench.numbers("undecided")
    pairs = tuple(replace(one, test=replace(one.test, p=None)) for one in of.pairs)
    assert "one of the first seeds is missing" in verdict.sentence(replace(of, pairs=pairs))


@pytest.mark.parametrize(
    ("gap", "untrained", "inborn"),
    [
        (2.0, 3.0, True),
        (2.0, 2.0, True),
        (2.0, -1.0, False),
        (2.0, 0.3, False),
        (-2.0, -3.0, True),
        (-2.0, 3.0, False),
        (-2.0, -0.3, False),
    ],
)
def test_a_difference_that_untrained_encoders_have_is_not_said_to_be_learned(
    gap: float, untrained: float, inborn: bool, tmp_path: Path
) -> None:
    """A seed's own start is taken off it; the last seed's is not known of both."""

    def start(results: dict[str, Result]) -> None:
        for seed in range(5):
            of = results[f"v1/{seed}"]["metrics"]["class"]["linear"]
            of["random_init"] = 30.0 + seed - untrained + 0.02 * (-1) ** seed
        del results["v1/5"]["metrics"]["class"]["linear"]["random_init"]

    bench = Bench(tmp_path)
    bench.experiment(count=2)
    bench.lock("made", "laptop", lambda variant, _: 60.0 + gap * (variant == "v0"), n=6,
               spread=0.1, change=start)  # fmt: skip
    numbers = bench.numbers()
    (pair,) = numbers.pairs
    before = np.array([untrained - 0.02 * (-1) ** seed for seed in range(5)])
    for spread, values in (
        (pair.untrained, before),
        (pair.gained, np.array(pair.comparison.differences[:5]) - before),
    ):
        around = stats.ttest_1samp(values, 0).confidence_interval()
        assert (spread.n, spread.mean) == (5, pytest.approx(values.mean()))
        assert (spread.low, spread.high) == pytest.approx(tuple(around))
    assert pair.test.decision == (HOLDS if gap > 0 else FAILS)
    assert pair.apart_untrained
    assert pair.inborn == inborn
    of = board.build([numbers])
    assert bool(board_table.inborn(of)) == inborn
    (line,) = of.lines
    assert len(board_table.learned(line)) == 2
    study.build("made", "laptop", bench.reports / "ablations/made.laptop", bench.experiments)
    index.write(bench.reports, experiments=bench.experiments)
    told = "\n".join(readme.claims(bench.reports))
    assert f", untrained {text.points(pair.untrained.mean)} [" in told
    assert ("not shown to exceed that of the untrained" in told) == inborn
    said = verdict.sentence(numbers)
    assert ("not shown to come from training" in said) == inborn
    assert ("is more than that" in said) != inborn
    assert UNTRAINED in study_tables.pairs(numbers).columns


def test_encoders_that_start_alike_have_nothing_to_take_off(tmp_path: Path) -> None:
    """But for one seed, whose runs another machine may have made."""

    def start(results: dict[str, Result]) -> None:
        results["v1/0"]["metrics"]["class"]["linear"]["random_init"] -= 0.5

    bench = Bench(tmp_path)
    bench.experiment(count=3)
    bench.lock("made", "laptop", lambda variant, _: 60.0 + 5 * (variant == "v0"), n=6,
               change=start)  # fmt: skip
    numbers = bench.numbers()
    assert numbers.verdict.decision == HOLDS
    assert not any(pair.apart_untrained or pair.inborn for pair in numbers.pairs)
    assert "random initialisations it is" not in verdict.sentence(numbers)
    assert UNTRAINED not in study_tables.pairs(numbers).columns


def test_a_claim_that_fails_counts_its_pairs_by_what_each_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.experiment(count=3)
    means = {"v0": 60.0, "v1": 70.0, "v2": 60.0}
    bench.lock("made", "laptop", lambda variant, _: means[variant], n=6, spread=0.1)
    assert "By themselves 1 is ▼ worse, 1 is ≈ alike." in verdict.sentence(bench.numbers())


@pytest.mark.parametrize("gap", [0.5, -0.5, 1.5, -1.5])
def test_a_difference_within_the_margin_is_said_to_be_on_the_board(
    gap: float, tmp_path: Path
) -> None:
    """Told from 0 and from the margin: it holds, or does not, by less than what matters."""
    bench = Bench(tmp_path)
    bench.experiment(count=2)
    bench.lock("made", "laptop", lambda variant, _: 60.0 + gap * (variant == "v0"), n=6,
               spread=0.05)  # fmt: skip
    (line,) = board.build([bench.numbers()]).lines
    assert line.decision == (HOLDS if gap > 0 else FAILS)
    assert line.negligible == (abs(gap) < 1)
    study.build("made", "laptop", bench.reports / "ablations/made.laptop", bench.experiments)
    page = index.write(bench.reports, experiments=bench.experiments).read_text()
    assert ("within the margin</td>" in page) == line.negligible
    told = "\n".join(readme.claims(bench.reports))
    assert (", within the margin of 1 point" in told) == line.negligible


def test_readme_leaves_out_a_table_whose_report_is_not_built(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for name in ("one", "other"):
        bench.experiment(name, count=2)
        bench.lock(name, "laptop", lambda variant, _: 60.0 + 3 * (variant == "v0"), n=6)
    study.build("one", "laptop", bench.reports / "ablations/one.laptop", bench.experiments)
    index.write(bench.reports, experiments=bench.experiments)
    (of,) = board_table.read(bench.reports)
    assert len(board_table.told(of)) == 2
    told = "\n".join(readme.claims(bench.reports))
    assert "/one.laptop/" in told
    assert "other" not in told
