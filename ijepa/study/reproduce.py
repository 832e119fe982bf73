"""``ijepa reproduce``: run again what is behind a recorded number, and compare the bytes.

In a clone of its own at the recorded commit, with that commit's code, the recorded settings and
numerics, data prepared anew, and an empty ``IJEPA_HOME``: nothing is taken from a cache. The
settings of a cell are what the commit's own code makes of its experiment file, and their hash must
be the recorded one before anything runs.
"""

import contextlib
import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from ijepa import presets
from ijepa.runtime import environment, files, launch
from ijepa.runtime.errors import Failure
from ijepa.study import archive, bench, compared, outcome, plain, recorded
from ijepa.study.compared import SHOWN, Row, compare
from ijepa.study.recorded import Recorded

# What a commit's own code makes of a cell: its changes of params.yaml, signature and code.
_RESOLVE = """
import dataclasses, json, sys
try:
    from ijepa.study import experiment, plan
except ImportError:  # of commits before the packages had their names
    from ijepa.ablation import experiment, plan
name, scale, key = sys.argv[1:]
chosen = experiment.load(name)
size = dataclasses.replace(experiment.load_scale(scale), seeds=len(chosen.seeds))
runs = plan.resolve(chosen, size, plan.committed_params())
cell, = ([run.changes, run.signature, run.code] for run in runs if run.key == key)
print(json.dumps(cell))
"""
_SIGNATURE = "from ijepa import config; print(config.signature(config.load()))"


def reproduce(words: Sequence[str], dry_run: bool = False, keep: Path | None = None) -> int:
    """Run again what is on record, print how the files compare; 0 when all are the same.

    Args:
        words: see ``recorded.read``.
        dry_run: say what would run, and how long it took.
        keep: a new folder for the clone and its logs, which stays; None: a temporary one.

    Raises:
        ValueError: there is no such record, or it cannot be run here; one line.
        Failure: a stage failed.
    """
    record = recorded.read(words)
    variables = settings(record)
    with _folder(keep) as folder:
        path = folder / "clone"
        bench.clone(Path.cwd(), path, record.commit)
        variables |= {
            "IJEPA_HOME": str(folder / "home"), "IJEPA_MONGO_URL": "off", "PYTHONPATH": str(path),
            "IJEPA_DATA_ROOT": str(environment.data_root()), "DVC_ROOT": str(path),
        }  # fmt: skip
        changes = resolve(record, path, variables)
        print(about(record, changes, variables), flush=True)
        if dry_run:
            return 0
        rows = run(record, path, folder, variables)
        if not rows:
            raise ValueError(f"{record.what}: no file of it is on record: nothing was compared")
        print(compared.table(record, rows), flush=True)
        differ = [row for row in rows if not row.same]
        if differ:
            if record.run and (logged := archive.unpacked(record.run, folder / "published")):
                record = replace(record, places=(*record.places, logged))
            print("\n".join(compared.why(record, path, rows, variables)), flush=True)
        end = f"{len(differ)} of {len(rows)} files differ" if differ else "every byte is the same"
        print(f"{record.what}: {end}")
    return 1 if differ else 0


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="ijepa-reproduce-") as name:
            yield Path(name)
        return
    if keep.exists():
        raise ValueError(f"{keep}: is there already; --keep makes a new folder")
    keep.mkdir(parents=True)
    yield keep.resolve()


def settings(record: Recorded) -> dict[str, str]:
    """The recorded numerics as ``IJEPA_*`` variables; what is not on record stays as it is here.

    Raises:
        ValueError: it ran on a GPU, and there is none here.
    """
    known, values = record.numerics or {}, {}
    if known.get("device") == "cuda" and environment.hardware().device != "cuda":
        raise ValueError(f"{record.what}: it ran on {known['name']}, and there is no GPU here")
    for name in ("device", "precision", "processes"):
        if name in known:
            values[f"IJEPA_{name.upper()}"] = str(known[name])
    if "device" in known:
        values["IJEPA_COMPILE"] = "1" if known.get("compiled") else "0"
    return values


def resolve(record: Recorded, path: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Write the recorded settings into the clone's ``params.yaml``; what they change of it.

    Raises:
        ValueError: they are not those on record; one line.
    """
    params = path / "params.yaml"
    tree, code = files.read_yaml(params), record.code
    if record.cell:
        changes, _, code = json.loads(_ask(record, path, variables, _RESOLVE, *record.cell))
    else:
        there = presets.leaves(tree)
        new = presets.leaves(record.params or {})
        changes = {k: v for k, v in new.items() if k not in there or v != there[k]}
    files.write_json(params, _changed(tree, changes))  # JSON is YAML
    signature = _ask(record, path, variables, _SIGNATURE)
    for what, before, now in (("settings", record.signature, signature),
                              ("code", record.code, code)):  # fmt: skip
        if before and before != now:
            raise ValueError(
                f"{record.what}: commit {record.commit[:12]} has other {what} than is on record:"
                f" {str(now)[:SHOWN]}, not {before[:SHOWN]}"
            )
    return dict(changes)


def _changed(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``params.yaml`` with dotted keys changed; the clone's code says what it does not know."""
    changed = copy.deepcopy(dict(tree))
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = changed
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return changed


def _ask(
    record: Recorded, path: Path, variables: Mapping[str, str], script: str, *arguments: str
) -> str:
    """The last line that a script prints, run by the clone's code."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], cwd=path, capture_output=True, text=True,
        env={**os.environ, **variables}, check=False,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ValueError(f"{record.what}: the code of commit {record.commit[:12]} says: {last}")
    return done.stdout.strip().splitlines()[-1]


def about(record: Recorded, changes: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    """What will run, as lines: commit, settings, machine, time."""
    took = sum(record.seconds.values())
    parts = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in record.seconds.items())
    lines = {
        "commit": f"{record.commit}{f' ({record.detail})' if record.detail else ''}",
        "settings": recorded.in_words(changes) or "params.yaml as it is",
        "recorded": recorded.numerics_in_words(record.numerics)
        or "machine and libraries are not on record",
        "here": recorded.numerics_in_words(compared.here(record, variables)),
        "took": f"{timedelta(seconds=round(took))} ({parts})" if took else "not on record",
    }
    return "\n".join([record.what, *(f"  {name:<9} {text}" for name, text in lines.items())])


def run(record: Recorded, path: Path, folder: Path, variables: Mapping[str, str]) -> list[Row]:
    """Run the stages in the clone, and compare; data that differ end it before any training.

    Raises:
        Failure: a stage failed.
    """
    job = {"name": "reproduce", "needs": None}
    pipeline = files.read_yaml(path / "dvc.yaml")
    threads = (record.numerics or {}).get("threads")
    with launch.raising(numbers=(signal.SIGTERM, signal.SIGINT)):
        for stage in plain.needed(pipeline, record.target):
            own = record.threads.get(stage, threads)
            told = {**variables, **({"IJEPA_THREADS": str(own)} if own else {})}
            log, start = folder / f"{stage}.log", time.monotonic()
            if plain.stages({"variables": told}, {**job, "target": stage}, path, log):
                raise Failure(f"{record.what}: {stage}: {outcome.reason(log)}")
            print(f"{stage}: {time.monotonic() - start:.0f} s", flush=True)
            prepared = [row for row in compare(record, path) if row.file.startswith("data/")]
            if stage == "prepare" and not all(row.same for row in prepared):
                return prepared
    return compare(record, path)
