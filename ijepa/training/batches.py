"""The global batch of any step: views and masks as a pure function of (seed, position).

The training stream is epoch after epoch of the training images, each epoch in its own order. The
batch that starts at position p holds the stream's images p, ..., p + batch_size - 1, so neither
workers, ranks nor a resumed run can change what is seen. The order is held by the process that
trains; a worker is told which images a batch has.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from ijepa import seeds, variants
from ijepa.config import Config, grid
from ijepa.masks import Keys, Masks
from ijepa.runtime import errors, workers
from ijepa.store.read import Images
from ijepa.training import augment
from ijepa.views import View


class Batch(NamedTuple):
    """One rank's share of a global batch.

    Attributes:
        samples: indices of the *global* batch in the data set, (global B,).
        views: the rank's images, (B, 3, S, S) uint8 for each view that the objective declares.
        masks: the rank's masks for each masked view, padded to the lengths of the global batch.
    """

    samples: NDArray[np.int64]
    views: tuple[Tensor, ...]
    masks: tuple[Masks, ...]


def training_subset(seed: int, fraction: float, count: int) -> NDArray[np.int64]:
    """The images a run learns from; a smaller fraction's subset lies within a larger one's."""
    if fraction == 1:
        return np.arange(count)
    chosen = seeds.generator(seed, "subset").permutation(count)
    return np.sort(chosen[: max(1, round(fraction * count))])


@functools.lru_cache(maxsize=2)  # a batch may begin in one epoch and end in the next
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of ``count`` images in an epoch."""
    return seeds.generator(seed, "order", epoch).permutation(count)


def views(config: Config) -> tuple[View, ...]:
    """The views of an image that a run's objective asks for; one of them if it says nothing."""
    declare = getattr(variants.load("objectives", config.objective.name), "views", None)
    size, train = config.data.image_size, config.train
    if declare is None:
        return (View(size, train.crop_scale, masked=True),)
    declared: tuple[View, ...] = declare(size, config.model, train, config.objective.options)
    return declared


def purpose(name: str, view: int) -> str:
    """What a view's random numbers are for; the first view's are those of a single one."""
    return f"{name}/{view}" if view else name


def crops(
    config: Config,
    epochs: NDArray[np.int64],
    samples: NDArray[np.int64],
    height: NDArray[np.int64] | int,
    width: NDArray[np.int64] | int,
    scale: tuple[float, float],
    view: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Random resized crops (Szegedy et al. 2015, as torchvision) and flips.

    Args:
        config: seeds.order and train.crop_aspect, flip are used.
        epochs: of each image, (B,).
        samples: index of each image, (B,).
        height: of the images in pixels, one for all or one for each, (B,).
        width: likewise.
        scale: range of the crop's share of the image's area.
        view: number of the view; views are independent.

    Returns:
        top, left, height and width of each crop in pixels (B, 4), and whether to flip (B,).
    """
    train, attempts = config.train, 10
    u = seeds.uniforms(
        config.seeds.order, purpose("crop", view), epochs, samples, 2 * attempts + 3
    )
    high, wide = (np.broadcast_to(side, samples.shape) for side in (height, width))
    low, most = scale
    area = (low + u[:, :attempts] * (most - low)) * (high * wide)[:, None]
    log_low, log_high = np.log(train.crop_aspect)
    aspect = np.exp(log_low + u[:, attempts : 2 * attempts] * (log_high - log_low))
    w = np.round(np.sqrt(area * aspect)).astype(np.int64)
    h = np.round(np.sqrt(area / aspect)).astype(np.int64)
    fits = (w >= 1) & (w <= wide[:, None]) & (h >= 1) & (h <= high[:, None])
    first = fits.argmax(1)
    rows = np.arange(len(samples))
    # ten misses (very elongated images): the largest centre crop within the aspect ratios
    fallback_h = np.minimum(high, np.round(wide / train.crop_aspect[0])).astype(np.int64)
    fallback_w = np.minimum(wide, np.round(high * train.crop_aspect[1])).astype(np.int64)
    hit = fits.any(1)
    h = np.where(hit, h[rows, first], fallback_h)
    w = np.where(hit, w[rows, first], fallback_w)
    place = u[:, 2 * attempts :]
    top = np.where(hit, place[:, 0] * (high - h + 1), (high - h) / 2).astype(np.int64)
    left = np.where(hit, place[:, 1] * (wide - w + 1), (wide - w) / 2).astype(np.int64)
    flip = (place[:, 2] < 0.5) & train.flip
    return np.stack([top, left, h, w], 1), flip


class Drawn(NamedTuple):
    """The images of a global batch.

    Attributes:
        position: in the stream, of the first.
        epochs: of each image, (global B,).
        samples: index of each in the data set, (global B,).
    """

    position: int
    epochs: NDArray[np.int64]
    samples: NDArray[np.int64]


class Batches(Dataset[Batch]):
    """Batches by the stream position they start at, for one rank.

    A copy in a worker holds no order: it is asked for what is ``Drawn``.

    Args:
        images: the training split.
        config: the run.
        rank: of this process.
        world: number of processes; divides the global batch.
    """

    def __init__(self, images: Images, config: Config, rank: int = 0, world: int = 1) -> None:
        self.images, self.config = images, config
        self.share = slice(
            rank * config.train.batch_size // world, (rank + 1) * config.train.batch_size // world
        )
        self.subset = training_subset(config.seeds.order, config.data.train_fraction, len(images))
        self.views = views(config)
        self.sample_masks = variants.load("masks", config.mask.name).sample

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "subset"}

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        train = self.config.train
        return max(1, int(train.epochs * len(self.subset)) // train.batch_size)

    def draw(self, position: int) -> Drawn:
        """The images of stream positions ``position`` to ``position + batch_size``."""
        seed, size = self.config.seeds.order, self.config.train.batch_size
        epochs, places = np.divmod(np.arange(position, position + size), len(self.subset))
        samples = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            rows = epochs == epoch
            samples[rows] = self.subset[order(seed, int(epoch), len(self.subset))[places[rows]]]
        return Drawn(position, epochs, samples)

    def __getitem__(self, drawn: int | Drawn) -> Batch:
        """The batch that was drawn, or that starts at a position of the stream."""
        if not isinstance(drawn, Drawn):
            drawn = self.draw(drawn)
        step, (_, epochs, samples) = drawn.position // self.config.train.batch_size, drawn
        masks = tuple(
            self._masks(number, step, epochs, samples)
            for number, view in enumerate(self.views)
            if view.masked
        )
        mine = epochs[self.share], samples[self.share]
        pictures = [self._picture(int(sample)) for sample in mine[1]]  # once for all views
        views = (self._view(number, pictures, *mine) for number in range(len(self.views)))
        return Batch(samples, tuple(views), masks)

    def _picture(self, sample: int) -> NDArray[np.uint8]:
        with errors.preparing("train", sample):
            return self.images[sample]

    def _masks(
        self, view: int, step: int, epochs: NDArray[np.int64], samples: NDArray[np.int64]
    ) -> Masks:
        """The rank's masks of a view."""
        seed = self.config.seeds.mask
        if view:
            seed = seeds.key(seed, "mask", view)
        keys = Keys(seed, step, epochs, samples)
        masks: Masks = self.sample_masks(keys, grid(self.config), self.config.mask.options)
        return masks.rows(self.share.start, self.share.stop)

    def _view(
        self,
        number: int,
        pictures: Sequence[NDArray[np.uint8]],
        epochs: NDArray[np.int64],
        samples: NDArray[np.int64],
    ) -> Tensor:
        """One view of the rank's images (H, W, 3), cropped and augmented, (B, 3, S, S) uint8."""
        train, view = self.config.train, self.views[number]
        height, width = np.array([picture.shape[:2] for picture in pictures]).T
        boxes, flips = crops(self.config, epochs, samples, height, width, view.crop_scale, number)
        augmented = augment.wanted(train)
        u = seeds.uniforms(
            self.config.seeds.order, purpose("augment", number), epochs, samples, augment.DRAWS
        )
        pixels = []
        for row, picture in enumerate(pictures):
            with errors.preparing("train", int(samples[row])):
                top, left, height, width = boxes[row].tolist()
                cut = picture[top : top + height, left : left + width]
                if flips[row]:
                    cut = cut[:, ::-1]
                chw: Tensor = transforms.resize(
                    # a copy: ascontiguousarray keeps the negative stride of a flipped column
                    torch.from_numpy(cut.transpose(2, 0, 1).copy()),
                    [view.size, view.size],
                    InterpolationMode.BILINEAR,
                    antialias=True,
                )
                pixels.append(augment.photometric(chw, train, u[row]) if augmented else chw)
        return torch.stack(pixels)


def loader(batches: Batches, first: int, pin_memory: bool = False) -> Iterable[Batch]:
    """The batches from stream position ``first`` to the end of the run, in order.

    Workers (``runtime.workers``) change no batch; where there are none, a thread of this process
    prepares the next one.

    Args:
        batches: of this rank.
        first: images of the stream that are already consumed.
        pin_memory: for copies to a GPU.
    """
    size = batches.config.train.batch_size
    positions = range(first, batches.steps * size, size)
    images = batches.share.stop - batches.share.start
    share = images * sum(3 * view.size**2 for view in batches.views)  # bytes
    options = workers.options(share, ["ijepa.training.batches", "torch", "torchvision"])
    if not options["num_workers"] and not pin_memory:
        return _ahead(batches, positions)
    return DataLoader(
        batches, sampler=_Draws(batches, positions), batch_size=None, pin_memory=pin_memory,
        **options,
    )  # fmt: skip


class _Draws(Sampler[Drawn]):
    """What is drawn at each position, in the process that trains."""

    def __init__(self, batches: Batches, positions: range) -> None:
        self.batches, self.positions = batches, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Drawn]:
        return map(self.batches.draw, self.positions)


def _ahead(batches: Batches, positions: Iterable[int]) -> Iterator[Batch]:
    """Each batch, while a thread prepares the next: the work is numpy's and torch's, not Python's.

    A process instead would need a core of its own, which a laptop does not have.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting: Future[Batch] | None = None
        for position in positions:
            following = thread.submit(batches.__getitem__, position)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
