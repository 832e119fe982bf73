"""What a hundred linear heads cost beside one, with and without extracting the features.

``python benchmarks/probes.py``: random images, the encoder of ``params.yaml`` as it starts. In
each of ``--rounds`` rounds the features are extracted and the probe is trained in three ways: one
head; a grid of 100 heads at once, as ``ijepa.probes.linear`` does; and the 100 heads one after the
other with torch.optim.SGD, as a plain script would (a few are trained, the others counted as
equal). Ratios are of one round; on a busy machine CPU seconds say more than the clock.
"""

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ijepa import config as configs
from ijepa.backbones import Backbone
from ijepa.backbones import ijepa as ours
from ijepa.model import vit
from ijepa.probes import Features, linear
from ijepa.runtime import environment

HEADS = 100  # two norms, five learning rates, ten weight decays
PLAIN = 2  # heads that the plain loop really trains


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    config, hardware = configs.load(), environment.hardware()
    torch.set_num_threads(hardware.threads)
    network = vit.create(config.data.image_size, config.model, 0)
    backbone, last = ours.of(network, "fresh", "fresh"), config.evaluate.last_layers
    size = backbone.image_size
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (given.images, 3, size, size), dtype=np.uint8))
    labels = rng.integers(0, given.classes, given.images)
    rounds = [one_round(backbone, last, images, labels, given.epochs) for _ in range(given.rounds)]
    for clock, name in enumerate(("wall", "CPU")):
        times = {what: [r[what][clock] for r in rounds] for what in rounds[0]}
        for what, values in times.items():
            print(f"{name}, {what}: {spread(values)} s")
        extract, one, many, plain = times.values()
        ratios = {
            "100 heads / one, training alone": [m / o for m, o in zip(many, one, strict=True)],
            "100 heads / one, with extraction (aim: at most 2)": [
                (e + m) / (e + o) for e, m, o in zip(extract, many, one, strict=True)
            ],
            "plain loop / 100 heads at once": [p / m for p, m in zip(plain, many, strict=True)],
        }
        for what, values in ratios.items():
            print(f"{name}, {what}: {spread(values)}")
        rate = [HEADS * given.epochs * given.images / seconds / 1e6 for seconds in many]
        print(f"{name}, million images x heads a second: {spread(rate)}")
    with Path("/proc/cpuinfo").open() as file:
        model = next((x.partition(":")[2].strip() for x in file if x.startswith("model name")), "")
    print(
        f"{given.images} images of {size} px, {last} x {backbone.width} features,"
        f" {given.epochs} epochs, {hardware.device}, {hardware.threads} threads, {model};"
        f" load at the end {os.getloadavg()[0]:.1f}"
    )


def spread(values: list[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.2f} ({low:.2f} to {high:.2f}, n = {len(values)})"


def one_round(
    backbone: Backbone, last: int, images: torch.Tensor, labels: np.ndarray, epochs: int
) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each part."""
    device = environment.hardware().device
    found: list[np.ndarray] = []

    def extract() -> None:
        for batch in images.split(64):
            layers = backbone.layers(batch.to(device), last)
            found.append(torch.cat([t.mean(1) for t in layers], 1).half().cpu().numpy())

    times = {"extraction": timed(extract)}
    every = np.concatenate(found)
    cuts = np.split(np.arange(len(every)), [round(0.9 * len(every))])
    train, held_out = (Features({"wide": every[rows]}, {"class": labels[rows]}) for rows in cuts)

    def heads(options: linear.Options) -> Callable[[], object]:
        return lambda: linear.fit_score(train, held_out, held_out, options, 0, device)

    times["one head"] = timed(heads(grid(("batch",), 1, 1, epochs)))
    times["100 heads at once"] = timed(heads(grid(("batch", "none"), 5, 10, epochs)))
    inputs = torch.from_numpy(train.choices["wide"].astype(np.float32)).to(device)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    target = torch.from_numpy(train.labels["class"]).to(device)
    wall, cpu = timed(lambda: plain_loop(inputs, target, epochs))
    scale = HEADS / PLAIN
    return times | {"100 heads one by one, plain SGD": (scale * wall, scale * cpu)}


def grid(norms: tuple[str, ...], rates: int, decays: int, epochs: int) -> linear.Options:
    return linear.Options(
        norm=norms,
        lr=tuple(np.geomspace(0.3, 0.03, rates).tolist()),
        weight_decay=tuple(np.geomspace(1e-4, 1e-1, decays).tolist()),
        epochs=epochs,
        batch_size=512,
    )


def plain_loop(inputs: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    batch_size = min(512, math.ceil(len(inputs) / 32))
    for _ in range(PLAIN):
        head = nn.Linear(inputs.shape[1], int(labels.max()) + 1).to(inputs.device)
        optimizer = torch.optim.SGD(head.parameters(), 0.1, 0.9, weight_decay=1e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs)).split(batch_size):
                rows = rows.to(inputs.device)
                loss = nn.functional.cross_entropy(head(inputs[rows]), labels[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    if environment.hardware().device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
