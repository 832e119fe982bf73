"""The bench: a clone of this checkout at one commit, where DVC runs experiments.

``dvc exp run`` writes parameters into the checkout it is called in and stashes what it finds there
before it copies it away; a kill at that moment would leave a user's files changed. In a clone of
its own nothing of the user's can be hurt, and the user can go on working. The cache of data and
runs is the checkout's own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from ijepa import environment
from ijepa.ablation.plan import git


def folder() -> Path:
    """Everything of ablations that is not a result: benches, plans, logs, results of runs."""
    return environment.home() / "ablations"


def cache() -> Path:
    """DVC's cache of this checkout."""
    return Path(_dvc("cache", "dir").strip()).resolve()


def make(commit: str, cached: Path) -> Path:
    """The bench of a commit, as clean as if nothing had run in it; no job may run meanwhile.

    Args:
        commit: what to check out.
        cached: DVC's cache that its experiments use.
    """
    path = folder() / f"bench-{commit[:12]}"
    # Made anew: kill -9 leaves locks of git and DVC, copies of experiments, and experiments that
    # were stashed and not begun, which DVC would run beside the next one.
    shutil.rmtree(path, ignore_errors=True)
    git("clone", "--quiet", "--no-checkout", "--shared", str(Path.cwd()), str(path))
    git("-C", str(path), "checkout", "--quiet", "--detach", commit)
    local = Path(".dvc/config.local")
    if local.is_file():
        shutil.copy(local, path / ".dvc")
    _dvc("config", "--local", "cache.dir", str(cached), cwd=path)
    return path


def _dvc(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
