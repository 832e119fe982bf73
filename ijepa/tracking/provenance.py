"""Where a run comes from: commit, software, DVC; and the removal of secrets from what is kept."""

import contextlib
import hashlib
import os
import re
import subprocess
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote

from ijepa.runtime import environment, files

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "pyarrow", "safetensors", "scipy",
            "dvc", "sacred", "pymongo")  # fmt: skip
# a stage rewrites these, or DVC does before it starts it: that is no change of the code
_WRITTEN = ("params.yaml", "dvc.lock", "out")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+:[^/\s]*@")


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


def settings() -> dict[str, str]:
    """The ``IJEPA_*`` variables in force, without secrets."""
    return {name: redact(environment.text(name)) for name in environment.VARIABLES}


def redact(text: str) -> str:
    """``text`` without the user and password of any URL, and without the password of ours."""
    ours = _CREDENTIALS.search(environment.text("IJEPA_MONGO_URL"))
    password = ours[0].rstrip("@").partition(":")[2] if ours else ""
    text = _CREDENTIALS.sub("***@", text)
    for secret in {password, unquote(password)}:
        text = text.replace(secret, "***") if secret else text
    return text


def hashes(path: Path) -> dict[str, str]:
    """A file's path, its md5 (DVC's name for it) and its SHA-256 (ours)."""
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    return {"path": path.as_posix(), "md5": md5, "sha256": files.sha256(path)}
