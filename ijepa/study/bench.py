"""The bench: a clone of this checkout at one commit, and a clone of that for each job.

``dvc exp run`` writes parameters into the checkout it is called in and stashes what it finds there
before it copies it away; a kill at that moment would leave a user's files changed. In a clone of
its own nothing of the user's can be hurt, and the user can go on working. The cache of data and
runs is the checkout's own.
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files
from ijepa.study.plan import git


def folder() -> Path:
    """Everything of ablations that is not a result: benches, plans, logs, results of runs."""
    return environment.home() / "ablations"


def result(name: str) -> Path:
    """Where what a run computed is, whichever table it is of."""
    return folder() / "results" / f"{name}.json"


def shared(commit: str) -> dict[str, Any]:
    """Of a plan: what its jobs share; makes the bench once no job of another plan is in it.

    Args:
        commit: whose code runs.
    """
    commit, cached = git("rev-parse", commit).strip(), cache()
    lock = (folder() / f"bench-{commit[:12]}").with_suffix(".lock")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.locked(lock, 0, TimeoutError()))
        except TimeoutError:  # another `ijepa ablate`, or jobs of one that was killed
            print(f"waiting for the jobs of commit {commit[:12]} that hold {lock}", flush=True)
            held.enter_context(files.locked(lock))
        path = make(commit, cached)
    return {"bench": str(path), "commit": commit, "variables": places()}


def places() -> dict[str, str]:
    """The variables that lead a job in another folder to this checkout's."""
    return {"IJEPA_HOME": str(environment.home()), "IJEPA_DATA_ROOT": str(environment.data_root())}


def cache() -> Path:
    """DVC's cache of this checkout."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ValueError(f"dvc cache dir: {done.stderr.strip()}")
    return Path(done.stdout.strip()).resolve()


def make(commit: str, cached: Path) -> Path:
    """The bench of a commit, made anew; no job may run meanwhile.

    Args:
        commit: what to check out.
        cached: DVC's cache that its experiments use.
    """
    from dvc.config import Config  # slow, and every job imports this module

    path = folder() / f"bench-{commit[:12]}"
    clone(Path.cwd(), path, commit)
    local = Path(".dvc/config.local")
    if local.is_file():
        shutil.copy(local, path / ".dvc")
    with Config(str(path / ".dvc")).edit("local") as config:
        # Links, not copies of the data for every run: DVC removes an output before its stage runs
        types = "reflink,hardlink,symlink,copy"
        config["cache"] |= {"dir": str(cached), "type": types}
    return path


@contextlib.contextmanager
def own(bench: Path, commit: str, name: str) -> Iterator[Path]:
    """A clone of the bench for one job: ``dvc exp run`` also runs what others have just stashed.

    It is made anew, for kill -9 leaves locks of git and DVC, stashes and copies of experiments.
    """
    path = bench.parent / "jobs" / name
    clone(bench, path, commit)
    shutil.copy(bench / ".dvc/config.local", path / ".dvc")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def keep(path: Path, commit: str, name: str) -> str:
    """Bring a job's DVC experiment from its clone into this checkout; its commit.

    ``dvc exp show`` and ``git show`` find it here then; it is the record behind the numbers.
    """
    reference = f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"
    git("fetch", "--quiet", "--no-tags", str(path), f"+{reference}:{reference}")
    return git("rev-parse", "--verify", reference).strip()


def clone(source: Path, path: Path, commit: str) -> None:
    """Clone a repository at a commit, over whatever is at ``path``.

    Raises:
        ValueError: it has no such commit.
    """
    shutil.rmtree(path, ignore_errors=True)
    git("clone", "--quiet", "--no-checkout", "--shared", str(source), str(path))
    git("-C", str(path), "checkout", "--quiet", "--detach", commit)
