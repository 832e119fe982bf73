"""Read the journal: the runs of this checkout, newest first.

A file that is damaged costs its own run a line, never the others.
"""

import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files
from ijepa.strict import describe
from ijepa.tracking import process

# The top level of a run's recorded configuration: flat, for Omniboard makes a column of each.
CONFIG = ("stage", "signature", "seed", "experiment", "commit", "data", "params")
TRAIL = "trail.json"  # of a training run: checksums of its weights at the logged steps
STALE = 60.0  # seconds without a heartbeat after which a run may be dead; they come every 10
LOST = 6 * 3600.0  # seconds without one after which it is, on whatever machine it ran
_RUN = {"status": str, "start_time": str, "meta": dict, "host": dict, "experiment": dict,
        "artifacts": list}  # fmt: skip
_CONFIG = {"stage": str, "signature": str, "seed": int, "experiment": str, "commit": str,
           "data": str}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One run as the journal has it."""

    id: int
    stage: str
    status: str  # RUNNING, COMPLETED, FAILED, INTERRUPTED, PREEMPTED or DIED
    died: str  # how it is known, or ""
    start: str  # ISO time in UTC
    seconds: float | None  # None while it runs
    signature: str
    seed: int
    experiment: str  # DVC's name of the experiment, or ""
    commit: str
    dirty: bool | None  # None: unknown
    git: str  # why the commit is unknown, in git's words, or ""
    data: str  # hash of the prepared data
    result: float | None
    host: str
    cpu: str
    gpu: str  # names of the GPUs, or ""
    numerics: Mapping[str, Any] | None  # environment.arithmetic and processes; None: not recorded
    cost: Mapping[str, Any] | None  # of training: ijepa.training.meter.Spent; None: not recorded
    versions: Mapping[str, str]
    outs: tuple[Mapping[str, str], ...]  # path, md5 and sha256 of each
    artifacts: tuple[str, ...]
    folder: Path

    @property
    def whole_seconds(self) -> float | None:
        """Of the stage; of a training that was resumed, with its processes before this one."""
        earlier = (self.cost or {}).get("earlier_seconds", 0.0)
        return None if self.seconds is None else self.seconds + earlier


def read(path: Path) -> dict[str, Any] | None:
    """A mapping of the journal; None where there is no such file.

    Raises:
        ValueError: damaged, or another kind of value; one line that names the file.
    """
    if not path.is_file():
        return None
    tree = files.read_json(path)
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: damaged: not a mapping")
    return tree


def _checked(path: Path, kinds: Mapping[str, type]) -> dict[str, Any] | None:
    """``read``, with values of these kinds."""
    tree = read(path)
    for name, kind in kinds.items() if tree is not None else ():
        if not isinstance(tree.get(name), kind):  # type: ignore[union-attr]
            raise ValueError(f"{path}: damaged: {name} is not {describe(kind)}")
    return tree


def entry(folder: Path) -> dict[str, Any] | None:
    """What a run is and how it ended (``run.json``); None before its first file.

    Raises:
        ValueError: damaged; one line.
    """
    path = folder / "run.json"
    run = _checked(path, _RUN)
    if run is None:
        return None
    for name in ("start_time", "heartbeat", "stop_time"):
        try:
            datetime.fromisoformat(run.get(name) or run["start_time"])
        except (TypeError, ValueError):
            raise ValueError(f"{path}: damaged: {name} is no time: {run[name]!r}") from None
    if not {"uuid", "pid", "process"} <= run["meta"].keys():
        raise ValueError(f"{path}: damaged: meta names no process")
    return run


def check(folder: Path, names: Iterable[str]) -> None:
    """Compare files of a run with the hashes that were written when it ended.

    A run that has not ended, was killed, or is of an older version has none.

    Raises:
        ValueError: one is not what was written; one line that names it.
    """
    if not (folder / files.SUMS).is_file():
        return
    listed = (folder / files.SUMS).read_bytes()
    there = [n for n in names if (folder / n).is_file() or f"  {n}\n".encode() in listed]
    for line in files.differing(folder, there):  # what a full disk did not take is not there
        raise ValueError(line)


def series(folder: Path) -> dict[str, dict[str, Any]]:
    """The series of a run (``metrics.json``): steps, values and timestamps of each.

    Raises:
        ValueError: damaged; one line.
    """
    path = folder / "metrics.json"
    metrics = read(path)
    check(folder, ["metrics.json"])
    if metrics == {}:  # the journal writes it with the first point
        raise ValueError(f"{path}: damaged: it has no series")
    for name, points in (metrics or {}).items():
        parts = [
            points.get(part) if isinstance(points, dict) else None
            for part in ("steps", "values", "timestamps")
        ]
        if not all(isinstance(part, list) and len(part) == len(parts[0] or ()) for part in parts):
            raise ValueError(f"{path}: damaged: {name} is no series")
    return metrics or {}


def folders(home: Path) -> list[Path]:
    """The folders of the runs, oldest first."""
    runs = home / "runs"
    return sorted(
        (path for path in runs.glob("*") if path.name.isdecimal() and path.is_dir()),
        key=lambda path: int(path.name),
    )


def load(folder: Path) -> Record | None:
    """One run, or None when it never got as far as its first files.

    Raises:
        ValueError: a file of it is damaged; one line.
    """
    run, config = entry(folder), _checked(folder / "config.json", _CONFIG)
    if run is None:
        return None
    check(folder, ["run.json", "config.json", "info.json"])
    if config is None:
        if run.get("heartbeat") is None:  # it is about to start
            return None
        raise ValueError(f"{folder / 'config.json'}: missing")
    info = read(folder / "info.json") or {}
    try:
        return _record(folder, run, config, info)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder}: damaged: {type(error).__name__}: {error}") from None


def one(run_id: int, home: Path | None = None) -> Record:
    """A run by its number.

    Raises:
        ValueError: the journal has no such run, or cannot tell what it is.
    """
    folder = (home or environment.home()) / "runs" / str(run_id)
    record = load(folder)
    if record is None:
        raise ValueError(f"{run_id}: no such run in {folder.parent}")
    return record


def _record(
    folder: Path, run: Mapping[str, Any], config: Mapping[str, Any], info: Mapping[str, Any]
) -> Record:
    git = info.get("git", {})
    died = run.get("died") or death(run)
    end = run.get("stop_time") or (died and (run.get("heartbeat") or run["start_time"]))
    host = run["host"]
    gpus = (host.get("gpus") or {}).get("gpus", [])
    return Record(
        id=int(folder.name),
        stage=config["stage"],
        status="DIED" if died else run["status"],
        died=died,
        start=run["start_time"],
        seconds=seconds(run["start_time"], end) if end else None,
        signature=config["signature"],
        seed=config["seed"],
        experiment=config["experiment"],
        commit=config["commit"],
        dirty=git.get("dirty"),
        git=git.get("reason", ""),
        data=config["data"] or info.get("data", ""),
        result=run.get("result"),
        host=host.get("hostname", ""),
        cpu=host.get("cpu", ""),
        gpu=", ".join(gpu.get("model", "") for gpu in gpus),
        numerics=info.get("numerics"),
        cost=info.get("cost"),
        versions=info.get("versions", {}),
        outs=tuple(info.get("outs", ())),
        artifacts=tuple(run.get("artifacts", ())),
        folder=folder,
    )


def every(home: Path | None = None) -> tuple[list[Record], list[str]]:
    """All runs, newest first, and a line about each that cannot be read."""
    records, damaged = [], []
    for folder in reversed(folders(home or environment.home())):
        try:
            record = load(folder)
        except ValueError as error:
            damaged.append(f"run {folder.name}: {error}")
        else:
            records += [record] if record is not None else []
    return records, damaged


def listing(home: Path | None = None) -> list[Record]:
    """All runs that can be read, newest first."""
    return every(home)[0]


def find(outs: Mapping[str, str], home: Path | None = None) -> list[Record]:
    """The runs that wrote one of these files, newest first.

    This also finds the run behind a stage that DVC restored from its cache. Several runs can have
    written the same bytes: all of them are returned.

    Args:
        outs: the files' paths, as the stage named them, and their SHA-256.
        home: the folder of the journal, ``environment.home()`` by default.
    """
    return [
        record
        for record in listing(home)
        if any(outs.get(out["path"]) == out["sha256"] for out in record.outs)
    ]


def death(run: Mapping[str, Any]) -> str:
    """How it is known that a run that says RUNNING is dead; "" when it may live."""
    if run["status"] != "RUNNING":
        return ""
    beat = run.get("heartbeat") or run["start_time"]
    silent = seconds(beat, datetime.now(UTC).isoformat())
    host, meta = run["host"].get("hostname"), run["meta"]
    if silent >= STALE and host == socket.gethostname():
        # a container may have its host's name, and not see its processes: they beat
        return "" if process.mark(meta["pid"]) == meta["process"] else "its process is gone"
    if silent >= LOST:
        return f"no heartbeat since {beat[:19].replace('T', ' ')} UTC, on {host}"
    return ""


def heal(folder: Path) -> str:
    """Mark a run as DIED when it says RUNNING and is dead; how that is known, or "".

    Raises:
        ValueError: ``run.json`` is damaged; one line.
    """
    run = entry(folder)
    died = "" if run is None else death(run)
    if run is None or not died:
        return ""
    run.update(status="DIED", died=died, stop_time=run.get("heartbeat") or run["start_time"])
    files.write_text(folder / "run.json", json.dumps(run, sort_keys=True))
    return died


def adopt(source: Path, home: Path) -> dict[int, int]:
    """Copy runs of another machine's journal into one; what is there already stays.

    Args:
        source: the folder ``runs`` of the other journal.
        home: of the journal that gets them.

    Returns:
        The runs' ids there -> their ids here: another where the journal has a run of that id.
    """
    runs, ids = home / "runs", {}
    here = {_uuid(folder): int(folder.name) for folder in folders(home)}
    for folder in folders(source.parent):
        if (uuid := _uuid(folder)) is None:  # it never got as far as its first file
            continue
        if uuid not in here:
            here[uuid] = _copy(folder, runs)
        ids[int(folder.name)] = here[uuid]
    for code in (source / "_sources").glob("*"):  # named by their hash
        if not (runs / "_sources" / code.name).exists():
            (runs / "_sources").mkdir(exist_ok=True)
            with files.replacing(runs / "_sources" / code.name) as partial:
                shutil.copyfile(code, partial)
    return ids


def _uuid(folder: Path) -> str | None:
    try:
        run = entry(folder)
    except ValueError:  # damaged, so it stays where it is
        return None
    return None if run is None else str(run["meta"]["uuid"])


def _copy(folder: Path, runs: Path) -> int:
    """Copy a run, whole or not at all, to its id or the next free one."""
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs, prefix=".adopted-") as partial:
        copy = shutil.copytree(folder, Path(partial) / "run")
        number = int(folder.name)
        while True:
            with contextlib.suppress(FileExistsError):
                (runs / str(number)).mkdir()  # atomic: how an id is claimed
                copy.rename(runs / str(number))  # onto an empty folder
                return number
            number += 1


def seconds(start: str, end: str) -> float:
    """Between two ISO times; those without a zone are in UTC, as Sacred writes them."""
    first, last = (datetime.fromisoformat(text) for text in (start, end))
    return (last.replace(tzinfo=UTC) - first.replace(tzinfo=UTC)).total_seconds()
