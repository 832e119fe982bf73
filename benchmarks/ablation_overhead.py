"""What ``ijepa ablate`` costs beyond training: seconds for each run, and for each known run.

``python benchmarks/ablation_overhead.py`` in a checkout without changes. In a clone of it, runs at
scale smoke are timed twice, in turn: as jobs of the runner, and as their two stages by hand in a
workspace that has the data. The difference is the overhead. On a busy machine the CPU seconds
(of all processes, children included) say more than the wall clock.
"""

import argparse
import copy
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ijepa import presets
from ijepa.runtime import files

CELLS = 64  # of the table whose runs are all known


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        report("overhead of a run", *bench.overheads(runs), target=4.0)
        report("a known run", *bench.known(), target=0.1)
    with Path("/proc/cpuinfo").open() as file:
        model = next((x.partition(":")[2].strip() for x in file if x.startswith("model name")), "")
    load = os.getloadavg()[0]
    print(f"{len(os.sched_getaffinity(0))} cores, {model}; load at the end {load:.1f}")


def report(what: str, wall: Sequence[float], cpu: Sequence[float], target: float) -> None:
    for name, values in (("wall", wall), ("CPU", cpu)):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(
            f"{what}, {name}: {middle:.3f} s ({low:.3f} to {high:.3f}, n = {len(values)});"
            f" {middle / target:.2f} of the {target:g} s aimed at"
        )


class Bench:
    """A clone of this checkout that has run one cell of a table."""

    def __init__(self, folder: Path) -> None:
        self.clone, self.hand = folder / "clone", folder / "hand"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("IJEPA_", "DVC_"))}
        self.env |= {"IJEPA_MONGO_URL": "off", "IJEPA_THREADS": "1", "OMP_NUM_THREADS": "1"}
        run(["git", "clone", "-q", str(Path.cwd()), str(self.clone)], folder, self.env)
        write_table(self.clone, "one", [1])
        write_table(self.clone, "many", [1 + i / CELLS for i in range(CELLS)])
        run(["git", "add", "-A"], self.clone, self.env)
        person = ("-c", "user.name=b", "-c", "user.email=b@b")
        run(["git", *person, "commit", "-q", "-m", "tables"], self.clone, self.env)
        self.ablate("one", "--only", "v0")
        home = self.clone / ".ijepa/ablations"
        self.plan = json.loads(next(home.glob("one.smoke.runs.*.json")).read_text())

    def ablate(self, *words: str) -> tuple[float, float]:
        command = [sys.executable, "-m", "ijepa", "ablate", *words, "--scale", "smoke"]
        return run(command, self.clone, self.env)

    def overheads(self, runs: int) -> tuple[list[float], list[float]]:
        """Seconds of a job beyond its stages, wall and CPU, for each of several seeds."""
        (model,) = self.plan["jobs"]
        jobs = []
        for seed in range(1000, 1000 + runs):
            changes = {**model["changes"], "seed": seed}
            files = {k: str(self.clone / f".ijepa/{seed}.{k}") for k in ("result", "log")}
            jobs.append({**model, **files, "name": f"overhead-{seed}", "changes": changes})
        file = self.clone / ".ijepa/overhead.json"
        file.write_text(json.dumps({**self.plan, "jobs": jobs}))
        run(["git", "clone", "-q", str(self.clone), str(self.hand)], self.clone, self.env)
        self.set(model["changes"])
        run([sys.executable, "-m", "ijepa.prepare"], self.hand, self.env)
        wall, cpu = [], []
        for index, job in enumerate(jobs):
            whole = run(
                [sys.executable, "-m", "ijepa.study.job", str(file), str(index)],
                self.clone, self.env,
            )  # fmt: skip
            shutil.rmtree(self.hand / "out", ignore_errors=True)
            self.set(job["changes"])
            stages = [
                run([sys.executable, "-m", f"ijepa.{stage}"], self.hand, self.env)
                for stage in ("pretrain", "evaluate")
            ]
            wall.append(whole[0] - sum(s[0] for s in stages))
            cpu.append(whole[1] - sum(s[1] for s in stages))
            print(
                f"seed {job['changes']['seed']}: job {whole[0]:.1f} s, CPU {whole[1]:.1f} s;"
                f" beyond its stages {wall[-1]:.1f} s, CPU {cpu[-1]:.1f} s",
                flush=True,
            )
        return wall, cpu

    def set(self, changes: Mapping[str, Any]) -> None:
        yaml = YAML(typ="safe", pure=True)
        tree = copy.deepcopy(files.read_yaml(self.clone / "params.yaml"))
        presets.apply(tree, changes, "benchmark")
        with (self.hand / "params.yaml").open("w") as file:
            yaml.dump(tree, file)

    def known(self, times: int = 3) -> tuple[list[float], list[float]]:
        """Seconds of each further cell of a table whose runs are all known, wall and CPU."""
        results = self.clone / ".ijepa/ablations/results"
        made = json.loads(next(results.glob("ijepa-*.json")).read_text())
        code = (
            "from ijepa.study import experiment as e, plan\n"
            "runs = plan.resolve(e.load('many'), e.load_scale('smoke'), plan.committed_params())\n"
            "for run in runs: print(run.name, run.signature, run.code)"
        )
        output = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.clone, env=self.env, check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        for line in output.splitlines():
            name, signature, hashed = line.split()
            content = {**made, "signature": signature, "code": hashed}
            (results / f"{name}.json").write_text(json.dumps(content))
        cells = len(output.splitlines())
        wall, cpu = [], []
        for _ in range(times):
            many, one = self.ablate("many"), self.ablate("one", "--only", "v0")
            wall.append((many[0] - one[0]) / (cells - 1))
            cpu.append((many[1] - one[1]) / (cells - 1))
        return wall, cpu


def write_table(clone: Path, name: str, epochs: Sequence[float]) -> None:
    """An experiment file: one variant for each number of epochs, and one more."""
    variants = {
        f"v{i}": {"label": str(i), "set": {"train.epochs": value}, "paper": None}
        for i, value in enumerate([*epochs, 9.0])
    }
    tree = {
        "title": name, "question": "How long does it take?", "table": None,
        "source": "Ours: a benchmark.", "metric": "class.linear.trained",
        "factor": ["train.epochs"], "seeds": [0, 1, 2, 3], "variants": variants,
        "claim": {"text": "None.", "by": "us", "best": "v0", "margin": 0},
    }  # fmt: skip
    (clone / f"experiments/{name}.yaml").write_text(json.dumps(tree))


def run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> tuple[float, float]:
    """Run a command; returns its seconds: wall, and CPU of all its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    wall = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
