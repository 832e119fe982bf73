"""The training loop, one process of it: ``python -m ijepa.training.loop``, by ``ijepa.pretrain``.

The loop knows only the objective. All randomness is a function of (seed, position), so a
checkpoint needs no generator state: objective, optimiser and progress are the whole state.
"""

import contextlib
import dataclasses
import functools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ijepa import config as configs
from ijepa import schedule, seeds, variants
from ijepa.config import Config
from ijepa.model import vit
from ijepa.runtime import environment, errors, launch
from ijepa.store.read import Store, open_store
from ijepa.training import checkpoint, trail
from ijepa.training.batches import Batches, loader
from ijepa.training.gradients import gradients, micro_batch
from ijepa.training.health import fixed_images, health, readings
from ijepa.training.meter import Meter, Spent, energy
from ijepa.training.outputs import write_outputs
from ijepa.training.progress import Clock, Progress, Waiting, Window, line, row_steps
from ijepa.training.rows import emit
from ijepa.training.tally import Tally


def train(
    config: Config, store: Store, device: torch.device, precision: str, rank: int, world: int
) -> None:
    """Train to the end, from the newest checkpoint if there is one, and write ``out/``."""
    configs.check_processes(config, world)  # of all nodes
    batches = Batches(store.splits["train"], config, rank, world)
    steps, size = batches.steps, config.train.batch_size
    autocast = functools.partial(
        torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16"
    )
    objective = create_objective(config, device)
    optimizer = create_optimizer(objective, config)
    whole = world > 1 and config.train.shards == 1  # torch averages the gradients of the processes
    micro = micro_batch(objective, batches, config.train.shards, autocast)
    now = numerics(micro)
    model = distributed(objective) if whole else objective
    rows = row_steps(steps)
    read = readings(rows, steps * size)
    fixed = fixed_images(store.splits["train"], config).to(device)

    with run_folder(config, store, rank, world) as folder, checkpoint.writer(folder) as writer:
        progress, window, history, traces, spent = restore(
            folder, objective, optimizer, device, now, rank
        )
        clock = Clock(progress.images, steps * size, device)
        meter = Meter(device, world, spent, energy(device, world) if rank == 0 else None)
        saved, tally = time.monotonic(), Tally(world, device)
        if rank == 0:
            print(", ".join(f"{name} {value}" for name, value in now.items()), flush=True)
            print(f"{folder.name}: from step {progress.step} of {steps}", flush=True)
            for row in (*history, *traces):
                emit(row)

        waiting = Waiting(loader(batches, progress.images, device.type == "cuda"))
        for batch in waiting:
            meter.start()
            rates = set_rates(optimizer, config, progress.step, steps)
            loss, context = gradients(model, batch, config.train.shards, micro, autocast)
            norm = clip(objective, config.train.clip_norm)
            optimizer.step()
            progress.step, progress.images = progress.step + 1, progress.images + size
            progress.flops += world * objective.flops(*batch.views, *batch.masks)
            meters = objective.update(progress.step / steps)
            useful = objective.flops(*batch.views, *batch.masks, padding=False)
            tally.add(progress.step, loss, norm, context, useful)

            last, has_row = progress.step == steps, progress.step in rows
            saving = rank == 0 and time.monotonic() - saved > writer.patience()
            for step in tally.read(progress.step, everything=last or has_row or saving):
                progress.flops_useful += step.useful
                window.add(step.loss, step.context / (size * objective.encoder.num_patches))
            if has_row:
                history.append(dataclasses.asdict(progress) | window.means() | rates | meters)
                if progress.step in read:
                    with meter.paused():
                        history[-1] |= health(objective.encoder, fixed)
                window = Window()
                if rank == 0:
                    with meter.paused():
                        traces.append(trail.row(progress.step, objective))
                    emit(traces[-1])
                    meter.read()
                    reading = clock.reading(progress.images, meter.training, waiting.seconds)
                    emit(history[-1] | reading)
                    print(line(history[-1], steps, reading), flush=True)
            meter.tick()
            stopping = tally.stopping(progress.step)
            if rank == 0 and (last or stopping or saving):
                state = {"objective": objective.state_dict(), "optimizer": optimizer.state_dict(),
                         "progress": dataclasses.asdict(progress), "history": history,
                         "trail": traces, "window": dataclasses.asdict(window), "numerics": now,
                         "spent": dataclasses.asdict(meter.read())}  # fmt: skip
                with meter.paused():
                    writer.save(progress.step, state)
                emit({"cost": state["spent"]})
                saved = time.monotonic()
            if stopping and not last:
                writer.wait()
                raise errors.Failure(f"stopped by a signal; saved step {progress.step}", 143)
        if rank == 0:
            writer.wait()
            emit({"cost": dataclasses.asdict(meter.spent)})
            write_outputs(config, store, objective, progress, history, len(fixed))


def create_objective(config: Config, device: torch.device) -> Any:
    """The objective of a run on its device."""
    family = variants.load("objectives", config.objective.name)
    size, options = config.data.image_size, config.objective.options
    objective = family.create(size, config.model, options, config.seeds.init)
    vit.place(objective, device)
    if environment.number("IJEPA_COMPILE"):
        vit.compile_blocks(objective)
    return objective


def distributed(objective: nn.Module) -> DistributedDataParallel:
    """Averages gradients over the processes; buffers are functions of what all of them know."""
    return DistributedDataParallel(
        objective, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def create_optimizer(objective: nn.Module, config: Config) -> torch.optim.AdamW:
    """AdamW without weight decay on biases and norms (as released; the paper does not say)."""
    params = [p for p in objective.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim > 1], "decays": True},
        {"params": [p for p in params if p.ndim <= 1], "decays": False},
    ]
    return torch.optim.AdamW(groups, lr=config.train.lr, betas=config.train.betas, fused=True)


def set_rates(
    optimizer: torch.optim.AdamW, config: Config, step: int, steps: int
) -> dict[str, float]:
    """Set what the schedules say for a step; returns learning rate and weight decay."""
    lr = schedule.learning_rate(config.train, step, steps)
    weight_decay = schedule.weight_decay(config.train, step, steps)
    for group in optimizer.param_groups:
        group["lr"], group["weight_decay"] = lr, weight_decay * group["decays"]
    return {"lr": lr, "weight_decay": weight_decay}


@contextlib.contextmanager
def run_folder(config: Config, store: Store, rank: int, world: int) -> Iterator[Path]:
    """The folder of the run's checkpoints, locked by rank 0 while it trains."""
    folder = checkpoint.folder(
        environment.home(),
        json.dumps(configs.parameters(config, "pretrain"), sort_keys=True),
        store.hash,
        variants.code(*variants.entries(config, "pretrain")),
    )
    with checkpoint.locked(folder) if rank == 0 else contextlib.nullcontext():
        if world > 1:
            dist.barrier()  # nobody reads before rank 0 holds the folder
        yield folder


def restore(
    folder: Path,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    numerics: dict[str, Any],
    rank: int,
) -> tuple[Progress, Window, list[dict[str, float]], list[dict[str, Any]], Spent | None]:
    """Load the newest good checkpoint; rank 0 says if it was written under other numerics.

    Returns:
        The progress, the open window, the history, the trail, and what the run has taken; None at
        its start.
    """
    state = checkpoint.load(folder, device)
    if state is None:
        return Progress(), Window(), [], [], None
    objective.load_state_dict(state["objective"])
    optimizer.load_state_dict(state["optimizer"])
    changed = [
        f"{name} {state['numerics'].get(name)}, now {now}"
        for name, now in numerics.items()
        if state["numerics"].get(name) != now
    ]
    if changed and rank == 0:
        print(f"note: the checkpoint was written with {'; '.join(changed)}", flush=True)
    progress, window = Progress(**state["progress"]), Window(**state["window"])
    return progress, window, state["history"], state["trail"], Spent(**state["spent"])


def numerics(micro: int) -> dict[str, Any]:
    """What the bits of a run depend on beside its science and code."""
    about = {**environment.numerics(), "torch": str(torch.__version__)}
    return {**about, "micro_batch": micro} if micro else about


def clip(objective: nn.Module, most: float | None) -> Tensor:
    """Scale the gradient to a norm of at most ``most``; returns the norm that it had, a scalar."""
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if most is not None:
        scale = (most / norm.double()).clamp(max=1)
        torch._foreach_mul_(gradients, scale.to(norm.dtype))
    return norm


def main() -> int:
    """One rank of a run."""
    launch.die_with_parent()
    place = launch.place()
    rank, world = place.rank, place.world
    hardware = environment.hardware()
    device = torch.device(hardware.device)
    if hardware.device == "cuda":
        device = torch.device("cuda", place.local)
        torch.cuda.set_device(device)
    torch.set_num_threads(hardware.threads)
    if environment.number("IJEPA_DETERMINISTIC"):
        seeds.deterministic()
    if world > 1:
        if hardware.device == "cuda":
            dist.init_process_group("nccl", device_id=device, **place.meeting())
        else:
            dist.init_process_group("gloo", **place.meeting())
    if rank == 0:
        emit({"numerics": environment.numerics()})
    try:
        train(configs.load(), open_store(), device, hardware.precision, rank, world)
    except errors.Failure as failure:
        if rank:  # the first one says it for all
            return failure.status
        emit({"failed": str(failure), "status": failure.status})
        raise
    finally:
        if world > 1:
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(errors.run(main))
