"""What `make repro` takes by stage: wall and CPU seconds, and memory.

``python benchmarks/stages.py`` in a checkout without changes; ``--short`` is a run of a minute
that shows nothing but that this works. In a clone of the checkout, without a database, DVC runs
one stage after the other, then all of them again with nothing changed, then an experiment that
changes one setting of a probe. Writes benchmarks/results/stages.md; with ``--short`` prints alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ijepa import presets
from ijepa.config import STAGES
from ijepa.runtime import environment, files

OUT = Path("benchmarks/results/stages.md")
SHORT = {"data.train_images": 800, "data.test_images": 300, "train.epochs": 1}
PROBE = "evaluate.linear.lr=[0.03,0.3]"  # the probe that takes most


@dataclass(frozen=True)
class Taken:
    """Wall and CPU seconds of a command with all its processes; GiB of the largest of them."""

    wall: float
    cpu: float
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="800 images, one epoch, no file")
    short = parser.parse_args().short
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(Path(folder) / "clone", SHORT if short else {})
    text = table(rows, load)
    print(text)
    if not short:
        OUT.write_text(text)


def measured(clone: Path, changes: Mapping[str, Any]) -> dict[str, Taken]:
    """What was run -> what it took."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("IJEPA_", "DVC_"))}
    env |= {k: v for k, v in os.environ.items() if k == "IJEPA_THREADS"}
    env |= {"IJEPA_MONGO_URL": "off", "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(clone)}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"  # dvc.yaml says `python`
    run(["git", "clone", "-q", ".", str(clone)], Path.cwd(), env)
    if changes:
        path = clone / "params.yaml"
        tree = files.read_yaml(path)
        presets.apply(tree, changes, "--short")
        with path.open("w") as file:
            YAML(typ="safe", pure=True).dump(tree, file)
        person = ["git", "-c", "user.name=b", "-c", "user.email=b@b"]
        run([*person, "commit", "-qam", "short"], clone, env)
    rows = {
        stage: run(["dvc", "repro", "--single-item", stage], clone, env)
        for stage in ("config", *STAGES)
    }
    rows["all again, nothing changed"] = run(["dvc", "repro"], clone, env)
    rows[f"`dvc exp run -S {PROBE}`"] = run(["dvc", "exp", "run", "-S", PROBE], clone, env)
    return rows


def run(command: list[str], folder: Path, env: dict[str, str]) -> Taken:
    """Run a command to its end; a failure ends the benchmark with its output."""
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        child = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output)
        _, status, used = os.wait4(child.pid, 0)  # with the processes that the command waited for
        wall = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)}: {output.read().decode()}")
    return Taken(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def table(rows: dict[str, Taken], load: float) -> str:
    """The measurements as Markdown, with all that one needs to know to compare them."""
    whole = Taken(
        sum(rows[stage].wall for stage in ("config", *STAGES)),
        sum(rows[stage].cpu for stage in ("config", *STAGES)),
        max(rows[stage].memory for stage in ("config", *STAGES)),
    )
    names = ["config", *STAGES, "together"]
    rows = {name: (rows | {"together": whole})[name] for name in [*names, *rows]}
    head = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    about = environment.numerics()
    lines = [
        f"Commit {head.stdout.strip()}, {time.strftime('%Y-%m-%d')}; {environment.cores()} cores,"
        f" {json.dumps(about)};"
        f" load before {load:.1f}. A stage is `dvc repro --single-item STAGE`, which is half a"
        " second more than the stage; memory is of its largest process.",
        "",
        "| | wall, s | CPU, s | memory, GiB |",
        "|---|---|---|---|",
        *(f"| {name} | {t.wall:.1f} | {t.cpu:.1f} | {t.memory:.2f} |" for name, t in rows.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
