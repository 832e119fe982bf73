"""Keep the end of what a process and its children print, while it still reaches the terminal.

Sacred can do this too, but it loses the last lines of a run that fails, and it fails a run that
prints bytes that are not UTF-8.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

# bytes; twice what is recorded, because progress bars shrink to their last state
LIMIT = 4_000_000


class Output:
    """The last bytes that were printed."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._raw = bytearray()
        self._lock = threading.Lock()

    def add(self, chunk: bytes) -> None:
        """Remember more output, and forget the oldest of it."""
        with self._lock:
            self._raw += chunk
            if len(self._raw) > 2 * self._limit:
                del self._raw[: -self._limit]

    def text(self) -> str:
        """The output so far; bytes that are not UTF-8 are shown as U+FFFD."""
        with self._lock:
            return self._raw[-self._limit :].decode(errors="replace")


@contextlib.contextmanager
def capture(output: Output) -> Iterator[None]:
    """Copy what is written to file descriptors 1 and 2, by child processes too."""
    with _copied(sys.stdout, 1, output), _copied(sys.stderr, 2, output):
        yield


@contextlib.contextmanager
def _copied(stream: TextIO, number: int, output: Output) -> Iterator[None]:
    stream.flush()
    terminal = os.dup(number)
    read, write = os.pipe()
    os.dup2(write, number)
    os.close(write)
    reader = threading.Thread(target=_copy, args=(read, terminal, output), daemon=True)
    reader.start()
    try:
        yield
    finally:
        stream.flush()
        os.dup2(terminal, number)  # the last writer of ours is gone: the reader comes to the end
        reader.join(2)  # an orphan that still holds the pipe must not hold us
        if not reader.is_alive():
            os.close(terminal)


def _copy(read: int, terminal: int, output: Output) -> None:
    shown = True
    while chunk := os.read(read, 1 << 16):
        output.add(chunk)
        try:
            while shown and chunk:
                chunk = chunk[os.write(terminal, chunk) :]
        except OSError:  # nobody reads any more (`| head`): the run and its record go on
            shown = False
    os.close(read)
