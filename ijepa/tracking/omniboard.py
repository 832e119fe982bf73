"""Show the runs in Omniboard, a web page: on this machine only, by a user who can only read."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files, launch
from ijepa.tracking import links, mongo, process, runs, sync
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
# Columns of ours: name -> path in the document of a run (tracking/document.py). None is a metric
# column of Omniboard's own: those join every series of every run for each look at the list.
FIELDS = {
    "Data set": "config.params.data.name",
    "Objective": "config.params.objective.name",
    "Mask": "config.params.mask.name",
    "Target scale": "config.params.mask.target_scale",
    "Headline": "info.headline.of",
    "Trained %": "info.headline.trained",
    "Random init %": "info.headline.random_init",
    "Pixels %": "info.headline.pixels",
    "Loss": "info.last.train_loss",
    "RankMe": "info.last.train_rankme",
    "Seed": "config.seed",
    "Experiment": "config.experiment",
    "Commit": "config.commit",
    "Dirty": "info.git.dirty",
    "Epochs": "config.params.train.epochs",
    "Context scale": "config.params.mask.context_scale",
    "Width": "config.params.model.width",
    "Depth": "config.params.model.depth",
    "Data hash": "config.data",
    "Signature": "config.signature",
}
# What a first visit shows, and the widths in pixels: a screen of 1280 has the first thirteen.
# Otherwise Omniboard's own columns come first, and ours are three screens to the right.
SHOWN = {"_id": 125, "experiment_name": 125, "status": 105, "Data set": 80, "Objective": 90,
         "Mask": 100, "Target scale": 105, "Headline": 105, "Trained %": 85, "Random init %": 110,
         "Loss": 75, "RankMe": 75, "Seed": 60, "start_time": 150, "duration": 85,
         "Experiment": 150, "Commit": 100, "Dirty": 70, "Pixels %": 80, "Epochs": 75,
         "Context scale": 110, "Width": 70, "Depth": 70}  # fmt: skip
HIDDEN = ("Data hash", "Signature", "result", "hostname", "command", "heartbeat", "resources",
          "stop_time", "format", "tags", "notes",
          *(f"c_{key}" for key in runs.CONFIG))  # fmt: skip
_JOINED = tuple(  # what an earlier version made
    {"name": name, "metric_name": metric}
    for name, metric in (
        ("Loss", "train.loss"),
        ("RankMe", "train.rankme"),
        ("Linear top-1", "eval.class.linear.trained"),
        ("kNN top-1", "eval.class.knn.trained"),
    )
)
CHARTED = ("train.loss",)  # what a chart draws until a person ticks more


def serve(port: int = 9000) -> int:
    """Start the database and Omniboard, say its address, and go on until Ctrl-C.

    Raises:
        ValueError: node or npm is missing, or the database cannot be used.
    """
    home = environment.home()
    program = install(home)
    before = _stamps(home)
    _say(f"sending what MongoDB lacks of {len(before)} runs ...")
    try:
        for line in sync.sync(home, patient=True).problems:
            print(line, file=sys.stderr)
        prepare(home)
        uri = mongo.reader_url(home)
    except UnavailableError as error:
        raise ValueError(f"Omniboard needs the database: {error}") from None
    log = home / "omniboard" / "server.log"
    _say("starting the page ...")
    with launch.raising(), links.served(home) as pages:
        web = program.parent.parent / "web" / "build" / "index.html"
        arrange(web, f"http://127.0.0.1:{pages.server_port}")
        server = _start(program, uri, port, log)
        try:
            # the wanted port, or the next one when that is in use
            taken = process.port(server, log, rb"listening on port ", 60)
            if taken is None:
                raise ValueError(f"Omniboard did not start: see {log}")
            pages.board = f"http://127.0.0.1:{taken}/"
            about = "this machine only, read-only; Ctrl-C ends it"
            print(f"Omniboard: {pages.board} ({about})", flush=True)
            _watch(server, home, before)
        except KeyboardInterrupt:
            print("stopped")
        finally:
            server.terminate()
            server.wait()
    return 0


def _say(text: str) -> None:
    print(f"Omniboard: {text}", file=sys.stderr, flush=True)


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
        "omniboard.custom.columns": {n: {"config_path": path} for n, path in FIELDS.items()},
    }
    with mongo.session(home, patient=True) as database:
        database["omniboard.metric.columns"].delete_many({"$or": list(_JOINED)})
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


def arrange(page: Path, place: str) -> None:
    """Let the page arrange its columns and charts at a person's first visit, and link its runs.

    The page keeps columns and charts in the browser, where a person's changes stay until ours are
    others. ``place`` is the address of the links' server.
    """
    names = FIELDS | {f"c_{key}": f"config.{key}" for key in runs.CONFIG} | {
        "experiment_name": "experiment.name", "hostname": "host.hostname",
        "tags": "omniboard.tags", "notes": "omniboard.notes",
    }  # fmt: skip
    columns = {
        "columnOrder": list(SHOWN),
        "columnWidths": SHOWN | dict.fromkeys(HIDDEN, 150),
        "columnNameMap": names,
        "dropdownOptions": [
            {"label": name.strip("_").replace("_", " "), "value": name, "selected": name in SHOWN}
            for name in (*SHOWN, *HIDDEN)
        ],
        "metricAndCustomColumns": [{"name": n, "value": path} for n, path in FIELDS.items()],
    }
    charts = {
        "metricNameOptions": [{"label": n, "value": n, "selected": True} for n in CHARTED],
    }
    kept = {
        "default|RunsTable|1": json.dumps(columns),
        # Omniboard means its database's key here, and forgets to pass it
        "undefined|MetricsPlotView|default": json.dumps(charts),
    }
    version = hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:12]
    script = (
        f'<script id="ijepa">if(localStorage.ijepa!=="{version}")'
        f'Object.assign(localStorage,{json.dumps(kept)},{{ijepa:"{version}"}});'
        f"const PLACE={json.dumps(place)},KINDS={json.dumps(links.KINDS[::-1])};"
        f"{links.BAR}</script>"
    )
    html = re.sub(r'<script id="ijepa">.*?</script>', "", page.read_text(), flags=re.DOTALL)
    page.write_text(html.replace('<div id="root">', f'{script}<div id="root">', 1))


def _stamps(home: Path) -> dict[int, Any]:
    """Run -> what changes whenever the journal writes to it; of a run that goes on, each look."""
    stamps: dict[int, Any] = {}
    for folder in runs.folders(home):
        told = [(path.name, path.stat().st_mtime_ns) for path in sorted(folder.glob("*"))
                if path.name != ".sync"]  # fmt: skip
        going = b'"status": "RUNNING"' in _bytes(folder / "run.json")
        stamps[int(folder.name)] = (told, time.monotonic() if going else None)
    return stamps


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _watch(server: subprocess.Popen[bytes], home: Path, sent: dict[int, Any]) -> None:
    """Keep the database up to the journal while the page is up; ``sent`` is how that was."""
    while True:
        try:
            server.wait(REFRESH)
        except subprocess.TimeoutExpired:
            now = _stamps(home)
            try:
                if new := [run for run, stamp in now.items() if stamp != sent.get(run)]:
                    done = sync.sync(home, new, patient=True)
                    now = sent if done.problems else now
                sent = now
            except UnavailableError as error:
                print(f"note: {error}", file=sys.stderr)
        else:
            raise ValueError(f"Omniboard ended: see {home / 'omniboard' / 'server.log'}")
