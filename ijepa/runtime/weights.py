"""Safetensors files that carry a checksum: equal tensors and metadata are equal bytes.

The format has no checksum, and a flipped bit in it is another network. So a key of the metadata
holds the SHA-256 of the whole file with zeros in that key's own place. Readers that know nothing
of it, timm and transformers among them, see one more text of metadata.
"""

import errno
import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ijepa.runtime import files

KEY = "ijepa.sha256"
_ZEROS = b"0" * 64


def save(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors with metadata and the checksum of both, whole or not at all.

    Raises:
        OSError: it cannot be written; names the file.
    """
    about = {**metadata, KEY: _ZEROS.decode()}
    whole = {n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}
    with files.replacing(path) as partial:
        try:
            save_file(whole, partial, about)
        except SafetensorError as error:  # ends with "(os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code), str(path)) from None
        _sort(partial, about)
        mask = os.umask(0)  # Python has no other way to ask for it
        os.umask(mask)
        partial.chmod(0o666 & ~mask)  # the library keeps it from everybody else
        digest, place = _digest(partial)
        with partial.open("r+b") as file:
            file.seek(place)
            file.write(digest.encode())


def _sort(path: Path, about: Mapping[str, str]) -> None:
    """Sort the metadata, whose order the library changes from call to call: as many letters."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(about.items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, path
        file.seek(8)
        file.write(text.ljust(size))


def _digest(path: Path) -> tuple[str, int]:
    """SHA-256 of a file with zeros for its checksum, and where in the file that is."""
    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(int.from_bytes(head, "little"))
        key = f'"{KEY}":"'.encode()
        place = head.find(key) + len(key)
        assert place >= len(key), path
        hashing = hashlib.sha256(head[:place] + _ZEROS + head[place + len(_ZEROS) :])
        while block := file.read(2**20):
            hashing.update(block)
    return hashing.hexdigest(), place


def metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; the file is compared with its checksum, if it has one.

    A file is hashed once in a process.

    Raises:
        ValueError: not safetensors, or damaged; one line that names the file.
    """
    stat = path.stat()
    return dict(_checked(path.resolve(), path, stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=64)
def _checked(_place: Path, path: Path, _changed: int, _size: int) -> Mapping[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, str] = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path}: not safetensors, or damaged ({error})") from None
    if any(_nearly(key) for key in about) or (KEY in about and about[KEY] != _digest(path)[0]):
        raise ValueError(f"{path}: damaged: its SHA-256 is not the one that it holds")
    if "ijepa" in about and KEY not in about:
        print(f"note: {path}: of an older version, without a checksum: not checked", flush=True)
    return about


def _nearly(key: str) -> bool:
    """Whether it is the checksum's key but for one letter: a flipped bit would hide it."""
    return len(key) == len(KEY) and sum(a != b for a, b in zip(key, KEY, strict=True)) == 1
