"""The numbers of a step, of all ranks, without waiting for the device that computes them.

A GPU works behind the Python that tells it what to do. If it were asked for the loss of every
step, it would wait after each for the next one's orders. So the numbers are copied beside the
computation and read a step later; at once where a row of the history or a checkpoint needs them.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ijepa.runtime import errors, launch


class Step(NamedTuple):
    """Of a step's global batch.

    Attributes:
        loss: mean over its images.
        context: patches of all contexts.
        useful: FLOPs without padding.
    """

    loss: float
    context: float
    useful: int


class Tally:
    """Makes the ranks' numbers one, and a signal to any rank a decision of all.

    Args:
        world: number of ranks.
        device: of this one.
    """

    def __init__(self, world: int, device: torch.device) -> None:
        self.world, self.device, self.request = world, device, launch.StopRequest()
        self.waiting: deque[tuple[int, Tensor, list[float], torch.cuda.Event | None]] = deque()
        self._asked: int | None = None  # the first step before whose end some rank got a signal

    def add(self, step: int, loss: Tensor, norm: Tensor, context: float, useful: int) -> None:
        """A step of this rank.

        Args:
            step: its number.
            loss: the mean over this rank's images, a scalar.
            norm: of the gradient, a scalar; the same on all ranks.
            context: patches of this rank's contexts.
            useful: FLOPs of this rank.
        """
        on_device = torch.stack([loss.double(), norm.double()]) / self.world
        # exact: FLOPs below 2**53 are three batches of ViT-g
        on_host = [float(context), float(useful), float(self.request.pending)]
        event = None
        if self.world > 1:
            theirs = torch.tensor(on_host, dtype=torch.float64)
            if self.device.type == "cuda":
                theirs = theirs.pin_memory()
            on_device = torch.cat([on_device, theirs.to(self.device, non_blocking=True)])
            dist.all_reduce(on_device)
            on_host = []
        copy = on_device.to("cpu", non_blocking=True)
        if self.device.type == "cuda":
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self.waiting.append((step, copy, on_host, event))

    def read(self, now: int, everything: bool) -> Iterator[Step]:
        """The steps before ``now``, with it if ``everything`` or to stop, that were not read yet.

        Raises:
            Failure: the loss or the gradient of one was NaN or infinite. That has spoilt the
                weights, but nothing that was written.
        """
        while self.waiting and (everything or self.waiting[0][0] < now or self.stopping(now)):
            step, copy, on_host, event = self.waiting.popleft()
            if event is not None:
                event.synchronize()
            loss, norm, context, useful, stop = copy.tolist() + on_host
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise errors.Failure(
                    f"NaN or infinity at step {step} (loss {loss:g}, gradient norm {norm:g}):"
                    " stopped; the checkpoints are good"
                )
            if stop and self._asked is None:
                self._asked = step
            yield Step(loss, context, int(useful))

    def stopping(self, now: int) -> bool:
        """Whether to stop after step ``now``, read or not: a signal came to a rank before it.

        So all ranks stop after the same step.
        """
        return self._asked is not None and self._asked < now
