"""Start training, hand signals on to it, and leave no orphan behind.

On one node the processes find each other by a file in a folder that nobody else can read, and talk
over loopback: no port is open to the network, and nothing of the surroundings (RANK, MASTER_ADDR,
which operators set for every pod) decides who takes part. Several nodes go by torchrun.
"""

import argparse
import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ijepa.runtime import environment

# A training step allocates and frees the same large blocks again and again. Told not to return
# them to the kernel, glibc saves the page faults: 15-30 % of a laptop-sized step. On a GPU
# a batch has a shape of its own at every step, and blocks that can grow keep the memory whole.
_ALLOCATORS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "268435456",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
_GRACE = 90  # seconds for the children to save and leave
_PLACE = "_IJEPA_PLACE"  # tells a child of several its place: "RANK WORLD FILE", or "torchrun"
# of other launchers, which set them for everything that they start
_SURROUNDINGS = (
    "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK", "LOCAL_WORLD_SIZE",
    "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME",
)  # fmt: skip
_PREFIXES = ("TORCHELASTIC_", "PET_")
_LOOPBACK = "lo" if sys.platform == "linux" else "lo0"


@dataclass(frozen=True, slots=True)
class End:
    """How the processes of a job ended.

    Attributes:
        status: 0, or that of the process that failed first; -9 for SIGKILL.
        rank: of that process on this node, where several ran.
    """

    status: int
    rank: int | None = None

    def __str__(self) -> str:
        with contextlib.suppress(ValueError):
            if self.status < 0:
                return f"{self._who}ended by {signal.Signals(-self.status).name}"
        return f"{self._who}ended with status {self.status}"

    @property
    def _who(self) -> str:
        return "" if self.rank is None else f"rank {self.rank} "


@dataclass(frozen=True, slots=True)
class Place:
    """A process's place among those of its job.

    Attributes:
        rank: among all of them.
        world: how many there are.
        local: rank among those of this node.
        file: where those of one node meet; None: torchrun's variables say.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    file: str | None = None

    def meeting(self) -> dict[str, Any]:
        """What ``torch.distributed.init_process_group`` is to be told."""
        if self.file is None:
            return {}
        method = Path(self.file).as_uri()
        return {"init_method": method, "rank": self.rank, "world_size": self.world}


def place() -> Place:
    """This process's place; alone unless ``run`` started it among others."""
    told = os.environ.get(_PLACE)
    if told is None:
        return Place()
    if told == "torchrun":
        numbers = [int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        return Place(numbers[0], numbers[1], numbers[2])
    rank, world, file = told.split(" ", 2)
    return Place(int(rank), int(world), int(rank), file)


def run(
    module: str,
    hardware: environment.Hardware,
    variables: Mapping[str, str],
    poll: Callable[[], None],
    nodes: bool = False,
) -> End:
    """Run a module until it ends, in as many processes as the hardware has.

    Args:
        module: what each process runs.
        hardware: processes and threads to use.
        variables: set for the children, beside this process's own.
        poll: called several times a second and once at the end.
        nodes: whether all nodes of ``IJEPA_TORCHRUN`` take part, or this one alone.

    Returns:
        How it ended; where one process fails, the others are stopped. Any exception here, signals
        included, first stops the children: they get SIGTERM and time to save.
    """
    rendezvous = shlex.split(environment.text("IJEPA_TORCHRUN")) if nodes else []
    command = [sys.executable, "-m", module]
    shared = {**_surroundings(keep=bool(rendezvous)),
              "OMP_NUM_THREADS": str(hardware.threads), **variables}  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="ijepa-") as folder:  # its owner's alone
        if rendezvous:
            command[1:1] = ["-m", "torch.distributed.run", *rendezvous,
                            f"--nproc-per-node={hardware.processes}"]  # fmt: skip
            places = [{_PLACE: "torchrun"}]
        elif hardware.processes > 1:
            interfaces = {"GLOO_SOCKET_IFNAME": _LOOPBACK, "NCCL_SOCKET_IFNAME": _LOOPBACK}
            places = [
                {_PLACE: f"{rank} {hardware.processes} {folder}/meeting", **interfaces}
                for rank in range(hardware.processes)
            ]
        else:
            places = [{}]
        children: list[subprocess.Popen[bytes]] = []
        try:
            for own in places:
                children.append(_start(command, {**shared, **own}))
            return _until_the_end(children, poll)
        except BaseException:
            _stop(children)
            raise
        finally:
            poll()


def _surroundings(keep: bool) -> dict[str, str]:
    """This process's variables, for a child; those of other launchers only if they ``keep``."""
    own = {
        name: value
        for name, value in os.environ.items()
        if keep or not (name in (_PLACE, *_SURROUNDINGS) or name.startswith(_PREFIXES))
    }
    return {**_ALLOCATORS, **own}


def _start(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=variables,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the children
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )


def _until_the_end(children: Sequence[subprocess.Popen[bytes]], poll: Callable[[], None]) -> End:
    while True:
        statuses = [child.poll() for child in children]
        failed = {rank: status for rank, status in enumerate(statuses) if status}
        if failed:  # who was killed is the cause: the others miss it, and fail too
            rank = min(failed, key=lambda rank: (failed[rank] > 0, rank))
            _stop(children)
            return End(failed[rank], rank if len(children) > 1 else None)
        if all(status == 0 for status in statuses):
            return End(0)
        poll()
        time.sleep(0.2)


def node() -> int:
    """This machine's rank among the nodes of a run; 0 where there is one.

    Raises:
        ValueError: ``IJEPA_TORCHRUN`` does not say.
    """
    told = shlex.split(environment.text("IJEPA_TORCHRUN"))
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    parser.add_argument("--node-rank", "--node_rank", type=int, default=None if told else 0)
    try:
        rank = parser.parse_known_args(told)[0].node_rank
    except argparse.ArgumentError:
        rank = None
    if rank is None:
        raise ValueError(
            f"IJEPA_TORCHRUN: {' '.join(told)!r} names no --node-rank (node 0 records)"
        )
    return int(rank)


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGTERM, patience, then SIGKILL for the whole group of each."""
    for child in children:
        child.terminate()
    end = time.monotonic() + _GRACE
    try:
        for child in children:
            child.wait(max(0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(f"training did not stop within {_GRACE} s: killed", file=sys.stderr)
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):  # all of it has gone, as it should
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Ask Linux to signal this process when its parent dies, even of kill -9."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(number))


def adopt_orphans() -> None:
    """Ask Linux for the orphans of this process's children, so that it can reap them.

    In a container whose first process reaps none they would stay zombies, and their process group
    would never be empty.
    """
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1)


def _leave(number: int) -> BaseException:
    return SystemExit(128 + number)


@contextlib.contextmanager
def raising(
    error: Callable[[int], BaseException] = _leave,
    numbers: Sequence[signal.Signals] = (signal.SIGTERM,),
) -> Iterator[None]:
    """Within it, a signal raises an exception in the main thread, so that what is open is closed.

    Only the first does: it comes again from Slurm, and when a parent dies, while there is work to
    save. Elsewhere than in the main thread this does nothing: Python lets no other handle signals.

    Args:
        error: the signal's number -> what is raised; the default ends the process with 128 + it.
        numbers: the signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: object) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise error(number)

    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """Remembers SIGTERM and SIGINT until the end of the step; a later one ends the process.

    Slurm tells every process of a job, and the parents of this one hand it on: what comes within
    five seconds is the same request.
    """

    def __init__(self) -> None:
        self.pending = False
        self.since = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._remember)

    def _remember(self, number: int, _frame: object) -> None:
        if self.pending and time.monotonic() - self.since > 5:
            os._exit(128 + number)
        if not self.pending:
            self.pending, self.since = True, time.monotonic()
