"""What Omniboard takes with many runs: to fill the database, to the first row, and while it idles.

``NODE_PATH=.../node_modules python benchmarks/omniboard.py``, where npm's puppeteer-core is, with
Chromium. Four small runs are recorded, one of each stage, and copied to ``--runs`` with ids and
uuids of their own; an embedded database of their own is filled, and a browser opens the page for a
minute. Then all of it again beside one busy process. Writes benchmarks/results/omniboard.md; with
``--short`` prints alone.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ijepa import config as configs
from ijepa.runtime import environment, files
from ijepa.tracking import journal, mongo, omniboard

OUT = Path("benchmarks/results/omniboard.md")
SCRIPT = Path(__file__).with_name("omniboard.cjs")
# as a run at scale laptop logs them: names, and how many points of each
TRAINED = {"loss": 100, "context_ratio": 100, "ema": 100, "eta": 100, "flops": 100,
           "flops_useful": 100, "images": 100, "images_per_second": 100, "lr": 100,
           "memory_gib": 100, "waiting": 100, "weight_decay": 100, "rankme": 4,
           "feature_std": 4}  # fmt: skip
AIMS = {"sync of all": 20.0, "first row": 5.0}  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--short", action="store_true", help="quiet alone, no file")
    arguments = parser.parse_args()
    installed = omniboard.install(environment.home()).parents[3]
    conditions, loads = {}, []
    for beside in ("quiet",) if arguments.short else ("quiet", "beside a busy process"):
        loads.append(os.getloadavg()[0])
        with tempfile.TemporaryDirectory() as folder, busy(beside != "quiet"):
            conditions[beside] = measured(Path(folder), arguments.runs, installed)
    text = table(conditions, arguments.runs, loads)
    print(text)
    if not arguments.short:
        OUT.write_text(text)


@contextmanager
def busy(wanted: bool) -> Iterator[None]:
    """One process that computes and never waits."""
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if wanted else None
    try:
        yield
    finally:
        if spinning is not None:
            spinning.kill()
            spinning.wait()


def plant(home: Path, count: int) -> None:
    """Fill a journal with ``count`` runs, a quarter of each stage."""
    os.environ |= {"IJEPA_HOME": str(home), "IJEPA_MONGO_URL": "off"}
    config = configs.load()
    page = home / "index.html"
    page.write_text("<h1>report</h1>" * 20_000)

    def pretrain(run: journal.Run) -> float:
        for name, points in TRAINED.items():
            for step in range(1, points + 1):
                run.log(f"train.{name}", 0.2 + 0.7 * math.exp(-step / 30), step)
        return 18.0

    def evaluate(run: journal.Run) -> float:
        for encoder in ("trained", "random_init", "pixels", "held_out"):
            for probe in ("linear", "knn"):
                run.log(f"eval.class.{probe}.{encoder}", 52.1, 0)
        return 52.1

    def prepare(run: journal.Run) -> float:
        run.log("train.images", 20_000, 0)
        return 20_000.0

    journal.record("prepare", config, prepare, data="5f1c" * 16)
    journal.record("pretrain", config, pretrain, data="5f1c" * 16)
    journal.record("evaluate", config, evaluate, data="5f1c" * 16)
    journal.record("report", config, lambda run: run.artifact(page))
    del os.environ["IJEPA_MONGO_URL"]
    recorded = sorted((home / "runs").glob("[0-9]*"))
    for number in range(count - len(recorded)):
        source = recorded[number % len(recorded)]
        copy = home / "runs" / str(int(source.name) + 1000 * (1 + number // len(recorded)))
        shutil.copytree(source, copy)
        run = json.loads((copy / "run.json").read_text())
        run["meta"]["uuid"] = uuid.uuid4().hex
        (copy / "run.json").write_text(json.dumps(run, sort_keys=True))
        files.write_sums(copy, [path.name for path in copy.iterdir() if path.name != files.SUMS])


def measured(home: Path, count: int, installed: Path) -> dict[str, float]:
    """What was done -> seconds; ``CPU`` ones are those of the minute in which the page idles."""
    plant(home, count)
    (home / "omniboard").symlink_to(installed)
    taken: dict[str, float] = {}
    try:
        mongo.connect(home).client.close()
        for name in ("sync of all", "sync of nothing new"):
            start = time.monotonic()
            subprocess.run([sys.executable, "-m", "ijepa", "runs", "sync"], check=True)
            taken[name] = time.monotonic() - start
        state = json.loads((home / "mongo" / "server.json").read_text())
        return taken | opened(psutil.Process(state["pid"]))
    finally:
        mongo.stop(home)


def opened(database: psutil.Process) -> dict[str, float]:
    """The page in a browser, and a minute of it."""
    start = time.monotonic()
    command = [sys.executable, "-m", "ijepa", "omniboard", "--port", "9470"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)  # fmt: skip
    assert server.stdout is not None
    try:
        taken, url = {}, ""
        for line in server.stdout:
            taken.setdefault("first line of `ijepa omniboard`", time.monotonic() - start)
            if line.startswith("Omniboard: http"):
                url = line.split()[1]
                break
        taken["its address"] = time.monotonic() - start
        whole = psutil.Process(server.pid)
        processes = {"database": [database], "page's server": whole.children(recursive=True),
                     "`ijepa omniboard`": [whole]}  # fmt: skip
        browser = subprocess.Popen(
            ["node", SCRIPT, url], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert browser.stdout is not None
        assert browser.stdin is not None
        taken |= json.loads(browser.stdout.readline())
        before = {name: cpu(group) for name, group in processes.items()}
        time.sleep(60)
        for name, group in processes.items():
            taken[f"{name}: CPU"] = cpu(group) - before[name]
        browser.stdin.close()
        browser.wait()
        return taken
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def table(conditions: dict[str, dict[str, float]], count: int, loads: list[float]) -> str:
    rows = {name: [str(AIMS.get(name, "")), *(f"{taken[name]:.1f}" for taken in
            conditions.values())] for name in next(iter(conditions.values()))}  # fmt: skip
    lines = [
        f"# Omniboard with {count} runs",
        "",
        f"`python benchmarks/omniboard.py`, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores,"
        f" load before each column {', '.join(f'{load:.1f}' for load in loads)}. Seconds; CPU: of"
        " the minute in which the page idles.",
        "",
        f"| | aim | {' | '.join(conditions)} |",
        "|---|---" * 1 + "|---" * len(conditions) + "|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
