"""Where the results came from: hashes of the stages' files, and the runs that made them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ijepa.store.read import Store
from ijepa.tracking import runs

# stage -> files that are its result: equal bytes are the same result, whoever made them
OUTS = {
    "prepare": ("data/prepared/manifest.json",),
    "pretrain": ("out/encoder.safetensors", "out/pretrain.json", "out/history.csv"),
    "evaluate": ("out/evaluation/evaluation.json", "out/evaluation/predictions.npz"),
}


def gather(data: Store | None) -> dict[str, Any]:
    """Hashes of the results, and for each stage the newest run that made exactly these files.

    Versions are those of the newest of these runs that trained or evaluated; ``cost`` is what the
    training took (``ijepa.training.meter.Spent``), None where the journal does not have it.
    """
    files = {
        stage: {path: _sha256(Path(path)) for path in paths if Path(path).is_file()}
        for stage, paths in OUTS.items()
    }
    found = {stage: _find(stage, outs) for stage, outs in files.items()}
    software = next((r.versions for r in (found["pretrain"], found["evaluate"]) if r), None)
    return {
        "data": data.hash if data else None,
        "files": {path: sha for outs in files.values() for path, sha in outs.items()},
        "stages": [{"stage": s, "run": _described(r) if r else None} for s, r in found.items()],
        "versions": dict(software) if software else None,
        "cost": found["pretrain"].cost if found["pretrain"] else None,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find(stage: str, outs: Mapping[str, str]) -> runs.Record | None:
    """The newest run of the stage that wrote all of these files."""
    for record in runs.find(outs):
        wrote = {out["path"]: out["sha256"] for out in record.outs}
        if record.stage == stage and outs.items() <= wrote.items():
            return record
    return None


def _described(record: runs.Record) -> dict[str, Any]:
    """What the page says of a run; neither paths nor the machine's name."""
    cores = (runs.read(record.folder / "info.json") or {}).get("cores")
    machine = [f"{cores} cores" if cores else "", record.cpu, record.gpu]
    return {
        "id": record.id,
        "status": record.status,
        "start": f"{record.start[:16].replace('T', ' ')} UTC",
        "seconds": record.seconds,
        "commit": record.commit,
        "dirty": record.dirty,
        "experiment": record.experiment,
        "signature": record.signature,
        "machine": ", ".join(part for part in machine if part),
    }
