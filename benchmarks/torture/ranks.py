"""Kills and signals of one process among those of a training: its parent or a rank.

These are real processes, started as a user's are; a run takes seconds.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from torture import kills
from torture.place import TRACEBACK, Place, Process, processes
from torture.states import READERS, start
from torture.trials import Outcome

# name -> the reader, whose process is hit, and by which of these
ROLES: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "kill parent": ("pretrain", "parent", (signal.SIGKILL,)),
    "kill group": ("pretrain", "all", (signal.SIGKILL,)),
    "kill child": ("pretrain", "child", (signal.SIGKILL,)),
    "signal parent": ("pretrain", "parent", kills.SIGNALS),
    "kill rank": ("ranks", "rank", (signal.SIGKILL,)),
    "kill parent of ranks": ("ranks", "parent", (signal.SIGKILL,)),
    "signal parent of ranks": ("ranks", "parent", kills.SIGNALS),
    "signal rank": ("ranks", "rank", kills.SIGNALS),
    "stop rank": ("ranks", "rank", (signal.SIGSTOP,)),
}


def trial(place: Place, name: str, rng: random.Random) -> Outcome:
    """Hit a process at a random moment, then start the run again at once."""
    reader, role, numbers = ROLES[name]
    number, share, pick = rng.choice(numbers), rng.uniform(0.1, 0.95), rng.random()
    moment = share * kills.moments(place, reader)
    start(place, READERS[reader])
    process = Process(READERS[reader].main, place.trial, READERS[reader].variables)
    going = kills.until(process, reader, moment)
    hit = _hit(place, process, role, number, pick) if going else 0
    if number == signal.SIGSTOP:
        time.sleep(1)
        for one in processes(place.trial):
            os.kill(one, signal.SIGCONT)
    seen = process.end(150)
    what = f"{name}: {signal.Signals(number).name} at {share:.2f}: status {seen.status}"
    if hit and seen.status == TRACEBACK:
        return Outcome(name, "unclear", hit, f"{what}: {kills.last(seen)}")
    if number == signal.SIGSTOP and seen.status:
        return Outcome(name, "lost", hit, f"{what}: {kills.last(seen)}")
    return kills.end(place, reader, name, hit, what, [seen])


def _hit(place: Place, process: Process, role: str, number: int, pick: float) -> int:
    """Send the signal as soon as there is such a process; to how many it went."""
    while not process.poll():
        every = processes(place.trial)
        chosen = {
            "parent": [process.pid],
            "all": every if len(every) > 1 else [],
            "child": [one for one in every if _has(one, "cmdline", b"ijepa.training.loop")],
            "rank": [one for one in every if _has(one, "environ", b"\0_IJEPA_PLACE=")],
        }[role]
        if role == "rank" and chosen:
            chosen = [sorted(chosen)[int(pick * len(chosen))]]
        if chosen:
            for one in chosen:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, number)
            return len(chosen)
        time.sleep(0.01)
    return 0


def _has(number: int, what: str, text: bytes) -> bool:
    with contextlib.suppress(OSError):
        return text in Path(f"/proc/{number}/{what}").read_bytes()
    return False
