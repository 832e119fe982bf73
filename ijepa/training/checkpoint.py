"""Checkpoints that survive kill -9, a full disk and a flipped bit.

A checkpoint is a folder ``step-<k>`` with ``state.pt`` and ``manifest.json``, which holds the
SHA-256 of the state (no format of torch notices a flipped bit). It is written under another name
and renamed when complete. A run's folder is keyed by its config, data and code and locked while a
process trains in it; it lies outside DVC's outputs, which DVC removes before a stage.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ijepa.runtime import environment, files
from ijepa.runtime.errors import Failure

_KEEP = 2  # checkpoints; the one before the newest is what a damaged newest one falls back to


def folder(home: Path, parameters: str, data: str, code: str) -> Path:
    """Where a run's checkpoints are; equal science, data and code share one folder."""
    key = hashlib.sha256(f"{parameters}/{data}/{code}".encode()).hexdigest()[:16]
    return home / "checkpoints" / key


@contextmanager
def locked(path: Path, patience: float = 60) -> Iterator[None]:
    """Hold a run's folder.

    Args:
        path: the folder, made if missing.
        patience: seconds to wait; a process that was told to stop may still be saving.

    Raises:
        Failure: another process trains this run, or the folder cannot be written.
    """
    refusal = Failure(f"another process is training this run ({path})")
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.locked(path / "lock", patience, refusal))
            for leftover in path.glob("tmp-*"):  # of a process that was killed while writing
                shutil.rmtree(leftover)
        except OSError as error:
            raise Failure(f"IJEPA_HOME: cannot write to {path}: {error.strerror}") from None
        yield


def save(path: Path, step: int, state: dict[str, Any]) -> None:
    """Write ``step-<step>`` so that a kill at any moment leaves the earlier checkpoints as they
    are. One of that step that is damaged is replaced.

    Raises:
        Failure: the disk refused; nothing that was good is lost.
    """
    unfinished, final = path / f"tmp-{os.getpid()}", path / _name(step)
    if final.exists() and _damage(final) is None:
        return  # the same step of the same run: the same state
    try:
        unfinished.mkdir()
        with (unfinished / "state.pt").open("wb") as file:
            hashing = _Hashing(file)
            torch.save(state, hashing)  # type: ignore[arg-type]  # it only writes
        manifest = {"step": step, "sha256": hashing.sha256.hexdigest()}
        (unfinished / "manifest.json").write_text(json.dumps(manifest))
        for written in unfinished.iterdir():
            files.sync(written)
        if final.exists():  # damaged
            shutil.rmtree(final)
        unfinished.rename(final)
        files.sync(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        shutil.rmtree(unfinished, ignore_errors=True)
        raise Failure(
            f"{final}: checkpoint not written ({error}); earlier ones are intact"
        ) from error
    for old in sorted(path.glob("step-*"))[:-_KEEP]:
        shutil.rmtree(old)


def _name(step: int) -> str:
    return f"step-{step:09d}"


class _Hashing:
    """A file that hashes what is written: a large state is not read back."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


class Writer:
    """Writes a run's checkpoints beside its training, which waits for a copy of the state alone.

    Args:
        path: the run's folder.
        thread: does the writing.
    """

    def __init__(self, path: Path, thread: ThreadPoolExecutor) -> None:
        self.path, self.thread = path, thread
        self.writing: Future[float] | None = None
        self.seconds = 0.0  # that the last one took
        self.buffers: dict[str, Tensor] = {}

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy the state and begin to write it, once the one before is written.

        Raises:
            Failure: the one before could not be written.
        """
        self.wait()
        copy = self._copy(state, "")
        if any(buffer.is_pinned() for buffer in self.buffers.values()):
            torch.cuda.synchronize()  # what is copied is computed, and there, before it is written
        self.writing = self.thread.submit(self._write, step, copy)

    def wait(self) -> None:
        """Until what was begun is written.

        Raises:
            Failure: it could not be.
        """
        if self.writing is not None:
            self.seconds = self.writing.result()
            self.writing = None

    def patience(self) -> float:
        """Seconds between checkpoints: 30, or 20 times what writing takes if the disk is slow."""
        if environment.text("IJEPA_CHECKPOINT_SECONDS"):
            return environment.number("IJEPA_CHECKPOINT_SECONDS")
        return max(30, 20 * self.seconds)

    def _write(self, step: int, state: dict[str, Any]) -> float:
        begun = time.monotonic()
        save(self.path, step, state)
        return time.monotonic() - begun

    def _copy(self, value: Any, name: str) -> Any:
        """The same in the machine's memory, in buffers that the next copy uses again."""
        if isinstance(value, Mapping):
            return {key: self._copy(part, f"{name}.{key}") for key, part in value.items()}
        if isinstance(value, list):
            return [self._copy(part, f"{name}.{number}") for number, part in enumerate(value)]
        if not isinstance(value, Tensor):
            return value
        if name not in self.buffers:  # pinned memory takes a GPU's data 20 times as fast
            self.buffers[name] = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
        return self.buffers[name].copy_(value, non_blocking=value.is_cuda)


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """A writer for a run's folder; at the end what it has begun is written."""
    with ThreadPoolExecutor(1) as thread:
        yield Writer(path, thread)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The newest good checkpoint's state, or None when there is none at all.

    Damaged ones are named on stdout and the one before is used.

    Raises:
        Failure: there are checkpoints and all are damaged; training never restarts silently.
    """
    candidates = sorted(path.glob("step-*"), reverse=True)
    for candidate in candidates:
        damage = _damage(candidate)
        if damage is None:
            state: dict[str, Any] = torch.load(
                candidate / "state.pt", map_location=device, weights_only=True
            )
            return state
        print(f"damaged checkpoint {candidate.name}: {damage}; trying the one before", flush=True)
    if candidates:
        raise Failure(
            f"{path}: every checkpoint is damaged; remove the folder to train from step 0"
        )
    return None


def _damage(candidate: Path) -> str | None:
    try:
        manifest = files.read_json(candidate / "manifest.json")
        actual = files.sha256(candidate / "state.pt")
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    step = manifest.get("step") if isinstance(manifest, dict) else None
    if type(step) is not int or candidate.name != _name(step):
        return "its manifest is another checkpoint's"
    same = actual == manifest.get("sha256")
    return None if same else "its SHA-256 differs from the manifest"


def listing(home: Path) -> list[tuple[str, int, int]]:
    """Every run that has checkpoints: folder name, newest step and size in bytes."""
    rows = []
    for run in sorted((home / "checkpoints").glob("*/")):
        steps = sorted(run.glob("step-*"))
        size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
        rows.append((run.name, int(steps[-1].name[5:]) if steps else 0, size))
    return rows


def collect(home: Path) -> int:
    """Remove the checkpoints of all runs that no process trains now; returns the bytes freed."""
    freed = 0
    for name, _, size in listing(home):
        run = home / "checkpoints" / name
        try:
            with locked(run, patience=0):
                shutil.rmtree(run)
                freed += size
        except Failure:
            print(f"{name}: in use, kept")
    return freed
