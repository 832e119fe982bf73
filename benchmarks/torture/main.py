"""The command: which kinds there are, how many trials of each, and the table at the end."""

import argparse
import functools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path

from ijepa.runtime import environment, files
from torture import controls, damage, database, disk, kills, ranks, states, study, trials
from torture.place import Place
from torture.trials import Trial

# Trials of a kind: a kill of a forked stage takes a second or two, one of real processes more.
WANTED = {
    "damage": 1000,
    "kill train": 190, "kill prepare": 30, "kill prepare again": 15, "kill evaluate": 20,
    "kill report": 4,
    "signal train": 40, "signal prepare": 10, "signal evaluate": 10, "signal report": 2,
    "kill parent": 8, "kill group": 4, "kill child": 4, "signal parent": 6, "kill rank": 3,
    "kill parent of ranks": 2, "signal parent of ranks": 3, "signal rank": 3,
    "stop rank": 3, "kill ablate": 4, "kill dvc": 3,
    "kill sync": 20, "outage": 15, "database changed": 20, "damage before sync": 30,
    "full disk: limit": 40, "full disk: tmpfs": 25,
}  # fmt: skip
CONTROLS = "controls"


def main() -> int:
    """Run trials and print the table; 1 if anything was lost or a control did not fire."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40.0, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="KIND,...", help="these kinds alone")
    parser.add_argument("--trials", type=int, metavar="N", help="of each kind")
    parser.add_argument("--work", type=Path, help="default: a folder in the temporary one")
    parser.add_argument("--out", type=Path, metavar="STEM", help="write STEM.md and STEM.json")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    only = [kind.strip() for kind in given.only.split(",") if kind.strip()]
    for kind in only:
        if kind not in (*WANTED, CONTROLS):
            parser.error(f"--only: {kind!r} is not one of {', '.join((*WANTED, CONTROLS))}")
    work = given.work or Path(tempfile.gettempdir()) / f"ijepa-torture-{os.getuid()}"
    place = Place(work.resolve())
    chosen = {kind: make for kind, make in makers(place).items() if kind in (only or WANTED)}
    states.build(place, every=any(kind in chosen for kind in ("damage", "kill ablate")))
    wanted = {kind: given.trials or WANTED[kind] for kind in chosen}
    file = place.folder / f"trials-{given.seed}.jsonl"
    trials.run(chosen, wanted, given.seed, file, until)
    done = trials.read(file)
    if not only or CONTROLS in only:
        done += controls.run(place)
    text = trials.table(done) + "".join(f"\n{one}" for one in missing(place, done, wanted))
    print(text)
    if given.out:
        lines = ",\n".join(json.dumps(asdict(trial)) for trial in done)
        files.write_text(given.out.with_suffix(".json"), f"[\n{lines}\n]\n")
        files.write_text(given.out.with_suffix(".md"), f"{head(given.seed, done)}\n\n{text}\n")
    return int(any(trial.verdict in trials.BAD for trial in done))


def missing(place: Place, done: Sequence[Trial], wanted: Mapping[str, int]) -> list[str]:
    """Lines about what the time, or this machine, did not allow."""
    allowed, counts = makers(place), Counter(trial.kind for trial in done)
    short = [kind for kind in wanted if counts[kind] < wanted[kind]]
    return [
        *(
            f"\nNot done for want of time: {kind}, {counts[kind]} of {wanted[kind]}."
            for kind in short
        ),
        *(f"\nNot possible on this machine: {kind}." for kind in WANTED if kind not in allowed),
    ]


def head(seed: int, done: Sequence[Trial]) -> str:
    """What the table is of."""
    kills = sum(trial.hits for trial in done if trial.kind.startswith("kill"))
    damages = sum(trial.hits for trial in done if trial.kind == "damage")
    bad = [
        f"- {t.kind} {t.number}, {t.verdict}: {t.note}" for t in done if t.verdict in trials.BAD
    ]
    machine = f"{environment.cores()} cores of {environment.device_name('cpu')}"
    about = f"""\
# Faults on purpose

`python benchmarks/torture.py --seed {seed}`, {date.today().isoformat()}, {machine},
load {os.getloadavg()[0]:.1f} at the end: {kills} kills and {damages} damages.

*Survived*: the outputs are those of an undisturbed run, or one line names the damaged file. *No
effect*: no output depends on these bytes. *Unclear*: it failed as it should, but with a traceback
or without a name. *Lost*: other bytes, or something left behind, without a word. *Void*: spoiled
by the script. The bound is of the share of lost and unclear trials: 3/N where there are none,
else Wilson's."""
    return "\n".join([about, *(["", *bad] if bad else [])])


def makers(place: Place) -> dict[str, trials.Make]:
    """Kind -> what makes a trial of it; those that this machine allows."""
    kinds: dict[str, trials.Make] = {}
    for kind in WANTED:
        verb, _, stage = kind.partition(" ")
        if kind in ranks.ROLES:
            kinds[kind] = functools.partial(ranks.trial, place, kind)
        elif (
            stage in states.READERS
            and verb in ("kill", "signal")
            and stage not in ("ablate", "dvc")
        ):
            of = kills.stage if verb == "kill" else kills.told
            kinds[kind] = functools.partial(of, place, stage)
    kinds |= {
        "damage": functools.partial(damage.trial, place),
        "kill ablate": functools.partial(study.killed, place),
        "kill sync": functools.partial(database.killed, place),
        "damage before sync": functools.partial(database.damaged, place),
        "kill dvc": functools.partial(study.dvc_killed, place),
        "outage": functools.partial(database.outage, place),
        "database changed": functools.partial(database.changed, place),
        "full disk: limit": functools.partial(disk.limit, place),
    }
    if disk.may_mount(place):
        kinds["full disk: tmpfs"] = functools.partial(disk.small, place)
    return kinds
