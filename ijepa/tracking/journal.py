# mypy: disable-error-code="no-untyped-call"
# (Sacred is typed in part)
"""Record a stage: Sacred writes it to a journal on disk, and MongoDB is filled from that.

The journal is the truth (``home()/runs/<id>/``); it needs no server, and nothing that goes wrong
with it or with the database can fail a stage. This is the only file that imports Sacred.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ijepa import config as science
from ijepa.runtime import environment, files, launch
from ijepa.tracking import live, process, provenance, redaction
from ijepa.tracking.capture import Output, capture
from ijepa.tracking.series import Series

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # sacred imports pkg_resources, which warns that it is old
    from sacred import SETTINGS, Experiment
    from sacred.observers import FileStorageObserver
    from sacred.utils import SacredInterrupt, apply_backspaces_and_linefeeds

SETTINGS.CAPTURE_MODE = "no"  # see ijepa.tracking.capture
SETTINGS.DISCOVER_SOURCES = "none"  # the commit says more than copies of files do
SETTINGS.DISCOVER_DEPENDENCIES = "pkg"
SETTINGS.HOST_INFO.CAPTURED_ENV = ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "SLURM_JOB_ID"]

BEAT = 10.0  # seconds between heartbeats
OUTPUT = 2_000_000  # characters kept of the output: a database document holds 16 MB in all
LATEST = 20  # runs that a new one cleans of what a kill left half-written
RESERVED = ("run.json", "config.json", "info.json", "metrics.json", "cout.txt")

_SILENT = logging.getLogger("ijepa.tracking.sacred")  # the stage prints, Sacred does not
_SILENT.setLevel(logging.CRITICAL + 1)


class Preempted(SacredInterrupt):
    """SIGTERM: Slurm, ``docker stop`` or DVC wants the stage to end."""

    STATUS = "PREEMPTED"


class Journal(FileStorageObserver):
    """Sacred's files, written atomically and again at every beat, so that no failure is lasting.

    Sacred drops an observer for the rest of the run after one exception; here a disk that is full
    for a minute costs nothing. ``problems`` has what could not be written, until it can.
    """

    run_entry: Any

    def __init__(self, folder: Path, output: Output) -> None:
        super().__init__(folder.parent)
        self.folder = folder
        self.problems: dict[str, str] = {}  # file -> why
        self._output = output
        self._series: dict[str, Series] = {}
        self._lock = threading.RLock()  # beats come from a thread of Sacred's

    def _make_run_dir(self, _id: int) -> None:
        """The folder is there already: making it is how the id was claimed."""

    def save_json(self, obj: Any, filename: str) -> None:
        """Write a JSON file of the run."""
        self._put(filename, json.dumps(obj, sort_keys=True, default=_plain))

    def save_cout(self) -> None:
        """Write the output so far, progress bars as a terminal would leave them."""
        self._put("cout.txt", _readable(self._output.text()))

    def heartbeat_event(self, info: Any, captured_out: str, beat_time: Any, result: Any) -> None:
        """Write everything that changed; Sacred's own captured text is empty and not used."""
        with self._lock:
            super().heartbeat_event(info, captured_out, beat_time, result)

    def log_metrics(self, metrics_by_name: Mapping[str, Any], info: Any) -> None:
        """Add points to the series."""
        with self._lock:
            for name, new in metrics_by_name.items():
                series = self._series.setdefault(name, Series())
                points = zip(new["steps"], new["values"], new["timestamps"], strict=True)
                for step, value, when in points:
                    series.add(step, value, when.isoformat())
            if self._series:
                self.save_json({n: s.tree() for n, s in self._series.items()}, "metrics.json")

    def artifact_event(
        self, name: str, filename: str, metadata: Any = None, content_type: Any = None
    ) -> None:
        """Copy a file into the run."""
        with self._lock:
            target = self.folder / name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with files.replacing(target) as partial:
                    shutil.copyfile(filename, partial)
            except OSError as error:  # said at the end
                self.problems[name] = error.strerror or type(error).__name__
                return
            if name not in self.run_entry["artifacts"]:
                self.run_entry["artifacts"].append(name)
            self.save_json(self.run_entry, "run.json")

    def failed_event(self, fail_time: datetime, fail_trace: list[str]) -> None:
        """Write the traceback, without secrets."""
        super().failed_event(fail_time, [redaction.redact(line) for line in fail_trace])

    def write_sums(self) -> None:
        """Write the hashes of the run's files, once nothing of it changes any more."""
        written = [name for name in (*RESERVED, *self.run_entry["artifacts"])
                   if (self.folder / name).is_file()]  # fmt: skip
        try:
            files.write_sums(self.folder, written)
        except OSError as error:  # said at the end
            self.problems[files.SUMS] = error.strerror or type(error).__name__

    def _put(self, name: str, text: str) -> None:
        path = self.folder / name
        try:
            files.write_text(path, text)
        except OSError as error:  # said at the end
            self.problems[name] = error.strerror or type(error).__name__
        else:
            self.problems.pop(name, None)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


def _readable(text: str) -> str:
    lines = (line.removesuffix("\r") for line in redaction.redact(text).split("\n"))
    shown = "\n".join(
        apply_backspaces_and_linefeeds(line) if "\r" in line or "\b" in line else line
        for line in lines  # Sacred goes through it letter by letter: only where there is a need
    )
    return shown if len(shown) <= OUTPUT else "[earlier output is cut]\n" + shown[-OUTPUT:]


class Run:
    """What the body of a stage reports to."""

    def __init__(self, run_id: int, sacred_run: Any, interactive: bool) -> None:
        self.id = run_id
        self.interactive = interactive  # a person watches: inside a run, isatty() is always False
        self._run = sacred_run

    def log(self, name: str, value: float, step: int) -> None:
        """Log one point of a series: a number, a tensor of one element, NaN too.

        A series is thinned to about 10,000 points (``Series``); keep the full one as an artifact.
        """
        self._run.log_scalar(name, float(value), int(step))

    def artifact(self, path: Path, name: str | None = None) -> None:
        """Attach a copy of a file.

        Raises:
            ValueError: there is no such file.
        """
        name = name or path.name
        assert name not in RESERVED, name
        assert not Path(name).is_absolute(), name
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        self._run.add_artifact(str(path), name)

    def info(self, **values: Any) -> None:
        """Attach JSON values under their names."""
        self._run.info.update(json.loads(json.dumps(values, default=_plain)))


def record(
    stage: str, config: science.Config, body: Callable[[Run], float | None], *,
    data: str | None = None, outs: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Run ``body`` and record it: configuration, output, metrics, artifacts, host, versions, outs.

    Whatever the body raises is raised again once the run is marked FAILED; Ctrl-C is recorded as
    INTERRUPTED. SIGTERM raises ``Preempted`` in the body, is recorded as PREEMPTED and ends as
    ``SystemExit(143)``. A result that the body returns is the run's result in Omniboard.

    Args:
        stage: prepare, pretrain, evaluate or report.
        config: the resolved science.
        body: the work; it gets the ``Run`` to report to.
        data: the store's hash, when the stage reads or writes it.
        outs: files that the body writes; their hashes link the record to DVC's commit.

    Raises:
        ValueError: the journal's folder cannot be written.
    """
    if provenance.dvc()["stage"]:  # kill -9 of dvc would leave the stage running to no end
        launch.die_with_parent(signal.SIGTERM)
    home = environment.home()
    folder = _claim(home / "runs")
    interactive = sys.stderr.isatty()

    def main(_run: Any) -> float | None:  # Sacred fills in an argument of this name
        result = body(Run(int(folder.name), _run, interactive))
        _run.info["outs"] = [provenance.hashes(path) for path in outs]
        return None if result is None else float(result)

    output, git = Output(), provenance.checkout()
    journal = Journal(folder, output)
    run = _create(stage, config, data, main, journal, git)
    sending = live.Live(home, int(folder.name))
    try:
        with launch.raising(lambda number: Preempted(f"signal {number}")), capture(output):
            if git.reason:
                print(f"note: the commit is recorded as unknown: {git.reason}", file=sys.stderr)
            run()
    except Preempted:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        if run._heartbeat is not None:  # Sacred gives the last beat 2 s; it has all it needs here
            run._heartbeat.join()
        journal.save_cout()
        journal.write_sums()
        missing = [f"{name} ({why})" for name, why in sorted(journal.problems.items())]
        missing += ["what came after Sacred gave it up"] if run._failed_observers else []
        if missing:
            where = f"{folder}, the journal of this run"
            print(f"note: {where}, lacks {', '.join(missing)}", file=sys.stderr)
        sending.finish()


def _create(
    stage: str, config: science.Config, data: str | None, main: Callable[[Any], float | None],
    journal: Journal, git: provenance.Checkout,
) -> Any:  # fmt: skip
    """A Sacred run that is told everything: it configures, discovers and prints nothing itself."""
    experiment: Any = Experiment(f"ijepa.{stage}", base_dir=str(Path.cwd()), save_git_info=False)
    experiment.logger = _SILENT
    experiment.observers.append(journal)
    dvc = provenance.dvc()
    experiment.add_config(
        stage=stage,
        signature=science.signature(config),
        seed=config.seed,
        experiment=dvc["experiment"],
        commit=git.commit,
        data=data or "",
        params=science.as_tree(config),
    )
    experiment.main(main)
    run = experiment._create_run()
    run._id = int(journal.folder.name)
    run.beat_interval = BEAT
    run.capture_mode = "no"
    source = f"ijepa/{stage}.py"
    run.experiment_info.update(
        mainfile=source,
        sources=[[source, ""]] if Path(source).is_file() else [],
        repositories=[{"url": "", "commit": git.commit, "dirty": git.dirty}],
    )
    run.meta_info.pop("options")  # of Sacred's command line, which is not used
    run.meta_info.update(uuid=uuid.uuid4().hex, pid=os.getpid(), process=process.mark(os.getpid()))
    run.info.update(
        git=dataclasses.asdict(git),
        dvc=dvc,
        versions=provenance.software(),
        settings=redaction.settings(),
        cores=os.cpu_count(),
    )
    return run


def _claim(runs: Path) -> Path:
    """Make the folder of a new run: its name is YYMMDDhhmmss in UTC and hundredths of a second.

    Making a folder is atomic, so processes that start together get different ids. Ids are
    integers, for Omniboard shows the wrong run for any other; below 2**53, for JavaScript.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for earlier in sorted(runs.glob("*/"))[-LATEST:]:
            files.remove_leftovers(earlier)  # nobody writes in a killed run's folder again
        while True:
            folder = runs / datetime.now(UTC).strftime("%y%m%d%H%M%S%f")[:14]
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
            time.sleep(0.005)
    except OSError as error:
        raise ValueError(f"IJEPA_HOME: cannot write to {runs}: {error.strerror}") from None
