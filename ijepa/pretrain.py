"""Stage 2: train the encoder. This process records the run; what trains is its child.

It needs no torch of its own, and does not load it where there is no GPU to count.
"""

import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa import preflight
from ijepa.config import Config
from ijepa.model import flops
from ijepa.runtime import environment, errors, files, launch
from ijepa.store.read import open_store
from ijepa.tracking import journal, runs
from ijepa.training import rows

LOOP = "ijepa.training.loop"
# FLOPs of a block on a batch of whole images from which on two threads that sleep beat one: 0.6
# times as fast at 0.13e9, equal at 0.5e9 to 1.1e9, 1.3 times at 1.8e9, 1.9 times at 6e9
_LONG = 1.2e9
OUTS = (
    Path("out/encoder.safetensors"),
    Path("out/history.csv"),
    Path("out/pretrain.json"),
    Path("out/context_encoder.safetensors"),
)


def main() -> int:
    """Check everything that can be checked, then train.

    Of several nodes the first records the run and writes its outputs; the others only train, in
    the same folder or in a copy of it.
    """
    if launch.node():
        return launch.run(LOOP, environment.hardware(), {}, lambda: None, nodes=True).status
    config = configs.load()
    store = open_store()
    hardware = with_threads(config, environment.hardware())
    configs.check_processes(config, hardware.processes)
    for note in preflight.training(config, store):
        print(errors.plain(f"note: {note}"), flush=True)
    journal.record(
        "pretrain",
        config,
        lambda run: pretrain(config, hardware, run),
        data=store.hash,
        outs=OUTS,
    )
    return 0


def with_threads(config: Config, hardware: environment.Hardware) -> environment.Hardware:
    """The threads that training computes with on a CPU.

    All cores where an operation is long. Threads sleep while they wait for each other, or one busy
    process would take most of their speed; but to wake up costs more than a short operation. So a
    small model leaves a core to its loader and to whatever else runs, and on two cores is as fast
    beside a busy process as without (benchmarks/results/cpu.md).
    """
    if environment.text("IJEPA_THREADS") != "0" or hardware.device != "cpu":
        return hardware
    model, images = config.model, config.train.batch_size / hardware.processes
    rows, columns = configs.grid(config)
    work = images * flops.block(model.width, model.mlp_ratio, rows * columns)
    if work > _LONG:
        return hardware
    return dataclasses.replace(hardware, threads=max(1, hardware.threads - 1))


def pretrain(config: Config, hardware: environment.Hardware, run: journal.Run) -> float:
    """Train in a child and record every row of the history; returns the final RankMe."""
    with tempfile.TemporaryDirectory() as folder:
        tail = Tail(Path(folder) / "rows.jsonl", run)
        variables = {
            rows.VARIABLE: str(tail.path),
            "IJEPA_THREADS": str(hardware.threads),
        }
        end = launch.run(LOOP, hardware, variables, tail.read, nodes=True)
        if tail.trail:  # of a run that was stopped too
            files.write_json(Path(folder) / runs.TRAIL, packed(tail.trail))
            run.artifact(Path(folder) / runs.TRAIL)
    if end.status:
        reason = tail.failed or f"training: {end}; its output is above"
        raise errors.Failure(reason, tail.status or 1)
    run.artifact(OUTS[1])
    return round(float(files.read_json(OUTS[2])["rankme"]), 2)


def packed(trail: Mapping[int, Mapping[str, str]]) -> dict[str, Any]:
    """The trail without a repetition of names: ``sums`` has 8 digits a name for each step."""
    names = list(next(iter(trail.values())))
    return {"names": names, "sums": {s: "".join(sums.values()) for s, sums in trail.items()}}


class Tail:
    """Reads the rows that rank 0 appends, and logs them."""

    def __init__(self, path: Path, run: journal.Run) -> None:
        self.path, self.run = path, run
        self.path.touch()
        self.position, self.failed, self.status = 0, "", 0
        self.trail: dict[int, dict[str, str]] = {}  # step -> weight -> checksum

    def read(self) -> None:
        """Log the whole lines that are new."""
        with self.path.open("rb") as file:
            file.seek(self.position)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.position += len(whole)
        for text in whole.splitlines():
            row = json.loads(text)
            if "failed" in row:
                self.failed, self.status = row["failed"], row["status"]
                continue
            if "trail" in row:
                self.trail[row["step"]] = row["trail"]
                continue
            if "numerics" in row or "cost" in row:  # the cost so far: a run may be stopped later
                self.run.info(**row)
                continue
            for name, value in row.items():
                if name != "step":
                    self.run.log(f"train.{name}", value, row["step"])


if __name__ == "__main__":
    sys.exit(errors.run(main))
