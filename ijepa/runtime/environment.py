"""The hardware and the places of a run: ``IJEPA_*`` variables, never part of its identity.

``python -m ijepa env`` prints this table with the values in force.
"""

import contextlib
import ctypes
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# name -> (default, meaning); an empty default is worked out when it is asked for
VARIABLES = {
    "IJEPA_DATA_ROOT": ("data/raw", "folder that holds the raw data sets"),
    "IJEPA_STORAGE": ("copy", "copy, or in_place: prepare leaves files of images where they are"),
    "IJEPA_HOME": ("", "journal, checkpoints, database, caches; .ijepa in the main checkout"),
    "IJEPA_DEVICE": ("auto", "auto, cpu or cuda"),
    "IJEPA_PRECISION": ("auto", "bf16, fp32, or auto: bf16 where the device computes it fast"),
    "IJEPA_PROCESSES": ("0", "training processes; 0: one for each visible GPU, one on CPU"),
    "IJEPA_THREADS": (
        "0",
        "CPU threads of a process; 0: its cores, for small models but one",
    ),
    "IJEPA_TORCHRUN": ("", "torchrun's rendezvous options for several nodes; empty: this one"),
    "IJEPA_WORKERS": ("", "data-loading workers of a process; none on CPU, up to 8 for a GPU"),
    "IJEPA_MICRO_BATCH": ("0", "images a process takes at once; 0: its share; auto: what fits"),
    "IJEPA_COMPILE": ("0", "1: compile transformer blocks; last bits then differ"),
    "IJEPA_CHECKPOINT_SECONDS": ("", "time between checkpoints; 30, or 20 times what one takes"),
    "IJEPA_DETERMINISTIC": ("1", "1: deterministic GPU kernels, so that resuming is bit-exact"),
    "IJEPA_MONGO_URL": ("", "a MongoDB server; empty: the embedded one; off: the journal alone"),
    "IJEPA_MONGO_DB": ("ijepa", "name of the database"),
    "IJEPA_SBATCH": ("", "options of sbatch for ablations on Slurm: partition, time, GPUs"),
}

_MOST = 1024  # processes, or threads: more than any machine has, fewer than end in a crash
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")  # "200000 100000": microseconds of every so many


def text(name: str) -> str:
    """The value of a variable, or its default."""
    return os.environ.get(name) or VARIABLES[name][0]


def number(name: str, most: int | None = None) -> int:
    """The value of a variable that is a whole number from 0 to ``most``.

    Raises:
        ValueError: the variable holds something else.
    """
    value = text(name)
    if not (value.isascii() and value.isdecimal()) or (most is not None and int(value) > most):
        allowed = ">= 0" if most is None else f"from 0 to {most}"
        raise ValueError(f"{name}: {value!r} is not a whole number {allowed}")
    return int(value)


def home() -> Path:
    """The folder of everything that outlives a stage and is not a result."""
    return _checkout() / (text("IJEPA_HOME") or ".ijepa")


def data_root() -> Path:
    """The folder of the raw data."""
    return _checkout() / text("IJEPA_DATA_ROOT")


def storage() -> str:
    """Whether prepare copies images, or indexes them where they are: ``copy`` or ``in_place``.

    Raises:
        ValueError: the variable holds something else.
    """
    value = text("IJEPA_STORAGE")
    if value not in ("copy", "in_place"):
        raise ValueError(f"IJEPA_STORAGE: {value!r} is not one of copy, in_place")
    return value


def _checkout() -> Path:
    """The main checkout, from which relative folders count.

    DVC sets DVC_ROOT to it even in the temporary workspace of an experiment, so all experiments of
    a checkout share one journal, one database and one set of checkpoints.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


@dataclass(frozen=True, slots=True)
class Hardware:
    """What a process trains on."""

    device: str
    precision: str
    processes: int
    threads: int


def hardware() -> Hardware:
    """The devices, processes and threads in force.

    Raises:
        ValueError: a variable holds something that cannot be.
    """
    device = text("IJEPA_DEVICE")
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"IJEPA_DEVICE: {device!r} is not one of auto, cpu, cuda")
    if device == "auto":
        device = "cuda" if gpus() else "cpu"
    if device == "cuda" and not gpus():
        raise ValueError("IJEPA_DEVICE: 'cuda', but torch sees no GPU here")
    precision = text("IJEPA_PRECISION")
    if precision not in ("auto", "bf16", "fp32"):
        raise ValueError(f"IJEPA_PRECISION: {precision!r} is not one of auto, bf16, fp32")
    if precision == "auto":
        precision = "bf16" if _fast_bf16(device) else "fp32"
    devices = gpus() if device == "cuda" else 1
    processes = number("IJEPA_PROCESSES", _MOST) or devices
    if device == "cuda" and processes > devices:
        raise ValueError(f"IJEPA_PROCESSES: {processes} is more than the {devices} visible GPUs")
    threads = number("IJEPA_THREADS", _MOST) or max(1, cores() // processes)
    return Hardware(device, precision, processes, threads)


@functools.cache
def gpus() -> int:
    """The GPUs that torch sees; it is not loaded, for seconds, where no driver could show it one.

    NVIDIA's driver is a library, AMD's a device file.
    """
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        if not Path("/dev/kfd").exists():
            return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cores() -> int:
    """The cores that this process may use: its affinity, and its container's share of time.

    Not what is idle just now: the number of threads decides how sums are rounded, and a run must
    not depend on what else the machine did when it began.
    """
    count = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):  # "max", or no control group
        quota, period = _CPU_MAX.read_text().split()
        count = min(count, max(1, round(int(quota) / int(period))))
    return count


def arithmetic() -> dict[str, Any]:
    """What rounds a number beside code and libraries: equal values, equal bits.

    Returns:
        ``device`` and its ``name``, on a CPU also ``instructions`` (torch's choice) and
        ``threads``; and ``precision``.
    """
    import torch

    used = hardware()
    about = {"device": used.device, "name": device_name(used.device), "precision": used.precision}
    if used.device == "cuda":
        return about
    instructions = torch.backends.cpu.get_cpu_capability()
    return {**about, "instructions": instructions, "threads": used.threads}


def numerics() -> dict[str, Any]:
    """``arithmetic`` and what else a run's bits depend on in this machine."""
    compiled = {"compiled": True} if number("IJEPA_COMPILE") else {}
    return {**arithmetic(), "processes": hardware().processes, **compiled}


def device_name(device: str, index: int | None = None) -> str:
    """The GPU's name, or the processor's; CPU where Linux does not say."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name(index)
    return _cpuinfo("model name") or "CPU"


def _fast_bf16(device: str) -> bool:
    """Whether the device has bf16 arithmetic; a CPU without it is ten times slower in bf16."""
    if device == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _cpuinfo("flags").split()  # what torch.cpu.get_capabilities says, without torch
    return "avx512_bf16" in flags or "amx_bf16" in flags


@functools.cache
def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor; nothing where it does not."""
    with contextlib.suppress(OSError):
        if line := re.search(rf"^{key}\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return line[1].strip()
    return ""
