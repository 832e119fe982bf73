"""Processes that prepare batches ahead of what computes on them."""

import multiprocessing
import shutil
import sys
from pathlib import Path
from typing import Any

from ijepa.runtime import environment

SHARED = Path("/dev/shm")  # where workers leave their batches
_MOST = 8
_AHEAD = 2  # batches of each worker: torch's default


def options(batch_bytes: int, modules: list[str]) -> dict[str, Any]:
    """What a ``DataLoader`` is to be told.

    ``IJEPA_WORKERS`` if it is set; otherwise none on a CPU, where they compete with training, and
    on a GPU all threads of a process but one, eight at most, and no more than have room.

    Args:
        batch_bytes: of a batch; workers hand theirs over in /dev/shm.
        modules: what they import. They are forked from a server that did, and no thread of ours.

    Raises:
        ValueError: the batches of ``IJEPA_WORKERS`` workers have no room.
    """
    room = shutil.disk_usage(SHARED).free if SHARED.is_dir() else sys.maxsize
    fit = room // (_AHEAD * max(1, batch_bytes))
    told = environment.text("IJEPA_WORKERS")
    hardware = environment.hardware()
    if told:
        count = environment.number("IJEPA_WORKERS", 1024)
        if count > fit:
            raise ValueError(
                f"IJEPA_WORKERS: {count} workers keep {_AHEAD} batches of {batch_bytes >> 20} MiB"
                f" each in {SHARED}, where {room >> 20} MiB are free: {fit} would fit"
                " (Docker: --shm-size)"
            )
    else:
        count = min(_MOST, hardware.threads - 1, fit) if hardware.device == "cuda" else 0
    if not count:
        return {"num_workers": 0}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(modules)
    return {"num_workers": count, "prefetch_factor": _AHEAD, "multiprocessing_context": context}
