"""A work folder with a tiny run, and stages of it in forked processes.

Importing torch takes longer than such a run, so it is done once: every stage is the real ``main``
in a fork of this process, which therefore must never have threads of its own.
"""

import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ijepa import presets
from ijepa.runtime import errors, files, launch

ROOT = Path(__file__).resolve().parents[2]
TRACEBACK = 99  # exit status of a stage that ended with one
PIPE = 1 << 20  # bytes of output that nobody need read while a stage goes on
TINY = {
    "data.name": "scenes", "data.image_size": 16, "data.train_images": 64, "data.test_images": 40,
    "data.objects": [3, 4], "mask.num_targets": 2, "mask.min_context": 2,
    "model.patch_size": 4, "model.width": 16, "model.depth": 2,
    "model.predictor_width": 8, "model.predictor_depth": 2,
    "train.batch_size": 8, "train.epochs": 3,
    "evaluate.last_layers": 2, "evaluate.probes": ["linear", "knn"], "evaluate.linear.epochs": 2,
    "evaluate.linear.lr": [0.1], "evaluate.linear.weight_decay": [0.0], "evaluate.knn.k": 3,
    "evaluate.transfer": [{"name": "folder", "path": "pictures"}],
}  # fmt: skip
# What is in the names of files and differs from run to run: ids, hashes, process ids, counts.
_CHANGES = re.compile(r"[0-9a-f]{8,}|\d+")

Main = Callable[[], int | None]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit status, minus the signal's number where one ended it."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that it printed."""
        return self.out + self.err


class Process:
    """A stage in a fork of this process, in a session of its own."""

    def __init__(self, main: Main, folder: Path, variables: Mapping[str, str] = {}) -> None:
        assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the other threads"  # noqa: PTH208
        self.pipes = [os.pipe(), os.pipe()]
        for _, write in self.pipes:
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE)
        sys.stdout.flush()
        self.start, self.status = time.monotonic(), None
        self.pid = os.fork()
        if self.pid == 0:
            _become(main, folder, variables or {}, [write for _, write in self.pipes])
        for _, write in self.pipes:
            os.close(write)

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, seconds: float = 300) -> bool:
        """Until it has ended, or so long; whether it has."""
        end, pause = time.monotonic() + seconds, 0.0005
        while not self.poll():
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.01)
        return True

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, unless it has ended."""
        if not self.poll():
            os.kill(self.pid, number)

    def end(self, seconds: float = 300) -> Ended:
        """Wait for it; it is killed, and that is its status, when it takes longer."""
        if not self.wait(seconds):
            self.kill()
            self.wait()
        texts = []
        for read, _ in self.pipes:
            os.set_blocking(read, False)  # an orphan may hold the other end
            with contextlib.suppress(BlockingIOError), os.fdopen(read, "rb", 0) as file:
                data = b""
                while chunk := file.read(PIPE):
                    data += chunk
            texts.append(data.decode(errors="replace"))
        assert self.status is not None
        return Ended(self.status, *texts)


def _become(main: Main, folder: Path, variables: Mapping[str, str], ends: list[int]) -> None:
    """Be the stage; never returns."""
    status = TRACEBACK
    try:
        os.setsid()
        launch.die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, end in enumerate(ends, 1):
            os.dup2(end, number)
        os.closerange(3, 256)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT
                          else signal.SIG_DFL)  # fmt: skip
        os.chdir(folder)
        os.environ.update(variables)
        sys.argv = ["stage"]
        status = errors.run(main)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # as Python does at its end
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def limited(main: Main, size: int) -> Main:
    """The stage with a limit on the size of every file that it writes, as on a full disk."""

    def run() -> int | None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        return main()

    return run


class Place:
    """The work folder: raw data, states of the run to start from, and where a trial happens.

    Attributes:
        trial: the working directory of a trial; its path is always the same, for it is printed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.trial, self.states = folder, folder / "trial", folder / "states"
        self.states.mkdir(parents=True, exist_ok=True)
        os.environ.update({
            "IJEPA_HOME": str(self.trial / "home"), "IJEPA_DATA_ROOT": str(folder / "raw"),
            "IJEPA_MONGO_URL": "off", "IJEPA_THREADS": "1", "IJEPA_DEVICE": "cpu",
            "IJEPA_CHECKPOINT_SECONDS": "0", "IJEPA_WORKERS": "0", "OMP_NUM_THREADS": "1",
            "TMPDIR": str(self.trial / "tmp"), "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        })  # fmt: skip

    def run(self, main: Main, **variables: str) -> Ended:
        """Run a stage in the trial's folder to its end."""
        return Process(main, self.trial, variables).end()

    def reset(self, state: str) -> None:
        """Make the trial's folder anew from a state."""
        shutil.rmtree(self.trial, ignore_errors=True)
        if state:
            shutil.copytree(self.states / state, self.trial, symlinks=True)
        (self.trial / "tmp").mkdir(parents=True, exist_ok=True)

    def keep(self, state: str) -> None:
        """Make the trial's folder a state."""
        partial = self.states / f"{state}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(self.trial, partial, symlinks=True)
        shutil.rmtree(self.states / state, ignore_errors=True)
        partial.rename(self.states / state)

    def pictures(self) -> None:
        """The raw data of the set that is evaluated on only: PNG files of two sizes."""
        rng = np.random.default_rng(0)
        for split, count in (("train", 12), ("val", 8)):
            for label in ("a", "b"):
                folder = self.folder / "raw/pictures" / split / label
                folder.mkdir(parents=True, exist_ok=True)
                for i in range(count):
                    pixels = rng.integers(0, 256, (20 + i % 2, 20, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(folder / f"{i}.png")

    def write_params(self, **changes: Any) -> None:
        """params.yaml of the trial: the tiny run's, with changes."""
        tree = files.read_yaml(ROOT / "params.yaml")
        presets.apply(tree, {**TINY, **changes}, "torture")
        files.write_json(self.trial / "params.yaml", tree)  # JSON is YAML


def walk(folder: Path) -> Iterator[Path]:
    """Every file below a folder, as sorted relative paths."""
    every = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return iter(sorted(path.relative_to(folder) for path in every))


def kind(path: Path) -> str:
    """A path without what differs from run to run."""
    return _CHANGES.sub("*", str(path))


def kinds(folder: Path) -> set[str]:
    """The kinds of all files and folders below a folder."""
    return {kind(path.relative_to(folder)) for path in folder.rglob("*")}


def processes(folder: Path) -> list[int]:
    """Living processes that run in a folder or below it."""
    inside = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended while we looked
                gone = "\nState:\tZ" in (entry / "status").read_text()
                if (entry / "cwd").readlink().is_relative_to(folder) and not gone:
                    inside.append(int(entry.name))
    return inside
