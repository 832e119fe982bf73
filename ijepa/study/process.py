"""A command of a job as a process group, which a signal reaches as a wish to save and leave."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from ijepa.runtime import launch

_GRACE = 120  # seconds that an interrupted stage has to save its checkpoint


def run(
    command: Sequence[str], path: Path, variables: Mapping[str, str], output: IO[bytes]
) -> int:
    """Run a command in a folder to its end; its exit status.

    ``SystemExit`` (``launch.raising``) is handed on to all of it as SIGTERM, and waits until it
    has saved.

    Args:
        command: program and arguments.
        path: the working directory.
        variables: set beside this process's own.
        output: takes what it prints.
    """
    child = subprocess.Popen(
        command,
        cwd=path,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=launch.die_with_parent,
    )
    try:
        return child.wait()
    except SystemExit:
        end_group(child.pid)
        raise


def end_group(group: int, grace: float = _GRACE) -> None:
    """SIGTERM to a process group, patience until all of it has gone, then SIGKILL."""
    deadline = time.monotonic() + grace
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-group, os.WNOHANG)[0]:  # a zombie of ours keeps the group alive
                    pass
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
