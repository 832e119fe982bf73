"""README says of results what is written from them, and types none."""

import json
import re
import shutil
from pathlib import Path

import evaluated_run
import pytest
from conftest import ROOT
from evaluated_run import enter

from ijepa import config as configs
from ijepa import results
from ijepa.pages import readme, run

MARKED = re.compile(rf"{readme.BEGIN}.*?{readme.END}", re.DOTALL)
# what no sentence outside of the marked part may have
TYPED = (
    r"\b\d{2}\.\d{1,2}\b",  # 81.3
    r"±\s*\d",
    r"[+−-]?\d+(\.\d+)?\s*(percentage )?points\b",
    r"\d\s*[×x]\s(as|the|faster|slower|more|less)\b|\d+(\.\d+)?×",
    r"\bp\s*[<=]\s*0?\.\d",
    r"\d+(\.\d+)?\s*%",
    r"\d\s*images/s",
)
SHARES = re.compile(r"\b1 % of the labels|\b95 % intervals?")  # settings, no results


def typed(text: str) -> list[str]:
    """Numbers of results in a text of Markdown; code, links and settings are none."""
    prose = re.sub(r"```.*?```|`[^`]*`|^    .*$|\]\([^)]*\)", "", text, flags=re.DOTALL | re.M)
    prose = SHARES.sub("", prose)
    return [match[0] for pattern in TYPED for match in re.finditer(pattern, prose)]


@pytest.mark.parametrize(
    "sentence",
    ["I-JEPA gets 81.3 on it.", "It is 54 ± 1.", "Won by 3 points.", "MAE is 1.53× faster.",
     "It is 2 x as fast.", "Decided (p < 0.05).", "12 % of the images", "at 404 images/s"],
)  # fmt: skip
def test_a_typed_result_is_seen(sentence: str) -> None:
    assert typed(sentence)
    assert not typed(f"`{sentence}`")


def test_a_cell_that_is_shown_as_an_example_is_in_its_lock_file() -> None:
    found = set[tuple[str, str, str]]()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "ijepa/cli.py"):
        found |= set(re.findall(r"\b(\w+)\.(laptop|gpu|paper) (\w[\w@]*/\d+)", path.read_text()))
    assert found
    for name, scale, cell in found:
        lock = json.loads((ROOT / f"experiments/{name}.{scale}.lock.json").read_text())
        assert cell in lock["results"]


def test_readme_types_no_result() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(MARKED.findall(text)) == 1
    assert typed(MARKED.sub("", text)) == []


def test_the_marked_part_is_what_the_committed_results_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert readme.check() == []


def test_a_run_is_a_sentence_with_each_task_beside_its_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated_run.make(tmp_path)
    enter(monkeypatch, tmp_path)
    one = results.gather(configs.load(), None, None)
    for folder in ("reports/mine", "reports/ablations/table"):
        Path(folder).mkdir(parents=True)
        results.write(Path(folder, "results.json"), one)
    Path("reports/older").mkdir()
    Path("reports/older/results.json").write_text('{"run": {}}')
    page = Path("README.md")
    page.write_text(f"before 1\n{readme.BEGIN}: x -->\nold 9\n{readme.END}\nafter 2\n")
    assert readme.check() == readme.write() == [page]
    assert readme.check() == readme.write() == [], "the second time it is the same"
    text = page.read_text()
    assert text.startswith(f"before 1\n{readme.BEGIN}: x -->\n")
    assert text.endswith(f"{readme.END}\nafter 2\n")
    assert "old 9" not in text
    assert re.findall(r"\]\((.*?)\)", text) == ["reports/mine/report.md"]
    first = dict[str, str]()
    for row in one.table:
        first.setdefault(row.task, row.probe)
    for row in one.table:
        if row.probe == first[row.task] and row.share == 1 and row.shots is None:
            assert row.accuracy is not None
            assert row.chance is not None
            task = (
                rf"[:;] {re.escape(row.task)}, [\w ]+: ([^()]*\([^()]*chance {row.chance:.1f}\))"
            )
            (said,) = re.findall(task, text)
            name = {"trained": "", "random_init": "random init ", "pixels": "raw pixels "}
            shown = rf"{name[row.encoder]}{row.accuracy:.1f} ± [\d.]+"
            assert re.search(rf"(^|[(,] ?){shown}(,| \()", said), (shown, said)
    verdicts = [row.verdict for row in one.table if row.encoder != "trained"]
    assert f"Of {len(verdicts)} comparisons" in text
    assert re.search(rf" {verdicts.count('better')} are won, {verdicts.count('worse')} lost", text)
    for row in one.table:
        if row.verdict == "worse":
            assert f"{row.difference:.1f} points against".replace("-", "−") in text
    shutil.rmtree("reports")
    readme.write()
    assert "mine" not in page.read_text(), "no committed run, no sentence"


def test_pages_of_runs_are_what_their_numbers_give_in_todays_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run.check() == []
    for folder, _ in run.kept():
        shutil.copytree(folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    page, other = Path("reports/default/index.html"), Path("reports/cifar10/report.md")
    before = page.read_bytes(), other.read_bytes()
    page.write_bytes(before[0].replace(b"</p>", b" </p>", 1))
    other.unlink()
    assert run.check() == [page, other]
    assert run.rewrite()[0] == page
    assert (page.read_bytes(), other.read_bytes()) == before
    assert run.check() == []


def test_a_part_without_end_is_one_line(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    assert readme.check(page) == [], "no file, nothing to fill"
    page.write_text(f"{readme.BEGIN} -->\n")
    with pytest.raises(ValueError, match=r"README.md: “<!-- NUMBERS” without"):
        readme.write(page)
    page.write_text("A fork's own.\n")
    assert readme.write(page) == []
