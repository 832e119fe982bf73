"""What a run took: device seconds, energy and memory, where the device reports them.

Measured, so never part of a result: the training loop hands it to the journal
(``ijepa.pretrain``), and keeps it in the checkpoints so that a resumed run reports the whole.
"""

import contextlib
import ctypes
import dataclasses
import os
import re
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ijepa.runtime import environment

_PATIENCE = 10.0  # seconds between readings of energy; a counter of RAPL wraps after minutes
POWERCAP = Path("/sys/class/powercap")


@dataclasses.dataclass(frozen=True)
class Spent:
    """What a run took so far.

    Attributes:
        device_seconds: seconds of training times the devices: steps and waiting for their data.
            Health readings, checkpoints and the start, up to the first batch, are not in it.
        energy_joules: of the devices in that time; None where nothing reports all of it.
        energy_source: ``nvml`` (the GPUs) or ``rapl`` (all processors of the machine, whatever
            else they did, without memory and disks); None where nothing reports.
        peak_memory_gib: of the first device: what torch allocated on a GPU, or what the training
            process had of the machine's memory, its data loaders not included.
        devices: GPUs, or processes on a CPU; at the last reading.
        device: the name of one of them.
        wall_seconds: of the training loop with all that device_seconds leaves out, in this process
            and in those of the run before it, of each up to its last checkpoint.
        earlier_seconds: those of the processes before this one.
    """

    device_seconds: float
    energy_joules: float | None
    energy_source: str | None
    peak_memory_gib: float
    devices: int
    device: str
    wall_seconds: float = 0.0  # this and the next: not in a journal of before
    earlier_seconds: float = 0.0


class Rapl:
    """The energy of the machine's processor packages, as Linux shows it.

    Raises:
        OSError: there is no package whose counter this user may read (most systems: root only).
    """

    source = "rapl"

    def __init__(self, folder: Path = POWERCAP) -> None:
        # intel-rapl:0:1 is a part of intel-rapl:0, and "psys" is all of the machine once more
        zones = [z for z in folder.glob("intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", z.name)]
        self.zones = [z for z in zones if (z / "name").read_text().startswith("package")]
        if not self.zones:
            raise OSError(f"{folder}: no processor package")
        self.ranges = [int((z / "max_energy_range_uj").read_text()) for z in self.zones]
        self.last = self._counters()

    def _counters(self) -> list[int]:
        return [int((zone / "energy_uj").read_text()) for zone in self.zones]

    def joules(self) -> float:
        """Since the last call; a counter that went back has wrapped around once."""
        before, self.last = self.last, self._counters()
        went = zip(before, self.last, self.ranges, strict=True)
        return sum((now - then) % (most + 1) for then, now, most in went) / 1e6


class Nvml:
    """The energy of NVIDIA GPUs, as their driver counts it (Volta and newer).

    Args:
        uuids: of the GPUs, as torch has them.
        library: the driver's, loaded here by default.

    Raises:
        OSError: no driver, or one of the GPUs does not count.
    """

    source = "nvml"

    def __init__(self, uuids: Sequence[str], library: Any = None) -> None:
        self.library = ctypes.CDLL("libnvidia-ml.so.1") if library is None else library
        self._check(self.library.nvmlInit_v2())
        self.handles = [ctypes.c_void_p() for _ in uuids]
        for uuid, handle in zip(uuids, self.handles, strict=True):
            name = f"GPU-{uuid}".encode()
            self._check(self.library.nvmlDeviceGetHandleByUUID(name, ctypes.byref(handle)))
        self.last = self._counters()

    def _check(self, status: int) -> None:
        if status:
            raise OSError(f"NVML: status {status}")

    def _counters(self) -> int:
        total = 0
        for handle in self.handles:
            millijoules = ctypes.c_ulonglong()
            status = self.library.nvmlDeviceGetTotalEnergyConsumption(
                handle, ctypes.byref(millijoules)
            )
            self._check(status)
            total += millijoules.value
        return total

    def joules(self) -> float:
        """Since the last call."""
        before, self.last = self.last, self._counters()
        return (self.last - before) / 1e3


def energy(device: torch.device, devices: int) -> Rapl | Nvml | None:
    """What counts the energy of a run's devices; None where nothing here does."""
    if devices != int(os.environ.get("LOCAL_WORLD_SIZE", devices)):
        return None  # some are in another machine
    # no counter, no right to read it, a driver without the function: unknown, never an error
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if device.type == "cuda":
            uuids = [torch.cuda.get_device_properties(i).uuid for i in range(devices)]
            return Nvml([str(uuid) for uuid in uuids])
        return Rapl()
    return None


def peak_memory(device: torch.device) -> float:
    """Of this process in GiB: on its GPU, or resident in the machine's memory."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def name_of(device: torch.device) -> str:
    """The GPU's name; or the processor's, with the threads that a process of ours uses."""
    name = environment.device_name(device.type, device.index)
    if device.type == "cuda":
        return name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


class Meter:
    """Adds up what a run takes, from its start or from what it had taken when it was saved.

    Attributes:
        training: seconds of this process that were training, up to the last reading.

    Args:
        device: of this process.
        devices: of the run; they are busy together.
        before: what earlier processes of this run took; None at its start.
        counter: of energy.
    """

    def __init__(
        self, device: torch.device, devices: int, before: Spent | None, counter: Rapl | Nvml | None
    ) -> None:
        self.device, self.counter = device, counter
        self.begun = self.last = time.monotonic()
        self.counts, self.training = False, 0.0
        source = counter.source if counter else None
        if before is None:
            joules, seconds, memory, wall = (0.0 if counter else None), 0.0, 0.0, 0.0
        else:
            # energy that one process knew and another did not is not the run's
            joules = before.energy_joules if before.energy_source == source else None
            seconds, memory, wall = (
                before.device_seconds, before.peak_memory_gib, before.wall_seconds
            )  # fmt: skip
        known = source if joules is not None else None
        self.spent = Spent(seconds, joules, known, memory, devices, name_of(device), wall, wall)

    def read(self) -> Spent:
        """Count the time, energy and memory up to now."""
        now, old, joules = time.monotonic(), self.spent, self._joules()
        passed = (now - self.last) * self.counts
        self.training += passed
        total = None
        if old.energy_joules is not None and joules is not None:
            total = old.energy_joules + joules * self.counts
        self.spent = dataclasses.replace(
            old,
            device_seconds=old.device_seconds + passed * old.devices,
            energy_joules=total,
            energy_source=None if total is None else old.energy_source,
            peak_memory_gib=max(old.peak_memory_gib, peak_memory(self.device)),
            wall_seconds=old.earlier_seconds + now - self.begun,
        )
        self.last = now
        return self.spent

    def tick(self) -> None:
        """Read now and then; called at every step, it costs nothing."""
        if time.monotonic() - self.last > _PATIENCE:
            self.read()

    def start(self) -> None:
        """Training begins, with the first batch; later calls do nothing."""
        if not self.counts:
            self.read()
            self.counts = True

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done inside is not training: its time and energy are left out."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the step before is still computed
        self.read()
        self.counts = False
        try:
            yield
        finally:
            self.start()

    def _joules(self) -> float | None:
        if self.counter is None:
            return None
        try:
            return self.counter.joules()
        except (OSError, ValueError):  # the counter went away: the run goes on without
            self.counter = None
            return None
