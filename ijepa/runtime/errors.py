"""What a user sees when something goes wrong: one line, and an exit status that says so."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterable

_MACHINE = (  # the disk refuses: full, over its quota or a file's limit, read-only, broken
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENOTDIR, errno.EMFILE, errno.ENAMETOOLONG,
)  # fmt: skip


class Failure(RuntimeError):
    """A run that stopped for a reason one line can tell; ``status`` is the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


def closest(name: object, known: Iterable[str], most: int = 1) -> str:
    """``; did you mean NAME?``: the end of a line about a name that is not known, or nothing."""
    names = difflib.get_close_matches(str(name), sorted(known), n=most)
    return f"; did you mean {' or '.join(names)}?" if names else ""


def run(main: Callable[[], int | None]) -> int:
    """Call ``main`` and turn what users can mend into one line on stderr.

    Returns:
        ``main``'s status; 2 for bad input (``ValueError``), 130 for Ctrl-C, 141 for a closed pipe,
        1 for a disk that refuses, else the failure's own. Anything else is a fault of ours and
        keeps its traceback.
    """
    try:
        return main() or 0
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failure as error:
        print(f"error: {error}", file=sys.stderr)
        return error.status
    except BrokenPipeError:  # `ijepa ... | head` has read enough; Python would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
