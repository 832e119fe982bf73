"""The training loop, one process of it: ``torchrun -m ijepa.train`` (``ijepa.pretrain`` starts it).

The loop knows only the objective. All randomness is a function of (seed, position), so a checkpoint
needs no generator state: objective, optimiser and progress are the whole state.
"""

import contextlib
import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ijepa import checkpoint, console, environment, launch, results, schedule, seeds, variants
from ijepa import config as configs
from ijepa import encoder as encoders
from ijepa.batches import Batch, Batches, centre, normalise
from ijepa.config import Config
from ijepa.diagnostics import health, verdict
from ijepa.store import Store, open_store

# the sections of params.yaml that pretraining depends on, as in dvc.yaml
SECTIONS = ("seed", "mask", "model", "objective", "train")
_HEALTH_IMAGES = 256


@dataclasses.dataclass
class Progress:
    """Where a run is: optimiser steps done, and images of the stream consumed."""

    step: int = 0
    images: int = 0


def train(config: Config, store: Store, device: torch.device, rank: int, world: int) -> None:
    """Train to the end, from the newest checkpoint if there is one, and write ``out/``."""
    images = store.splits["train"]
    batches = Batches(images, config, rank, world)
    objective = build(config, device)
    optimizer = make_optimizer(objective, config, device)
    model = DistributedDataParallel(objective) if world > 1 else objective
    progress, history, window = Progress(), list[dict[str, float]](), Window()

    folder = checkpoint.folder(environment.home(), identity(config), store.hash, checkpoint.code_hash())
    with checkpoint.locked(folder) if rank == 0 else contextlib.nullcontext():
        if world > 1:
            dist.barrier()  # nobody reads before rank 0 holds the folder
        if state := checkpoint.load(folder, device):
            objective.load_state_dict(state["objective"])
            optimizer.load_state_dict(state["optimizer"])
            progress, history = Progress(**state["progress"]), state["history"]
            window = Window(**state["window"])
            say(rank, f"resuming from step {progress.step} of {batches.steps} ({folder.name})")
        for row in history:
            emit(rank, row)

        probe = torch.stack([centre(images[i], config.data.image_size) for i in _health_ids(images, config)])
        steps, every = batches.steps, row_interval(batches.steps)
        save_every = environment.number("IJEPA_CHECKPOINT_SECONDS")
        stop, saved, clock = launch.StopRequest(), time.monotonic(), Clock(progress.images)

        def save() -> None:
            if rank == 0:
                checkpoint.save(folder, progress.step, {
                    "objective": objective.state_dict(), "optimizer": optimizer.state_dict(),
                    "progress": dataclasses.asdict(progress), "history": history,
                    "window": dataclasses.asdict(window),
                })  # fmt: skip

        for batch in stream(batches, progress, device):
            step = progress.step
            lr = schedule.learning_rate(config.train, step, steps)
            wd = schedule.weight_decay(config.train, step, steps)
            set_schedules(optimizer, lr, wd)

            optimizer.zero_grad(set_to_none=True)
            loss = forward_backward(model, batch, config, device)
            seen = batch.masks.context_valid.sum().item()
            loss, seen, stopping = agree(loss, seen, float(stop.requested), objective, device, world, step)

            optimizer.step()
            meters = objective.update((step + 1) / steps)
            progress.step, progress.images = step + 1, progress.images + config.train.batch_size
            window.add(loss, seen / (config.train.batch_size * objective.encoder.num_patches))

            if step == 0 or progress.step % every == 0 or progress.step == steps:
                row = {"step": progress.step, "images": progress.images, **window.means(),
                       "lr": lr, "weight_decay": wd, **meters,
                       **health(objective.encoder, probe.to(device))}  # fmt: skip
                history.append(row)
                emit(rank, row | clock.reading(progress.images, steps * config.train.batch_size))
                say(rank, line(row, steps, clock.reading(progress.images, steps * config.train.batch_size)))
                window = Window()
            if time.monotonic() - saved > save_every or stopping or progress.step == steps:
                save()
                saved = time.monotonic()
            if stopping and progress.step < steps:
                raise console.Failure(f"stopped by a signal at step {progress.step}; saved", 143)
    if rank == 0:
        write_outputs(config, store, objective, history)


def build(config: Config, device: torch.device) -> Any:
    """The objective of a run on its device."""
    family = variants.load("objectives", config.objective.name)
    objective = family.create(
        config.data.image_size, config.model, config.objective.options, config.seed
    )
    encoders.place(objective, device)
    return objective


def identity(config: Config) -> str:
    """The signature of what pretraining depends on."""
    tree = configs.as_tree(config)
    data = {name: tree["data"][name] for name in ("image_size", "train_fraction")}
    return configs.signature(config, SECTIONS) + json.dumps(data, sort_keys=True)


def make_optimizer(objective: nn.Module, config: Config, device: torch.device) -> torch.optim.AdamW:
    """AdamW without weight decay on biases and norms (as released; the paper does not say)."""
    params = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim > 1], "decays": True},
        {"params": [p for p in params if p.ndim <= 1], "decays": False},
    ]
    return torch.optim.AdamW(groups, lr=config.train.lr, betas=config.train.betas, fused=True)


def set_schedules(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Put this step's values into the optimiser's groups."""
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = lr, weight_decay if group["decays"] else 0.0


def stream(batches: Batches, progress: Progress, device: torch.device) -> Iterator[Batch]:
    """The batches from where the run is to its end."""
    size = batches.config.train.batch_size
    positions = range(progress.images, batches.steps * size, size)
    loader = DataLoader(
        batches,
        sampler=positions,
        batch_size=None,
        num_workers=environment.number("IJEPA_WORKERS"),
        pin_memory=device.type == "cuda",
        multiprocessing_context="forkserver" if environment.number("IJEPA_WORKERS") else None,
    )
    yield from loader


def forward_backward(model: nn.Module, batch: Batch, config: Config, device: torch.device) -> float:
    """The mean loss of this rank's share and its gradients, micro-batch by micro-batch."""
    share = len(batch.images)
    micro = environment.number("IJEPA_MICRO_BATCH") or share
    total = torch.zeros((), device=device)
    for start in range(0, share, micro):
        stop = min(start + micro, share)
        last = stop == share
        images = normalise(batch.images[start:stop].to(device, non_blocking=True))
        masks = batch.masks.rows(start, stop).to(device)
        sync = contextlib.nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()
        with sync:
            with torch.autocast(
                device.type, torch.bfloat16, enabled=config.train.precision == "bf16"
            ):
                loss, _ = model(images, masks)
            loss = loss * ((stop - start) / share)
            loss.backward()
        total += loss.detach()
    return total.item()


def agree(
    loss: float, seen: float, stop: float, objective: nn.Module, device: torch.device, world: int, step: int
) -> tuple[float, int, bool]:
    """Make the ranks' numbers one, and refuse an update that is not finite.

    Returns:
        The global loss, the number of context patches of the global batch, and whether any rank was
        asked to stop.

    Raises:
        Failure: the loss or a gradient is NaN or infinite; nothing was updated.
    """
    numbers = torch.tensor([loss / world, seen, stop], dtype=torch.float64, device=device)
    if world > 1:
        dist.all_reduce(numbers)
    loss, seen, stop = numbers.tolist()
    norm = nn.utils.get_total_norm([p.grad for p in objective.parameters() if p.grad is not None])
    if not np.isfinite(loss) or not torch.isfinite(norm):
        what = f"loss {loss:g}" if not np.isfinite(loss) else f"gradient norm {norm.item():g}"
        raise console.Failure(f"not finite at step {step + 1}: {what}; stopped before the update")
    return loss, int(seen), stop > 0


@dataclasses.dataclass
class Window:
    """Sums since the last row of the history."""

    loss: float = 0.0
    context_ratio: float = 0.0
    count: int = 0

    def add(self, loss: float, context_ratio: float) -> None:
        """Count one step."""
        self.loss, self.context_ratio = self.loss + loss, self.context_ratio + context_ratio
        self.count += 1

    def means(self) -> dict[str, float]:
        """Mean loss and mean realised context ratio of the window."""
        return {"loss": self.loss / self.count, "context_ratio": self.context_ratio / self.count}


class Clock:
    """Speed and memory of this process; kept out of the history, which is reproducible."""

    def __init__(self, images: int) -> None:
        self.start, self.images = time.monotonic(), images

    def reading(self, images: int, total: int) -> dict[str, float]:
        """Images per second since the start, seconds to the end, and peak memory in GiB."""
        speed = (images - self.images) / (time.monotonic() - self.start)
        if torch.cuda.is_available():
            memory = torch.cuda.max_memory_allocated() / 2**30
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return {"images_per_second": speed, "eta": (total - images) / speed, "memory_gib": memory}


def row_interval(steps: int) -> int:
    """Steps between rows of the history: about 100 rows, and at most 200 steps apart."""
    return max(1, min(steps // 100, 200))


def line(row: dict[str, float], steps: int, clock: dict[str, float]) -> str:
    """A row of the history as a line of the log."""
    ema = f"ema {row['ema']:.4f}  " if "ema" in row else ""
    return (
        f"step {row['step']:>6}/{steps}  loss {row['loss']:.4g}  lr {row['lr']:.2e}  "
        f"wd {row['weight_decay']:.3f}  {ema}context {row['context_ratio']:.2f}  "
        f"std {row['feature_std']:.3f}  rankme {row['rankme']:.1f}  "
        f"{clock['images_per_second']:.0f} images/s  ETA {clock['eta']:.0f} s  "
        f"{clock['memory_gib']:.2f} GiB"
    )


def _health_ids(images: Any, config: Config) -> list[int]:
    chosen = seeds.generator(config.seed, "health").permutation(len(images))
    return sorted(int(i) for i in chosen[:_HEALTH_IMAGES])


def emit(rank: int, row: dict[str, float]) -> None:
    """Hand a row to the stage's parent, which records it."""
    path = os.environ.get(launch.METRICS)
    if rank == 0 and path:
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")


def say(rank: int, text: str) -> None:
    """Print from rank 0 only."""
    if rank == 0:
        print(text, flush=True)


def write_outputs(
    config: Config, store: Store, objective: Any, history: list[dict[str, float]]
) -> None:
    """``out/encoder.safetensors``, ``out/pretrain.json`` and ``out/history.csv``: no clock in them."""
    out = Path("out")
    out.mkdir(exist_ok=True)
    words = verdict(history[0], history[-1], config.model.width)
    metrics = {name: history[-1][name] for name in ("images", "step", "loss", "feature_std", "rankme")}
    ratios = [row["context_ratio"] for row in history[1:] or history]
    encoders.save(objective.encoder, out / "encoder.safetensors", {
        "signature": configs.signature(config), "data": store.hash, "which": "target encoder",
    })  # fmt: skip
    results.write_csv(out / "history.csv", history)
    results.write_json(out / "pretrain.json", {
        **metrics,
        "context_ratio": float(np.mean(ratios)),
        "collapsed": words.startswith("collapsed"),
        "health": words,
        "parameters": sum(p.numel() for p in objective.encoder.parameters()),
    })  # fmt: skip
    print(words, flush=True)


def main() -> int:
    """One rank of a run; reads its place from torchrun's variables."""
    launch.die_with_parent()
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    hardware = environment.hardware()
    device = torch.device(hardware.device, int(os.environ.get("LOCAL_RANK", 0)) if hardware.device == "cuda" else None)
    torch.set_num_threads(hardware.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if environment.number("IJEPA_DETERMINISTIC"):
        seeds.deterministic()
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        train(configs.load(), open_store(), device, rank, world)
    except console.Failure as failure:
        emit(rank, {"failed": str(failure), "status": failure.status})
        print(failure, file=sys.stderr, flush=True)
        return failure.status
    finally:
        if world > 1:
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(console.run(main))
