"""Start training, hand signals on to it, and leave no orphan behind."""

import argparse
import contextlib
import ctypes
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ijepa.runtime import environment

# A training step allocates and frees the same large blocks again and again. Told not to return
# them to the kernel, glibc saves the page faults: 15-30 % of a laptop-sized step (laptop-recipe
# 1.1). On a GPU a batch has a shape of its own at every step, and blocks that can grow keep the
# memory whole.
_ALLOCATORS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "268435456",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}
_GRACE = 90  # seconds for the children to save and leave


def run(
    module: str,
    hardware: environment.Hardware,
    variables: Mapping[str, str],
    poll: Callable[[], None],
    nodes: bool = False,
) -> int:
    """Run a module until it ends: under torchrun, or alone where there is one process.

    Args:
        module: what each process runs.
        hardware: processes and threads to use.
        variables: set for the children, beside this process's own.
        poll: called several times a second and once at the end.
        nodes: whether all nodes of ``IJEPA_TORCHRUN`` take part, or this one alone.

    Returns:
        The exit status. Any exception here, signals included, first stops the children: they get
        SIGTERM and time to save.
    """
    rendezvous = shlex.split(environment.text("IJEPA_TORCHRUN")) if nodes else []
    command = [sys.executable, "-m", module]
    if rendezvous or hardware.processes > 1:
        command[1:1] = [
            "-m", "torch.distributed.run", *(rendezvous or ["--standalone"]),
            f"--nproc-per-node={hardware.processes}",
        ]  # fmt: skip
    child = subprocess.Popen(
        command,
        env={**_ALLOCATORS, **os.environ, "OMP_NUM_THREADS": str(hardware.threads), **variables},
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the children
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )
    try:
        while child.poll() is None:
            poll()
            time.sleep(0.2)
    except BaseException:
        _stop(child)
        raise
    finally:
        poll()
    return child.returncode


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


def _stop(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, then SIGKILL for the whole group."""
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        print(f"training did not stop within {_GRACE} s: killed", file=sys.stderr)
    finally:
        with contextlib.suppress(ProcessLookupError):  # all of them have gone, as they should
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
