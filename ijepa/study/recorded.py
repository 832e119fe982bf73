"""What is on record of a number: whose code, settings, data and machine it is of, and its files.

Read from what a fresh clone has: a cell of a lock file, the ``results.json`` of a published
report, ``dvc.lock``; and, where this checkout has a journal, one of its runs.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, errors, files
from ijepa.study import lock, parting, plan
from ijepa.tracking import runs as journal

DATA = "data/prepared/manifest.json"  # its SHA-256 is the data hash
DVC_LOCK = Path("dvc.lock")
REPORTS = Path("reports")
LIBRARIES = ("torch", "torchvision", "timm", "numpy")  # whose versions are on record
LAST = "evaluate"  # what comes after it, the report, names runs and is another every time


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run as it is on record.

    Attributes:
        what: how a person calls it.
        commit: whose code ran.
        detail: what else there is to say of the commit.
        target: the last stage whose files count.
        files: path -> digest.
        digest: ``sha256``; or ``md5``, of DVC, whose folders have one too.
        params: all of ``params.yaml``; None: what the commit's own code makes of ``cell``.
        cell: experiment, scale and key.
        signature: of the settings, where it is on record.
        code: of the stages' code, the same.
        numbers: path of a file of numbers -> its content, as far as it is on record.
        numerics: what the bits depend on beside code and libraries, and libraries' versions.
        threads: stage -> CPU threads.
        seconds: stage -> wall time.
        history: column of ``history.csv`` -> its values.
        trail: steps, and a checksum of all weights after each (``parting.trail``).
        run: the id of the run that trained.
        places: folders that may have the recorded files still.
    """

    what: str
    commit: str
    detail: str = ""
    target: str = LAST
    files: Mapping[str, str]
    digest: str = "sha256"
    params: Mapping[str, Any] | None = None
    cell: tuple[str, str, str] | None = None
    signature: str | None = None
    code: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    numerics: Mapping[str, Any] | None = None
    threads: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    history: Mapping[str, Sequence[float | None]] | None = None
    trail: Mapping[str, Sequence[Any]] | None = None
    run: int | None = None
    places: tuple[Path, ...] = ()


def read(words: Sequence[str]) -> Recorded:
    """What is on record of a run id, a cell, a report's folder, or of ``dvc.lock`` (no words).

    Raises:
        ValueError: it is none of these, or not on record; one line.
    """
    if len(words) == 2:
        return of_cell(*words)
    what = words[0] if words else "."
    if what == ".":
        return of_default()
    if what.isdecimal():
        return of_run(int(what))
    if (Path(what) / "results.json").is_file():
        return of_report(Path(what))
    raise ValueError(
        f"{what}: no run id, no folder of a report; a cell of a lock file is two words:"
        " EXPERIMENT.SCALE VARIANT/SEED"
    )


def of_cell(table: str, key: str) -> Recorded:
    """A cell of a committed lock file: ``target_scale.laptop``, ``s0150_0200/3``."""
    name, _, scale = table.removesuffix(".lock.json").rpartition("/")[2].rpartition(".")
    tables = [".".join(one) for one in lock.listing()]
    if (name, scale) not in lock.listing():
        raise ValueError(f"{table}: no lock file of it; there are {', '.join(tables)}")
    content, where = lock.read(name, scale), lock.path(name, scale)
    result = content["results"].get(key)
    if result is None:
        raise ValueError(f"{where}: no cell {key}{errors.closest(key, content['results'])}")
    if result["status"] != "done":
        raise ValueError(f"{where}: {key} failed: {result['reason']}; there is nothing to compare")
    source = content["provenance"][key]
    if not source.get("baseline"):
        raise ValueError(f"{where}: {key}: its commit is not on record")
    hashes = result.get("files") or {"out/encoder.safetensors": result["encoder"]}
    data = {DATA: result["data"]} if result.get("data") else {}
    own = f"the experiment's own is {source['commit'][:12]}" if source.get("commit") else ""
    trained = (source.get("runs") or {}).get("pretrain")
    return Recorded(
        what=f"{name}.{scale} {key}", commit=source["baseline"], detail=own,
        cell=(name, scale, key), signature=result["signature"], code=result["code"],
        files={**data, **hashes},
        numbers={"out/metrics.json": result["metrics"], "out/pretrain.json": result["pretrain"]},
        numerics=source.get("numerics") or _machine(source), threads=source.get("threads") or {},
        seconds=source.get("seconds") or {}, trail=source.get("trail"), run=trained,
        places=_places(trained),
    )  # fmt: skip


def of_run(number: int) -> Recorded:
    """A run of this checkout's journal."""
    folder = environment.home() / "runs" / str(number)
    record = journal.load(folder) if folder.is_dir() else None
    if record is None:
        raise ValueError(
            f"{number}: no such run in {folder.parent}; `ijepa runs import FILE` brings those of"
            " another journal: reports/runs.tar.gz has the published ones"
        )
    if not record.outs:
        raise ValueError(f"run {number}: {record.status}: it names no file to compare with")
    _refuse_unknown(record.commit, f"run {number}", record.git)
    config = files.read_json(folder / "config.json")
    same = record.commit, record.signature, record.experiment
    beside = [r for r in reversed(journal.listing())
              if (r.commit, r.signature, r.experiment) == same]  # fmt: skip
    data = {DATA: record.data} if record.data else {}
    return Recorded(
        what=f"run {number}", commit=record.commit, params=config["params"],
        detail="with changes that no commit has" if record.dirty else "",
        target=record.stage, signature=record.signature,
        files={**data, **{out["path"]: out["sha256"] for out in record.outs}},
        numerics={**record.numerics, **_libraries(record.versions)} if record.numerics else None,
        threads={r.stage: r.numerics["threads"] for r in [*beside, record]
                 if r.numerics and "threads" in r.numerics},
        seconds={r.stage: r.whole_seconds for r in [*beside, record] if r.whole_seconds},
        trail=parting.trail(folder), places=_places(number),
    )  # fmt: skip


def of_report(folder: Path) -> Recorded:
    """The run that a published folder such as ``reports/cifar10`` shows."""
    file = folder / "results.json"
    try:
        results = files.read_json(file)
        source, params = results["provenance"], results["parameters"]
    except (KeyError, TypeError):
        raise ValueError(
            f"{file}: not of one run; of a table name a cell: EXPERIMENT.SCALE VARIANT/SEED"
        ) from None
    stages = {one["stage" if "stage" in one else "name"]: one["run"] for one in source["stages"]}
    stages = {stage: run for stage, run in stages.items() if run}
    trained = stages.get("pretrain") or stages.get(LAST)
    if trained is None:
        raise ValueError(f"{file}: the runs behind it are not on record")
    _refuse_unknown(trained["commit"], str(file))
    others = {run["commit"][:12] for run in stages.values()} - {trained["commit"][:12]}
    numerics = {stage: run.get("numerics") or {} for stage, run in stages.items()}
    arithmetic = numerics.get("pretrain") or {"machine": trained["machine"]}
    return Recorded(
        what=str(folder), commit=trained["commit"], params=params,
        detail=f"some stages ran at {', '.join(sorted(others))}" if others else "",
        signature=trained["signature"], files=source["files"],
        numerics={**arithmetic, **_libraries(source["versions"] or {})},
        threads={stage: one["threads"] for stage, one in numerics.items() if "threads" in one},
        seconds={stage: run["seconds"] for stage, run in stages.items() if run["seconds"]},
        history=results.get("history"), run=trained["id"], places=_places(trained["id"]),
    )  # fmt: skip


def of_default() -> Recorded:
    """The default run, as ``dvc.lock`` has it: MD5, and the commit that holds it.

    DVC records no machine. A published report of a run of the same bytes does.
    """
    if not DVC_LOCK.is_file():
        raise ValueError(f"{DVC_LOCK}: no such file; `dvc repro` makes it, or name a run")
    if plan.git("status", "--porcelain", "--", str(DVC_LOCK)).strip():
        raise ValueError(f"{DVC_LOCK}: not as in HEAD: commit it, so that its code is on record")
    stages = files.read_yaml(DVC_LOCK)["stages"]
    counted = [name for name in ("prepare", "pretrain", LAST) if name in stages]
    params: dict[str, Any] = {}
    for name in ("config", *counted):
        params |= stages.get(name, {}).get("params", {}).get("params.yaml", {})
    outs = {out["path"]: out["md5"] for name in counted for out in stages[name].get("outs", ())}
    published = _published(outs)
    return Recorded(
        what="the default run (dvc.lock)", files=outs, digest="md5", params=params,
        commit=plan.git("log", "-1", "--format=%H", "--", str(DVC_LOCK)).strip(),
        numerics=published.numerics if published else None,
        threads=published.threads if published else {},
        seconds=published.seconds if published else {}, places=(Path(),),
    )  # fmt: skip


def _published(outs: Mapping[str, str]) -> Recorded | None:
    """The published report of a run that wrote these bytes, as what git has of them tells."""
    for file in sorted(REPORTS.glob("*/results.json")):
        if "provenance" not in files.read_json(file):
            continue  # of no run
        report = of_report(file.parent)
        both = [path for path in report.files if path in outs and Path(path).is_file()]
        if both and all(_same(Path(path), outs[path], report.files[path]) for path in both):
            return report
    return None


def _same(path: Path, md5: str, sha256: str) -> bool:
    return hashlib.md5(path.read_bytes()).hexdigest() == md5 and files.sha256(path) == sha256


def at_hand(recorded: Recorded, path: str) -> Path | None:
    """The recorded file itself, if this machine has it: only one of the recorded bytes counts."""
    wanted = recorded.files.get(path)
    if wanted is None or recorded.digest != "sha256":
        return None
    candidates = [Path(path), *_by_md5(path, wanted)]
    candidates += [folder / name for folder in recorded.places for name in (path, Path(path).name)]
    for file in candidates:
        if file.is_file() and files.sha256(file) == wanted:
            return file
    return None


def _by_md5(path: str, sha256: str) -> Iterator[Path]:
    """Where DVC's cache has a file, whose MD5 the journal knows."""
    for record in journal.find({path: sha256}):
        for out in record.outs:
            if out["path"] == path and out["sha256"] == sha256:
                yield Path(".dvc/cache/files/md5") / out["md5"][:2] / out["md5"][2:]


def _places(run: int | None) -> tuple[Path, ...]:
    """Where a training run's ``history.csv`` may be: its folder in the journal."""
    return (environment.home() / "runs" / str(run),) if run else ()


def _machine(source: Mapping[str, Any]) -> dict[str, Any]:
    """Of an older lock file, which has but its name, and perhaps the threads."""
    machine = (source.get("cost") or {}).get("device") or source.get("machine")
    return {"machine": machine} if machine else {}


def _libraries(versions: Mapping[str, str]) -> dict[str, str]:
    return {k: versions[k] for k in LIBRARIES if k in versions}


def _refuse_unknown(commit: str, what: str, why: str = "") -> None:
    with contextlib.suppress(ValueError):
        if len(commit) == 40 and int(commit, 16):
            return
    raise ValueError(f"{what}: its commit is not on record{f' ({why})' if why else ''}")


def in_words(changes: Mapping[str, Any]) -> str:
    """Dotted keys as arguments of ``dvc exp run``."""
    return " ".join(f"-S '{key}={json.dumps(value)}'" for key, value in changes.items())


def numerics_in_words(numerics: Mapping[str, Any] | None) -> str:
    """``AMD EPYC, AVX512, bf16, 1 thread, torch 2.15.0``."""
    known = numerics or {}
    texts = [str(known[k]) for k in ("machine", "name", "instructions", "precision") if k in known]
    for what, several in (("process", "es"), ("thread", "s")):
        if (count := known.get(f"{what}{several}")) is not None:
            texts.append(f"{count} {what}{several if count != 1 else ''}")
    return ", ".join(texts + [f"{k} {known[k]}" for k in LIBRARIES if k in known])
