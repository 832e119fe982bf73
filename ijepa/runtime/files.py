"""Files: written whole or not at all, locked, hashed and read, with one line where one is bad.

Equal results are equal files: what is written here has stable bytes.
"""

import copy
import csv
import fcntl
import functools
import hashlib
import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; at the end it becomes ``path``, or else it is removed.

    Of several processes that write the same file, the last one's stays.
    """
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
        tree = parse_yaml(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run from the repository's root") from None
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
