"""Omniboard, seen by a browser: the list, a chart, an artifact; this machine only; no deleting."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest

from ijepa import config as configs
from ijepa.tracking import journal, mongo, omniboard, process, runs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
# where the pictures go; docs/images when they are to be made anew
CONFIG = configs.load(ROOT / "params.yaml")
SHOTS = os.environ.get("IJEPA_TEST_SHOTS")


def four_stages() -> None:
    """One run of each stage, with numbers as a laptop's run has them."""
    page = ROOT / "reports" / "cifar10" / "index.html"

    def pretrain(run: journal.Run) -> float:
        for step in range(1, 3000, 10):
            run.log("train.loss", 0.9 * math.exp(-step / 1000) + 0.2, step)
            run.log("train.rankme", 20 + step / 50, step)
            run.log("train.flops", 5e10 * step, step)
            run.log("train.eta", 3000.0 - step, step)
        return 79.8

    def evaluate(run: journal.Run) -> float:
        for name, value in {"trained": 52.1, "random_init": 37.3, "pixels": 41.4}.items():
            run.log(f"eval.class.linear.{name}", value, 0)
            run.log(f"eval.class.knn.{name}", value - 8, 0)
        return 52.1

    for stage, body in (
        ("prepare", lambda run: 25000.0),
        ("pretrain", pretrain),
        ("evaluate", evaluate),
        ("report", lambda run: run.artifact(page)),
    ):
        journal.record(stage, CONFIG, body, data="5f1c" * 16)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    home = tmp_path / "home"
    home.mkdir()
    omniboard.install(ROOT / ".ijepa")  # once a checkout
    (home / "omniboard").symlink_to(ROOT / ".ijepa" / "omniboard")
    monkeypatch.setenv("IJEPA_HOME", str(home))
    monkeypatch.delenv("IJEPA_MONGO_URL", raising=False)
    yield home
    mongo.stop(home)


@pytest.fixture
def page(home: Path) -> Iterator[tuple[str, int]]:
    """The address of an Omniboard that shows four runs, and the process id of its node."""
    four_stages()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ijepa", "omniboard", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith(f"Omniboard: http://127.0.0.1:{port}/"), line
    child = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    node = int(child.read_text().split()[0])
    yield line.split()[1], node
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 143
    server.stdout.close()
    assert process.mark(node) is None  # no orphan


def test_this_machine_only_reading_only_and_no_password_to_see(
    home: Path, page: tuple[str, int]
) -> None:
    url, node = page
    port = int(url.rstrip("/").rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]  # 127.0.0.1, and nothing else
    password = mongo.reader_url(home).split(":")[2].split("@")[0]
    assert password.encode() not in Path(f"/proc/{node}/cmdline").read_bytes()
    run = runs.listing(home)[0].id
    request = urllib.request.Request(f"{url}sacred/api/v1/Runs/{run}", method="DELETE")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 500
    assert b"not authorized" in refused.value.read()
    refused.value.close()
    reader: pymongo.MongoClient[dict[str, int]] = pymongo.MongoClient(mongo.reader_url(home))
    with reader:
        assert reader.ijepa.runs.count_documents({}) == 4


def test_a_browser_sees_the_runs_the_loss_and_what_a_run_leads_to(
    home: Path, page: tuple[str, int], tmp_path: Path
) -> None:
    chromium = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    if not Path(chromium).is_file():
        pytest.skip(f"{chromium} is missing; CHROMIUM names another")
    script = ROOT / "tests" / "omniboard_shots.cjs"
    if subprocess.run(["node", "-e", "require('puppeteer-core')"], capture_output=True).returncode:
        pytest.skip(
            "puppeteer-core is missing: npm install it anywhere, NODE_PATH=.../node_modules"
        )
    time.sleep(1)
    shots = SHOTS or str(tmp_path)
    done = subprocess.run(
        ["node", script, page[0], shots], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["failed"] == []
    assert seen["errors"] == []
    cells = [row.split(" | ") for row in seen["rows"]]
    stages = [row[2] for row in cells]
    assert stages == [f"ijepa.{name}" for name in ("report", "evaluate", "pretrain", "prepare")]
    wanted = ["Data set", "Objective", "Mask", "Target scale", "Headline", "Trained %",
              "Random init %", "Loss"]  # fmt: skip
    assert [header for header in seen["headers"] if header in wanted] == wanted
    assert not [header for header in seen["headers"] if header.startswith("C ")]
    assert {"class linear", "52.1", "37.3"} <= set(cells[1])
    assert all("25000" not in row for row in cells)  # images in no column of accuracies
    assert seen["ticked"] == ["train.loss"]
    assert seen["lines"] == 1
    run = {record.stage: str(record.id) for record in runs.listing(home)}
    assert f"report {run['report']}" in seen["links"]["report"]
    assert "I-JEPA on cifar10" in seen["links"]["report"]
    assert run["pretrain"] in seen["links"]["commit"]
    assert f"prepared by prepare {run['prepare']}" in seen["links"]["data"]
    for kind in ("report", "commit", "data"):
        assert run["pretrain"] in seen["links"][f"{kind}, and back"]
    for name in (
        "omniboard.png",
        "omniboard-metrics.png",
        "omniboard-artifact.png",
        "omniboard-390.png",
    ):
        assert Path(shots, name).stat().st_size > 20_000


def test_without_node_there_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="Omniboard needs node, which is not installed"):
        omniboard.install(tmp_path)
