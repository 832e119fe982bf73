"""Read the journal: the runs of this checkout, newest first."""

import contextlib
import dataclasses
import json
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files
from ijepa.tracking import process

# The top level of a run's recorded configuration: flat, for Omniboard makes a column of each.
CONFIG = ("stage", "signature", "seed", "experiment", "commit", "data", "params")
STALE = 60.0  # seconds without a heartbeat after which a run may be dead; they come every 10


@dataclass(frozen=True, slots=True)
class Record:
    """One run as the journal has it."""

    id: int
    stage: str
    status: str  # RUNNING, COMPLETED, FAILED, INTERRUPTED, PREEMPTED or DIED
    start: str  # ISO time in UTC
    seconds: float | None  # None while it runs
    signature: str
    seed: int
    experiment: str  # DVC's name of the experiment, or ""
    commit: str
    dirty: bool
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


def read(name: Path) -> Any:
    """A JSON file of the journal; None when it is missing or was torn by a crash."""
    try:
        return json.loads(name.read_text())
    except (FileNotFoundError, ValueError):
        return None


def folders(home: Path) -> list[Path]:
    """The folders of the runs, oldest first."""
    runs = home / "runs"
    return sorted(
        (path for path in runs.glob("*") if path.name.isdecimal() and path.is_dir()),
        key=lambda path: int(path.name),
    )


def load(folder: Path) -> Record | None:
    """One run, or None when it never got as far as its first file."""
    run, config = read(folder / "run.json"), read(folder / "config.json")
    if run is None or config is None:
        return None
    info = read(folder / "info.json") or {}
    end = run.get("stop_time")
    host = run.get("host", {})
    gpus = (host.get("gpus") or {}).get("gpus", [])
    return Record(
        id=int(folder.name),
        stage=config["stage"],
        status=run["status"],
        start=run["start_time"],
        seconds=seconds(run["start_time"], end) if end else None,
        signature=config["signature"],
        seed=config["seed"],
        experiment=config["experiment"],
        commit=config["commit"],
        dirty=bool(info.get("git", {}).get("dirty")),
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


def listing(home: Path | None = None) -> list[Record]:
    """All runs, newest first."""
    records = (load(folder) for folder in reversed(folders(home or environment.home())))
    return [record for record in records if record is not None]


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


def heal(folder: Path) -> bool:
    """Mark a run as DIED when it says RUNNING, its heart stopped and its process is gone."""
    run = read(folder / "run.json")
    if run is None or run["status"] != "RUNNING":
        return False
    beat = run.get("heartbeat") or run["start_time"]
    here = run.get("host", {}).get("hostname") == socket.gethostname()
    if not here or seconds(beat, datetime.now(UTC).isoformat()) < STALE:
        return False
    if process.mark(run["meta"]["pid"]) == run["meta"]["process"]:
        return False
    run.update(status="DIED", stop_time=beat)
    files.write_text(folder / "run.json", json.dumps(run, sort_keys=True))
    return True


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
    run = read(folder / "run.json")
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


def table(records: list[Record]) -> str:
    """The runs as lines of text, for a terminal."""
    rows = [
        {
            "id": str(r.id),
            "stage": r.stage,
            "status": r.status,
            "start (UTC)": r.start[:19].replace("T", " "),
            "seconds": "" if r.seconds is None else f"{r.seconds:.0f}",
            "seed": str(r.seed),
            "result": "" if r.result is None else f"{r.result:.6g}",
            "signature": r.signature[:8],
            "commit": r.commit[:8] + ("+" if r.dirty else ""),
            "experiment": r.experiment,
        }
        for r in records
    ]
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show(run_id: int, home: Path | None = None) -> str:
    """One run as text: what it is, what it wrote, and the end of what it printed.

    Raises:
        ValueError: the journal has no such run.
    """
    folder = (home or environment.home()) / "runs" / str(run_id)
    record = load(folder)
    if record is None:
        raise ValueError(f"{run_id}: no such run in {folder.parent}")
    lines = [f"{f.name:<10} {getattr(record, f.name)}" for f in dataclasses.fields(record)
             if f.name not in ("cost", "versions", "outs")]  # fmt: skip
    lines += [f"{'cost':<10} {name} {value}" for name, value in (record.cost or {}).items()]
    lines += [f"{'out':<10} {out['path']}  sha256 {out['sha256']}" for out in record.outs]
    lines += [f"{'version':<10} {name} {version}" for name, version in record.versions.items()]
    for name, series in (read(folder / "metrics.json") or {}).items():
        last = f"last {series['values'][-1]:.6g} at step {series['steps'][-1]}"
        lines.append(f"{'metric':<10} {name}: {series['logged']} points, {last}")
    trace = (read(folder / "run.json") or {}).get("fail_trace") or []
    output = (folder / "cout.txt").read_text().splitlines()[-20:]
    return "\n".join([*lines, "", *output, *"".join(trace).splitlines()])
