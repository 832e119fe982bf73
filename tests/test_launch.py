"""Processes of one job: who takes part, where they listen, and how their end is told."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from ijepa.runtime import environment, launch

OTHERS = {  # what a job operator sets for every pod
    "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500", "PET_NNODES": "2", "TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "1",
}  # fmt: skip


def hardware(processes: int) -> environment.Hardware:
    return environment.Hardware("cpu", "fp32", processes, 1)


def module(folder: Path, text: str) -> str:
    (folder / "job.py").write_text("import os, signal, sys, time\n" + text)
    return "job"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setattr(launch, "_GRACE", 10)
    monkeypatch.delenv("IJEPA_TORCHRUN", raising=False)


@pytest.mark.parametrize("processes", [1, 2])
def test_ranks_of_the_surroundings_reach_no_process_of_one_node(
    processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**OTHERS, "LOCAL_DATA": "mine"}.items():
        monkeypatch.setenv(name, value)
    job = module(tmp_path, f"""
from pathlib import Path
from ijepa.runtime import launch
place = launch.place()
there = [name for name in {tuple(OTHERS)!r} if name in os.environ]
said = place.world, place.local, there, os.environ["LOCAL_DATA"]
Path(f"rank{{place.rank}}").write_text(" ".join(map(str, said)))
""")  # fmt: skip
    assert launch.run(job, hardware(processes), {}, lambda: None) == launch.End(0)
    for rank in range(processes):
        assert Path(f"rank{rank}").read_text() == f"{processes} {rank} [] mine"
    assert not Path(f"rank{processes}").exists()


def test_processes_of_one_node_are_told_to_talk_over_loopback(tmp_path: Path) -> None:
    """gloo and NCCL would take the interface of the host's name, here or not loopback."""
    job = module(tmp_path, """
from pathlib import Path
told = [os.environ.get(f"{name}_SOCKET_IFNAME") for name in ("GLOO", "NCCL")]
Path(os.environ["_IJEPA_PLACE"].split(" ")[0]).write_text(" ".join(map(str, told)))
""")  # fmt: skip
    assert launch.run(job, hardware(2), {}, lambda: None) == launch.End(0)
    assert [Path(rank).read_text() for rank in ("0", "1")] == ["lo lo"] * 2


def test_a_process_that_nobody_placed_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OTHERS.items():
        monkeypatch.setenv(name, value)
    assert launch.place() == launch.Place(0, 1, 0, None)
    assert launch.place().meeting() == {}
    monkeypatch.setenv("_IJEPA_PLACE", "torchrun")
    assert launch.place() == launch.Place(1, 2, 1, None)
    monkeypatch.setenv("_IJEPA_PLACE", "3 4 /a b/meeting")
    assert launch.place() == launch.Place(3, 4, 3, "/a b/meeting")
    assert launch.place().meeting() == {
        "init_method": "file:///a%20b/meeting", "rank": 3, "world_size": 4,
    }  # fmt: skip


@pytest.mark.parametrize(("text", "end", "words"), [
    ("if place.rank == 1: sys.exit(3)", launch.End(3, 1), "rank 1 ended with status 3"),
    ("if place.rank == 1: os.kill(os.getpid(), signal.SIGKILL)", launch.End(-9, 1),
     "rank 1 ended by SIGKILL"),
    # the killed one is the cause, though the other one misses it and fails first
    ("if place.rank == 0: sys.exit(1)\nos.kill(os.getpid(), signal.SIGKILL)", launch.End(-9, 1),
     "rank 1 ended by SIGKILL"),
])  # fmt: skip
def test_the_rank_that_failed_is_named_and_the_others_are_stopped(
    text: str, end: launch.End, words: str, tmp_path: Path
) -> None:
    job = module(tmp_path, f"""
from pathlib import Path
from ijepa.runtime import launch
place = launch.place()
while not (Path("ready0").exists() and Path("ready1").exists()):
    Path(f"ready{{place.rank}}").touch()
{text}
time.sleep(100)
""")  # fmt: skip
    ended = launch.run(job, hardware(2), {}, lambda: time.sleep(0.3))
    assert (ended, str(ended)) == (end, words)
    assert (
        "sleep"
        not in subprocess.run(
            ["pgrep", "-f", f"{sys.executable} -m job"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
    )


def test_one_process_has_no_rank() -> None:
    assert str(launch.End(1)) == "ended with status 1"
    assert str(launch.End(-signal.SIGSEGV)) == "ended by SIGSEGV"


def listening() -> dict[str, str]:
    """inode -> local address of every TCP socket that listens, as the kernel tells it."""
    sockets = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                sockets[fields[9]] = fields[1].partition(":")[0]
    return sockets


def sockets_of(pid: int) -> set[str]:
    """Inodes of the sockets of a process and of all that it started."""
    inodes, queue = set(), [pid]
    while queue:
        folder = Path(f"/proc/{queue.pop()}")
        for entry in folder.glob("fd/*"):
            with contextlib.suppress(OSError):  # closed while we looked
                if match := re.match(r"socket:\[(\d+)\]", str(entry.readlink())):
                    inodes.add(match[1])
        for children in folder.glob("task/*/children"):
            queue += map(int, children.read_text().split())
    return inodes


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux tells")
def test_two_processes_of_one_node_listen_on_loopback_alone(tmp_path: Path) -> None:
    """What `ss -ltn` shows of them; with gloo and a collective of a real process group."""
    job = module(tmp_path, """
import torch, torch.distributed as dist
from pathlib import Path
from ijepa.runtime import launch
place = launch.place()
dist.init_process_group("gloo", **place.meeting())
value = torch.ones(3) * place.rank
dist.all_reduce(value)
assert value.tolist() == [1, 1, 1]
Path(f"up{place.rank}").touch()
while not Path("seen").exists():
    time.sleep(0.05)
dist.barrier()
dist.destroy_process_group()
""")  # fmt: skip
    seen: list[set[str]] = []

    def look() -> None:
        if all(Path(f"up{rank}").exists() for rank in range(2)) and not seen:
            own, table = sockets_of(os.getpid()), listening()
            seen.append({table[inode] for inode in own & table.keys()})
            Path("seen").touch()

    assert launch.run(job, hardware(2), {}, look) == launch.End(0)
    loopback = {"0100007F", "0" * 24 + "01000000"}
    assert seen[0], "gloo listens somewhere"
    assert seen[0] <= loopback
