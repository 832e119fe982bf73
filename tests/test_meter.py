"""What a run took: counters of energy, what a resume keeps; and no result has a clock in it."""

import csv
import ctypes
import json
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny

from ijepa.pretrain import Tail
from ijepa.store.read import Store
from ijepa.tracking import journal, runs, terminal
from ijepa.training import checkpoint, loop, meter, progress, rows
from ijepa.training.batches import Batches
from ijepa.training.meter import Meter, Nvml, Rapl, Spent

CPU = torch.device("cpu")
SHORT = {"train.epochs": 0.5, "train.warmup_epochs": 0}  # four steps of eight images


def zone(folder: Path, name: str, about: str, microjoules: int, most: int = 10**9) -> Path:
    """A zone of a sysfs powercap folder."""
    made = folder / name
    made.mkdir(parents=True, exist_ok=True)
    (made / "name").write_text(about + "\n")
    (made / "energy_uj").write_text(f"{microjoules}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets: its one element."""
    now = [100.0]
    monkeypatch.setattr(meter, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_rapl_adds_the_packages_and_sees_a_counter_wrap(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 999_999_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)  # a part of the first package
    zone(tmp_path, "intel-rapl:2", "psys", 1)  # the whole machine, the packages among it
    (tmp_path / "intel-rapl").mkdir()
    counter = Rapl(tmp_path)
    for name in ("intel-rapl:0:0", "intel-rapl:2"):
        zone(tmp_path, name, (tmp_path / name / "name").read_text(), 900_000)
    assert counter.joules() == 0
    zone(tmp_path, "intel-rapl:0", "package-0", 7_500_000)
    assert counter.joules() == 2.5
    zone(tmp_path, "intel-rapl:1", "package-1", 499_000)  # 1,001 up to the wrap, 499,000 after
    assert counter.joules() == pytest.approx(0.500001)
    assert counter.joules() == 0


@pytest.mark.parametrize("about", [None, "psys"])
def test_no_readable_package_is_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, about: str | None
) -> None:
    if about:
        zone(tmp_path, "intel-rapl:0", about, 1)
    with pytest.raises(OSError, match="no processor package"):
        Rapl(tmp_path)
    monkeypatch.setattr(Rapl.__init__, "__defaults__", (tmp_path,))
    assert meter.energy(CPU, 1) is None


def test_a_counter_that_may_not_be_read_is_no_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux lets root alone read it; also a test run by root must see that."""
    monkeypatch.setattr(Rapl.__init__, "__defaults__", (tmp_path,))
    made = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert isinstance(meter.energy(CPU, 1), Rapl)
    real = Path.read_text

    def refused(path: Path, *args: Any, **kwargs: Any) -> str:
        if path == made / "energy_uj":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refused)
    assert meter.energy(CPU, 1) is None


def test_energy_of_several_machines_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rapl.__init__, "__defaults__", (tmp_path,))
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert meter.energy(CPU, 2) is not None
    assert meter.energy(CPU, 4) is None


class Driver:
    """What NVML's library answers: millijoules by the GPU's name."""

    def __init__(self, **counters: int) -> None:
        self.counters, self.names = counters, list(counters)

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByUUID(self, name: bytes, handle: Any) -> int:
        key = name.decode().removeprefix("GPU-")
        if key not in self.names:
            return 6  # not found
        ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = 1 + self.names.index(key)
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, found: Any) -> int:
        value = self.counters[self.names[(handle.value or 0) - 1]]
        if value < 0:
            return 3  # not supported
        ctypes.cast(found, ctypes.POINTER(ctypes.c_ulonglong))[0] = value
        return 0


def test_nvml_adds_the_gpus_of_the_run() -> None:
    driver = Driver(a=1000, b=2**40, other=5)
    counter = Nvml(["a", "b"], driver)
    driver.counters |= {"a": 3000, "b": 2**40 + 500, "other": 10**9}
    assert counter.joules() == 2.5
    assert counter.joules() == 0
    with pytest.raises(OSError, match="status 6"):
        Nvml(["c"], driver)
    with pytest.raises(OSError, match="status 3"):
        Nvml(["old"], Driver(old=-1))


class Counter(Rapl):
    """A counter that the test sets."""

    def __init__(self, joules: float) -> None:
        self.step = joules

    def joules(self) -> float:
        if self.step < 0:
            raise OSError("gone")
        return self.step


def test_time_counts_every_device_and_goes_on_after_a_resume(clock: list[float]) -> None:
    first = Meter(CPU, 2, None, Counter(3.0))
    first.start()
    clock[0] += 5
    first.tick()
    assert first.spent.device_seconds == 0, "not yet"
    clock[0] += 6
    first.tick()
    assert first.spent.device_seconds == 22
    clock[0] += 1
    saved = first.read()
    assert (saved.device_seconds, saved.energy_joules, saved.energy_source) == (24, 6, "rapl")
    assert saved.devices == 2
    assert saved.peak_memory_gib > 0
    clock[0] += 1000  # nobody runs
    again = Meter(CPU, 1, saved, Counter(4.0))
    again.start()
    clock[0] += 10
    last = again.read()
    assert (last.device_seconds, last.energy_joules, last.devices) == (34, 10, 1)
    assert (last.earlier_seconds, last.wall_seconds, again.training) == (12, 22, 10)
    larger = Spent(0, None, None, 1e6, 1, "")
    assert Meter(CPU, 1, larger, None).read().peak_memory_gib == 1e6


def test_what_is_not_training_is_on_the_wall_clock_alone(clock: list[float]) -> None:
    """The wait for the first batch, and what is done in a pause."""
    counter = Counter(5.0)
    taken = Meter(CPU, 2, None, counter)
    clock[0] += 100
    taken.start()
    assert (taken.spent.device_seconds, taken.spent.energy_joules) == (0, 0)
    clock[0] += 3
    taken.start()  # at every step
    with taken.paused():
        assert (taken.training, taken.spent.energy_joules) == (3, 5)
        clock[0] += 1000
        taken.tick()
    clock[0] += 4
    with taken.paused():
        clock[0] += 1000
    clock[0] += 1
    last = taken.read()
    assert (taken.training, last.device_seconds, last.wall_seconds) == (8, 16, 2108)
    assert last.energy_joules == 15


def test_energy_that_a_part_of_the_run_did_not_report_is_unknown(clock: list[float]) -> None:
    assert Meter(CPU, 1, None, None).read().energy_joules is None
    begun = Meter(CPU, 1, None, Counter(3.0))
    begun.start()
    known = begun.read()
    assert (known.energy_joules, known.energy_source) == (3, "rapl")
    unknown = Meter(CPU, 1, known, None).read()
    assert (unknown.energy_joules, unknown.energy_source) == (None, None)
    assert Meter(CPU, 1, unknown, Counter(3.0)).read().energy_joules is None
    counter = Counter(3.0)
    lost = Meter(CPU, 1, known, counter)
    counter.step = -1
    assert lost.read().energy_joules is None
    counter.step = 3.0
    assert lost.read().energy_joules is None, "a gap is not filled again"


@pytest.fixture
def run(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Train a tiny run; returns out/pretrain.json and the rows that the stage's parent gets."""
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "0")  # after every step
    monkeypatch.setenv(rows.VARIABLE, str(tmp_path / "rows"))
    monkeypatch.chdir(tmp_path)

    def start(home: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        monkeypatch.setenv("IJEPA_HOME", str(tmp_path / home))
        (tmp_path / "rows").unlink(missing_ok=True)
        loop.train(tiny(**SHORT), store, CPU, "fp32", 0, 1)
        rows = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
        return json.loads((tmp_path / "out" / "pretrain.json").read_text()), rows

    return start


class Killed(BaseException):
    """Stands for kill -9."""


def test_a_resumed_run_has_the_flops_of_the_whole_and_all_its_seconds(
    run: Callable[..., Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps of eight images, each of a second by the test's clock; the first batch takes 50,
    a health reading 10 and a checkpoint 100, which are on the wall clock alone."""
    config, now, write = tiny(**SHORT), [0.0], checkpoint.Writer.save
    monkeypatch.setattr(meter, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    objective, batches = (
        loop.create_objective(config, CPU),
        Batches(store.splits["train"], config),
    )
    given = [batches[position] for position in range(0, 32, 8)]
    expected = sum(objective.flops(*batch.views, *batch.masks) for batch in given)
    costs = {objective.flops(*batch.views, *batch.masks) for batch in given}
    assert len(costs) > 1, "batches differ, for their masks do"
    useful = sum(objective.flops(*b.views, *b.masks, padding=False) for b in given)

    def gradients(*args: Any) -> Any:
        now[0] += 1
        return compute(*args)

    def save(writer: checkpoint.Writer, step: int, state: dict[str, Any]) -> None:
        now[0] += 100
        write(writer, step, state)
        writer.wait()
        if step == kill:
            raise Killed

    def health(*args: Any) -> Any:
        now[0] += 10
        return read(*args)

    def loader(*args: Any) -> Any:
        now[0] += 50
        yield from load(*args)

    def cost(rows: list[dict[str, Any]]) -> dict[str, Any]:
        taken: dict[str, Any] = [row for row in rows if "cost" in row][-1]["cost"]
        return taken

    compute, read, load, kill = loop.gradients, loop.health, loop.loader, 0
    monkeypatch.setattr(loop, "gradients", gradients)
    monkeypatch.setattr(loop, "health", health)
    monkeypatch.setattr(loop, "loader", loader)
    monkeypatch.setattr(checkpoint.Writer, "save", save)
    straight, rows = run("straight")
    assert (straight["flops"], straight["images"]) == (expected, 32)
    assert straight["flops_per_image"] == expected / 32
    trail = [row for row in rows if "trail" in row]
    assert [row["step"] for row in trail] == [1, 2, 3, 4], "at every row of the history"
    assert straight["flops_useful"] == useful == 32 * straight["flops_useful_per_image"] < expected
    assert cost(rows)["device_seconds"] == 4
    assert (cost(rows)["wall_seconds"], cost(rows)["earlier_seconds"]) == (50 + 4 + 20 + 400, 0)
    for step in (1, 3):
        kill = step
        with pytest.raises(Killed):
            run("killed")
        now[0] += 1000
    kill = 0
    resumed, rows = run("killed")
    assert resumed == straight
    assert [row for row in rows if "trail" in row] == trail, "of the whole run"
    assert cost(rows)["device_seconds"] == 4
    before = (50 + 1 + 10) + (50 + 1 + 100 + 1)  # each up to the checkpoint it was killed after
    assert cost(rows)["earlier_seconds"] == before
    assert cost(rows)["wall_seconds"] == before + 50 + 1 + 10 + 100
    _, rows = run("killed")
    assert [row["cost"]["device_seconds"] for row in rows if "cost" in row] == [4], "finished"


def test_speed_is_of_training_and_the_end_is_on_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    clock = progress.Clock(1000, 5000, CPU)
    now[0] = 80
    reading = clock.reading(2000, 50.0, 10.0)
    assert (reading["images_per_second"], reading["eta"]) == (20, 3000 / 1000 * 80)
    assert reading["waiting"] == 0.2


def test_waiting_for_data_is_counted_from_the_second_batch_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def batches() -> Iterator[Any]:
        for seconds in (50, 3, 4):
            now[0] += seconds
            yield seconds

    waiting = progress.Waiting(batches())
    for _ in waiting:
        now[0] += 100  # a step
    assert waiting.seconds == 7


def test_no_result_has_a_clock_in_it(run: Callable[..., Any], tmp_path: Path) -> None:
    found, rows = run("home")
    assert set(found) == {
        "step", "images", "loss", "feature_std", "rankme", "context_ratio", "health", "collapsed",
        "parameters", "flops", "flops_per_image", "flops_useful", "flops_useful_per_image",
    }  # fmt: skip
    with (tmp_path / "out" / "history.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert set(last) == {
        "step", "images", "flops", "flops_useful", "loss", "context_ratio", "lr", "weight_decay",
        "ema", "feature_std", "rankme",
    }  # fmt: skip
    assert int(last["flops"]) == found["flops"]
    cost = [row["cost"] for row in rows if "cost" in row]
    assert set(cost[-1]) == {
        "device_seconds", "energy_joules", "energy_source", "peak_memory_gib", "devices", "device",
        "wall_seconds", "earlier_seconds",
    }  # fmt: skip


COST = {"device_seconds": 90.0, "energy_joules": 5400.0, "energy_source": "rapl",
        "peak_memory_gib": 0.5, "devices": 1, "device": "a processor, 2 threads",
        "wall_seconds": 1150.0, "earlier_seconds": 1000.0}  # fmt: skip


def test_the_stage_records_it_and_the_journal_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IJEPA_MONGO_URL", "off")

    def body(recorded: journal.Run) -> None:
        tail = Tail(tmp_path / "rows", recorded)
        monkeypatch.setenv(rows.VARIABLE, str(tail.path))
        rows.emit({"numerics": {"device": "cpu", "threads": 2}})
        rows.emit({"cost": COST | {"device_seconds": 45.0}})
        rows.emit({"step": 1, "loss": 0.5})
        tail.read()
        rows.emit({"cost": COST})
        tail.read()

    journal.record("pretrain", tiny(), body)
    (record,) = runs.listing()
    assert record.cost == COST
    assert record.numerics == {"device": "cpu", "threads": 2}
    assert record.seconds
    assert record.whole_seconds == record.seconds + 1000
    shown, _ = terminal.show(record.id)
    assert "cost       device_seconds 90.0\n" in shown
    assert "train.loss: 1 points" in shown
    journal.record("pretrain", tiny(), lambda recorded: None)
    assert runs.listing()[0].cost is None
    assert runs.listing()[0].whole_seconds == runs.listing()[0].seconds
    assert "cost" not in terminal.show(runs.listing()[0].id)[0].split("\n\n")[0]
