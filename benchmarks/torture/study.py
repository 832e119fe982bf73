"""Kills of an ablation: the command, a job of it, or a stage of a job; real processes.

What is compared is what the lock file says was computed, without the records of who did it when.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from torture import kills
from torture.place import Place, Process, processes
from torture.states import READERS, start
from torture.trials import Outcome


def killed(place: Place, rng: random.Random) -> Outcome:
    """Kill the command, or any process of it, at random moments; then start it again."""
    whom, shares = rng.choice(("command", "any")), [rng.random() for _ in range(rng.randint(1, 2))]
    length = kills.moments(place, "ablate")
    start(place, READERS["ablate"])
    seen, hits, said = [], 0, []
    for share in shares:
        process = Process(READERS["ablate"].main, place.trial, READERS["ablate"].variables)
        if process.wait(share * length):
            process.end()
            break
        chosen = process.pid if whom == "command" else rng.choice(sorted(processes(place.trial)))
        with contextlib.suppress(ProcessLookupError):
            said.append(f"{name(chosen)} after {share * length:.1f} s")
            os.kill(chosen, signal.SIGKILL)
            hits += 1
        if whom == "any":
            process.wait(rng.uniform(0, 5))
            process.kill()
        seen.append(process.end())
        time.sleep(0.1)
    return kills.end(place, "ablate", "kill ablate", hits, f"kill -9 of {', '.join(said)}", seen)


def name(number: int) -> str:
    """What a process runs, in words."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        return next(
            (w.decode() for w in words if w.startswith((b"ijepa.", b"torch."))), "ijepa ablate"
        )
    return "?"


def dvc_killed(place: Place, rng: random.Random) -> Outcome:
    """Kill `dvc repro`, alone or with all of its stages, at a random moment; then again."""
    share, every = rng.random(), rng.random() < 0.5
    moment = share * kills.moments(place, "dvc")
    start(place, READERS["dvc"])
    process = Process(READERS["dvc"].main, place.trial)
    hits = 0
    if not process.wait(moment):
        for number in processes(place.trial) if every else [process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
                hits += 1
    seen = process.end()
    kills.alone(place)  # the stages save; DVC waits for no one who holds its lock
    what = f"kill -9 of dvc repro{' and its stages' if every else ''} after {moment:.1f} s"
    return kills.end(place, "dvc", "kill dvc", hits, what, [seen])
