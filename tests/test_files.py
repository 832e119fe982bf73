"""Files are whole or absent, and a lock holds as long as the process that took it."""

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ijepa.runtime import errors, files, launch
from ijepa.runtime.errors import Failure
from ijepa.training import rows

ROOT = Path(__file__).parents[1]
BUSY = Failure("busy")


@contextmanager
def process(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own with ``files``, ``launch`` and ``path``, killed at the end."""
    start = (
        "import sys; from pathlib import Path; from ijepa.runtime import files, launch\n"
        "path = Path(sys.argv[1])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", start + body, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    hung = threading.Timer(120, child.kill)  # a lock that never comes shall fail, not hang
    hung.start()
    try:
        yield child
    finally:
        hung.cancel()
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


HOLD = "with files.{how}(path): print('in', flush=True); sys.stdin.read()\n"


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"b": 1, "a": [2]})
    before = path.read_bytes()
    with pytest.raises(KeyError), files.replacing(path) as partial:  # noqa: PT012
        partial.write_text("half")
        assert path.read_bytes() == before
        raise KeyError
    assert path.read_bytes() == before
    with files.replacing(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with files.replacing(path) as first, files.replacing(path) as second:
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1", "the last one to end stays"


@pytest.mark.parametrize(("how", "meets"), [("locked", "shared"), ("shared", "locked")])
def test_a_lock_is_held_until_its_process_is_gone(tmp_path: Path, how: str, meets: str) -> None:
    path = tmp_path / "new" / "lock"
    with process(HOLD.format(how=how), path) as holder:
        assert line(holder) == "in"
        with pytest.raises(Failure, match="busy"), files.locked(path, 0.1, BUSY):
            pass
        with process(f"print('asks', flush=True)\n{HOLD.format(how=meets)}", path) as other:
            assert line(other) == "asks"
            holder.kill()
            assert line(other) == "in"
    with files.locked(path, 5, BUSY):
        pass


def test_sharers_share(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with process(HOLD.format(how="shared"), path) as other, files.shared(path):
        assert line(other) == "in"


@pytest.mark.parametrize("how", ["locked", "shared"])
def test_whoever_waits_for_a_lock_can_be_told_to_stop(tmp_path: Path, how: str) -> None:
    path = tmp_path / "lock"
    body = (
        "with launch.raising():\n"
        "    print('asks', flush=True)\n"
        f"    with files.{how}(path): pass\n"
    )
    with files.locked(path, 0, BUSY), process(body, path) as waiting:
        assert line(waiting) == "asks"
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(30) == 143


def test_a_lock_whose_file_is_removed_is_no_lock_any_more(tmp_path: Path) -> None:
    """``checkpoint.collect`` removes it: one waits for the old file, another finds a new one."""
    path = tmp_path / "lock"
    with process(f"print('asks', flush=True)\n{HOLD.format(how='locked')}", path) as waiting:
        with files.locked(path, 0, BUSY):
            assert line(waiting) == "asks"
            path.unlink()
        assert line(waiting) == "in"
        with pytest.raises(Failure, match="busy"), files.locked(path, 0, BUSY):
            pass


def test_the_first_signal_raises_and_the_next_are_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    saved = False
    with pytest.raises(SystemExit) as stopped, launch.raising():  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            saved = True
    assert (stopped.value.code, saved) == (143, True)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"a: written twice \(line 3\)"),
        ("- 1\n", r"\[1\] is not a mapping"),
        ("a: [1\n", "not YAML: "),
        (None, "no such file"),
    ],
)
def test_a_bad_yaml_file_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.yaml: {message}") as error:
        files.read_yaml(path)
    assert "\n" not in str(error.value)


def test_yaml_that_was_read_may_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1e-3]\n")
    files.read_yaml(path)["a"].append(2)
    assert files.read_yaml(path) == {"a": [0.001]}


SUMMED = {"a.json": b"{}", "b.npz": b"PK", "../c.json": b"[]"}


def test_files_are_compared_with_the_sums_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in SUMMED.items():
        (folder / name).write_bytes(data)
    files.write_sums(folder, list(SUMMED))
    assert list(files.differing(folder, SUMMED)) == []
    done = subprocess.run(["sha256sum", "-c", files.SUMS], cwd=folder, capture_output=True)
    assert done.returncode == 0, "anybody's tool reads it"
    for name, data in SUMMED.items():
        (folder / name).write_bytes(data + b" ")
        (line,) = files.differing(folder, SUMMED)
        assert (
            line == f"{folder / name}: damaged: its SHA-256 is not that of {folder / files.SUMS}"
        )
        with pytest.raises(ValueError, match=r"damaged: .*; `x` writes it again$"):
            files.check_sums(folder, [name], "`x`")
        files.check_sums(folder, [other for other in SUMMED if other != name], "`x`")
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"{name}: no such file; "):
            files.check_sums(folder, [name], "`x`")
        (folder / name).write_bytes(data)
    (folder / "d").touch()
    with pytest.raises(ValueError, match="SHA256SUMS: damaged: it does not list d"):
        files.check_sums(folder, ["d"], "`x`")
    (folder / files.SUMS).unlink()
    with pytest.raises(ValueError, match="SHA256SUMS: no such file"):
        files.check_sums(folder, ["a.json"], "`x`")


def test_a_disk_that_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full, or not for us; a file that is not there is a fault of ours and keeps its traceback."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        assert errors.run(lambda: files.write_text(tmp_path / "a", 1000 * "x")) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capsys.readouterr().err == f"error: {tmp_path / 'a'}: File too large\n"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").touch()
    assert errors.run(lambda: (tmp_path / "a/b").mkdir()) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'a/b'}: Not a directory\n"
    with pytest.raises(FileNotFoundError):
        errors.run(lambda: (tmp_path / "b/c").mkdir())


def test_rows_that_have_no_room_wait_and_come_whole_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows"
    path.touch()
    monkeypatch.setenv(rows.VARIABLE, str(path))
    rows.emit({"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for step, limit in ((2, 15), (3, path.stat().st_size)):  # in the middle of a line, before it
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            rows.emit({"step": step})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_text() == '{"step": 1}\n', "no half line"
    assert capsys.readouterr().out.count(f"note: {path}: File too large") == 1
    rows.emit({"step": 4})
    assert path.read_text() == "".join(f'{{"step": {step}}}\n' for step in (1, 2, 3, 4))
