"""What a run says while it trains: rows of its history, lines of its log."""

import dataclasses
import time

import torch

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


class Clock:
    """Speed and memory of this process; kept out of the history, which is reproducible."""

    def __init__(self, images: int, total: int, device: torch.device) -> None:
        self.start, self.first, self.total = time.monotonic(), images, total
        self.device = device

    def reading(self, images: int, training: float) -> dict[str, float]:
        """How fast it is.

        Args:
            images: of the stream that are consumed.
            training: seconds of this process that were training (``Meter.training``).

        Returns:
            Images per second of training; seconds to the end by the clock on the wall, which
            health and checkpoints take as well; peak memory in GiB.
        """
        consumed = images - self.first
        return {
            "images_per_second": consumed / training,
            "eta": (self.total - images) / consumed * (time.monotonic() - self.start),
            "memory_gib": peak_memory(self.device),
        }


def row_steps(steps: int) -> list[int]:
    """Steps after which the history has a row: the first, the last, and between them about 100,
    at most 200 steps apart."""
    interval = max(1, min(steps // 100, 200))
    return sorted({1, *range(interval, steps, interval), steps})


def line(row: dict[str, float], steps: int, clock: dict[str, float]) -> str:
    """A row of the history as a line of the log."""
    ema = f"ema {row['ema']:.4f}  " if "ema" in row else ""
    health = (
        f"std {row['feature_std']:.3f}  rankme {row['rankme']:.1f}  " if "rankme" in row else ""
    )
    return (
        f"step {row['step']:>6}/{steps}  loss {row['loss']:.4g}  lr {row['lr']:.2e}  "
        f"wd {row['weight_decay']:.3f}  {ema}context {row['context_ratio']:.2f}  "
        f"{health}{clock['images_per_second']:.0f} images/s  ETA {clock['eta']:.0f} s  "
        f"{clock['memory_gib']:.2f} GiB"
    )
