"""What a run left behind, read from its DVC experiment and the journal."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ijepa.runtime import files
from ijepa.study import answers
from ijepa.study.plan import git
from ijepa.tracking import runs

METRICS, PRETRAIN = "out/metrics.json", "out/pretrain.json"
ENCODER = "out/encoder.safetensors"
PREDICTIONS = "out/evaluation/predictions.npz"
EVALUATION = "out/evaluation/evaluation.json"
# stage -> an output whose bytes name the run that wrote it
_WROTE = {"pretrain": ENCODER, "evaluate": METRICS}
_COMPUTES = ("torch", "torchvision", "timm", "numpy")  # whose versions a lock file names


def gather(
    plan: Mapping[str, Any], job: Mapping[str, Any], path: Path, status: int, log: Path
) -> dict[str, Any]:
    """The result of a job whose DVC experiment in ``path`` ended with ``status``.

    Returns:
        status, reason, code, signature, data, encoder, files (path -> SHA-256), metrics, pretrain,
        right (``ijepa.study.answers``) and ``provenance``: the parts of a lock file's two entries
        (``ijepa.study.lock``).
    """
    commit = plan["commit"]
    result: dict[str, Any] = {
        "status": "done", "reason": None, "signature": job["signature"], "code": job["code"],
        "data": None, "encoder": None, "files": None, "metrics": None, "pretrain": None,
        "right": None,
        "provenance": {"name": job["name"], "commit": None, "baseline": commit, "runs": {},
                       "seconds": {}, "machine": None, "numerics": None, "cost": None},
    }  # fmt: skip
    if status:
        return result | {"status": "failed", "reason": reason(log)}
    if job["target"] == "prepare":
        return result
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{job['name']}"
    # `dvc exp show` and `git show` find it here too; it is the record behind the numbers
    git("fetch", "--quiet", "--no-tags", str(path), f"+{reference}:{reference}")
    own = git("rev-parse", "--verify", reference).strip()
    outputs = _outputs(own, Path(plan["cache"], "files", "md5"))
    hashes = _hashes(own, outputs)
    evaluation = files.read_json(outputs[EVALUATION])
    records = {
        stage: next((r for r in runs.find({path: hashes[path]}) if r.stage == stage), None)
        for stage, path in _WROTE.items()
    }
    result |= {
        "metrics": json.loads(git("show", f"{own}:{METRICS}")),
        "pretrain": json.loads(git("show", f"{own}:{PRETRAIN}")),
        "encoder": hashes[ENCODER],
        "files": hashes,
        "right": answers.read(evaluation, outputs[PREDICTIONS], job.get("right", ())),
    }
    if trained := records["pretrain"]:
        result["data"] = trained.data
        prepared = (r for r in runs.listing() if r.stage == "prepare" and r.data == trained.data)
        records = {"prepare": next(prepared, None), **records}
        versions = {name: trained.versions.get(name) for name in _COMPUTES}
        result["provenance"] |= {
            "machine": trained.gpu or trained.cpu,
            "numerics": {**trained.numerics, **versions} if trained.numerics else None,
            "cost": trained.cost,  # ijepa.training.meter.Spent, as far as it was recorded
        }
    result["provenance"] |= {
        "commit": own,
        "runs": {stage: record.id for stage, record in records.items() if record},
        "seconds": {stage: record.whole_seconds for stage, record in records.items() if record},
    }
    return result


def _outputs(commit: str, cache: Path) -> dict[str, Path]:
    """Where DVC keeps what a run's stages wrote; of a folder, the files in it."""

    def cached(md5: str) -> Path:  # of a folder it is the listing
        return cache / md5[:2] / md5[2:]

    places: dict[str, Path] = {}
    stages = files.parse_yaml(git("show", f"{commit}:dvc.lock"))["stages"]
    for output in (*stages["pretrain"]["outs"], *stages["evaluate"]["outs"]):
        path, place = output["path"], cached(output["md5"])
        if output["md5"].endswith(".dir"):
            inside = json.loads(place.read_bytes())
            places |= {f"{path}/{one['relpath']}": cached(one["md5"]) for one in inside}
        else:
            places[path] = place
    return places


def _hashes(commit: str, outputs: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of every file that a run is judged by: encoders, history, predictions."""
    hashes = {
        path: hashlib.sha256(git("show", f"{commit}:{path}").encode()).hexdigest()
        for path in (METRICS, PRETRAIN, "out/history.csv")
    }
    for path, place in outputs.items():
        if path.endswith(".safetensors") or path == PREDICTIONS:
            hashes[path] = files.sha256(place)
    return hashes


def reason(log: Path) -> str:
    """Why an experiment failed, in one line: what the stage said, or else DVC."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    for pattern in (r"error: (.*)", r"([\w.]+Error(?:: .*)?)", r"ERROR: (.*)", r"(.+)"):
        matches = [match[1] for line in lines if (match := re.fullmatch(pattern, line))]
        if matches:
            return matches[-1]
    return f"no output; {log}"
