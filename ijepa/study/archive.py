"""Published runs' journal as one file, which ``ijepa runs export`` and ``import`` write and load.

So that who has only a clone can look at the runs behind its pages in Omniboard, and
``ijepa reproduce`` can say at which step another run parts. Metrics, configuration and output are
kept; artifacts above ``ARTIFACT`` bytes, such as pictures, are left out and named.
"""

import shutil
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from ijepa.runtime import environment, files
from ijepa.study import bundle, lock, merge
from ijepa.tracking import runs as journal

FILE = Path("reports/runs.tar.gz")  # as this repository commits it
ARTIFACT = 100_000  # bytes; history.csv stays whatever its size
REPORTS = Path("reports")
HISTORY = "history.csv"
_ALWAYS = (HISTORY,)


def published(reports: Path = REPORTS, experiments: Path = lock.FOLDER) -> set[int]:
    """The ids of the runs that lock files and published reports name."""
    ids = set[int]()
    for table in lock.listing(experiments):
        for source in lock.read(*table, experiments)["provenance"].values():
            ids |= set((source.get("runs") or {}).values())
    for file in sorted(reports.glob("*/results.json")):
        for stage in files.read_json(file)["provenance"]["stages"]:
            ids |= {stage["run"]["id"]} if stage["run"] else set()
    return ids


def export(file: Path, every: bool = False) -> int:
    """Pack the published runs of this checkout's journal, or all of it.

    Raises:
        ValueError: the journal has none of them, or one is damaged; one line.
    """
    wanted, home = published(), environment.home()
    chosen = [f for f in journal.folders(home) if every or int(f.name) in wanted]
    if not chosen:
        raise ValueError(f"{home / 'runs'}: none of the {len(wanted)} published runs is here")
    left: list[str] = []
    file.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(file) as partial, tempfile.TemporaryDirectory() as folder:
        for run in chosen:
            left += _copied(run, Path(folder) / "runs" / run.name)
        sources = home / "runs/_sources"
        if sources.is_dir():
            shutil.copytree(sources, Path(folder) / "runs/_sources")
        with tarfile.open(partial, "w:gz") as tar:
            tar.add(Path(folder) / "runs", "runs", filter=bundle.kept)
    size = f"{file.stat().st_size / 1e6:.1f} MB"
    print(f"{file}: {len(chosen)} runs, {size}; `ijepa runs import {file}` loads them")
    if not every:
        print(f"{len(wanted) - len(chosen)} of {len(wanted)} published runs are not here")
    if left:
        print(f"left out, above {ARTIFACT / 1000:.0f} kB: {_counted(left)}")
    return 0


def _copied(run: Path, target: Path) -> Iterator[str]:
    """Copy a run without its large artifacts, which its ``run.json`` then names apart.

    Yields:
        The names of these.
    """
    entry = journal.entry(run)
    if entry is None or journal.load(run) is None:  # it never got as far as its first files
        return
    shutil.copytree(run, target)
    rest = [name for name in entry["artifacts"] if Path(name).name not in _ALWAYS]
    large = [name for name in rest if (run / name).stat().st_size > ARTIFACT]
    if large:
        for name in large:
            (target / name).unlink()
        kept = [name for name in entry["artifacts"] if name not in large]
        files.write_json(target / "run.json", {**entry, "artifacts": kept, "left_out": large})
        if (run / files.SUMS).is_file():
            lines = (run / files.SUMS).read_text().splitlines()
            names = [line.partition("  ")[2] for line in lines]
            files.write_sums(target, [name for name in names if name not in large])
    yield from large


def _counted(names: Collection[str]) -> str:
    """``12 × report.md, 3 × index.html``."""
    kinds = sorted({Path(name).name for name in names})
    return ", ".join(f"{sum(Path(n).name == kind for n in names)} × {kind}" for kind in kinds)


def unpacked(run: int, into: Path) -> Path | None:
    """What a published run logged, its history and the trail of its weights, from the archive.

    Args:
        run: its id.
        into: a folder, made if it is not there.

    Returns:
        The folder with the files; None where the archive is not there or has neither.

    Raises:
        ValueError: the archive is damaged; one line.
    """
    if not FILE.is_file():
        return None
    logged = {f"runs/{run}/{name}" for name in (HISTORY, journal.TRAIL)}
    with bundle.opened(FILE) as folder:
        there = [folder / name for name in logged if (folder / name).is_file()]
        into.mkdir(exist_ok=True)
        for one in there:
            shutil.copy(one, into)
    return into if there else None


def load(file: Path) -> int:
    """Bring packed runs into this checkout's journal and its database.

    Raises:
        ValueError: the file is none, or damaged; one line.
    """
    home = environment.home()
    before = len(journal.folders(home))
    with bundle.opened(file) as folder:
        if not journal.folders(folder):
            raise ValueError(f"{file}: there are no runs in it")
        ids = journal.adopt(folder / "runs", home)
    new = len(journal.folders(home)) - before
    print(f"{file}: {new} of its {len(ids)} runs are new here")
    moved = {old: number for old, number in ids.items() if old != number}
    for old, number in moved.items():
        print(f"run {old} is run {number} here: another run has its id")
    merge.send(list(ids.values()))
    return 0
