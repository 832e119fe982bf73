"""Where a run comes from: commit, software, DVC."""

import contextlib
import hashlib
import os
import subprocess
from importlib import metadata
from pathlib import Path

from ijepa.runtime import files

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pyarrow", "safetensors", "scipy",
            "dvc", "sacred", "pymongo")  # fmt: skip
# a stage rewrites these, or DVC does before it starts it: that is no change of the code
_WRITTEN = ("params.yaml", "dvc.lock", "out")


def commit() -> tuple[str, bool]:
    """The commit of the working directory and whether tracked files, or ijepa/, differ from it.

    ("", False) outside a git checkout.
    """
    head = _git("rev-parse", "HEAD").strip()
    ignored = [f":(exclude){path}" for path in _WRITTEN]
    text = _git("status", "--porcelain", "--untracked-files=all", "--", ".", *ignored)
    lines = text.splitlines()
    return head, any(not line.startswith("??") or line.startswith("?? ijepa/") for line in lines)


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git: an exported source tree can still be run
        return ""
    return done.stdout if done.returncode == 0 else ""


def dvc() -> dict[str, str]:
    """What DVC tells the stage: experiment, its baseline commit and the name of the stage."""
    told = os.environ.get
    return {
        "experiment": told("DVC_EXP_NAME", ""),
        "baseline": told("DVC_EXP_BASELINE_REV", ""),
        "stage": told("DVC_STAGE", ""),
    }


def software() -> dict[str, str]:
    """Versions of the packages that can change a number, found without importing them."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def hashes(path: Path) -> dict[str, str]:
    """A file's path, its md5 (DVC's name for it) and its SHA-256 (ours)."""
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    return {"path": path.as_posix(), "md5": md5, "sha256": files.sha256(path)}
