"""What a run left behind, read from its DVC experiment and the journal."""

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ijepa.runtime import files
from ijepa.tracking import runs

METRICS, PRETRAIN = "out/metrics.json", "out/pretrain.json"
ENCODER = "out/encoder.safetensors"
# stage -> an output whose bytes name the run that made it
_MADE = {"pretrain": ENCODER, "evaluate": METRICS}


def gather(
    plan: Mapping[str, Any], job: Mapping[str, Any], path: Path, status: int, log: Path
) -> dict[str, Any]:
    """The result of a job whose DVC experiment in ``path`` ended with ``status``.

    Returns:
        status, reason, code, signature, data, encoder, metrics, pretrain, and ``provenance``: the
        parts of a lock file's two entries (``ijepa.study.lock``).
    """
    commit = plan["commit"]
    result: dict[str, Any] = {
        "status": "done", "reason": None, "signature": job["signature"], "code": job["code"],
        "data": None, "encoder": None, "metrics": None, "pretrain": None,
        "provenance": {"name": job["name"], "commit": None, "baseline": commit,
                       "runs": {}, "seconds": {}, "machine": None, "cost": None},
    }  # fmt: skip
    if status:
        return result | {"status": "failed", "reason": reason(log)}
    if job["target"] == "prepare":
        return result
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{job['name']}"
    show = _Experiment(path, reference)
    lock = files.parse_yaml(show.file("dvc.lock"))["stages"]
    result["metrics"] = json.loads(show.file(METRICS))
    result["pretrain"] = json.loads(show.file(PRETRAIN))
    hashes = {METRICS: hashlib.sha256(show.file(METRICS).encode()).hexdigest()}
    md5 = next(out["md5"] for out in lock["pretrain"]["outs"] if out["path"] == ENCODER)
    encoder = Path(plan["cache"], "files", "md5", md5[:2], md5[2:])
    hashes[ENCODER] = result["encoder"] = files.sha256(encoder)
    records = {
        stage: next((r for r in runs.find({path: hashes[path]}) if r.stage == stage), None)
        for stage, path in _MADE.items()
    }
    if records["pretrain"]:
        result["data"] = records["pretrain"].data
        prepared = (r for r in runs.listing() if r.stage == "prepare" and r.data == result["data"])
        records = {"prepare": next(prepared, None), **records}
    machine = records["pretrain"]
    result["provenance"] |= {
        "commit": show.commit,
        "runs": {stage: record.id for stage, record in records.items() if record},
        "seconds": {stage: record.seconds for stage, record in records.items() if record},
        "machine": (machine.gpu or machine.cpu) if machine else None,
        "cost": machine.cost if machine else None,  # ijepa.meter.Spent, as far as it was recorded
    }
    return result


class _Experiment:
    """A DVC experiment's commit in a job's clone, fetched into this checkout."""

    def __init__(self, path: Path, reference: str) -> None:
        self.path = path
        self.commit = self._git("rev-parse", "--verify", reference).strip()
        # `dvc exp show` and `git show` find it here too; it is the record behind the numbers
        subprocess.run(
            ["git", "fetch", "--quiet", "--no-tags", str(path), f"+{reference}:{reference}"],
            check=True,
        )

    def file(self, path: str) -> str:
        return self._git("show", f"{self.commit}:{path}")

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, capture_output=True, text=True, check=True
        )
        return done.stdout


def reason(log: Path) -> str:
    """Why an experiment failed, in one line: what the stage said, or else DVC."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    for pattern in (r"error: (.*)", r"([\w.]+Error(?:: .*)?)", r"ERROR: (.*)", r"(.+)"):
        matches = [match[1] for line in lines if (match := re.fullmatch(pattern, line))]
        if matches:
            return matches[-1]
    return f"no output; {log}"
