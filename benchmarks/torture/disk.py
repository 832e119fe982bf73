"""A full disk: a limit on every file that a stage writes, or a small file system below it."""

import contextlib
import math
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from torture import kills
from torture.place import TRACEBACK, Ended, Place, limited
from torture.states import READERS, outputs, reading, start
from torture.trials import Outcome

STAGES = ("prepare", "train", "resume", "evaluate", "report")
# what may be a file system of its own; data/prepared itself is renamed into its place
PLACES = {"prepare": ("data", "home"), "report": ("out", "home")}


def limit(place: Place, rng: random.Random) -> Outcome:
    """No file may be larger than a random limit; then the same stage without one."""
    name = rng.choices(STAGES, (3, 3, 2, 3, 1))[0]
    undisturbed = reading(place, name)
    start(place, READERS[name])
    size = int(math.exp(rng.uniform(math.log(50), math.log(2e6 if name == "report" else 3e5))))
    ended = place.run(limited(READERS[name].main, size))
    return judge(
        place, name, "file size limit", f"{name}, {size} bytes", ended, undisturbed.written
    )


def small(place: Place, rng: random.Random) -> Outcome:
    """A file system with little room under a folder of the run; then the same with enough."""
    name = rng.choices(STAGES, (3, 3, 2, 3, 1))[0]
    undisturbed = reading(place, name)
    start(place, READERS[name])
    folder = rng.choice(PLACES.get(name, ("out", "home")))
    room = int(math.exp(rng.uniform(math.log(4096), math.log(3e6 if name == "report" else 1e6))))
    with _mounted(place.trial / folder, room) as grow:
        ended = place.run(READERS[name].main)
        grow()
        what = f"{name}, {room} bytes free under {folder}"
        return judge(place, name, "small file system", what, ended, undisturbed.written)


def judge(
    place: Place, name: str, row: str, what: str, ended: Ended, written: list[str]
) -> Outcome:
    """It ended well with its outputs, or with one line; and then it runs with room."""
    good = reading(place, name).outputs
    what = f"{what}: status {ended.status}; {kills.last(ended)}"
    if ended.status == TRACEBACK or ended.status < 0 or "Traceback" in ended.err:
        return Outcome(row, "unclear", 1, what)
    if not ended.status and outputs(place, written, ended) != good:
        return Outcome(row, "lost", 1, f"{what}; its outputs differ")
    outcome = kills.end(place, name, row, 1, what, [ended])
    if outcome.verdict == "survived" and not ended.status and not ended.err:
        return Outcome(row, "no effect", 1, what)
    return outcome


@contextlib.contextmanager
def _mounted(folder: Path, room: int) -> Iterator[Callable[[], None]]:
    """A file system for a folder with its content and so much room; it can be made to grow."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.mkdir(exist_ok=True)
    folder.rename(aside)
    folder.mkdir()
    page = os.sysconf("SC_PAGESIZE")
    every = [path.stat().st_size for path in aside.rglob("*") if path.is_file()]
    size = sum(-(-one // page) for one in every) * page + room
    mount("-t", "tmpfs", "-o", f"size={size}", "torture", str(folder))
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield lambda: mount("-o", "remount,size=200m", str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def may_mount(place: Place) -> bool:
    """Whether this machine lets us mount a file system."""
    folder = place.folder / "mount"
    folder.mkdir(exist_ok=True)
    try:
        mount("-t", "tmpfs", "-o", "size=64k", "torture", str(folder))
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
    subprocess.run(["umount", str(folder)], check=True)
    return True
