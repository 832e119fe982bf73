"""What runs left on a box, as one file: results, their runs' journal, what they were judged by.

``write`` makes it there, from the working tree's own results; ``opened`` unpacks it at home. It is
a ``tar.gz``: ``bundle.json`` (``read``), ``runs/`` as in the journal, ``logs/`` of what failed.
"""

import contextlib
import gzip
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa import variants
from ijepa.runtime import environment, files
from ijepa.study import bench, job, lock, plan
from ijepa.study.experiment import Scale
from ijepa.study.plan import Run
from ijepa.tracking import runs as journal

FORMAT = 1
_PARTS = {"format", "scale", "commit", "experiments", "results", "code"}


def write(file: Path, tables: Mapping[str, Sequence[Run]], scale: Scale) -> Path:
    """Bundle the results that this working tree has of the tables' runs.

    Args:
        file: to write.
        tables: the runs of each experiment.
        scale: of all.
    """
    results: dict[str, Any] = {}
    cells: dict[str, dict[str, str]] = {name: {} for name in tables}
    code: dict[str, dict[str, str]] = {}
    for name, table in tables.items():
        for run in table:
            if result := job.own(bench.result(run.name), *run.identity):
                results[run.name], cells[name][run.key] = result, run.name
                if run.code not in code:
                    code[run.code] = reachable(run)
    content = {
        "format": FORMAT,
        "scale": scale.name,
        "commit": plan.head(),
        "experiments": {
            name: {
                "registered": lock.read(name, scale.name).get("registered"),
                "cells": cells[name],
            }
            for name in tables
        },
        "results": results,
        "code": code,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(file) as partial, tempfile.TemporaryDirectory() as folder:
        about = Path(folder) / "bundle.json"
        files.write_json(about, content)
        with tarfile.open(partial, "w:gz") as tar:
            tar.add(about, about.name)
            _add_journal(tar, tables)
            for log in _logs(results):
                tar.add(log, f"logs/{log.name}")
    return file


def _add_journal(tar: tarfile.TarFile, tables: Mapping[str, Sequence[Run]]) -> None:
    """Every run of a job of the tables, whatever its end, and the sources that it names."""
    every = [run for table in tables.values() for run in table]
    names = tuple({run.name for run in every} | {f"data-{run.data[:12]}-" for run in every})
    for record in journal.listing():
        if record.experiment.startswith(names):
            tar.add(record.folder, f"runs/{record.id}", filter=kept)
    sources = environment.home() / "runs/_sources"
    if sources.is_dir():
        tar.add(sources, "runs/_sources")


def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """What of the journal goes along: no lock of the database's sync, nothing half-written."""
    return None if member.name.endswith((".sync", ".tmp")) else member


def _logs(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Path]:
    for name, result in results.items():
        if result["status"] != "done":
            yield from bench.folder().glob(f"*.logs/{name}.log")


def reachable(run: Run) -> dict[str, str]:
    """The files that a run's code is made of, with their hashes."""
    config = plan.parsed(files.read_yaml(configs.PARAMS), run.changes, run.key)
    entries = (entry for stage in plan.STAGES for entry in variants.entries(config, stage))
    return variants.files(*entries)


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Path]:
    """A bundle, unpacked into a folder that goes again.

    Raises:
        ValueError: one line: it is no bundle, is damaged, or would write elsewhere.
    """
    bench.folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bench.folder(), prefix="import-") as folder:
        try:
            with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if not (member.isfile() or member.isdir()):
                        raise ValueError(f"{file}: {member.name}: is a link or a device: refused")
                    tar.extract(member, folder, filter="data")
                while stream.read(2**20):  # to the end, where the checksum is
                    pass
        except tarfile.FilterError as error:
            raise ValueError(f"{file}: refused: {error}") from None
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise ValueError(f"{file}: no bundle of runs, or damaged: {error}") from None
        yield Path(folder)


def read(folder: Path, file: Path) -> dict[str, Any]:
    """The content of an unpacked bundle's ``bundle.json``.

    Returns:
        ``scale``; ``commit`` of the tree, if it had git; ``experiments``: name -> ``registered``
        and ``cells`` (key -> name of a result); ``results`` as jobs write them; ``code``: the hash
        that results have -> the files that it is of.

    Raises:
        ValueError: it is of another version, or damaged; names ``file``.
    """
    try:
        content: dict[str, Any] = json.loads((folder / "bundle.json").read_bytes())
        good = content.keys() == _PARTS and content["format"] == FORMAT
    except (OSError, ValueError, AttributeError):
        good = False
    if not good:
        raise ValueError(f"{file}: no bundle of runs, or of another version of ijepa")
    return content
