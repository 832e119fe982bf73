"""The report of an ablation says what the lock file says, in the same bytes each time."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from planted import LABELS, Bench, Result, fail
from scipy import stats

from ijepa.pages import figure, index, origin, study, study_tables, verdict
from ijepa.pages.figures import accuracy, context, emergence
from ijepa.runtime.records import plain
from ijepa.study import experiment, lock, summary, vouch

POINTS = {
    "start": {"label": "start", "x": None, "set": {}},
    "finer": {"label": "a finer grid", "x": None, "set": {"model.patch_size": 2}},
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A table with failed, missing and single runs, one with points, and the page over both."""
    bench = Bench(tmp_path_factory.mktemp("built"))

    def broken(results: dict[str, Result]) -> None:
        fail(results, "v1/1", "mask.target_scale: no block of <0.6> fits & 50% are lost_here")
        for seed in range(3):
            fail(results, f"v3/{seed}", "out of memory")
        del results["v2/0"], results["v2/2"]

    bench.experiment()
    bench.lock("made", "laptop", lambda variant, _: MEANS[variant], change=broken)
    bench.build()
    bench.experiment("grown", 2, points=POINTS, table=None, title="Where it appears")
    bench.lock("grown", "smoke", lambda variant, _: MEANS[variant])
    bench.build("grown", "smoke")
    index.write(bench.reports, experiments=bench.experiments)
    return bench


MEANS = {"v0": 50.0, "v1": 48.5, "v2": 49.5, "v3": 47.0}


def decided(variant: str, point: str | None) -> float:
    return 60.0 if variant == "v0" else 50.0


def texts(folder: Path) -> dict[str, str]:
    return {
        p.name: p.read_text()
        for p in folder.iterdir()
        if p.suffix in (".html", ".md", ".tex", ".csv")
    }


def test_numbers_are_those_of_the_lock_file(bench: Bench) -> None:
    bench.experiment()
    bench.lock("made", "gpu", lambda variant, _: MEANS[variant], spread=2.0)
    numbers = bench.numbers("made", "gpu")
    results = lock.read("made", "gpu", bench.experiments)["results"]
    values = {
        v: [results[f"{v}/{seed}"]["metrics"]["class"]["linear"]["trained"] for seed in range(6)]
        for v in MEANS
    }
    tests = {v: stats.ttest_rel(values[v], values["v0"]) for v in ("v1", "v2", "v3")}
    for cell in numbers.cells:
        mine = values[cell.variant]
        assert cell.spread.n == 6
        assert cell.spread.mean == pytest.approx(np.mean(mine))
        assert cell.spread.std == pytest.approx(np.std(mine, ddof=1))
        if cell.difference is not None:
            test, spread = tests[cell.variant], cell.difference.spread
            assert (spread.low, spread.high) == pytest.approx(tuple(test.confidence_interval()))
        gained = np.subtract(mine, [30.0 + seed for seed in range(6)])  # paired within the run
        around = stats.ttest_1samp(gained, 0).confidence_interval()
        assert cell.learned.mean == pytest.approx(gained.mean())
        assert (cell.learned.low, cell.learned.high) == pytest.approx(tuple(around))
    assert [cell.gap for cell in numbers.cells] == pytest.approx([0.0, -38.7, -34.0, -36.6])
    first = numbers.cells[0]
    assert (first.random_init, first.pixels, first.difference) == (32.5, 28.5, None)
    assert first.spread.mean is not None
    assert first.knn == pytest.approx(first.spread.mean - 8)
    assert first.context_ratio == pytest.approx(0.205)
    rows = [r for r in numbers.rows if (r.variant, r.encoder) == ("v0", "trained")]
    assert [r.value for r in rows if r.metric == "class.linear.trained"] == values["v0"]
    runs = [run for run in numbers.runs if run.variant == "v0"]
    assert [numbers.value(run) for run in runs] == values["v0"]


def test_what_is_failed_missing_or_single_is_said_everywhere(built: Bench) -> None:
    numbers = built.numbers()
    assert [cell.spread.n for cell in numbers.cells] == [3, 2, 1, 0]
    states = {run.key: run.status for run in numbers.runs}
    assert len(states) == 12
    assert (states["v1/1"], states["v2/0"], states["v2/1"]) == ("failed", "missing", "done")
    pages = texts(built.folder())
    assert "no block of &lt;0.6&gt; fits &amp; 50% are lost_here" in pages["index.html"]
    assert "no block of <0.6> fits & 50% are lost_here" in pages["report.md"]
    assert r"no block of $<$0.6$>$ fits \& 50\% are lost\_here" in pages["table.tex"]
    for text in pages.values():
        assert "seeds 0, 2 missing" in text
        assert text.count("out of memory") >= 3
    for name in ("index.html", "report.md"):
        assert verdict.coverage(numbers) in pages[name]
        assert "1†" in pages[name]
    assert "6 are done, 4 failed and 2 missing" in verdict.coverage(numbers)
    assert "random &lt;0.6&gt;" in pages["index.html"]
    assert pages["index.html"].count('<tr class="lost">') == 6


def test_a_run_without_the_metric_is_a_failed_one(bench: Bench) -> None:
    def change(results: dict[str, Result]) -> None:
        results["v0/0"]["metrics"] = {"other": {}}
        results["v0/1"]["metrics"]["class"]["linear"]["trained"] = float("nan")

    bench.experiment()
    bench.lock("made", "smoke", decided, change=change)
    numbers = bench.numbers("made", "smoke")
    assert numbers.cells[0].spread.n == 0
    runs = [run for run in numbers.runs if run.variant == "v0"]
    assert {run.status for run in runs} == {"failed"}
    assert not any(row.variant == "v0" for row in numbers.rows), "nor do its baselines count"
    assert all("class.linear.trained" in str(run.reason) for run in runs)


def test_results_that_no_plan_asks_for_are_named(bench: Bench) -> None:
    bench.experiment()
    bench.lock("made", "smoke", decided)
    bench.experiment(count=3)
    numbers = bench.numbers("made", "smoke")
    assert numbers.strays == ("v3/0", "v3/1")
    assert "v3/0, v3/1" in verdict.coverage(numbers)


def test_of_which_code_the_results_are_is_said_where_somebody_looked(bench: Bench) -> None:
    bench.experiment()
    bench.lock("made", "smoke", decided)
    keys = [run.key for run in bench.numbers("made", "smoke").runs]
    assert origin.standing(bench.numbers("made", "smoke")) == ""
    standing = dict.fromkeys(keys, "today") | {keys[0]: "vouched", keys[1]: "older"}
    numbers = bench.build("made", "smoke", standing=standing)
    text = "Of 8 results 6 are of today&#39;s code, 1 is vouched for, 1 is of older code."
    page = (bench.folder("made", "smoke") / "index.html").read_text()
    assert text in page
    assert text in index.write(bench.reports, experiments=bench.experiments).read_text()
    assert {run.key: run.standing for run in numbers.runs} == standing
    assert study_tables.runs(numbers).markdown().count("| today |") == 6


def test_the_same_bytes_from_results_alone(built: Bench, tmp_path: Path) -> None:
    folder = built.folder()
    shutil.copy(folder / "results.json", tmp_path)
    study.render(tmp_path)
    for file in folder.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (tmp_path / file.relative_to(folder)).read_bytes(), file


def test_check_names_what_was_changed_and_nothing_else(built: Bench, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    shutil.copytree(built.reports, reports)
    folder = reports / "ablations" / "grown.smoke"
    (folder / "report.md").write_text("better numbers")
    (folder / "figures" / "cost.svg").unlink()
    (folder / "figures" / "old.png").write_bytes(b"")
    (reports / "index.html").write_text("")
    (reports / "board.json").unlink()
    left = reports / "ablations" / "gone.laptop"  # its lock file was removed
    left.mkdir()
    shutil.copy(reports / "ablations" / "made.laptop" / "results.json", left)
    differ = index.check([("grown", "smoke")], folder.parent, built.experiments)
    names = ("ablations/gone.laptop", "ablations/grown.smoke/figures/cost.svg",
             "ablations/grown.smoke/figures/old.png", "ablations/grown.smoke/report.md",
             "board.json", "index.html", "index.md")  # fmt: skip
    assert differ == [f"{reports.as_posix()}/{name}" for name in names]


class Links(HTMLParser):
    """Ids, links and tags of a page."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {found["id"] or ""} if "id" in found else set()
        self.links += [found[key] or "" for key in ("href", "src") if key in found]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("report_of", [("made", "laptop"), ("grown", "smoke")])
def test_every_number_leads_to_its_runs(built: Bench, report_of: tuple[str, str]) -> None:
    page = (built.folder(*report_of) / "index.html").read_text()
    links = Links(page)
    assert links.open == []
    numbers = built.numbers(*report_of)
    for cell in numbers.cells:
        assert cell.spread.n == 0 or f"#{study_tables.anchor(cell)}" in links.links
    for link in links.links:  # and the page needs no other file
        assert link[1:] in links.ids if link.startswith("#") else link.startswith("data:image/")
    for run in numbers.runs:
        if run.done:
            for value in (run.signature, run.encoder, run.commit, run.baseline):
                assert f'title="{value}"' in page
            name, scale = report_of
            assert f"ijepa reproduce {name}.{scale} {run.key}</" in page
            assert "<br>".join(str(run.ids[s]) for s in run.ids) in page


def test_every_figure_draws_and_speaks_where_it_has_numbers_alone(
    built: Bench, bench: Bench
) -> None:
    bench.experiment()
    nothing = bench.numbers()
    assert [f.__name__ for f in study.FIGURES if f.needs(nothing)] == [accuracy.__name__]
    unpublished = replace(nothing, cells=tuple(replace(c, paper=None) for c in nothing.cells))
    assert not any(f.needs(unpublished) for f in study.FIGURES)
    for report_of in (("made", "laptop"), ("grown", "smoke")):
        numbers = built.numbers(*report_of)
        for shown in figure.shown(study.FIGURES, numbers):
            assert shown.words.title
            assert shown.words.caption
            for variant in numbers.variants:  # who cannot see it gets the numbers
                assert variant.label in shown.words.alt


def test_a_context_that_all_variants_share_is_no_axis(bench: Bench) -> None:
    bench.experiment()

    def alike(results: dict[str, Result]) -> None:
        for result in results.values():
            result["pretrain"]["context_ratio"] = 0.4 + 0.002 * result["seed"]

    bench.lock("made", "laptop", lambda *_: 50.0)
    assert context.needs(bench.numbers())
    bench.lock("made", "laptop", lambda *_: 50.0, change=alike)
    assert not context.needs(bench.numbers())


def test_no_figure_clips_what_it_shows(built: Bench) -> None:
    drawn = sorted(built.reports.rglob("figures/*.png"))
    assert {path.stem for path in drawn} == {"accuracy", "context", "cost", "emergence"}
    for path in drawn:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"))
        edges = (pixels[:4], pixels[-4:], pixels[:, :4], pixels[:, -4:])
        assert all((edge == 255).all() for edge in edges), path
        assert pixels.min() < 60


def parse_tex(text: str) -> list[list[str]]:
    """Rows of cells of a LaTeX table; fails where LaTeX would."""
    body = re.sub(r"(?<!\\)%.*", "", text)
    bare = re.sub(r"\\[\\{}&%$#_]", "", body)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    assert "#" not in bare
    outside = re.sub(r"\$[^$]*\$|\\(label|begin|end|cmidrule)\{[^}]*\}", "", bare)
    assert not set("_^~<>") & set(outside)
    assert all(ord(character) < 0x180 for character in text)
    begun = re.findall(r"\\(begin|end)\{(\w+)\}", body)
    assert begun == [
        ("begin", "table"),
        ("begin", "tabular"),
        ("end", "tabular"),
        ("end", "table"),
    ]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", body)
    assert columns is not None
    inside = body.split("\\begin{tabular}", 1)[1].split("\\end{tabular}")[0].split("}", 1)[1]
    rows = []
    for line in inside.split("\\\\\n"):
        row = re.sub(r"\\(top|mid|bottom)rule", "", line).strip()
        if row:
            assert not row.startswith(("[", "*"))
            rows.append(re.split(r"(?<!\\)&", row))
            spanned = re.match(r"\\multicolumn\{(\d+)\}", row)
            assert len(rows[-1]) == (1 if spanned else len(columns[1]))
            assert spanned is None or int(spanned[1]) == len(columns[1])
    return rows


@pytest.mark.parametrize("report_of", [("made", "laptop"), ("grown", "smoke")])
def test_the_latex_table_compiles(
    built: Bench, tmp_path: Path, report_of: tuple[str, str]
) -> None:
    table = built.folder(*report_of) / "table.tex"
    rows = parse_tex(table.read_text())
    assert len(rows) == {"made": 1 + 4 + 2, "grown": 1 + 2 * (1 + 2 + 2)}[report_of[0]]
    tool = shutil.which("pdflatex") or shutil.which("tectonic")
    if tool:
        (tmp_path / "a.tex").write_text(
            "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
            f"{table.read_text()}\\end{{document}}\n"
        )
        halt = ["-halt-on-error"] if "pdflatex" in tool else []
        subprocess.run([tool, *halt, "a.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_the_sheet_has_the_numbers_in_full(built: Bench) -> None:
    rows = list(csv.DictReader((built.folder() / "table.csv").read_text().splitlines()))
    for row, cell in zip(rows, study.read(built.folder()).cells, strict=True):
        for key in ("n", "mean", "std", "low", "high"):
            value = getattr(cell.spread, key)
            assert row[key] == ("" if value is None else str(value))
        paired = cell.difference
        spread = paired.spread if paired else None
        for key, value in {
            "difference": spread and spread.mean, "difference_low": spread and spread.low,
            "difference_high": spread and spread.high,
        }.items():  # fmt: skip
            assert row[key] == ("" if value is None else str(value))


def test_emergence_is_drawn_against_compute(built: Bench) -> None:
    numbers = built.numbers("grown", "smoke")
    # 6 x 203,456 parameters x patches x images; patches of 4 of 32 x 32 pixels are 64, of 2: 256
    compute = {pair.point: pair.compute for pair in numbers.pairs}
    assert compute == {"start": 6 * 203456 * 64 * 20000, "finer": 6 * 203456 * 256 * 80000}
    assert numbers.compute == "patches"
    assert "patches" in str(emergence.axis(numbers))
    assert emergence.axis(replace(numbers, compute=None)) is None, "and its points have no x"
    assert not emergence.needs(replace(numbers, compute=None))
    assert emergence.needs(numbers)
    points = tuple(replace(point, equal_compute="v0") for point in numbers.points)
    assert not emergence.needs(replace(numbers, points=points)), "no budget of one thing"
    assert [one.decision for one in numbers.at_points] == ["undecided", "undecided"]


def test_baselines_of_their_own_are_told_apart(bench: Bench) -> None:
    def change(results: dict[str, Result]) -> None:
        for seed in range(3):
            results[f"v1/{seed}"]["metrics"]["class"]["linear"]["random_init"] = 12.0

    bench.experiment()
    bench.lock("made", "laptop", decided, change=change)
    numbers = bench.numbers()
    random, raw = numbers.baselines
    assert (random.encoder, random.shared, random.spread.mean) == ("random_init", False, 31.0)
    assert (raw.encoder, raw.shared, raw.spread.std) == ("pixels", True, 0.0)
    names = [row.cells[0].shown for row in study_tables.accuracies(numbers).rows]
    assert names[-2:] == [f"random init ({LABELS[0]})", "raw pixels"]


def test_settings_are_set_against_those_of_the_papers_scale(bench: Bench) -> None:
    bench.experiment(base={"train.batch_size": 16}, at={"laptop": {"train.lr": 0.002}})
    chosen = experiment.load("made", bench.experiments)
    here, there = (experiment.load_scale(name, bench.experiments) for name in ("laptop", "gpu"))
    locked = lock.read("made", "laptop", bench.experiments)
    (setting,) = summary.collect(chosen, locked, here, there).settings
    assert (setting.key, setting.here, setting.paper) == ("train.lr", 0.002, None)


def test_what_variants_or_points_set_is_not_called_shared(bench: Bench) -> None:
    """And what each point sets, at this scale, is on the page."""
    bench.experiment(
        at={
            "laptop": {
                "mask.num_targets": 3,
                "train.epochs": 5,
                "train.lr": 0.002,
                "train.clip_norm": 1.0,
            }
        },
        points={
            "p": {"set": {"train.clip_norm": 2.0}, "at": {"gpu": {"train.lr": 0.1}}},
            "q": {"set": {}, "at": {"laptop": {"train.epochs": 2}}},
        },
    )
    chosen = experiment.load("made", bench.experiments)
    here, there = (experiment.load_scale(name, bench.experiments) for name in ("laptop", "smoke"))
    locked = lock.read("made", "laptop", bench.experiments)
    told = summary.collect(chosen, locked, here, there)
    assert [setting.key for setting in told.settings] == ["train.lr"], "but at another scale"
    assert [dict(point.set) for point in told.points] == [
        {"train.clip_norm": 2.0}, {"train.epochs": 2}
    ]  # fmt: skip
    equal = {"q": {"set": {}, "equal_compute": "v0"}}
    bench.experiment(at={"laptop": {"train.epochs": 5}}, points=equal)
    told = summary.collect(experiment.load("made", bench.experiments), locked, here, there)
    assert told.settings == (), "each variant trains for as long as makes its FLOPs equal"


def test_the_page_over_all_has_every_report_but_smokes(built: Bench, tmp_path: Path) -> None:
    def page(*reports: tuple[str, str, str]) -> str:
        for name, scale, shown in reports:
            folder = tmp_path / "ablations" / f"{name}.{shown}"
            folder.mkdir(parents=True, exist_ok=True)
            results = json.loads((built.folder(name, scale) / "results.json").read_text())
            results["scale"] = shown
            (folder / "results.json").write_text(json.dumps(results))
        return index.write(tmp_path, experiments=built.experiments).read_text()

    smoke = page(("grown", "smoke", "smoke"))
    assert "ablations/grown.smoke/index.html" in Links(smoke).links, "there is nothing else"
    everything = page(("grown", "smoke", "gpu"), ("made", "laptop", "laptop"))
    links = Links(everything).links
    for name in ("made.laptop", "grown.gpu"):
        assert f"ablations/{name}/index.html" in links
    assert not [link for link in links if "smoke" in link]
    for name, scale in (("made", "laptop"), ("grown", "gpu")):
        numbers = study.read(tmp_path / "ablations" / f"{name}.{scale}")
        assert str(Markup.escape(verdict.sentence(numbers))) in everything
        assert numbers.title in everything
    assert everything.index("Made-up table") < everything.index(
        "Where it appears"
    )  # Table 6, none


def test_results_of_another_version_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"name": "old"}')
    with pytest.raises(ValueError, match=r"results.json: Study: not of this version"):
        study.read(tmp_path)


@pytest.mark.parametrize("scale", ["laptop", "gpu"])
def test_real_experiments_make_reports(scale: str) -> None:
    for name in experiment.names():
        chosen = experiment.load(name)
        locked = lock.read(name, scale, Path("nowhere"))
        numbers = summary.collect(chosen, locked, experiment.load_scale(scale))
        said = "undecided" if chosen.claim.pairs else "nothing is claimed"
        assert numbers.verdict.decision == said


def test_the_committed_numbers_are_what_their_lock_files_give() -> None:
    reports = [(name, scale) for name, scale in lock.listing() if scale != "smoke"]
    assert ("masking_strategy", "laptop") in reports
    for name, scale in reports:
        committed = study.read(study.FOLDER / f"{name}.{scale}")
        standing = {run.key: run.standing for run in committed.runs if run.standing}
        assert plain(summary.read(name, scale, standing=standing)) == plain(committed), name


@pytest.mark.slow
def test_the_committed_reports_are_what_their_lock_files_give() -> None:
    reports = [(name, scale) for name, scale in lock.listing() if scale != "smoke"]
    standing = {report: vouch.standing(*report) for report in reports}
    assert index.check(reports, standing=standing) == []
