"""A frozen encoder's features of every image, extracted once and kept on disk.

``pooled``: ``(images, width)`` for the last block and ``(images, n * width)`` for the last n
blocks: each block's patch tokens through the final LayerNorm, averaged over the patches,
concatenated with the last block's at the end (VISSL's concatPOOL4), so that one array holds both
choices. ``tokens``: the last block's, ``(images, patches, width)``. float16 holds bf16's precision
and more.

The cache lies under ``environment.home()``, named by everything that the features depend on; a
file in it is whole or absent, and a damaged one is computed again. With several processes each
computes its share of the batches, and the batches are the same as in one process, so the numbers
are too.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ijepa import variants, views
from ijepa.backbones import Backbone
from ijepa.runtime import environment, errors, files, workers
from ijepa.store.read import Images, Store

Choices = Mapping[str, NDArray[np.float16]]

_BATCH = 64  # images; on a CPU larger ones fall out of the cache and are slower


@dataclass(frozen=True, slots=True)
class Views(Dataset[Tensor]):
    """The images of a split as an encoder sees them, by their index in it: what a worker holds."""

    images: Images
    split: str
    view: str
    size: int

    def __getitem__(self, index: int) -> Tensor:
        """The evaluation view, (3, size, size) uint8."""
        with errors.preparing(self.split, int(index)):
            return views.VIEWS[self.view](self.images[int(index)], self.size)


@dataclass(frozen=True, slots=True)
class Part(Dataset[Tensor]):
    """Some images of a split as an encoder sees them.

    Attributes:
        store: the prepared data set.
        split: its split.
        rows: which images of the split, (n,).
        view: ``crop`` or ``squash``, see ``views.centre`` and ``views.squash``.
        size: side of the square view in pixels.
    """

    store: Store
    split: str
    rows: NDArray[np.int64]
    view: str
    size: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        """The evaluation view, (3, size, size) uint8."""
        return self.views[self.rows[index]]

    @property
    def views(self) -> Views:
        """The images of the whole split, without the rows."""
        return Views(self.store.splits[self.split], self.split, self.view, self.size)

    @property
    def identity(self) -> list[object]:
        """JSON values that are equal for equal images."""
        rows = hashlib.sha256(self.rows.tobytes()).hexdigest()
        return [self.store.hash, self.split, rows, self.view, self.size]


def pooled(backbone: Backbone, last: int, part: Part, progress: bool = False) -> Choices:
    """Features averaged over patches, from the cache or computed now.

    Args:
        backbone: the encoder.
        last: how many layers are concatenated in the widest choice.
        part: the images.
        progress: whether to show a bar.

    Returns:
        choice -> (n, D) read-only, memory-mapped; row i is the part's image i.
    """
    array = _array("pooled", backbone, last, part, progress)
    return {name: array[:, -columns:] for name, columns in backbone.choices(last).items()}


def tokens(backbone: Backbone, part: Part, progress: bool = False) -> NDArray[np.float16]:
    """Patch tokens of the last layer, (n, N, D), read-only and memory-mapped."""
    return _array("tokens", backbone, 1, part, progress)


def cache_file(kind: str, backbone: Backbone, last: int, part: Part) -> Path:
    """Where features are kept: named by everything that they are a function of.

    That is the network, the images, the code between the two, and what computes: libraries,
    device, precision, threads.
    """
    entries = "features", f"backbones.{backbone.kind}"
    name = json.dumps([
        kind, backbone.identity, last, *part.identity,
        variants.code(*entries), variants.libraries(*entries), environment.arithmetic(),
    ])  # fmt: skip
    folder = environment.home() / "features"
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"


def _array(
    kind: str, backbone: Backbone, last: int, part: Part, progress: bool
) -> NDArray[np.float16]:
    path = cache_file(kind, backbone, last, part)
    if not _everywhere(files.whole(path)):
        bar = f"  {kind} features of {part.split}" if progress else None
        _write(path, functools.partial(_compute, kind, backbone, last), part, bar)
    array: NDArray[np.float16] = np.load(path, mmap_mode="r")
    assert len(array) == len(part), (path, array.shape)
    return array


def _everywhere(here: bool) -> bool:
    """Whether it holds for every process: all of them must then do the same."""
    if not dist.is_initialized():
        return here
    votes: list[bool] = [False] * dist.get_world_size()
    dist.all_gather_object(votes, here)
    return all(votes)


def _compute(kind: str, backbone: Backbone, last: int, images: Tensor) -> Tensor:
    """Features of a batch (B, 3, H, W) uint8: (B, last * D), or tokens (B, N, D)."""
    if kind == "tokens":
        return backbone.layers(images, 1)[-1]
    # a baseline without layers (pixels) has one, whatever is asked for
    return torch.cat([block.mean(1) for block in backbone.layers(images, last)], dim=1)


def _write(path: Path, compute: "functools.partial[Tensor]", part: Part, bar: str | None) -> None:
    """Compute the features into a temporary file that takes its name when it is complete."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = environment.hardware().device
    with files.replacing(path) if rank == 0 else nullcontext(path) as partial:
        if rank == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.remove_leftovers(path.parent)
            shape = (len(part), *compute(part[0][None].to(device)).shape[1:])
            np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape).flush()
            _reserve(partial)
        if world > 1:
            named = [partial]
            dist.broadcast_object_list(named)
            partial = named[0]
        array = np.lib.format.open_memmap(partial, mode="r+")
        parts = -(-len(part) // _BATCH)
        share = range(rank * parts // world * _BATCH, (rank + 1) * parts // world * _BATCH)
        for start, rows in _batches(compute, part, share, bar if rank == 0 else None):
            array[start : start + len(rows)] = rows
        array.flush()
        if world > 1:
            dist.barrier()  # every share is there
        if rank == 0:
            files.seal(partial)
    if world > 1:
        dist.barrier()  # nobody looks for the file before it has its name


def _reserve(path: Path) -> None:
    """Take a file's blocks now: a disk that is full later kills whoever writes to its mapping."""
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _batches(
    compute: "functools.partial[Tensor]", part: Part, share: range, bar: str | None
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Features of the images in ``share``, a batch at a time, each with its first row."""
    device = environment.hardware().device
    rows = range(share.start, min(share.stop, len(part)))
    batches = loader(part.views, part.rows[rows.start : rows.stop].tolist(), _BATCH, device)
    start = rows.start
    with torch.inference_mode():
        for batch in tqdm(batches, bar, unit="batch", leave=False, disable=bar is None):
            computed: NDArray[np.float16] = compute(batch.to(device)).half().cpu().numpy()
            yield start, computed
            start += len(computed)


def loader(
    data: Dataset[Any], rows: Sequence[int], batch_size: int, device: str
) -> "DataLoader[Any]":
    """Batches of the rows of a data set, in order."""
    first = data[rows[0]] if rows else torch.empty(0)
    size = batch_size * (first[0] if isinstance(first, tuple) else first).nbytes
    return DataLoader(
        data,
        batch_size=batch_size,
        sampler=rows,
        pin_memory=device == "cuda",
        generator=torch.Generator(),  # workers' seeds, which nothing uses; not the global state's
        **workers.options(size, ["ijepa.features", "torch", "torchvision"]),
    )
