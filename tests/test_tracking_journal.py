"""The journal: what a run leaves on disk, whatever happens to it."""

import hashlib
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ijepa import cli
from ijepa.results.provenance import _maker as provenance_of
from ijepa.runtime import files
from ijepa.tracking import journal, process, provenance, redaction, runs, terminal
from ijepa.tracking.series import Series
from ijepa.training import rows

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Science:
    """Stands for a Config: what is recorded of it is its fields."""

    seed: int = 3
    scale: tuple[float, float] = (0.15, 0.2)
    data: Mapping[str, str] = field(default_factory=lambda: {"duplicates": "report"})
    evaluate: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: {"transfer": ()})


class Tensor:
    """A number that is no float, as a tensor of one element is."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value

    def __int__(self) -> int:
        return int(self.value)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IJEPA_MONGO_URL", "off")
    return tmp_path / "home"


def record(body: Callable[[journal.Run], float | None], **options: Any) -> None:
    journal.record("evaluate", Science(), body, **options)


def test_a_run_is_recorded_whole(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder.safetensors"
    figure = tmp_path / "figure.png"
    figure.write_bytes(b"\x89PNG")

    def body(run: journal.Run) -> float:
        for step in range(5):
            run.log("loss", 1 / (1 + step), step)
        run.log("odd", Tensor(2.5), Tensor(1))
        run.log("odd", float("nan"), 2)
        run.artifact(figure)
        run.artifact(figure, "figures/again.png")
        run.info(note={"a.b": [1, 2]})
        out.write_bytes(b"weights")
        return 52.5

    record(body, data="d" * 64, outs=[out])
    (run,) = runs.listing()
    assert (run.stage, run.status, run.seed, run.result) == ("evaluate", "COMPLETED", 3, 52.5)
    assert run.data == "d" * 64
    assert run.seconds is not None
    assert run.artifacts == ("figure.png", "figures/again.png")
    assert (run.folder / "figures/again.png").read_bytes() == b"\x89PNG"
    config = runs.read(run.folder / "config.json")
    assert set(config) == set(runs.CONFIG)
    assert (config["params"]["seed"], config["params"]["scale"]) == (3, [0.15, 0.2])
    metrics = runs.read(run.folder / "metrics.json")
    assert metrics["loss"]["steps"] == [0, 1, 2, 3, 4]
    assert metrics["loss"]["values"] == [1 / (1 + step) for step in range(5)]
    assert metrics["odd"]["values"][0] == 2.5
    assert math.isnan(metrics["odd"]["values"][1])
    assert metrics["odd"]["steps"] == [1, 2]
    info = runs.read(run.folder / "info.json")
    assert info["note"] == {"a.b": [1, 2]}
    assert run.versions["sacred"]

    sha256 = hashlib.sha256(b"weights").hexdigest()
    assert info["outs"][0]["md5"] == hashlib.md5(b"weights").hexdigest()
    assert [r.id for r in runs.find({out.as_posix(): sha256})] == [run.id]
    assert runs.find({out.as_posix(): "0" * 64}) == []
    assert runs.find({"another": sha256}) == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("key: wrong"), "FAILED"), (KeyboardInterrupt(), "INTERRUPTED")],
)
def test_what_the_body_raises_is_recorded_and_raised(
    home: Path, capfd: pytest.CaptureFixture[str], error: BaseException, status: str
) -> None:
    def body(run: journal.Run) -> None:
        run.log("loss", 1.0, 0)
        os.write(1, b"the last words\n")
        raise error

    with pytest.raises(type(error)) as caught:
        record(body)
    assert caught.value is error
    (run,) = runs.listing()
    assert run.status == status
    assert runs.read(run.folder / "metrics.json")["loss"]["values"] == [1.0]
    assert (run.folder / "cout.txt").read_text() == "the last words\n"
    # Sacred itself prints nothing
    assert capfd.readouterr() == ("the last words\n", "")


def test_sigterm_is_recorded_and_the_handler_restored(home: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def body(run: journal.Run) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    with pytest.raises(SystemExit) as caught:
        record(body)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert runs.listing()[0].status == "PREEMPTED"


def test_a_series_is_thinned_by_powers_of_two_and_keeps_its_end() -> None:
    rng = random.Random(0)
    for _ in range(200):
        limit, count = rng.randint(1, 40), rng.randint(0, 500)
        series = Series(limit)
        for step in range(count):
            series.add(step, 0.5 * step, "")
        tree = series.tree()
        stride = 1
        while -(-count // stride) > limit:
            stride *= 2
        expected = list(range(0, count, stride))
        if count and expected[-1] != count - 1:
            expected.append(count - 1)
        assert tree["steps"] == expected, (limit, count)
        assert tree["values"] == [0.5 * step for step in expected]
        assert tree["logged"] == count


def test_ids_are_integers_and_nobody_shares_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:  # eight at a time want the same hundredth of a second
        made = list(pool.map(lambda _: int(journal._claim(tmp_path / "runs").name), range(80)))
    assert len(set(made)) == 80
    later = int(journal._claim(tmp_path / "runs").name)
    assert later > max(made)
    assert all(10**13 <= run_id < 2**53 for run_id in made)


def test_a_home_that_cannot_be_written_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"IJEPA_HOME: cannot write to .*file/runs"):
        record(lambda run: None)


def test_a_disk_that_fails_for_a_while_costs_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real, broken = Path.write_text, [True]

    def write_text(path: Path, text: str) -> int:
        if broken[0] and "metrics" in path.name:
            raise OSError(28, "No space left on device")
        return real(path, text)

    monkeypatch.setattr(Path, "write_text", write_text)

    def body(run: journal.Run) -> None:
        run.log("loss", 1.0, 0)
        run._run._emit_heartbeat()
        broken[0] = False
        run.log("loss", 2.0, 1)

    record(body)
    (run,) = runs.listing()
    assert runs.read(run.folder / "metrics.json")["loss"]["values"] == [1.0, 2.0]
    assert capfd.readouterr().err == ""
    broken[0] = True
    record(lambda run: run.log("loss", 1.0, 0))
    assert "lacks metrics.json (No space left on device)" in capfd.readouterr().err


def test_torn_files_are_left_out(home: Path) -> None:
    record(lambda run: None)
    record(lambda run: None)
    newest, oldest = runs.listing()
    text = (newest.folder / "run.json").read_text()
    (newest.folder / "run.json").write_text(text[: len(text) // 2])
    records, damaged = runs.every()
    assert [run.id for run in records] == [oldest.id]
    assert damaged[0].startswith(f"run {newest.id}: {newest.folder}/run.json: not JSON")


def test_only_the_program_that_has_the_option_is_ended(tmp_path: Path) -> None:
    """Others may name the database's folder as well: a backup, an editor, another option."""
    server, other = tmp_path / "served", tmp_path / "backup"
    for script in (server, other):
        script.write_text("print(flush=True); import time; time.sleep(60)")
    held, elsewhere = str(tmp_path / "db"), str(tmp_path / "elsewhere")
    lines = [
        [server, "--port", "0", "--storage-path", held],
        [other, "--storage-path", held],
        [server, "--log", held, "--storage-path", elsewhere],
        [other, "served", held],
    ]
    processes = [
        subprocess.Popen([sys.executable, *line], stdout=subprocess.PIPE) for line in lines
    ]
    try:
        for one in processes:
            assert one.stdout is not None
            one.stdout.readline()  # by then the line is its own, not the one before its exec
        process.kill_with("served", "--storage-path", held)
        assert [process.mark(one.pid) is None for one in processes] == [True, False, False, False]
    finally:
        for one in processes:
            one.kill()
            one.communicate()


@pytest.mark.parametrize(
    ("change", "dies"),
    [
        ({}, True),
        ({"status": "COMPLETED"}, False),
        ({"heartbeat": "now"}, False),
        ({"host": {"hostname": "another"}}, False),
        ({"host": {"hostname": "another"}, "heartbeat": 5.9}, False),
        ({"host": {"hostname": "another"}, "heartbeat": 6.1}, True),
        ({"meta": {"pid": os.getpid(), "process": process.mark(os.getpid())}}, False),
        ({"meta": {"pid": os.getpid(), "process": "an earlier process of this id"}}, True),
    ],
)
def test_only_a_run_whose_process_is_gone_is_marked_died(
    home: Path, change: dict[str, Any], dies: bool
) -> None:
    record(lambda run: None)
    folder = runs.listing()[0].folder
    now = datetime.now(UTC).replace(tzinfo=None)
    child = subprocess.Popen([sys.executable, "-c", ""])
    mark = process.mark(child.pid)
    child.wait()
    run = {
        **runs.read(folder / "run.json"),
        "status": "RUNNING",
        "heartbeat": (now - timedelta(seconds=61)).isoformat(),
        "host": {"hostname": socket.gethostname()},
        **change,
    }
    run["meta"] = {"uuid": "1", "pid": child.pid, "process": mark, **change.get("meta", {})}
    if run["heartbeat"] == "now":
        run["heartbeat"] = now.isoformat()
    if isinstance(run["heartbeat"], float):  # hours ago
        run["heartbeat"] = (now - timedelta(hours=run["heartbeat"])).isoformat()
    (folder / "run.json").write_text(json.dumps(run))
    (folder / files.SUMS).unlink()  # which a run has that ended by itself
    assert bool(runs.heal(folder)) is dies
    assert (runs.listing()[0].status == "DIED") is dies


def test_dirty_means_the_code_differs_from_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outside = provenance.checkout()
    assert (outside.commit, outside.dirty) == ("unknown", None)
    assert "not a git repository" in outside.reason
    for name in ("params.yaml", "dvc.lock", "ijepa/a.py", "out/metrics.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], check=True)
    clean = provenance.checkout()
    assert len(clean.commit) == 40
    assert clean.dirty is False
    for name in ("params.yaml", "dvc.lock", "out/metrics.json", "notes.txt"):
        Path(name).write_text("2")
        assert provenance.checkout().dirty is False, name
    Path("ijepa/b.py").write_text("")
    assert provenance.checkout().dirty
    Path("ijepa/b.py").unlink()
    Path("ijepa/a.py").write_text("2")
    assert provenance.checkout() == provenance.Checkout(clean.commit, True)


NOISY = """
import os, subprocess, sys
sys.path.insert(0, "tests")
from test_tracking_journal import record
from ijepa.runtime import errors

def body(run):
    print(os.environ["IJEPA_MONGO_URL"])
    for i in range(200_000):
        print("x" * 99)
    for i in range(1000):
        print(i, end="\\r")
    print("bar done")
    os.write(2, b"not \\xff UTF-8\\n")
    subprocess.run(["sh", "-c", "echo the child"])
    raise ValueError("refused " + os.environ["IJEPA_MONGO_URL"].upper() + " CANARY%21")

sys.exit(errors.run(lambda: record(body)))
"""


@pytest.mark.slow
def test_much_output_a_secret_and_no_server(tmp_path: Path) -> None:
    """20 MB pass through, the end is kept, the secret is not, the absent server costs a line."""
    with socket.socket() as free:  # nobody listens there
        free.bind(("127.0.0.1", 0))
        url = f"mongodb://me:CANARY%21@127.0.0.1:{free.getsockname()[1]}/?authSource=admin"
        done = subprocess.run(
            [sys.executable, "-c", NOISY],
            cwd=ROOT,
            env={**os.environ, "IJEPA_HOME": str(tmp_path), "IJEPA_MONGO_URL": url},
            capture_output=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stdout.count(b"x" * 99 + b"\n") == 200_000
    assert done.stdout.endswith(b"bar done\nthe child\n")
    *_, note, error = done.stderr.decode(errors="replace").splitlines()
    assert note.startswith("note: run ")
    assert "MongoDB does not answer" in note
    assert error.startswith("error: refused")
    (run,) = runs.listing(tmp_path)
    output = (run.folder / "cout.txt").read_text()
    assert len(output) < journal.OUTPUT + 100
    assert output.endswith("the child\n")
    assert "\nbar done\n" in output
    assert "not \ufffd UTF-8\n" in output
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert not [path for path in files if b"CANARY" in path.read_bytes()]
    assert "CANARY" not in note


def test_no_password_survives_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IJEPA_MONGO_URL", "mongodb+srv://me:se%21cret@db.invalid/?x=1")
    for text, kept in (
        ("postgres://u:word@h:1/x and https://a:b@c", "postgres://***@h:1/x and https://***@c"),
        ("authentication of se%21cret failed", "authentication of *** failed"),
        ("authentication of se!cret failed", "authentication of *** failed"),
        ("https://host:80/path?a=b", "https://host:80/path?a=b"),
        ("no url: a@b", "no url: a@b"),
    ):
        assert redaction.redact(text) == kept


DAMAGED = {  # file -> what becomes of it
    "run.json": (b"{}", b"[]", b'{"status"', None),
    "config.json": (b"{}", b"[]", b"{", None),
    "info.json": (b"[]", b"{"),
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, c) for name, cs in DAMAGED.items() for c in cs]
)
def test_a_damaged_file_costs_its_own_run_a_line(
    home: Path, name: str, content: bytes | None, tmp_path: Path
) -> None:
    """And neither a listing nor the search of the report the others."""
    out = tmp_path / "out.txt"
    out.write_text("result")
    for _ in range(3):
        record(lambda run: None, outs=[out])
    newest, middle, oldest = runs.listing()
    path = middle.folder / name
    if content is None and name == "run.json":  # a time that is none
        text = path.read_text().replace(middle.start, "soon")
        path.write_text(text)
    elif content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    records, damaged = runs.every()
    assert [run.id for run in records] == [newest.id, oldest.id]
    assert len(damaged) == 1
    assert damaged[0].startswith(f"run {middle.id}: {path}: ")
    sha256 = hashlib.sha256(b"result").hexdigest()
    assert [run.id for run in runs.find({out.as_posix(): sha256})] == [newest.id, oldest.id]
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        terminal.show(middle.id)
    assert "\n" not in str(error.value)
    text, told = terminal.show(newest.id)
    assert str(newest.id) in text
    assert not told
    assert runs._uuid(middle.folder) is None or name != "run.json"


def test_no_flipped_bit_of_a_run_that_ended_passes(home: Path, tmp_path: Path) -> None:
    """200 bits of every file of it: whoever reads the file names one of the run's."""
    page = tmp_path / "page.html"
    page.write_text("what the run wrote")

    def body(run: journal.Run) -> None:
        os.write(1, b"what it printed\n")  # print goes to pytest
        run.log("loss", 1.0, 0)
        run.artifact(page)

    record(body, outs=[page])
    (run,) = runs.listing()
    shown, draws = terminal.show(run.id), np.random.default_rng(0)
    assert shown[1] == []
    for path in [path for path in run.folder.iterdir() if path.stat().st_size]:
        whole = path.read_bytes()
        for place in draws.integers(8 * len(whole), size=200):
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            path.write_bytes(damaged)
            try:
                runs.check(run.folder, ["page.html"])
                _, told = terminal.show(run.id)
            except ValueError as error:
                told = [str(error)]
            assert any(f"{run.folder}/" in line for line in told), (path, place)
        path.write_bytes(whole)
    assert terminal.show(run.id) == shown


@pytest.mark.parametrize("content", [
    b"{}", b"[]", b'{"loss": {"steps": [1]', b'{"loss": {}}',
    b'{"loss": {"steps": [1], "values": [], "timestamps": []}}',
])  # fmt: skip
def test_damaged_series_are_named_and_the_run_is_shown(
    home: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record(lambda run: run.log("loss", 1.0, 0))
    (run,) = runs.listing()
    (run.folder / "metrics.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics\.json: "):
        runs.series(run.folder)
    monkeypatch.setattr(sys, "argv", ["ijepa", "runs", "show", str(run.id)])
    assert cli.main() == 1
    shown = capsys.readouterr()
    assert "COMPLETED" in shown.out
    assert shown.err.startswith(f"error: {run.folder}/metrics.json: ")


def test_all_that_a_full_disk_took_is_named_at_the_end(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = Path.write_text

    def write_text(path: Path, text: str) -> int:
        if "runs" in path.parts:
            raise OSError(28, "No space left on device")
        return real(path, text)

    monkeypatch.setattr(Path, "write_text", write_text)
    record(lambda run: run.log("loss", 1.0, 0))
    (note,) = capfd.readouterr().err.splitlines()
    assert note.startswith("note: ")
    for name in ("config.json", "cout.txt", "info.json", "metrics.json", "run.json"):
        assert f"{name} (No space left on device)" in note


def test_rows_wait_for_a_disk_that_is_full_and_none_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on; a line is handed over whole or not at all."""
    path, broken = tmp_path / "rows.jsonl", [False]
    path.touch()
    monkeypatch.setenv(rows.VARIABLE, str(path))
    monkeypatch.setattr(rows, "_waiting", [])
    opened = Path.open

    class Full:
        """A file on a disk that takes seven bytes more."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def seek(self, *place: int) -> int:
            return int(self.file.seek(*place))

        def truncate(self, size: int) -> None:
            self.file.truncate(size)

        def write(self, data: bytes) -> int:
            if len(data) < 7 or self.file.tell() > self.limit:
                raise OSError(28, "No space left on device")
            self.limit = self.file.tell()
            return int(self.file.write(data[:7]))

        limit = 10**9

    def open_(self: Path, *args: Any, **options: Any) -> Any:
        file = opened(self, *args, **options)
        return Full(file) if broken[0] and args == ("ab",) else file

    monkeypatch.setattr(Path, "open", open_)
    rows.emit({"step": 1})
    broken[0] = True
    rows.emit({"step": 2})
    rows.emit({"step": 3})
    assert path.read_text() == '{"step": 1}\n'
    broken[0] = False
    rows.emit({"step": 4})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    assert capsys.readouterr().out.count("No space left on device") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner is made by root")
def test_a_git_that_refuses_the_owner_is_unknown_and_not_clean(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.chdir(checkout)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *command], check=True)
    record(lambda run: None)
    assert capfd.readouterr().err == ""
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    record(lambda run: None)
    (note,) = capfd.readouterr().err.splitlines()
    assert note.startswith(
        "note: the commit is recorded as unknown: fatal: detected dubious owner"
    )
    assert "git config --global --add safe.directory" in note
    unknown, known = runs.listing()
    assert (len(known.commit), known.dirty, known.git) == (40, False, "")
    assert (unknown.commit, unknown.dirty) == ("unknown", None)
    assert "dubious ownership" in unknown.git
    maker = provenance_of(unknown)
    assert (maker.dirty, maker.commit) == (None, f"unknown: {unknown.git}")


def test_the_next_run_removes_what_a_killed_one_had_begun_to_write(
    tmp_path: Path,
) -> None:
    """Of a process that lives it stays, and so does every file that is whole."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / "runs" / "26010112000000"
    folder.mkdir(parents=True)
    whole, mine = folder / "run.json", files.temporary(folder / "run.json")
    theirs = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-"))
    for path in (whole, mine, theirs):
        path.touch()
    journal._claim(tmp_path / "runs")
    assert sorted(folder.iterdir()) == sorted([whole, mine])
