"""Which process is it: process ids are used again, so an id alone proves nothing."""

import contextlib
import re
import subprocess
import time
from pathlib import Path

import psutil


def mark(pid: int) -> str | None:
    """A text that no other process of this machine shares, or None when the process is gone.

    A zombie counts as gone: it holds no port and writes no file.
    """
    if Path("/proc/self/stat").exists():
        try:
            # the name of the program, in brackets, may hold spaces: split after it
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"  # state; start in clock ticks
    shown = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()


def kill_with(argument: str) -> None:
    """Kill every process that was started with an argument, and wait until it is gone."""
    for one in psutil.process_iter(["cmdline"]):
        if argument in (one.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
                one.wait(20)


def port(server: subprocess.Popen[bytes], log: Path, words: bytes, seconds: float) -> int | None:
    """The port that a server says in its log after ``words``; None when it ends or says none."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        if said := re.search(words + rb"(\d+)", log.read_bytes()):
            return int(said[1])
        time.sleep(0.02)
    return None
