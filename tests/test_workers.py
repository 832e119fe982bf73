"""How many processes load data: as told, or as the cores and /dev/shm allow on a GPU."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from ijepa.runtime import environment, workers

MIB = 1 << 20


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine: its device, threads of a process, and room for batches."""
    machine = SimpleNamespace(device="cuda", threads=16, free=1 << 40)
    monkeypatch.delenv("IJEPA_WORKERS", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=machine.free))
    monkeypatch.setattr(
        environment,
        "hardware",
        lambda: environment.Hardware(machine.device, "fp32", 1, machine.threads),
    )
    return machine


@pytest.mark.parametrize(
    ("device", "threads", "free", "expected"),
    [
        ("cuda", 16, 1 << 40, 8), ("cuda", 5, 1 << 40, 4), ("cuda", 1, 1 << 40, 0),
        ("cpu", 16, 1 << 40, 0), ("cuda", 16, 64 * MIB, 3), ("cuda", 16, 19 * MIB, 0),
    ],
)  # fmt: skip
def test_untold_a_gpu_gets_what_its_cores_and_the_shared_memory_hold(
    place: SimpleNamespace, device: str, threads: int, free: int, expected: int
) -> None:
    place.device, place.threads, place.free = device, threads, free
    assert workers.options(10 * MIB, [])["num_workers"] == expected


def test_told_workers_are_taken_or_refused(
    place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_WORKERS", "3")
    place.device, place.free = "cpu", 60 * MIB
    assert workers.options(10 * MIB, [])["num_workers"] == 3
    place.free -= 1
    with pytest.raises(ValueError, match=r"^IJEPA_WORKERS: 3 workers .* 2 would fit"):
        workers.options(10 * MIB, [])
    monkeypatch.setattr(workers, "SHARED", Path("/no/such/folder"))  # not Linux
    monkeypatch.setenv("IJEPA_WORKERS", "16")
    assert workers.options(10 * MIB, [])["num_workers"] == 16
    monkeypatch.setenv("IJEPA_WORKERS", "0")
    assert workers.options(10 * MIB, []) == {"num_workers": 0}
