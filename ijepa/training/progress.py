"""What a run says while it trains: rows of its history, lines of its log."""

import dataclasses
import time
from collections.abc import Iterable, Iterator

import torch

from ijepa.runtime import durations
from ijepa.training.batches import Batch
from ijepa.training.meter import peak_memory


@dataclasses.dataclass
class Progress:
    """Where a run is: optimiser steps done, images of the stream consumed, FLOPs they cost."""

    step: int = 0
    images: int = 0
    flops: int = 0  # of the loss and its gradient, as if padding were computed; all ranks
    flops_useful: int = 0  # without padding (``ijepa.model.flops``)


@dataclasses.dataclass
class Window:
    """Sums over the steps since the last row of the history."""

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


class Waiting:
    """Batches, and how long nothing was computed for want of one.

    Attributes:
        seconds: so far; the first batch is the start and does not count.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches, self.seconds = batches, 0.0

    def __iter__(self) -> Iterator[Batch]:
        begun = None
        for batch in self.batches:
            self.seconds += 0.0 if begun is None else time.monotonic() - begun
            yield batch
            begun = time.monotonic()


class Clock:
    """Speed and memory of this process; kept out of the history, which is reproducible."""

    def __init__(self, images: int, total: int, device: torch.device) -> None:
        self.start, self.first, self.total = time.monotonic(), images, total
        self.device = device

    def reading(self, images: int, training: float, waited: float) -> dict[str, float]:
        """How fast it is.

        Args:
            images: of the stream that are consumed.
            training: seconds of this process that were training (``Meter.training``).
            waited: those of them in which there was no batch (``Waiting.seconds``).

        Returns:
            Images per second of training; seconds to the end by the clock on the wall, which
            health and checkpoints take as well; peak memory in GiB; the share of training that
            waited for data.
        """
        consumed = images - self.first
        return {
            "images_per_second": consumed / training,
            "eta": (self.total - images) / consumed * (time.monotonic() - self.start),
            "memory_gib": peak_memory(self.device),
            "waiting": waited / training,
        }


def row_steps(steps: int) -> list[int]:
    """Steps after which the history has a row: the first, the last, and between them about 100,
    at most 200 steps apart."""
    interval = max(1, min(steps // 100, 200))
    return sorted({1, *range(interval, steps, interval), steps})


def line(row: dict[str, float], steps: int, clock: dict[str, float]) -> str:
    """A row of the history as a line of the log; the loss has four digits and a fixed width."""
    ema = f"ema {row['ema']:.4f}  " if "ema" in row else ""
    health = (
        f"std {row['feature_std']:.3f}  rankme {row['rankme']:.1f}  " if "rankme" in row else ""
    )
    # loading is the limit: IJEPA_WORKERS, a faster disk, smaller pictures
    waiting = f"  waits for data {clock['waiting']:.0%}" if clock["waiting"] > 0.05 else ""
    return (
        f"step {row['step']:>6}/{steps}  loss {row['loss']:#9.4g}  lr {row['lr']:.2e}  "
        f"wd {row['weight_decay']:.3f}  {ema}context {row['context_ratio']:.2f}  "
        f"{health}{clock['images_per_second']:.0f} images/s  {clock['memory_gib']:.2f} GiB  "
        f"{durations.about(clock['eta'])} left{waiting}"
    )
