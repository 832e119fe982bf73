"""The files of a split that hold its images, or say where they are."""

import hashlib
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from ijepa.store.read import ROW


class Shards:
    """Writes images one after another into files of a limited size, and a row for each."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.records: list[dict[str, Any]] = []
        self.count = self.bytes = 0  # of all images
        self.content = hashlib.sha256()
        self._folder, self._limit = folder, limit
        self._file: BinaryIO | None = None  # the shard that is being written
        self._count = self._bytes = 0  # in it
        self._index = (folder / "index.bin").open("wb")

    def __enter__(self) -> "Shards":
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._index.close()

    def add(self, data: bytes) -> None:
        """Write one image; an image bigger than the limit has a file for itself."""
        if self._file is None or (self._count and self._bytes + len(data) > self._limit):
            self._finish()
            self._file = (self._folder / f"images-{len(self.records):05d}.bin").open("wb")
        self._row(self._bytes, data)
        self._file.write(data)
        self._count += 1
        self._bytes += len(data)

    def point(self, path: Path, data: bytes) -> None:
        """Write where an image is, and leave it there."""
        if self._file is None:
            self._file = (self._folder / "paths.bin").open("wb")
        self._row(self._bytes, data)
        self._bytes += self._file.write(os.fsencode(path) + b"\0")

    def _row(self, start: int, data: bytes) -> None:
        self._index.write(ROW.pack(start, len(data), zlib.crc32(data)))
        self.content.update(data)
        self.count += 1
        self.bytes += len(data)

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        if self._count:
            entry = {"count": self._count, "bytes": self._bytes}
            self.records.append({"file": Path(self._file.name).name, **entry})
        self._file, self._count, self._bytes = None, 0, 0
