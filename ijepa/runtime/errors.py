"""What a user sees when something goes wrong: one line, and an exit status that says so."""

import difflib
import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

_MACHINE = (  # the disk refuses: full, over its quota or a file's limit, read-only, broken
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENOTDIR, errno.EMFILE, errno.ENAMETOOLONG,
)  # fmt: skip


class Failure(RuntimeError):
    """A run that stopped for a reason one line can tell; ``status`` is the exit status."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class ImageError(ValueError):
    """An image that cannot be prepared; one line that names it.

    torch raises an exception of a loader's worker again with the worker's traceback before the
    message, which is cut off here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rsplit(f"{type(self).__name__}: ", 1)[-1].rstrip())


@contextmanager
def preparing(split: str, index: int) -> Iterator[None]:
    """Name the image in whatever goes wrong while it is read, cut or resized.

    Raises:
        ImageError: for the exceptions that files raise. Others are faults of ours: they keep their
            class and traceback and have the image as a note.
    """
    where = f"image {index} of {split}"
    try:
        yield
    except (ValueError, OSError, SyntaxError) as error:  # the last is Pillow's word for damage
        raise ImageError(f"{where}: {error}") from error
    except Exception as error:
        error.add_note(f"while {where} was prepared")
        raise


def plain(text: str) -> str:
    """Text for one line of a terminal: line breaks, escapes and what is invisible as ``\\x1b``."""
    return "".join(
        char
        if char.isprintable() or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in text
    )


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
        print(plain(f"error: {error}"), file=sys.stderr)
        return 2
    except Failure as error:
        print(plain(f"error: {error}"), file=sys.stderr)
        return error.status
    except BrokenPipeError:  # `ijepa ... | head` has read enough; Python would flush once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(plain(f"error: {where}{error.strerror}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
