"""The undisturbed run: the states that it passes through, and who reads what of them."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ijepa import cli, evaluate, prepare, pretrain, report, variants
from ijepa import config as configs
from ijepa.runtime import files
from ijepa.training import loop
from torture.place import ROOT, Ended, Main, Place, Process, kinds, walk

WRITTEN = ("data", "out", "home", "reports", "experiments")  # where the project writes
STAGES = ("prepare", "pretrain", "evaluate", "report")


def command(*arguments: str) -> Main:
    """The ``ijepa`` command."""
    return lambda: cli.main(list(arguments))


def runs() -> int:
    """The journal as its reader sees it: the list, then every run, each under a heading."""
    print("=== list")
    status = cli.main(["runs", "list"])
    for folder in sorted(Path(os.environ["IJEPA_HOME"], "runs").glob("[0-9]*")):
        print(f"=== {folder.name}", flush=True)
        status |= cli.main(["runs", "show", folder.name])
    return status


def line() -> None:
    """The last line of ``ijepa.report``."""
    sys.argv = ["report", "--line"]
    report.main()


def dvc_repro() -> None:
    """The pipeline as a user runs it."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # stages say `python`
    variables = {**os.environ, "PATH": paths, "DVC_NO_ANALYTICS": "1"}
    os.execve(sys.executable, [sys.executable, "-m", "dvc", "repro", "evaluate"], variables)


ABLATE = command("ablate", "two", "--scale", "torture", "--runner", "plain", "--jobs", "2")
TABLE = {
    "title": "Two", "question": "?", "table": None, "metric": "class.linear.trained",
    "seeds": [0, 1, 2, 3, 4, 5], "factor": ["mask.num_targets"],
    "variants": {"a": {"set": {"mask.num_targets": 2}}, "b": {"set": {"mask.num_targets": 1}}},
    "claim": {"text": "?", "best": "a", "margin": 0.1, "looks": [6]},
}  # fmt: skip
SCALE = {"about": "One step above nothing.", "seeds": 1, "minutes": 0.5}


@dataclass(frozen=True)
class Reader:
    """Something that reads what was written.

    Attributes:
        state: where it starts.
        main: what it runs.
        without: what is removed of the state before, so that it has to read the rest.
        names: whether its output may differ as long as it says which file is bad.
        apart: whether its output has parts, of which a bad file may change its own alone.
        variables: of its environment.
    """

    state: str
    main: Main
    without: tuple[str, ...] = ()
    names: bool = False
    apart: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


READERS = {
    "prepare": Reader("empty", prepare.main),
    "prepare again": Reader("prepared", prepare.main),
    "train": Reader("prepared", loop.main),
    "resume": Reader("stopped", loop.main),
    "evaluate": Reader("trained", evaluate.main),
    "probe": Reader("evaluated", evaluate.main, ("home/probes",)),
    "evaluate again": Reader("evaluated", evaluate.main),
    "verify": Reader("evaluated", command("verify")),
    "report": Reader("evaluated", report.main, names=True),
    "report line": Reader("reported", line),
    "runs": Reader("reported", runs, names=True, apart=True),
    "pretrain": Reader("long", pretrain.main),
    "ablate": Reader("study", ABLATE),
    "ablate again": Reader("studied", ABLATE),
    "ablate report": Reader("studied", command("report", "--ablation", "two")),
    "import": Reader("studied", command("import", "home/ablations/two.torture.tar.gz")),
    "dvc": Reader("repository", dvc_repro),
    "ranks": Reader("long", pretrain.main, variables={"IJEPA_PROCESSES": "2"}),
}


@dataclass(frozen=True)
class Reading:
    """What a reader did undisturbed.

    Attributes:
        opened: the files that it opened, of those that were there before.
        written: the files that it wrote outside of ``home``.
        outputs: what it gave: these files' hashes, or its text where it wrote none.
        lines: that it printed.
        kinds: of the files that were there at its end.
        seconds: that it took.
    """

    opened: list[str]
    written: list[str]
    outputs: Mapping[str, str]
    lines: list[str]
    kinds: list[str]
    seconds: float


def importing(main: Main) -> Main:
    """The stage, which leaves the names of what it imported."""

    def run() -> int | None:
        before, status = set(sys.modules), main()
        Path("modules.json").write_text(json.dumps(sorted(set(sys.modules) - before)))
        return status

    return run


class UndisturbedError(RuntimeError):
    """What should work does not, and nothing was done to it: the trial says nothing."""


def must(ended: Ended, what: str) -> Ended:
    """The undisturbed run works, or there is nothing to torture."""
    if ended.status:
        raise UndisturbedError(f"{what}, undisturbed: status {ended.status}\n{ended.text}")
    return ended


def build(place: Place, every: bool) -> None:
    """Run the stages once and keep what is there after each; what is kept already stays.

    Args:
        place: where.
        every: an ablation too, which takes a minute.

    Raises:
        SystemExit: what is kept is of other code.
        UndisturbedError: a stage does not work.
    """
    _same_code(place)
    place.pictures()
    place.reset("")
    place.write_params()
    place.keep("empty")
    config = configs.load(place.trial / "params.yaml")
    for stage in STAGES:  # parsed here, not again in every fork
        for count in (variants.code, variants.libraries):
            count(*variants.entries(config, stage))
    steps: list[tuple[str, str, Main]] = [
        ("empty", "prepared", prepare.main), ("prepared", "trained", pretrain.main),
        ("prepared", "", loop.main), ("trained", "evaluated", evaluate.main),
        ("evaluated", "reported", report.main),
    ]  # fmt: skip
    for before, after, main in steps:
        _imported(place, before, after, main)
    if not (place.states / "stopped").is_dir():
        _stopped(place)
    place.reset("prepared")
    place.write_params(**{"train.epochs": 16, "train.shards": 2})
    place.keep("long")
    if every and not (place.states / "studied").is_dir():
        study(place)
    if not (place.states / "repository").is_dir():
        repository(place)


def _same_code(place: Place) -> None:
    """States and trials of one work folder are of one code."""
    paths = [
        path for part in ("ijepa", "benchmarks/torture") for path in (ROOT / part).rglob("*.py")
    ]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(paths))).hexdigest()
    file = place.folder / "code"
    if file.is_file() and file.read_text() != code:
        raise SystemExit(
            f"{place.folder}: is of other code; remove it, or name another with --work"
        )
    file.write_text(code)


def _imported(place: Place, before: str, after: str, main: Main) -> None:
    """Run a stage, keep what it leaves, and import here what it imported."""
    place.reset(before)
    must(place.run(importing(main)), after)
    for name in json.loads((place.trial / "modules.json").read_text()):
        with contextlib.suppress(ImportError):  # some go by another name
            importlib.import_module(name)
    (place.trial / "modules.json").unlink()
    if after and not (place.states / after).is_dir():
        place.keep(after)


def _stopped(place: Place) -> None:
    """A training in its middle: killed when it had half of its checkpoints."""
    place.reset("prepared")
    training = Process(loop.main, place.trial)
    while not list(place.trial.glob("home/checkpoints/*/step-*1[0-9]")):
        assert not training.poll(), training.end().text
        time.sleep(0.001)
    training.kill()
    training.end()
    place.keep("stopped")


def study(place: Place) -> None:
    """A folder with an experiment, and the same when it has run."""
    place.reset("")
    place.write_params(**{"evaluate.transfer": []})
    for name, content in (("two", TABLE), ("scales/torture", SCALE)):
        file = place.trial / f"experiments/{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(file, content)
    for name in ("ijepa", "dvc.yaml"):
        (place.trial / name).symlink_to(ROOT / name)
    (place.trial / ".gitignore").write_text("/home\n/tmp\n/ijepa\n/dvc.yaml\n")
    _commit(place)
    place.keep("study")
    must(place.run(ABLATE), "ablate")
    place.keep("studied")


@functools.cache
def reading(place: Place, name: str) -> Reading:
    """What a reader opens and gives, undisturbed; kept beside the states."""
    file = place.states / f"{name}.json"
    if not file.is_file():
        files.write_json(file, dataclasses.asdict(_read(place, name)))
    return Reading(**files.read_json(file))


def _read(place: Place, name: str) -> Reading:
    reader = READERS[name]
    start(place, reader)
    links = place.folder / "links"  # what is replaced is still there to be asked when it was read
    shutil.rmtree(links, ignore_errors=True)
    shutil.copytree(place.trial, links, symlinks=True, copy_function=os.link)
    clocks = {path: (links / path).stat().st_mtime_ns for path in walk(links)}
    for path, clock in clocks.items():  # Linux sets the time of reading if it is older than this
        os.utime(links / path, ns=(0, clock))
    begun = time.monotonic()
    ended = must(place.run(reader.main, **reader.variables), name)
    seconds = time.monotonic() - begun
    opened = [str(path) for path in clocks if (links / path).stat().st_atime_ns]
    written = [
        str(path)
        for path in walk(place.trial)
        if path.parts[0] in WRITTEN and path.parts[0] != "home"
        if clocks.get(path) != (place.trial / path).stat().st_mtime_ns
    ]
    return Reading(
        opened, written, outputs(place, written, ended), ended.text.splitlines(),
        sorted(kinds(place.trial)), seconds,
    )  # fmt: skip


def start(place: Place, reader: Reader) -> None:
    """Make the trial's folder what a reader starts from."""
    place.reset(reader.state)
    for name in reader.without:
        shutil.rmtree(place.trial / name)


def repository(place: Place) -> None:
    """A checkout of the pipeline, with nothing run."""
    place.reset("")
    place.write_params(**{"evaluate.transfer": []})
    shutil.copytree(ROOT / "ijepa", place.trial / "ijepa", ignore=shutil.ignore_patterns("__py*"))
    (place.trial / ".dvc").mkdir()
    for name in ("dvc.yaml", ".gitignore", ".dvcignore", ".dvc/config"):
        shutil.copyfile(ROOT / name, place.trial / name)
    with (place.trial / ".gitignore").open("a") as file:
        file.write("/home\n/tmp\n")
    _commit(place)
    place.keep("repository")


def _commit(place: Place) -> None:
    for words in ("init -q", "add -A", "-c user.name=t -c user.email=t@t commit -qm one"):
        subprocess.run(["git", *words.split()], cwd=place.trial, check=True)


def outputs(place: Place, written: Collection[str], ended: Ended) -> dict[str, str]:
    """What a reader gave: the hash of each file, or where it writes none its text by heading."""
    if not written:
        parts = re.split(r"^=== (.*)\n", ended.out, flags=re.MULTILINE)
        texts = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
        listed = texts.pop("list", "").splitlines()
        rows = {f"row {row.split()[0]}": " ".join(row.split()) for row in listed if row}
        return texts | rows
    paths = {name: place.trial / name for name in written}
    return {
        name: hashlib.sha256(_content(path)).hexdigest() if path.is_file() else "none"
        for name, path in paths.items()
    }


def _content(path: Path) -> bytes:
    """A file's bytes; of a lock file what was computed, and not by which run and when."""
    data = path.read_bytes()
    if path.name.endswith(".lock.json"):
        with contextlib.suppress(ValueError):
            return json.dumps({**json.loads(data), "provenance": None, "sha256": None}).encode()
    return data
