"""Run the jobs of a plan on this machine: a few at a time, each with its GPU or share of cores."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ijepa.runtime import environment, launch


def run(plan: Path, count: int, jobs: int, poll: Callable[[], None]) -> None:
    """Run every job of a plan, ``jobs`` at a time; one that fails stops no other.

    Args:
        plan: the plan file.
        count: its number of jobs.
        jobs: how many run at once.
        poll: called several times a second.

    Any exception, signals included, stops the jobs: they get SIGTERM and time to save.
    """
    waiting = list(range(count))
    running: dict[int, subprocess.Popen[bytes]] = {}  # slot -> process
    with launch.raising():
        try:
            while waiting or running:
                for slot in range(jobs):
                    if slot in running and running[slot].poll() is not None:
                        del running[slot]
                    if slot not in running and waiting:
                        running[slot] = _start(plan, waiting.pop(0), slot, jobs)
                poll()
                time.sleep(0.1)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
            poll()


def _start(plan: Path, index: int, slot: int, jobs: int) -> subprocess.Popen[bytes]:
    # Popen from the main thread: a child that dies with its parent dies with the *thread*
    return subprocess.Popen(
        [sys.executable, "-m", "ijepa.study.job", str(plan), str(index)],
        env={**os.environ, **share(slot, jobs)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, which then stops the jobs
        preexec_fn=lambda: launch.die_with_parent(signal.SIGTERM),
    )


def share(slot: int, jobs: int) -> dict[str, str]:
    """The hardware of a job slot as environment variables; what the user set is kept."""
    variables: dict[str, str] = {}
    gpus = visible_gpus() if environment.text("IJEPA_DEVICE") != "cpu" else []
    cores = environment.cores()
    threads = environment.number("IJEPA_THREADS") or max(1, cores // jobs)
    if jobs > 1 or environment.number("IJEPA_THREADS"):  # one alone chooses its own
        variables |= {"IJEPA_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    if gpus and jobs > 1:
        variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        variables["IJEPA_PROCESSES"] = "1"
    return variables


def jobs(per_gpu: int) -> int:
    """How many runs at once: so many for each GPU, but no more than cores; one without a GPU."""
    gpus = visible_gpus() if environment.text("IJEPA_DEVICE") != "cpu" else []
    return max(1, min(per_gpu * len(gpus), environment.cores()))


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES takes them."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = environment.gpus()
    return told.split(",")[:count] if told else [str(number) for number in range(count)]
