"""Show the runs in Omniboard, a web page: on this machine only, by a user who can only read."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files, launch
from ijepa.tracking import mongo, process, runs, sync
from ijepa.tracking.mongo import UnavailableError

NODE = Path(__file__).parent / "node"  # the pinned npm package, and what keeps it on loopback
REFRESH = 30.0  # seconds between syncs while the page is up

# The page writes these four when they are missing, which its user may not: so they are there.
SETTINGS = {
    "timezone": "Etc/UTC",
    "auto_refresh_interval": 30,
    "initial_fetch_size": 50,
    "row_height": 40,
}
# Columns of ours: name -> metric, and name -> path in the document of a run
METRICS = {
    "Loss": "train.loss",
    "RankMe": "train.rankme",
    "Linear top-1": "eval.class.linear.trained",
    "kNN top-1": "eval.class.knn.trained",
}
FIELDS = {
    "Data set": "config.params.data.name",
    "Mask": "config.params.mask.name",
    "Target scale": "config.params.mask.target_scale",
    "Context scale": "config.params.mask.context_scale",
    "Objective": "config.params.objective.name",
    "Width": "config.params.model.width",
    "Depth": "config.params.model.depth",
    "Epochs": "config.params.train.epochs",
    "Dirty": "info.git.dirty",
}
# What a first visit shows, and the widths in pixels. Otherwise Omniboard's own columns come first
# and ours are three screens to the right. c_: the top level of the configuration.
SHOWN = {"_id": 130, "experiment_name": 130, "status": 110, "start_time": 150, "duration": 90,
         "result": 90, "Loss": 90, "RankMe": 90, "Linear top-1": 100, "kNN top-1": 90,
         "c_seed": 70, "c_experiment": 140, "Data set": 90, "Target scale": 110, "Epochs": 70,
         "Depth": 70, "Width": 70, "c_commit": 100, "Dirty": 70, "c_signature": 110}  # fmt: skip
HIDDEN = ("hostname", "command", "heartbeat", "resources", "stop_time", "format",
          "tags", "notes", "c_stage", "c_data", "c_params", "Mask", "Context scale",
          "Objective")  # fmt: skip


def serve(port: int = 9000) -> int:
    """Start the database and Omniboard, say its address, and go on until Ctrl-C.

    Raises:
        ValueError: node or npm is missing, or the database cannot be used.
    """
    home = environment.home()
    try:
        sync.sync(home)
        prepare(home)
        uri = mongo.reader_url(home)
    except UnavailableError as error:
        raise ValueError(f"Omniboard needs the database: {error}") from None
    program = install(home)
    arrange(program.parent.parent / "web" / "build" / "index.html")
    log = home / "omniboard" / "server.log"
    with launch.raising():
        server = _start(program, uri, port, log)
        try:
            # the wanted port, or the next one when that is in use
            taken = process.port(server, log, rb"listening on port ", 60)
            if taken is None:
                raise ValueError(f"Omniboard did not start: see {log}")
            about = "this machine only, read-only; Ctrl-C ends it"
            print(f"Omniboard: http://127.0.0.1:{taken}/ ({about})", flush=True)
            _watch(server, home)
        except KeyboardInterrupt:
            print("stopped")
        finally:
            server.terminate()
            server.wait()
    return 0


def _start(program: Path, uri: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            ["node", "--no-deprecation", "--require", NODE / "loopback.cjs", program],
            # the address holds a password: the environment is not shown to other users, argv is
            env={**os.environ, "MONGO_URI": uri, "PORT": str(port), "NODE_ENV": "production"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C comes to us, and we end it
            preexec_fn=launch.die_with_parent,
        )


def prepare(home: Path) -> None:
    """Put settings and columns into the database; those that a person changed stay.

    Raises:
        UnavailableError: see ``mongo.connect``.
    """
    wanted: dict[str, dict[str, dict[str, Any]]] = {
        "omniboard.settings": {name: {"value": value} for name, value in SETTINGS.items()},
        "omniboard.metric.columns": {
            name: {"metric_name": metric, "extrema": "last"} for name, metric in METRICS.items()
        },
        "omniboard.custom.columns": {n: {"config_path": path} for n, path in FIELDS.items()},
    }
    with mongo.session(home) as database:
        for collection, documents in wanted.items():
            for name, values in documents.items():
                change = {"$setOnInsert": values}
                database[collection].update_one({"name": name}, change, upsert=True)


def install(home: Path) -> Path:
    """Install the pinned Omniboard under ``home`` unless it is there; the program that serves it.

    Raises:
        ValueError: node or npm is missing, or npm fails.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise ValueError(
                f"Omniboard needs {program}, which is not installed (Debian: apt install nodejs"
                " npm); `python -m ijepa runs list` works without"
            )
    folder = home / "omniboard"
    folder.mkdir(parents=True, exist_ok=True)
    lock = NODE / "package-lock.json"
    wanted = files.sha256(lock)
    stamp = folder / "installed"
    with mongo.locked(folder / "lock", 900):
        if not stamp.is_file() or stamp.read_text() != wanted:
            print("installing Omniboard, once: 800 npm packages, a few minutes", file=sys.stderr)
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(NODE / name, folder / name)
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
                cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                lines = done.stderr.strip().splitlines() or ["no message"]
                raise ValueError(f"npm ci in {folder} failed: {lines[-1]}")
            stamp.write_text(wanted)
    return folder / "node_modules" / "omniboard" / "dist" / "index.js"


def arrange(page: Path) -> None:
    """Let the page arrange its columns at a person's first visit: it keeps them in the browser."""
    names = {f"c_{key}": f"config.{key}" for key in runs.CONFIG} | FIELDS | {
        "experiment_name": "experiment.name", "hostname": "host.hostname",
        "tags": "omniboard.tags", "notes": "omniboard.notes",
    }  # fmt: skip
    state = {
        "columnOrder": list(SHOWN),
        "columnWidths": SHOWN | dict.fromkeys(HIDDEN, 150),
        "columnNameMap": names,
        "dropdownOptions": [
            {"label": name.strip("_").replace("_", " "), "value": name, "selected": name in SHOWN}
            for name in (*SHOWN, *HIDDEN)
        ],
        "metricAndCustomColumns": [{"name": n, "value": n} for n in METRICS]
        + [{"name": n, "value": path} for n, path in FIELDS.items()],
    }
    key = "default|RunsTable|1"
    script = (
        f'<script id="ijepa">localStorage[{json.dumps(key)}]'
        f"||=JSON.stringify({json.dumps(state)})</script>"
    )
    html = re.sub(r'<script id="ijepa">.*?</script>', "", page.read_text(), flags=re.DOTALL)
    page.write_text(html.replace('<div id="root">', f'{script}<div id="root">', 1))


def _watch(server: subprocess.Popen[bytes], home: Path) -> None:
    """Keep the database up to the journal while the page is up."""
    while True:
        try:
            server.wait(REFRESH)
        except subprocess.TimeoutExpired:
            try:
                sync.sync(home)
            except UnavailableError as error:
                print(f"note: {error}", file=sys.stderr)
        else:
            raise ValueError(f"Omniboard ended: see {home / 'omniboard' / 'server.log'}")
