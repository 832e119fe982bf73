"""Where the results came from: hashes of the stages' files, and the runs that made them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ijepa.runtime.files import sha256
from ijepa.store.read import Store
from ijepa.tracking import runs
from ijepa.training.meter import Spent

# stage -> files that are its result: equal bytes are the same result, whoever made them
OUTS = {
    "prepare": ("data/prepared/manifest.json",),
    "pretrain": ("out/encoder.safetensors", "out/pretrain.json", "out/history.csv"),
    "evaluate": ("out/evaluation/evaluation.json", "out/evaluation/predictions.npz"),
}


@dataclass(frozen=True, slots=True)
class Maker:
    """A run of the journal, without paths and the machine's name."""

    id: int
    status: str
    start: str
    seconds: float | None
    commit: str  # 40 digits, or that it is unknown and why
    dirty: bool | None  # None: unknown
    experiment: str
    signature: str
    machine: str
    numerics: Mapping[str, Any] | None = None  # what its bits depend on; None: not recorded


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage, and the newest run that made exactly its files; None: there is no record."""

    name: str
    run: Maker | None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of one run."""

    data: str | None  # the hash of the prepared data set
    files: dict[str, str]  # path of each result of a stage -> SHA-256
    stages: tuple[Stage, ...]  # in the order of the pipeline
    versions: dict[str, str] | None  # of libraries, by the newest run that trained or evaluated
    cost: Spent | None  # what the training took; None where the journal does not have it
    equal_images: dict[str, int] = field(default_factory=dict)  # where -> how many; none is absent


def gather(data: Store | None) -> Provenance:
    """The provenance of the files in the working directory."""
    files = {
        stage: {path: sha256(Path(path)) for path in paths if Path(path).is_file()}
        for stage, paths in OUTS.items()
    }
    for line in runs.every()[1]:
        print(f"note: {line}; it is left out", flush=True)
    records = {stage: _newest(stage, outs) for stage, outs in files.items()}
    trained, evaluated = records["pretrain"], records["evaluate"]
    software = trained or evaluated
    return Provenance(
        data=data.hash if data else None,
        files={path: sha for outs in files.values() for path, sha in outs.items()},
        stages=tuple(Stage(s, _maker(r) if r else None) for s, r in records.items()),
        versions=dict(software.versions) if software and software.versions else None,
        cost=Spent(**trained.cost) if trained and trained.cost else None,
        equal_images=_equal(data) if data else {},
    )


def _equal(data: Store) -> dict[str, int]:
    """Images in two splits (``test in train``) or two classes, as ``prepare`` counted them."""
    counts = data.manifest["duplicates"]
    every = counts["across"] | {"in two classes": counts["classes"]}
    return {where: count for where, count in every.items() if count}


def _newest(stage: str, outs: Mapping[str, str]) -> runs.Record | None:
    """The newest run of the stage that wrote all of these files."""
    for record in runs.find(outs):
        wrote = {out["path"]: out["sha256"] for out in record.outs}
        if record.stage == stage and outs.items() <= wrote.items():
            return record
    return None


def _maker(record: runs.Record) -> Maker:
    cores = (runs.read(record.folder / "info.json") or {}).get("cores")
    machine = [f"{cores} cores" if cores else "", record.cpu, record.gpu]
    same = ("id", "status", "dirty", "experiment", "signature", "numerics")
    return Maker(
        **{name: getattr(record, name) for name in same},
        commit=f"{record.commit}: {record.git}" if record.git else record.commit,
        seconds=record.whole_seconds,
        start=f"{record.start[:16].replace('T', ' ')} UTC",
        machine=", ".join(part for part in machine if part),
    )
