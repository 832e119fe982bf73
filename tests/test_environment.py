import os
import subprocess
import sys
from pathlib import Path

import pytest

from ijepa.runtime import environment


def test_folders_count_from_the_main_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an experiment's temporary workspace the folders of the main checkout are meant."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("IJEPA_HOME", raising=False)
    monkeypatch.setenv("IJEPA_DATA_ROOT", "../data")
    assert environment.home() == tmp_path / ".ijepa"
    assert environment.data_root() == tmp_path / "../data"
    monkeypatch.setenv("IJEPA_HOME", "elsewhere")
    assert environment.home() == tmp_path / "elsewhere"
    monkeypatch.setenv("IJEPA_HOME", "/absolute")
    assert environment.home() == Path("/absolute")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("IJEPA_DEVICE", "tpu", "IJEPA_DEVICE: 'tpu' is not one of auto, cpu, cuda"),
        ("IJEPA_PRECISION", "fp8", "IJEPA_PRECISION: 'fp8' is not one of auto, bf16, fp32"),
        ("IJEPA_PROCESSES", "two", "IJEPA_PROCESSES: 'two' is not a whole number from 0 to 1024"),
        ("IJEPA_THREADS", "-1", "IJEPA_THREADS: '-1' is not a whole number from 0 to 1024"),
        (
            "IJEPA_THREADS",
            "999999",
            "IJEPA_THREADS: '999999' is not a whole number from 0 to 1024",
        ),
        (
            "IJEPA_PROCESSES",
            "1025",
            "IJEPA_PROCESSES: '1025' is not a whole number from 0 to 1024",
        ),
    ],
)
def test_a_bad_variable_is_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        environment.hardware()
    assert str(caught.value) == words


def test_threads_share_the_cores_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    monkeypatch.delenv("IJEPA_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert environment.hardware().threads == 8
    monkeypatch.setenv("IJEPA_PROCESSES", "4")
    assert (environment.hardware().processes, environment.hardware().threads) == (4, 2)
    monkeypatch.setenv("IJEPA_PROCESSES", "16")
    assert environment.hardware().threads == 1


@pytest.mark.parametrize(
    ("content", "cores"),
    [("max 100000\n", 8), ("250000 100000\n", 2), ("5000 100000\n", 1), (None, 8)],
)
def test_a_containers_share_of_time_counts_as_cores(
    content: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    file = tmp_path / "cpu.max"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr(environment, "_CPU_MAX", file)
    assert environment.cores() == cores


def test_threads_wait_without_spinning() -> None:
    """Set before torch loads, unless the user has set it."""
    said = "import ijepa, os; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        variables = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        variables |= {"OMP_WAIT_POLICY": given} if given else {}
        done = subprocess.run(
            [sys.executable, "-c", said], env=variables, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
