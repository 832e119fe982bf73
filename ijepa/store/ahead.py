"""Read and check the images of a source, in order and a few ahead.

Files of single images are read by many threads: over a network a file takes its time, whoever
waits for it.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ijepa.datasets import Item, Split
from ijepa.runtime import environment
from ijepa.store import pictures

SMALL = 96  # pixels: the longest side of an image that is stored decoded (STL-10's size)
_CHUNK = 4  # images that a thread reads or checks at once
_READERS = 16  # threads that read files: what is in memory is up to twice as many chunks

T = TypeVar("T")
U = TypeVar("U")
Encoded = NDArray[np.uint8] | bytes
Seen = pictures.Picture | str


def examined(name: str, split: Split) -> Iterator[tuple[Item, Encoded, Seen]]:
    """Items in order, each with its image and what its check found.

    Read by many threads and checked on all cores, a few chunks ahead.
    """
    cores = environment.cores()
    items = iter(tqdm(split.items(), total=split.count, desc=name, unit="img", disable=None))
    count = 0
    with ThreadPoolExecutor(_READERS) as readers, ThreadPoolExecutor(cores) as checkers:
        chunks = iter(lambda: list(itertools.islice(items, _CHUNK)), [])
        read = _ahead(readers, _read, chunks, _READERS)
        for chunk in _ahead(checkers, _examine, read, 2 * cores):
            count += len(chunk)
            yield from chunk
    assert count == split.count, f"{name}: {count} images, {split.count} promised"


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[T], U], values: Iterable[T], most: int
) -> Iterator[U]:
    """``map`` in order, with at most so many values begun and not taken."""
    waiting: deque[Future[U]] = deque()
    for value in values:
        waiting.append(pool.submit(function, value))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _read(chunk: list[Item]) -> list[tuple[Item, Encoded]]:
    return [(item, _image(item)) for item in chunk]


def _image(item: Item) -> Encoded:
    """An item's image; the bytes of its file, where it is one."""
    if not isinstance(item.image, Path):
        return item.image
    try:
        return item.image.read_bytes()
    except OSError as error:  # the disk's fault, not a bad image: skipping would hide it
        raise ValueError(f"{item.image}: cannot be read: {error.strerror}") from None


def _examine(chunk: list[tuple[Item, Encoded]]) -> list[tuple[Item, Encoded, Seen]]:
    return [(item, data, pictures.examine(data, SMALL)) for item, data in chunk]
