"""Kills and signals at random moments; what was stopped is started again until it ends.

In the end the outputs are those of an undisturbed run, to the byte, nothing half-written is left,
and no process. What a killed process left in the system's temporary folder is not counted.
"""

import contextlib
import os
import random
import signal
import time

from torture.place import TRACEBACK, Ended, Place, Process, kinds, processes
from torture.states import READERS, WRITTEN, outputs, reading, start
from torture.trials import Outcome

MOST = 4  # kills in a run
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
PATIENCE = 100.0  # seconds for what is left of a run to go: 60 to wait for a lock, and some


_shortest: dict[str, float] = {}  # seconds of a reader, the quickest of this process


def moments(place: Place, name: str) -> float:
    """The time within which moments are drawn: no longer than the stage takes just now."""
    return min(reading(place, name).seconds, _shortest.get(name, 1e9))


def until(process: Process, name: str, seconds: float) -> bool:
    """Wait for a moment; whether the stage still goes on then."""
    if process.wait(seconds):
        assert process.status == 0, process.end()
        _shortest[name] = min(_shortest.get(name, 1e9), time.monotonic() - process.start)
        return False
    return True


def stage(place: Place, name: str, rng: random.Random) -> Outcome:
    """Kill a stage some times at random moments, then let it end."""
    shares = [rng.random() for _ in range(rng.randint(1, MOST))]
    for attempt in range(3):  # a stage that was faster than ever is tried again, earlier
        length, hits, seen = moments(place, name) * 0.8**attempt, list[float](), list[Ended]()
        start(place, READERS[name])
        for share in shares:
            process = Process(READERS[name].main, place.trial)
            if not until(process, name, share * length):
                process.end()
                break
            process.kill()
            seen.append(process.end())
            hits.append(share * length)
        if hits:
            break
    what = f"{name}: kill -9 after {', '.join(f'{moment:.3f}' for moment in hits)} s"
    return end(place, name, f"kill {name}", len(hits), what, seen)


def told(place: Place, name: str, rng: random.Random) -> Outcome:
    """Send a stage a signal that asks it to end, or stops it for a while."""
    number, share = rng.choice((*SIGNALS, signal.SIGSTOP)), rng.random()
    for attempt in range(3):
        moment = share * moments(place, name) * 0.8**attempt
        start(place, READERS[name])
        process = Process(READERS[name].main, place.trial)
        hits = int(until(process, name, moment))
        process.kill(number)
        if number == signal.SIGSTOP:
            time.sleep(0.3)
            process.kill(signal.SIGCONT)
        seen = process.end()
        if hits:
            break
    what = f"{name}: {signal.Signals(number).name} after {moment:.3f} s: status {seen.status}"
    allowed = {0, -number, 128 + number, 143}  # a handler that tells SIGINT from SIGTERM or not
    if seen.status not in allowed:
        return Outcome(f"signal {name}", "unclear", hits, f"{what}; {last(seen)}")
    return end(place, name, f"signal {name}", hits, what, [seen])


def end(
    place: Place, name: str, row: str, hits: int, what: str, seen: list[Ended],
) -> Outcome:  # fmt: skip
    """Let it end, and look at what is there."""
    undisturbed = reading(place, name)
    if not hits:
        return Outcome(row, "void", 0, f"{what}: it had ended before")
    ended = place.run(READERS[name].main, **READERS[name].variables)
    given = outputs(place, undisturbed.written, ended)
    faults = [f"traceback before the kill: {last(one)}" for one in seen if one.status == TRACEBACK]
    if ended.status:
        faults.append(f"started again: status {ended.status}: {last(ended)}")
    if given != dict(undisturbed.outputs):
        faults.append(f"differs: {[k for k in given if given[k] != undisturbed.outputs.get(k)]}")
    if left := leftovers(place, name):
        faults.append(f"left: {left}")
    if after := alone(place):
        faults.append(f"{len(after)} processes are left")
    return Outcome(row, "lost" if faults else "survived", hits, "; ".join([what, *faults]))


def last(ended: Ended) -> str:
    """The last line that a process said."""
    return (ended.text.strip().splitlines() or [""])[-1][:200]


def leftovers(place: Place, name: str) -> list[str]:
    """Kinds of files that an undisturbed run does not leave, where the project writes."""
    new = kinds(place.trial) - set(reading(place, name).kinds)
    return sorted(path for path in new if path.split("/")[0] in WRITTEN)


def alone(place: Place, seconds: float = PATIENCE) -> list[int]:
    """Processes of the trial that are still there after so long; they are ended then."""
    deadline = time.monotonic() + seconds
    while (left := processes(place.trial)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return left
