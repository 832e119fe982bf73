"""What a run left behind, read from the folder it ran in and the journal."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files
from ijepa.store.read import PREPARED, open_store
from ijepa.study import answers, parting
from ijepa.tracking import runs

METRICS, PRETRAIN, HISTORY = "out/metrics.json", "out/pretrain.json", "out/history.csv"
ENCODER = "out/encoder.safetensors"
PREDICTIONS = "out/evaluation/predictions.npz"
EVALUATION = "out/evaluation/evaluation.json"
# stage -> an output whose bytes name the run that wrote it
_WROTE = {"pretrain": ENCODER, "evaluate": METRICS}
_READ = {  # folder of a stage's sums -> what is read of it
    "out": ("encoder.safetensors", "history.csv", "pretrain.json"),
    "out/evaluation": ("evaluation.json", "predictions.npz", "../metrics.json"),
}
_COMPUTES = ("torch", "torchvision", "timm", "numpy")  # whose versions a lock file names


def gather(
    plan: Mapping[str, Any], job: Mapping[str, Any], path: Path, status: int, log: Path
) -> dict[str, Any]:
    """The result of a job whose stages ended in the folder ``path`` with ``status``.

    Returns:
        status, reason, code, signature, data, encoder, files (path -> SHA-256), metrics, pretrain,
        right (``ijepa.study.answers``) and ``provenance``: the parts of a lock file's two entries
        (``ijepa.study.lock``).
    """
    if status:
        return failed(plan, job, reason(log))
    result = _empty(plan, job)
    if job["target"] == "prepare":
        return result | {"data": open_store(path / PREPARED).hash}
    try:
        for folder, names in _READ.items():
            files.check_sums(path / folder, names, "the run")
    except ValueError as damaged:
        return failed(plan, job, str(damaged))
    hashes = _hashes(path)
    evaluation = files.read_json(path / EVALUATION)
    records = {
        stage: next((r for r in runs.find({wrote: hashes[wrote]}) if r.stage == stage), None)
        for stage, wrote in _WROTE.items()
    }
    result |= {
        "metrics": files.read_json(path / METRICS),
        "pretrain": files.read_json(path / PRETRAIN),
        "encoder": hashes[ENCODER],
        "files": hashes,
        "right": answers.read(evaluation, path / PREDICTIONS, job.get("right", ())),
    }
    if trained := records["pretrain"]:
        result["data"] = trained.data
        prepared = (r for r in runs.listing() if r.stage == "prepare" and r.data == trained.data)
        records = {"prepare": next(prepared, None), **records}
        versions = {name: trained.versions.get(name) for name in _COMPUTES}
        result["provenance"] |= {
            "machine": trained.gpu or trained.cpu,
            "numerics": {**trained.numerics, **versions} if trained.numerics else None,
            "trail": parting.trail(environment.home() / "runs" / str(trained.id)),
            "cost": trained.cost,  # ijepa.training.meter.Spent, as far as it was recorded
        }
    result["provenance"] |= {
        "runs": {stage: record.id for stage, record in records.items() if record},
        "seconds": {stage: record.whole_seconds for stage, record in records.items() if record},
        "threads": {
            stage: record.numerics["threads"]  # not all of one run need have the same
            for stage, record in records.items()
            if record and record.numerics and "threads" in record.numerics
        },
    }
    return result


def failed(plan: Mapping[str, Any], job: Mapping[str, Any], why: str) -> dict[str, Any]:
    """The result of a job that came to nothing, as of ``gather``."""
    return _empty(plan, job) | {"status": "failed", "reason": why}


def _empty(plan: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "status": "done", "reason": None, "signature": job["signature"], "code": job["code"],
        "data": None, "encoder": None, "files": None, "metrics": None, "pretrain": None,
        "right": None,
        "provenance": {"name": job["name"], "commit": None, "baseline": plan["commit"],
                       "runs": {}, "seconds": {}, "machine": None, "numerics": None,
                       "trail": None, "cost": None},
    }  # fmt: skip


def _hashes(path: Path) -> dict[str, str]:
    """SHA-256 of every file that a run is judged by: encoders, history, predictions."""
    encoders = (file.relative_to(path).as_posix() for file in path.glob("out/*.safetensors"))
    judged = METRICS, PRETRAIN, HISTORY, PREDICTIONS, *encoders
    return {name: files.sha256(path / name) for name in judged}


def reason(log: Path) -> str:
    """Why a run failed, in one line: what the stage said, or else DVC."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    for pattern in (r"error: (.*)", r"([\w.]+Error(?:: .*)?)", r"ERROR: (.*)", r"(.+)"):
        matches = [match[1] for line in lines if (match := re.fullmatch(pattern, line))]
        if matches:
            return matches[-1]
    return f"no output; {log}"
