"""The report of an ablation says what the lock file says, in the same bytes each time."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from scipy import stats

from ijepa.pages import figure, index, study, study_tables, verdict
from ijepa.pages.figures import accuracy, emergence
from ijepa.runtime.records import plain
from ijepa.study import experiment, lock, summary, vouch
from ijepa.study.numbers import Study

LABELS = (
    "multi-block",
    "rasterized (quadrants) & more_of_it",
    "one block of 60 %",
    "random <0.6>",
)
SCALES = {"smoke": 2, "laptop": 3, "gpu": 6}

Result = dict[str, Any]


def digest(*parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()


class Bench:
    """A folder of experiments, scales and made-up lock files."""

    def __init__(self, folder: Path) -> None:
        self.experiments, self.reports = folder / "experiments", folder / "reports"
        for name, seeds in SCALES.items():
            self._yaml(f"scales/{name}", {
                "about": f"Made up, {name}.", "seeds": seeds, "minutes": 1,
                "data.image_size": 32, "model.patch_size": 4, "train.epochs": 0.6,
            })  # fmt: skip

    def _yaml(self, name: str, tree: Mapping[str, Any]) -> None:
        path = self.experiments / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree))  # JSON is YAML

    def experiment(self, name: str = "made", count: int = 4, **changed: Any) -> str:
        labels = [*LABELS, *(f"variant number {i}" for i in range(9))][:count]
        self._yaml(name, {
            "title": "Made-up table", "question": "Is A > B & C_d?", "table": 6,
            "source": "arXiv 2301.08243v3, Table 6", "metric": "class.linear.trained",
            "factor": ["mask.num_targets"], "seeds": [0, 1, 2, 3, 4, 5],
            "variants": {
                f"v{i}": {"label": label, "set": {"mask.num_targets": i + 1},
                          "paper": [54.2, 15.5, 20.2, 17.6, 39.0, 42.1][i]}
                for i, label in enumerate(labels)
            },
            "claim": {"text": "Multi-block is best.", "by": "paper", "best": "v0", "margin": 1,
                      "looks": [6]},
            **changed,
        })  # fmt: skip
        return name

    def lock(
        self,
        name: str,
        scale: str,
        means: Callable[[str, str | None], float],
        spread: float = 0.8,
        change: Callable[[dict[str, Result]], None] = lambda results: None,
    ) -> None:
        """A lock file whose accuracies scatter around ``means(variant, point)``."""
        chosen = experiment.load(name, self.experiments)
        seeds = list(chosen.seeds[: experiment.load_scale(scale, self.experiments).seeds])
        results, provenance = {}, {}
        for p, point in enumerate(chosen.points or [None]):
            for v, variant in enumerate(chosen.variants):
                for seed in seeds:
                    rng = np.random.default_rng([p, v, seed])
                    shared = np.random.default_rng([p, seed]).normal(0, 2)
                    value = round(means(variant, point) + shared + rng.normal(0, spread), 2)
                    key = f"{variant}@{point}/{seed}" if point else f"{variant}/{seed}"
                    results[key] = made(variant, point, seed, value, 0.2 + 0.05 * v, 20000 * 4**p)
                    provenance[key] = origin(key, 200.0 + 10 * v + rng.normal(0, 5))
        change(results)
        content = {
            "experiment": name, "scale": scale, "seeds": seeds, "results": results,
            "provenance": {key: provenance[key] for key in results},
        }  # fmt: skip
        path = self.experiments / f"{name}.{scale}.lock.json"
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

    def build(self, name: str = "made", scale: str = "laptop", **how: Any) -> Study:
        page = study.build(name, scale, self.folder(name, scale), self.experiments, **how)
        assert page == self.folder(name, scale) / "index.html"
        return study.read(page.parent)

    def numbers(self, name: str = "made", scale: str = "laptop") -> Study:
        return summary.read(name, scale, self.experiments)

    def folder(self, name: str = "made", scale: str = "laptop") -> Path:
        return self.reports / "ablations" / f"{name}.{scale}"


def made(
    variant: str, point: str | None, seed: int, value: float, ratio: float, images: int
) -> Result:
    who = (variant, point, seed)
    return {
        "variant": variant, "point": point, "seed": seed, "signature": digest("s", who),
        "status": "done", "reason": None, "code": digest("code"), "data": digest("data"),
        "encoder": digest("e", who),
        "metrics": {"class": {
            "linear": {"trained": value, "random_init": 30.0 + seed, "pixels": 28.5},
            "knn": {"trained": value - 8, "random_init": 25.0, "pixels": 27.0},
        }},
        "pretrain": {
            "context_ratio": ratio + 0.002 * seed, "collapsed": False, "images": images,
            "health": "healthy: rank 40 of 64", "step": 600, "loss": 0.1, "rankme": 40.1,
            "feature_std": 0.5, "parameters": 203456,
        },
    }  # fmt: skip


def origin(key: str, seconds: float) -> Result:
    number = int(digest("id", key)[:11], 16)
    return {
        "name": f"ijepa-{digest('s', key)[:12]}-ab12", "commit": digest("c", key)[:40],
        "baseline": digest("b")[:40],
        "runs": {"prepare": 26112118370543, "pretrain": number, "evaluate": number + 1},
        "seconds": {"prepare": 3.1, "pretrain": round(seconds, 1), "evaluate": 44.0},
        "machine": "2 cores, AMD EPYC",
    }  # fmt: skip


def fail(results: dict[str, Result], key: str, reason: str) -> None:
    nothing = dict.fromkeys(("metrics", "pretrain", "encoder"))
    results[key] |= {"status": "failed", "reason": reason, **nothing}


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
    index.write(bench.reports)
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
    corrected = holm([tests[v].pvalue for v in tests])
    for cell in numbers.cells:
        mine = values[cell.variant]
        assert cell.spread.n == 6
        assert cell.spread.mean == pytest.approx(np.mean(mine))
        assert cell.spread.std == pytest.approx(np.std(mine, ddof=1))
        if cell.difference is not None:
            test, spread = tests[cell.variant], cell.difference.spread
            assert cell.difference.p == pytest.approx(test.pvalue)
            assert (spread.low, spread.high) == pytest.approx(tuple(test.confidence_interval()))
            assert cell.difference.adjusted == pytest.approx(corrected[cell.variant])
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


def holm(ps: list[float]) -> dict[str, float]:
    """Holm's correction of three, written out."""
    (a, i), (b, j), (c, k) = sorted(zip(ps, ("v1", "v2", "v3"), strict=True))
    return {i: min(1, 3 * a), j: min(1, max(3 * a, 2 * b)), k: min(1, max(3 * a, 2 * b, c))}


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


def equal(results: dict[str, Result]) -> None:
    for result in results.values():
        result["metrics"]["class"]["linear"]["trained"] = 50.0


def test_the_verdict_is_on_all_pairs_and_its_words_have_its_numbers(bench: Bench) -> None:
    def judge(scale: str, claim: dict[str, Any], **how: Any) -> tuple[Study, str]:
        bench.experiment(claim={"text": "Yes.", "by": "us", "margin": 1, "looks": [6], **claim})
        bench.lock("made", scale, **{"means": decided, **how})
        numbers = bench.numbers("made", scale)
        return numbers, verdict.sentence(numbers)

    apart = {"v0": 60.0, "v1": 50.0, "v2": 45.0, "v3": 40.0}
    numbers, text = judge("gpu", {"best": "v0"}, means=lambda variant, _: apart[variant])
    assert numbers.verdict.decision == "holds"
    assert "n = 6: all 3 differences" in text
    means = [pair.comparison.spread.mean or 0.0 for pair in numbers.pairs]
    assert f"is +{min(means):.1f} points" in text, "the smallest of them"
    numbers, text = judge("gpu", {"order": ["v1", "v0"]})
    assert numbers.verdict.decision == "does not hold"
    mean = numbers.pairs[0].comparison.spread.mean or 0.0
    assert f"“{LABELS[1]}” over “{LABELS[0]}” is −{-mean:.1f} points" in text
    values = iter([50.0, 50.3, 51.0, 49.0, 50.0, 49.4])  # v0 at three seeds, v1 at three seeds

    def change(results: dict[str, Result]) -> None:
        for key in ("v0/0", "v0/1", "v0/2", "v1/0", "v1/1", "v1/2"):
            results[key]["metrics"]["class"]["linear"]["trained"] = next(values)

    numbers, text = judge("laptop", {"pairs": [["v1", "v0"]]}, change=change)
    # differences -1, -0.3, -1.6: mean -0.967, std 0.651; 6 seeds: 2.571 x 0.651 / 6^0.5 = 0.683
    assert (numbers.verdict.decision, numbers.verdict.needed) == ("undecided", 6)
    assert "the other way in all 3 seeds; about 6 seeds" in text
    far = {"v0": 60.0, "v1": 40.0, "v2": 20.0, "v3": 30.0}
    order = {"order": ["v0", "v1", "v2", "v3"]}  # the last points the other way
    numbers, text = judge("laptop", order, means=lambda variant, _: far[variant])
    assert "2 of 3 differences point the claimed way" in text
    numbers, text = judge("laptop", {"order": ["v0", "v1", "v2"]}, change=equal)
    assert numbers.verdict.needed is None
    assert "0 of 2 differences" in text
    assert "more than 1,000 seeds" in text
    bench.experiment("nothing")
    assert "no seed to compare" in verdict.sentence(bench.numbers("nothing"))


def test_the_margin_is_asked_for_of_the_claim_and_not_of_the_reference(bench: Bench) -> None:
    claim = {"text": "Yes.", "by": "us", "margin": 14.0, "best": "v0"}
    bench.experiment(claim=claim)
    bench.lock("made", "gpu", decided)
    numbers = bench.numbers("made", "gpu")
    assert numbers.verdict.decision == "does not hold"  # ten points, fourteen were asked for
    differences = [cell.difference for cell in numbers.cells if cell.difference]
    assert all((one.adjusted or 1) < 0.05 for one in differences)
    assert "more than 14 is claimed" in verdict.sentence(numbers)
    assert "> 14" in study_tables.pairs(numbers).markdown()


def test_of_which_code_the_results_are_is_said_where_somebody_looked(bench: Bench) -> None:
    bench.experiment()
    bench.lock("made", "smoke", decided)
    keys = [run.key for run in bench.numbers("made", "smoke").runs]
    assert verdict.standing(bench.numbers("made", "smoke")) == ""
    standing = dict.fromkeys(keys, "today") | {keys[0]: "vouched", keys[1]: "older"}
    numbers = bench.build("made", "smoke", standing=standing)
    text = "Of 8 results 6 are of today&#39;s code, 1 is vouched for, 1 is of older code."
    page = (bench.folder("made", "smoke") / "index.html").read_text()
    assert text in page
    assert text in index.write(bench.reports).read_text()
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
    found = index.check([("grown", "smoke")], folder.parent, built.experiments)
    names = ("ablations/grown.smoke/figures/cost.svg", "ablations/grown.smoke/figures/old.png",
             "ablations/grown.smoke/report.md", "index.html")  # fmt: skip
    assert found == [f"{reports.as_posix()}/{name}" for name in names]


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
            for value in (run.signature, run.encoder, run.commit):
                assert f'title="{value}"' in page
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
            "difference_high": spread and spread.high, "p": paired and paired.p,
            "p_adjusted": paired and paired.adjusted,
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
    assert numbers.verdict.points == ("undecided", "undecided")


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


def test_the_page_over_all_has_every_report_but_smokes(built: Bench, tmp_path: Path) -> None:
    def page(*reports: tuple[str, str, str]) -> str:
        for name, scale, shown in reports:
            folder = tmp_path / "ablations" / f"{name}.{shown}"
            folder.mkdir(parents=True, exist_ok=True)
            results = json.loads((built.folder(name, scale) / "results.json").read_text())
            results["scale"] = shown
            (folder / "results.json").write_text(json.dumps(results))
        return index.write(tmp_path).read_text()

    smoke = page(("grown", "smoke", "smoke"))
    assert "ablations/grown.smoke/index.html" in Links(smoke).links, "there is nothing else"
    everything = page(("grown", "smoke", "gpu"), ("made", "laptop", "laptop"))
    links = Links(everything).links
    for name in ("made.laptop", "grown.gpu"):
        assert f"ablations/{name}/index.html" in links
        assert f"ablations/{name}/figures/accuracy.png" in links
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
    assert ("target_scale", "laptop") in reports
    for name, scale in reports:
        committed = study.read(study.FOLDER / f"{name}.{scale}")
        standing = {run.key: run.standing for run in committed.runs if run.standing}
        assert plain(summary.read(name, scale, standing=standing)) == plain(committed), name


@pytest.mark.slow
def test_the_committed_reports_are_what_their_lock_files_give() -> None:
    reports = [(name, scale) for name, scale in lock.listing() if scale != "smoke"]
    standing = {report: vouch.standing(*report) for report in reports}
    assert index.check(reports, standing=standing) == []
