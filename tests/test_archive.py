"""Runs that were packed and loaded are the runs that were; what is left out is said."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from conftest import ROOT
from test_tracking_journal import record

from ijepa import cli
from ijepa.runtime import files
from ijepa.study import archive
from ijepa.tracking import journal, runs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with two runs in its journal, of which a lock file names one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IJEPA_MONGO_URL", "off")
    for name, size in (("history.csv", 3 * archive.ARTIFACT), ("report.md", 10),
                       ("index.html", archive.ARTIFACT + 1)):  # fmt: skip
        (tmp_path / name).write_bytes(b"x" * size)

    def body(run: journal.Run) -> float:
        for step in range(5):
            run.log("loss", 1 / (1 + step), step)
        for name in ("history.csv", "report.md", "index.html"):
            run.artifact(tmp_path / name)
        return 54.3

    record(body)
    record(lambda run: 1.0)
    newest, first = runs.listing()
    (tmp_path / "experiments").mkdir()
    source = {"runs": {"pretrain": first.id, "evaluate": 5}}
    lock = {"seeds": [0], "results": {"a/0": {}}, "provenance": {"a/0": source, "b/0": {}}}
    files.write_json(tmp_path / "experiments/two.smoke.lock.json", lock)
    assert newest.id != first.id
    return tmp_path / "home"


def elsewhere(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """Another checkout's journal, which is empty."""
    monkeypatch.setenv("IJEPA_HOME", str(home.parent / "other"))
    return home.parent / "other"


def test_the_runs_behind_lock_files_come_out_as_they_went_in(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = runs.listing()[1]
    assert archive.published() == {first.id, 5}
    assert cli.main(["runs", "export", "runs.tar.gz"]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 published runs are not here" in said
    assert "1 × index.html" in said
    other = elsewhere(monkeypatch, home)
    assert cli.main(["runs", "import", "runs.tar.gz"]) == 0
    (here,) = runs.listing()
    assert (here.id, here.result, here.outs) == (first.id, first.result, first.outs)
    assert here.artifacts == ("history.csv", "report.md"), "the history stays whatever its size"
    folder = other / "runs" / str(first.id)
    listed = [line.partition("  ")[2] for line in (folder / files.SUMS).read_text().splitlines()]
    assert list(files.differing(folder, listed)) == []
    for name in ("config.json", "info.json", "metrics.json", "cout.txt", "history.csv"):
        assert (folder / name).read_bytes() == (first.folder / name).read_bytes()
    assert json.loads((folder / "run.json").read_text())["left_out"] == ["index.html"]
    assert (first.folder / "index.html").is_file(), "here nothing is taken away"
    assert cli.main(["runs", "import", "runs.tar.gz"]) == 0
    assert "0 of its 1 runs are new" in capsys.readouterr().out
    assert len(runs.listing()) == 1


def test_all_of_a_journal_goes_where_it_is_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [run.id for run in runs.listing()]
    assert archive.export(Path("all.tar.gz"), every=True) == 0
    elsewhere(monkeypatch, home)
    archive.load(Path("all.tar.gz"))
    assert [run.id for run in runs.listing()] == ids


def test_what_a_run_logged_is_found_in_an_archive(home: Path, tmp_path: Path) -> None:
    """So that a clone without a journal knows at which step another run parts."""
    first = runs.listing()[1]
    assert archive.unpacked(first.id, tmp_path / "into") is None, "there is no archive"
    assert cli.main(["runs", "export", str(archive.FILE)]) == 0
    shutil.rmtree(home)
    into = archive.unpacked(first.id, tmp_path / "into")
    assert into == tmp_path / "into"
    assert [file.name for file in into.iterdir()] == ["history.csv"]
    assert (into / "history.csv").read_bytes() == Path("history.csv").read_bytes()
    assert archive.unpacked(first.id + 1, tmp_path / "other") is None
    archive.FILE.write_bytes(archive.FILE.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        archive.unpacked(first.id, tmp_path / "into")


def test_a_run_of_a_report_is_published(home: Path) -> None:
    Path("reports/mine").mkdir(parents=True)
    stages = [{"name": "prepare", "run": None}, {"name": "evaluate", "run": {"id": 7}}]
    files.write_json(Path("reports/mine/results.json"), {"provenance": {"stages": stages}})
    assert 7 in archive.published()


def test_nothing_to_pack_or_to_load_is_one_line(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(home)
    with tarfile.open("empty.tar.gz", "w:gz"):
        pass
    Path("damaged.tar.gz").write_bytes(b"no archive")
    for words in (["export", "runs.tar.gz"], ["import", "empty.tar.gz"], ["import", "none"],
                  ["import", "damaged.tar.gz"], ["import"]):  # fmt: skip
        assert cli.main(["runs", *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not Path("runs.tar.gz").exists()


def test_the_committed_archive_has_every_run_behind_a_published_number() -> None:
    published = archive.published(ROOT / "reports", ROOT / "experiments")
    with tarfile.open(ROOT / "reports/runs.tar.gz") as tar:
        packed = {int(name.split("/")[1]) for name in tar.getnames()
                  if name.count("/") == 1 and name.split("/")[1].isdigit()}  # fmt: skip
    assert published - packed == set()
