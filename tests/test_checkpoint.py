import json
import multiprocessing
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ijepa.runtime.errors import Failure
from ijepa.training import checkpoint

CPU = torch.device("cpu")


def state(value: float) -> dict[str, object]:
    return {"weights": torch.full((1000,), value), "history": [{"step": 1, "loss": 0.1 + 0.2}]}


def saved(path: Path, *steps: int) -> list[Path]:
    with checkpoint.locked(path):
        for step in steps:
            checkpoint.save(path, step, state(step))
    return sorted(path.glob("step-*"))


def loaded_value(path: Path) -> float:
    found = checkpoint.load(path, CPU)
    assert found is not None
    return float(found["weights"][0])


def test_round_trip_newest_first_and_two_kept(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, CPU) is None
    assert [p.name for p in saved(tmp_path, 1, 2, 3)] == ["step-000000002", "step-000000003"]
    found = checkpoint.load(tmp_path, CPU)
    assert found is not None
    assert found["history"] == [{"step": 1, "loss": 0.1 + 0.2}]
    assert loaded_value(tmp_path) == 3


MANIFESTS = {  # JSON, but no manifest; the sum would be right in some
    "step is a text": '{"step": "x", "sha256": ""}',
    "step is no whole number": '{"step": 1.5, "sha256": ""}',
    "step is true": '{"step": true, "sha256": ""}',
    "a list": "[]",
    "null": "null",
    "too deep": "[" * 100_000,
    "not UTF-8": "\udcff",
}


def damage(newest: Path, other: Path, kind: str) -> None:
    file = newest / "state.pt"
    data = bytearray(file.read_bytes())
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "half":
        file.write_bytes(data[: len(data) // 2])
    elif kind == "short":
        file.write_bytes(data[:-100])
    elif kind == "no state":
        file.unlink()
    elif kind == "no manifest":
        (newest / "manifest.json").unlink()
    elif kind == "torn manifest":
        (newest / "manifest.json").write_text("{")
    elif kind in MANIFESTS:
        (newest / "manifest.json").write_text(MANIFESTS[kind], errors="surrogateescape")
    elif kind == "another's":
        file.write_bytes((other / "state.pt").read_bytes())
    else:
        position = int(np.random.default_rng(int(kind.split()[1])).integers(len(data) * 8))
        data[position // 8] ^= 1 << position % 8
        file.write_bytes(data)


@pytest.mark.parametrize(
    "kind",
    [
        *("empty", "half", "short", "no state", "no manifest", "torn manifest", "another's"),
        *MANIFESTS,
        *(f"bit {i}" for i in range(20)),
    ],
)
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = saved(tmp_path, 1, 2)
    damage(new, old, kind)
    assert loaded_value(tmp_path) == 1
    assert "damaged checkpoint step-000000002" in capsys.readouterr().out
    damage(old, new, "empty")
    with pytest.raises(Failure, match="every checkpoint is damaged"):
        checkpoint.load(tmp_path, CPU)


def test_a_manifest_of_another_step_is_refused(tmp_path: Path) -> None:
    old, new = saved(tmp_path, 1, 2)
    for file in old.iterdir():
        (new / file.name).write_bytes(file.read_bytes())
    old.rename(tmp_path / "step-000000000")
    with pytest.raises(Failure):
        checkpoint.load(tmp_path, CPU)


def test_a_kill_while_writing_leaves_the_earlier_one(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "tmp-99").mkdir()
    (tmp_path / "tmp-99" / "state.pt").write_bytes(b"half")
    assert [p.name for p in saved(tmp_path)] == ["step-000000001"]
    assert not (tmp_path / "tmp-99").exists()


def _save_on_a_full_disk(path: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
    try:
        checkpoint.save(path, 2, state(2))
    except Failure as failure:
        raise SystemExit(7 if "earlier ones are intact" in str(failure) else 8) from None


def test_a_full_disk_keeps_the_earlier_one(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    child = multiprocessing.get_context("spawn").Process(
        target=_save_on_a_full_disk, args=(tmp_path,)
    )
    child.start()
    child.join()
    assert child.exitcode == 7
    assert [p.name for p in tmp_path.iterdir() if p.name != "lock"] == ["step-000000001"]
    assert loaded_value(tmp_path) == 1


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        checkpoint.locked(tmp_path),
        pytest.raises(Failure, match="another process"),
        checkpoint.locked(tmp_path, patience=0),
    ):
        pass
    with checkpoint.locked(tmp_path, patience=0):
        pass


def test_folder_is_keyed_by_science_data_and_code(tmp_path: Path) -> None:
    keys = [("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x")]
    assert len({checkpoint.folder(tmp_path, *key) for key in keys}) == 4


def test_listing_and_collect(tmp_path: Path) -> None:
    run = tmp_path / "checkpoints" / "abc"
    saved(run, 5)
    ((name, step, size),) = checkpoint.listing(tmp_path)
    assert (name, step) == ("abc", 5)
    with checkpoint.locked(run):
        assert checkpoint.collect(tmp_path) == 0
    assert checkpoint.collect(tmp_path) == size
    assert not run.exists()


def test_manifest_holds_the_hash(tmp_path: Path) -> None:
    (only,) = saved(tmp_path, 1)
    assert len(json.loads((only / "manifest.json").read_text())["sha256"]) == 64


def test_a_damaged_one_of_the_same_step_is_written_again(tmp_path: Path) -> None:
    """Else a run whose last checkpoint is damaged computes its last step at every start."""
    old, new = saved(tmp_path, 1, 2)
    for kind in ("half", "torn manifest", "no state"):
        damage(new, old, kind)
        with checkpoint.locked(tmp_path):
            checkpoint.save(tmp_path, 2, state(2))
        assert loaded_value(tmp_path) == 2
        assert sorted(p.name for p in tmp_path.glob("*-*")) == [old.name, new.name]
    stamp = (new / "state.pt").stat().st_mtime_ns
    saved(tmp_path, 2)
    assert (new / "state.pt").stat().st_mtime_ns == stamp, "a good one stays as it is"


@pytest.mark.parametrize("home", ["a file", "read-only"])
def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path, home: str) -> None:
    path = tmp_path / "home" / "checkpoints" / "abc"
    if home == "a file":
        (tmp_path / "home").touch()
    else:  # as any user but root meets it: /proc has no folders for anybody
        path = Path("/proc/checkpoints/abc")
    with pytest.raises(Failure, match=f"IJEPA_HOME: cannot write to {path}: "):
        saved(path, 1)
