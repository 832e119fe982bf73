"""The stage as a user runs it: processes, signals, kill -9, several ranks."""

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, params
from ruamel.yaml import YAML

from ijepa import views
from ijepa.evaluation import intervals
from ijepa.model import vit
from ijepa.probes import Features, linear
from ijepa.store.read import Store

pytestmark = pytest.mark.slow
OUTS = ("encoder.safetensors", "history.csv", "pretrain.json")


class Stage:
    """A folder with parameters and data in which ``ijepa.pretrain`` runs."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        shutil.copytree(store, folder / "data" / "prepared")
        self.write()

    def write(self, **change: Any) -> None:
        with (self.folder / "params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(params(**{**TINY, **change}), file)

    def start(self, home: str = "home", **variables: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "IJEPA_HOME": str(self.folder / home),
            "IJEPA_MONGO_URL": "off",
            "IJEPA_CHECKPOINT_SECONDS": "1",
            "IJEPA_THREADS": "1",
            **variables,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "ijepa.pretrain"],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self, home: str = "home", **variables: str) -> str:
        process = self.start(home, **variables)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def hash(self) -> str:
        return hashlib.sha256(
            b"".join((self.folder / "out" / name).read_bytes() for name in OUTS)
        ).hexdigest()

    def processes(self) -> list[int]:
        """Living processes that run in this folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    inside = (entry / "cwd").readlink() == self.folder
                    gone = "\nState:\tZ" in (entry / "status").read_text()
                except OSError:  # it ended while we looked
                    continue
                if inside and not gone:
                    found.append(int(entry.name))
        return found

    def wait_until_empty(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.processes():
            assert time.monotonic() < deadline, f"orphans: {self.processes()}"
            time.sleep(0.1)


def wait_for(process: subprocess.Popen[str], words: str) -> str:
    """Read the stage's output up to a line with the words."""
    assert process.stdout is not None
    seen = ""
    for text in process.stdout:
        seen += text
        if words in text:
            return seen
    raise AssertionError(seen)


@pytest.fixture
def stage(tmp_path: Path, store_path: Path) -> Stage:
    return Stage(tmp_path.resolve(), store_path)


def wait_for_step(process: subprocess.Popen[str], share: float) -> None:
    """Read the stage's output until it has trained that share of all steps, beyond its start."""
    first = wait_for(process, "from step")
    start, steps = map(int, re.findall(r"from step (\d+) of (\d+)", first)[0])
    assert process.stdout is not None
    for text in process.stdout:
        found = re.search(r"step +(\d+)", text)
        if found and int(found[1]) >= start + share * steps:
            return
    raise AssertionError("it ended before it could be killed")


def test_killed_at_ten_random_moments_equals_uninterrupted(stage: Stage) -> None:
    """Moments of training, not of the clock: a busy machine must not change what is tested."""
    stage.write(**{"train.epochs": 120})
    stage.finish("straight")
    straight, rng = stage.hash(), random.Random(0)
    shutil.rmtree(stage.folder / "out")
    for kill in range(10):
        process = stage.start("killed")
        if kill:
            wait_for_step(process, rng.uniform(0.02, 0.07))
        time.sleep(rng.uniform(0, 0.5))  # the first: while it is starting
        os.killpg(process.pid, signal.SIGKILL)  # the stage; its children die with it
        process.communicate()
        stage.wait_until_empty()
    assert not list((stage.folder / "out").glob("*")), "killed before its end each time"
    output = stage.finish("killed")
    assert stage.hash() == straight
    assert "from step 0 " not in output


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_no_orphan(
    stage: Stage, number: int, status: int, processes: str
) -> None:
    stage.write(**{"train.epochs": 5000})
    process = stage.start(IJEPA_CHECKPOINT_SECONDS="1000", IJEPA_PROCESSES=processes)
    wait_for(process, "step    4")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    ends = [text for text in output.splitlines() if not text.startswith("step")]
    assert re.fullmatch(r"error: stopped by a signal; saved step \d+", ends[0]), output
    assert ends[1:] == (["stopped by Ctrl-C"] if number == signal.SIGINT else []), output
    stage.wait_until_empty(5)
    assert list((stage.folder / "home" / "checkpoints").glob("*/step-*")), output


def test_ranks_of_the_surroundings_do_not_reach_the_stage(stage: Stage) -> None:
    """A pod's operator says two ranks: it neither waits for the other nor fails."""
    stage.finish("alone")
    expected = stage.hash()
    for rank, world in (("0", "2"), ("1", "1")):
        stage.finish(
            f"home{rank}", RANK=rank, WORLD_SIZE=world, LOCAL_RANK="1", MASTER_ADDR="127.0.0.1",
            MASTER_PORT="29500",
        )  # fmt: skip
        assert stage.hash() == expected


def test_a_rank_that_is_killed_is_named(stage: Stage) -> None:
    stage.write(**{"train.epochs": 5000})
    process = stage.start(IJEPA_PROCESSES="2")
    wait_for(process, "step    4")
    (rank,) = [
        pid for pid in stage.processes()
        if b"_IJEPA_PLACE=1 2 " in Path(f"/proc/{pid}/environ").read_bytes()
    ]  # fmt: skip
    os.kill(rank, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert output.splitlines()[-1] == (
        "error: training: rank 1 ended by SIGKILL; its output is above"
    )
    stage.wait_until_empty(5)


def rows(folder: Path) -> list[dict[str, float]]:
    lines = [line.split(",") for line in (folder / "out" / "history.csv").read_text().splitlines()]
    # health is read in few rows
    return [
        {name: float(value) for name, value in zip(lines[0], line, strict=True) if value}
        for line in lines[1:]
    ]


def probe(folder: Path, store: Store) -> int:
    """How many test images a linear probe on the folder's encoder gets right."""
    encoder = vit.load(folder / "out" / "encoder.safetensors")

    def pooled(split: str) -> Features:
        images = store.splits[split]
        batch = torch.stack([views.centre(images[i], 16) for i in range(len(images))])
        with torch.no_grad():
            tokens = encoder(views.normalise(batch)).mean(1)
        return Features({"last": tokens.numpy().astype(np.float16)}, images.labels)

    train, test = pooled("train"), pooled("test")
    settings = {"norm": ("batch",), "lr": (0.1,), "weight_decay": (0.01,)}
    options = linear.Options(**settings, epochs=10, batch_size=512)
    result = linear.fit_score(train, [np.arange(48, 64)], test, options, 0, "cpu")["class"]
    return int((result.predictions == test.labels["class"]).sum())


def test_one_two_and_four_gloo_processes_train_the_same(stage: Stage, store: Store) -> None:
    histories, right = {}, {}
    for world in (1, 2, 4):
        stage.finish(f"home{world}", IJEPA_PROCESSES=str(world))
        histories[world] = rows(stage.folder)
        right[world] = probe(stage.folder, store)
    low, high = intervals.wilson(right[1], 32)
    assert right[1] / 32 > 0.6, "the probe has something to tell"
    assert all(low <= count / 32 <= high for count in right.values()), right
    for world in (2, 4):
        first, other = histories[1][0], histories[world][0]
        assert other["loss"] == pytest.approx(first["loss"], rel=1e-6)
        assert [r["context_ratio"] for r in histories[world]] == [
            r["context_ratio"] for r in histories[1]
        ]
        assert histories[world][-1]["loss"] == pytest.approx(histories[1][-1]["loss"], rel=1e-3)


@pytest.mark.parametrize(("objective", "worlds"), [("ijepa", (1, 2, 4)), ("ibot", (1, 2))])
def test_shards_give_the_same_bytes_on_any_number_of_processes(
    stage: Stage, objective: str, worlds: tuple[int, ...]
) -> None:
    """Also where a run is killed on so many and goes on with as many others."""
    stage.write(**{"train.shards": 4, "objective.name": objective, "train.epochs": 20})
    expected = set()
    for world in worlds:
        stage.finish(f"home{world}", IJEPA_PROCESSES=str(world))
        expected.add(stage.hash())
    assert len(expected) == 1
    rng = random.Random(1)
    for before, after in rng.sample(list(itertools.permutations(worlds, 2)), len(worlds) - 1):
        home = f"from{before}to{after}"
        process = stage.start(home, IJEPA_PROCESSES=str(before))
        wait_for_step(process, rng.uniform(0.1, 0.6))
        process.send_signal(signal.SIGTERM)
        process.communicate()
        output = stage.finish(home, IJEPA_PROCESSES=str(after))
        assert f"written with processes {before}, now {after}" in output
        assert {stage.hash()} == expected


def test_two_nodes_write_the_bytes_of_two_processes_and_record_once(stage: Stage) -> None:
    """Two "nodes" of a process each, in one folder, as README's recipe for Slurm starts them."""
    stage.write(**{"train.shards": 2})
    stage.finish("one", IJEPA_PROCESSES="2")
    expected = stage.hash()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"--nnodes=2 --master-addr=127.0.0.1 --master-port={free.getsockname()[1]}"
    nodes = [
        stage.start("two", IJEPA_TORCHRUN=f"{place} --node-rank={rank}", IJEPA_PROCESSES="1")
        for rank in (0, 1)
    ]
    outputs = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert stage.hash() == expected
    (record,) = (stage.folder / "two" / "runs").glob("[0-9]*/run.json")
    assert json.loads(record.read_text())["status"] == "COMPLETED"


def test_nodes_without_a_rank_are_refused(stage: Stage) -> None:
    process = stage.start(IJEPA_TORCHRUN="--nnodes=2 --rdzv-endpoint=127.0.0.1:1")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert output.strip().splitlines()[-1].startswith("error: IJEPA_TORCHRUN: ")


def test_a_batch_that_the_processes_do_not_divide_is_refused(stage: Stage) -> None:
    process = stage.start(IJEPA_PROCESSES="3")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert output.strip().splitlines() == [
        "error: IJEPA_PROCESSES: 3 does not divide params.yaml: train.batch_size 8"
    ]


def test_nan_on_one_rank_of_two_stops_both_with_the_reason_last(stage: Stage) -> None:
    """A learning rate without bound makes the second step's numbers infinite."""
    stage.write(**{"train.lr_start": 1e30, "train.lr": 1e30})
    process = stage.start(IJEPA_PROCESSES="2")
    output, _ = process.communicate()
    assert process.returncode == 1, output
    assert "the checkpoints are good" in output.strip().splitlines()[-1]
    (record,) = (stage.folder / "home" / "runs").glob("[0-9]*/run.json")
    assert json.loads(record.read_text())["status"] == "FAILED"
    stage.wait_until_empty(5)
