"""Where a run comes from: commit, software, DVC."""

import contextlib
import hashlib
import os
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ijepa.runtime import files

UNKNOWN = "unknown"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pyarrow", "safetensors", "scipy",
            "dvc", "sacred", "pymongo")  # fmt: skip
# a stage rewrites these, or DVC does before it starts it: that is no change of the code
_WRITTEN = ("params.yaml", "dvc.lock", "out")


@dataclass(frozen=True, slots=True)
class Checkout:
    """What git says of the working directory.

    Attributes:
        commit: 40 hexadecimal digits, or UNKNOWN.
        dirty: whether tracked files, or any in ijepa/, differ from it; None: unknown.
        reason: why it is unknown, in git's own words; else "".
    """

    commit: str
    dirty: bool | None
    reason: str = ""


def checkout() -> Checkout:
    """The commit of the working directory, and whether the code is the commit's.

    Where git cannot tell (no checkout, or one of another owner), nothing is taken for clean.
    """
    ignored = [f":(exclude){path}" for path in _WRITTEN]
    try:
        head = _git("rev-parse", "HEAD").strip()
        text = _git("status", "--porcelain", "--untracked-files=all", "--", ".", *ignored)
    except ValueError as error:
        return Checkout(UNKNOWN, None, str(error))
    lines = text.splitlines()
    changed = any(not line.startswith("??") or line.startswith("?? ijepa/") for line in lines)
    return Checkout(head, changed)


def show(commit: str) -> str:
    """A commit as git shows it, with the files that it changes.

    Raises:
        ValueError: it is not in this checkout; git's own words.
    """
    return _git("show", "--stat", "--no-color", "--format=fuller", commit, "--")


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", *args], capture_output=True, text=True, check=False)
    except OSError as error:  # an exported source tree can still be run
        raise ValueError(f"git cannot be run: {error.strerror}") from None
    if done.returncode:
        raise ValueError(" ".join(done.stderr.split()) or f"git ended with {done.returncode}")
    return done.stdout


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
