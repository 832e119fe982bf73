"""Which process is it: process ids are used again, so an id alone proves nothing."""

import contextlib
import itertools
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


def kill_with(program: str, option: str, value: str) -> None:
    """Kill every process of a program that was started with an option, and wait until it is gone.

    A process that only names the same folder, as a backup of it does, is no business of ours.

    Args:
        program: the name of its file, which Python may run.
        option: of its arguments.
        value: of the option, the argument after it.
    """
    for one in psutil.process_iter(["cmdline"]):
        line = one.info["cmdline"] or []
        ours = program in [Path(part).name for part in line[:2]]
        if ours and (option, value) in itertools.pairwise(line):
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
