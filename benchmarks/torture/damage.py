"""Damage in everything that the project writes and reads again: flipped bits, cuts, zeros.

What is attacked is what a reader is seen to open, so a new kind of file is attacked by itself.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

from torture.place import TRACEBACK, Ended, Place, kind
from torture.states import READERS, WRITTEN, Reader, Reading, outputs, reading, start
from torture.trials import Outcome

SHARE_OF_FLIPS = 0.6
SLOW = {"pretrain", "ranks", "ablate", "dvc"}  # they read what ``train`` reads, in real processes


def flip(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    bit = rng.randrange(8 * len(data))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed), f"bit {bit} flipped"


def cut(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = rng.randrange(len(data))
    return data[:length], f"cut to {length} of {len(data)} bytes"


def zero_tail(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = rng.randrange(len(data))
    return data[:length].ljust(len(data), b"\0"), f"zeros from byte {length} of {len(data)}"


def empty(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    return b"", "emptied"


def extend(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    more = rng.randbytes(rng.randrange(1, 100))
    return data + more, f"{len(more)} bytes longer"


CUTS: tuple[Callable[[bytes, random.Random], tuple[bytes, str]], ...] = (
    cut, cut, zero_tail, zero_tail, empty, extend,
)  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Other bytes, and what was done to them."""
    while True:
        way = flip if rng.random() < SHARE_OF_FLIPS else rng.choice(CUTS)
        changed, what = way(data, rng)
        if changed != data:
            return changed, what


def write(path: Path, data: bytes) -> None:
    """Change a file's bytes and nothing else of it: a disk that forgets sets no clock."""
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def targets(place: Place) -> dict[str, dict[str, list[str]]]:
    """Kind of file -> reader -> the files of that kind that it opens, of those not empty."""
    result: dict[str, dict[str, list[str]]] = {}
    for name in READERS.keys() - SLOW:
        for file in reading(place, name).opened:
            if written(file) and ((place.states / READERS[name].state / file).stat().st_size):
                result.setdefault(kind(Path(file)), {}).setdefault(name, []).append(file)
    return result


def written(file: str) -> bool:
    """Whether the project writes such a file: not what a user writes, nor git."""
    first = file.split("/")[0]
    return first in WRITTEN and (first != "experiments" or file.endswith(".lock.json"))


def trial(place: Place, rng: random.Random) -> Outcome:
    """Damage a file, then run one of those who read it, cheap ones more often."""
    every = targets(place)
    what = rng.choice(sorted(every))
    names = sorted(every[what])
    weights = [1 / reading(place, name).seconds for name in names]
    name = rng.choices(names, weights)[0]
    return attack(place, name, rng.choice(every[what][name]), rng)


def attack(place: Place, name: str, file: str, rng: random.Random) -> Outcome:
    """Damage one file and run one reader."""
    reader, path = READERS[name], place.trial / file
    undisturbed = reading(place, name)
    start(place, reader)
    data = path.read_bytes()
    changed, how = damaged(data, rng)
    write(path, changed)
    ended = place.run(reader.main)
    given = outputs(place, undisturbed.written, ended)
    differs = sorted(
        key for key in undisturbed.outputs.keys() | given.keys()
        if undisturbed.outputs.get(key) != given.get(key)
    )  # fmt: skip
    mended = not path.exists() or path.read_bytes() == data
    verdict = judge(reader, undisturbed, Path(file), ended, differs, mended)
    said = (ended.err.strip().splitlines() or [""])[-1][:160]
    note = f"{file}: {how}; {name}: status {ended.status}, differs {differs[:3]}; {said}"
    return Outcome(kind(Path(file)), verdict, 1, note)


def judge(
    reader: Reader,
    undisturbed: Reading,
    file: Path,
    ended: Ended,
    differs: list[str],
    mended: bool,
) -> str:
    """What became of a damage; see ``trials.VERDICTS``."""
    if ended.status < 0 or ended.status == TRACEBACK or "Traceback" in ended.err:
        return "unclear"
    # what is said of the runs names them anyway
    text = ended.err if reader.apart else ended.text
    new = "\n".join(line for line in text.splitlines() if line not in undisturbed.lines)
    folders = [part for part in file.parts[:-1] if kind(Path(part)) != part]
    named = any(name in new for name in (file.name, str(file.parent), *folders))
    if reader.apart and not all(any(f in key for f in folders) for key in differs):
        return "lost"  # what another file says is gone too
    if ended.status:
        return "survived" if named else "unclear"
    if differs:
        return "survived" if named and reader.names else "lost"
    return "survived" if mended or named else "no effect"
