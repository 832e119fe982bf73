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
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"dvc cache dir: {done.stderr.strip()}")
    return Path(done.stdout.strip()).resolve()


def make(commit: str, cached: Path) -> Path:
    """The bench of a commit, as clean as if nothing had run in it; no job may run meanwhile.

    Args:
        commit: what to check out.
        cached: DVC's cache that its experiments use.
    """
    path = folder() / f"bench-{commit[:12]}"
    if not (path / ".git" / "index").is_file():  # none, or a clone that was interrupted
        shutil.rmtree(path, ignore_errors=True)
        git("clone", "--quiet", "--no-checkout", "--shared", str(Path.cwd()), str(path))
    _git(path, "checkout", "--quiet", "--force", "--detach", commit)
    _git(path, "clean", "--quiet", "--force", "-d")
    local = Path(".dvc/config.local")
    config = local.read_text() if local.is_file() else ""
    (path / ".dvc/config.local").write_text(f"{config}\n[cache]\n    dir = {cached}\n")
    # kill -9 leaves the copies of experiments and the locks of processes that are gone
    shutil.rmtree(path / ".dvc/tmp", ignore_errors=True)
    return path


def _git(path: Path, *arguments: str) -> None:
    git("-C", str(path), *arguments)
