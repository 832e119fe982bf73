"""Files: written whole or not at all, locked, hashed and read, with one line where one is bad.

Equal results are equal files: what is written here has stable bytes. What is read again later is
checked first: a stage's outputs against the ``SHA256SUMS`` beside them (``write_sums``), a file of
a cache against the digest at its own end (``seal``).
"""

import copy
import csv
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

SUMS = "SHA256SUMS"
_DIGEST = 32  # bytes of a SHA-256


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; at the end it becomes ``path``, or else it is removed.

    Of several processes that write the same file, the last one's stays. It has its name once its
    bytes are on the disk, so that a power cut leaves the old file or the new one.

    Raises:
        OSError: it cannot be written (a full disk, a read-only one); names the file.
    """
    partial = temporary(path)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except OSError as error:
        raise named(error, path) from error
    finally:
        partial.unlink(missing_ok=True)


def named(error: OSError, path: Path) -> OSError:
    """The same error with the file that it is about: a failed write does not say which."""
    if error.errno is None or error.filename is not None:
        return error
    return OSError(error.errno, error.strerror, str(path))


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk, so that a rename is not ahead of the data."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary(path: Path) -> Path:
    """A new name beside ``path`` that says whose it is: see ``remove_leftovers``."""
    own = f"{platform.node()}-{os.getpid()}-{secrets.token_hex(8)}"
    return path.with_name(f"{path.name}.{own}.tmp")


def remove_leftovers(folder: Path) -> None:
    """Remove what processes of this machine that were killed had begun to write in a folder."""
    for path in folder.glob(f"*.{platform.node()}-*.tmp*"):
        owner = re.search(r"-(\d+)-[0-9a-f]{16}\.tmp(\.partial)?$", path.name)
        if owner and not psutil.pid_exists(int(owner[1])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)  # another process may do the same
            else:
                path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text)


def write_json(path: Path, tree: Any) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(tree, sort_keys=True, indent=1) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, whole or not at all; a key of the first that another lacks is an empty cell."""
    with replacing(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def locked(path: Path, patience: float = -1, refusal: Exception | None = None) -> Iterator[None]:
    """Hold a lock file alone; the lock goes with the process, even of kill -9.

    Args:
        path: the file, made if missing.
        patience: seconds to wait for whoever holds it; without end below 0.
        refusal: raised when that was not enough.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=patience)
    except Timeout:
        assert refusal is not None, path
        raise refusal from None
    with lock:
        yield


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold a lock file together with others, and without whoever wants it alone (``locked``)."""
    # filelock's ReadWriteLock waits inside of SQLite, where no signal reaches the process
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:  # +: over NFS a shared lock needs a file that can be read
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # not LOCK_SH alone: a signal just before it would not be seen
                time.sleep(0.05)
        yield


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path, names: Sequence[str]) -> None:
    """Write ``SHA256SUMS`` of files, by their paths from its folder; `sha256sum -c` reads it."""
    write_text(folder / SUMS, "".join(f"{sha256(folder / n)}  {n}\n" for n in names))


def check_sums(folder: Path, names: Iterable[str], again: str) -> None:
    """Compare files with the ``SHA256SUMS`` that ``write_sums`` wrote of them.

    Args:
        folder: of ``SHA256SUMS``.
        names: the files that will be read, as it lists them.
        again: what writes them again, for the message.

    Raises:
        ValueError: a file is missing, or is not what was written; one line that names it.
    """
    for line in differing(folder, names):
        raise ValueError(f"{line}; {again} writes it again")


def differing(folder: Path, names: Iterable[str]) -> Iterator[str]:
    """A line for every file that is not as ``write_sums`` has it; see ``check_sums``."""
    if not (folder / SUMS).is_file():
        yield f"{folder / SUMS}: no such file"
        return
    lines = (folder / SUMS).read_bytes().split(b"\n")
    if lines.pop():
        yield f"{folder / SUMS}: damaged: its end is missing"
        return
    sums = {name: digest for digest, _, name in (line.partition(b"  ") for line in lines)}
    for name in names:
        path, expected = folder / name, sums.get(os.fsencode(name))
        if not path.is_file():
            yield f"{path}: no such file"
        elif expected is None:
            yield f"{folder / SUMS}: damaged: it does not list {name}"
        elif expected != sha256(path).encode():
            yield f"{path}: damaged: its SHA-256 is not that of {folder / SUMS}"


def seal(path: Path) -> None:
    """Append the SHA-256 of a file's bytes to it, as 32 bytes."""
    digest = bytes.fromhex(sha256(path))
    with path.open("ab") as file:
        file.write(digest)


def whole(path: Path) -> bool:
    """Whether a sealed file is there and as it was sealed; a damaged one is named and removed.

    For files of a cache, which are computed again. A file is hashed once in a process.
    """
    try:
        stat = path.stat()
        if _sealed(path, stat.st_mtime_ns, stat.st_size):
            return True
    except FileNotFoundError:
        return False
    except OSError as error:  # a disk that cannot read it any more
        print(f"{path}: cannot be read ({error.strerror}): computed again", flush=True)
    else:
        print(f"{path}: damaged: computed again", flush=True)
    path.unlink(missing_ok=True)
    return False


def unsealed(path: Path) -> bytes:
    """What a sealed file held before."""
    return path.read_bytes()[:-_DIGEST]


@functools.lru_cache(maxsize=1024)
def _sealed(path: Path, _changed: int, size: int) -> bool:
    hashing, left = hashlib.sha256(), size - _DIGEST
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 2**20))):
            hashing.update(block)
            left -= len(block)
        return left == 0 and file.read() == hashing.digest()


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        ValueError: it cannot be read, or is not JSON; one line.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON, or damaged: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping; nothing but comments is an empty one.

    Raises:
        ValueError: one line: no such file, not YAML, a key written twice, not a mapping.
    """
    try:
        tree = parse_yaml(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run from the repository's root") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text in UTF-8; save it so") from None
    except RecursionError:
        raise ValueError(f"{path}: brackets within brackets, too deep to be parameters") from None
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "(.*?)" with', str(error.problem))
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"{path}: {key[1] if key else '?'}: written twice{where}") from None
    except YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: {tree!r} is not a mapping")
    return tree


def parse_yaml(text: str) -> Any:
    """What a text of YAML 1.2 says, as DVC reads it: ``1e-3`` is a number."""
    return copy.deepcopy(_parsed(text))


@functools.cache
def _parsed(text: str) -> Any:
    """A file is read again and again, by every table that names its preset: 20 ms each time."""
    return YAML(typ="safe", pure=True).load(text)
