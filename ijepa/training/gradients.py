"""The gradient of a global batch, on one process or several.

Usually each process averages over its images and torch averages over the processes; the bits then
depend on how many there are. With ``train.shards: S`` they do not: the global batch is cut into S
fixed shards, each shard's gradient is computed by itself, and the S of them are added along one
binary tree, neighbours first. P processes have S / P neighbouring shards each, a whole branch of
the tree, and then add their branches pair by pair. So with S = 4 one, two or four processes do the
same additions; which of two addends comes first does not matter.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ijepa.runtime import environment, errors
from ijepa.training.batches import Batch, Batches
from ijepa.views import normalise

Sums = list[Tensor]  # of one shard or of several: tensors of the same shapes everywhere


def gradients(
    model: nn.Module, batch: Batch, shards: int, micro: int,
    autocast: Callable[[], torch.autocast],
) -> tuple[Tensor, float]:  # fmt: skip
    """Set the gradients of the global batch's mean loss.

    Args:
        model: an objective; in DistributedDataParallel where there are several processes and no
            shards.
        batch: this rank's images and masks.
        shards: of the global batch.
        micro: images that go through the model at once; 0: all of a shard's.
        autocast: the precision of the forward pass.

    Returns:
        The mean loss, a scalar on the device, of the global batch where it is cut into shards and
        of this rank's images otherwise; and their number of context patches, the mean over masked
        views.
    """
    objective: Any = model.module if isinstance(model, DistributedDataParallel) else model
    world = dist.get_world_size() if dist.is_initialized() else 1
    context = sum(int(mask.context_valid.sum()) for mask in batch.masks) / len(batch.masks)
    parameters, share = [p for p in objective.parameters() if p.requires_grad], len(batch.views[0])
    if shards == 1:
        objective.zero_grad(set_to_none=True)
        loss = forward_backward(model, batch, 0, share, micro, autocast)
        if world > 1 and getattr(objective, "sums", None) is not None:
            dist.all_reduce(objective.sums)
        return loss, context

    def sums_of(start: int, stop: int) -> Sums:
        objective.zero_grad(set_to_none=True)
        loss = forward_backward(objective, batch, start, stop, micro, autocast)
        others = [] if getattr(objective, "sums", None) is None else [objective.sums]
        objective.sums = None
        return [loss, *(p.grad for p in parameters), *others]

    total = tree(sums_of(*rows) for rows in bounds(share, shards // world))
    loss, *rest = across(total) if world > 1 else total
    for parameter, gradient in zip(parameters, rest, strict=False):
        parameter.grad = gradient / shards
    objective.sums = rest[-1] if len(rest) > len(parameters) else None
    return loss / shards, context


def forward_backward(
    model: nn.Module, batch: Batch, first: int, last: int, micro: int,
    autocast: Callable[[], torch.autocast],
) -> Tensor:  # fmt: skip
    """Add the gradients of the mean loss of this rank's images ``first`` to ``last``.

    They go through the model ``micro`` at a time.

    Returns:
        The mean loss, a scalar.
    """
    device = next(model.parameters()).device
    micro = micro or last - first
    total = torch.zeros((), device=device)
    for start in range(first, last, micro):
        stop = min(start + micro, last)
        views = [normalise(view[start:stop].to(device, non_blocking=True)) for view in batch.views]
        masks = [mask.rows(start, stop).to(device) for mask in batch.masks]
        with contextlib.ExitStack() as stack:
            if stop < last and isinstance(model, DistributedDataParallel):
                stack.enter_context(model.no_sync())
            with autocast():
                loss = model(*views, *masks)
            (loss * ((stop - start) / (last - first))).backward()
        total += loss.detach() * ((stop - start) / (last - first))
    return total


def micro_batch(
    objective: Any, batches: Batches, shards: int, autocast: Callable[[], torch.autocast]
) -> int:
    """Images that go through the model at once (``IJEPA_MICRO_BATCH``), the same on all ranks.

    ``auto`` tries a batch: all of a shard, then half of that, until forward and backward leave a
    tenth of the GPU's memory free, for contexts that are longer than this batch's.

    Args:
        objective: an objective, not yet in DistributedDataParallel; its gradients are gone after.
        batches: of this rank.
        shards: of the global batch.
        autocast: the precision of the forward pass.

    Raises:
        Failure: not even one image fits.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    device = next(objective.parameters()).device
    if environment.text("IJEPA_MICRO_BATCH") != "auto":
        return environment.number("IJEPA_MICRO_BATCH")
    batch = batches[0]
    micro = len(batch.views[0]) * world // max(shards, world)
    if device.type == "cuda":
        while not _fits(objective, batch, micro, device, autocast):
            micro //= 2
            if not micro:
                raise errors.Failure("IJEPA_MICRO_BATCH: auto: one image is more than the GPU has")
    if world > 1:
        least = torch.tensor(micro, device=device)
        dist.all_reduce(least, dist.ReduceOp.MIN)
        micro = int(least)
    return micro


def _fits(
    objective: Any, batch: Batch, micro: int, device: torch.device,
    autocast: Callable[[], torch.autocast],
) -> bool:  # fmt: skip
    torch.cuda.reset_peak_memory_stats(device)
    try:
        forward_backward(objective, batch, 0, micro, micro, autocast)
        parameters = sum(p.nbytes for p in objective.parameters() if p.requires_grad)
        taken = torch.cuda.max_memory_allocated(device) + 2 * parameters  # AdamW's, not yet there
        return bool(taken < 0.9 * torch.cuda.mem_get_info(device)[1])
    except torch.OutOfMemoryError:
        return False
    finally:
        objective.zero_grad(set_to_none=True)
        objective.sums = None
        torch.cuda.empty_cache()


def bounds(images: int, shards: int) -> Iterator[tuple[int, int]]:
    """Where each shard of a process's images starts and stops."""
    assert images % shards == 0, (images, shards)
    size = images // shards
    return ((start, start + size) for start in range(0, images, size))


def tree(shards: Iterable[Sums]) -> Sums:
    """The sum of a power of two of shards, neighbours first; at most log2 of them are kept."""
    branches: list[tuple[int, Sums]] = []  # shards in it, and their sum; large ones first
    for shard in shards:
        count, total = 1, shard
        while branches and branches[-1][0] == count:
            total = list(torch._foreach_add(branches.pop()[1], total))
            count *= 2
        branches.append((count, total))
    ((_, total),) = branches
    return total


def across(own: Sums) -> Sums:
    """The sum over all processes, a power of two of them, the same bits in each.

    In round k each process trades its sum with the one whose rank differs in bit k: the tree goes
    on where ``tree`` left it. Costs log2 of the processes times the traffic of one all-reduce.
    """
    total, bit = own, 1
    while bit < dist.get_world_size():
        partner = dist.get_rank() ^ bit
        theirs = [torch.empty_like(tensor) for tensor in total]
        trades = [
            dist.P2POp(way, tensor, partner)
            for way, tensors in ((dist.isend, total), (dist.irecv, theirs))
            for tensor in tensors
        ]
        for trade in dist.batch_isend_irecv(trades):
            trade.wait()
        total, bit = list(torch._foreach_add(total, theirs)), 2 * bit
    return total
