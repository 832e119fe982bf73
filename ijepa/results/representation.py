"""What the encoders make of fixed images: their patches' components and their nearest neighbours.

Which images are looked at depends on the data set alone, never on a result. They are seen as the
evaluation sees them (``evaluate.view``).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ijepa import backbones, features, seeds, views
from ijepa.config import Config
from ijepa.features import Part
from ijepa.model import vit
from ijepa.store.read import Store

IMAGES = 8  # that are looked at
NEIGHBOURS = 5
POOL = 5000  # images that neighbours are searched in, at most


@dataclass(frozen=True, slots=True)
class Representation:
    """The numbers of what was seen; mappings are by the name of the encoder (or ``pixels``)."""

    split: str  # whose images they are
    task: str  # the first task, whose labels say which neighbours are alike
    ids: tuple[int, ...]  # indices of the fixed images in the split, (Q,)
    labels: tuple[str, ...]  # their classes by name, (Q,)
    explained: dict[str, tuple[float, ...]]  # share of variance of the three components
    pool: int  # how many images neighbours were searched in
    neighbours: dict[str, tuple[tuple[int, ...], ...]]  # indices of the nearest, (Q, NEIGHBOURS)
    same: dict[str, int]  # how many neighbours have their query's class
    shown: int  # how many neighbours there are


@dataclass(frozen=True, slots=True)
class Views:
    """What was seen: the numbers, and the pixels that the figures show."""

    numbers: Representation  # everything that is not a picture
    images: NDArray[np.uint8]  # the fixed images as the encoder saw them, (Q, S, S, 3)
    maps: dict[str, NDArray[np.float64]]  # components of the patches in [0, 1], (Q, h, w, 3)
    pictures: dict[int, NDArray[np.uint8]]  # every neighbour, by index, (S, S, 3)
    alike: dict[str, NDArray[np.bool_]]  # whether neighbours have the query's class, like them


def look(config: Config, data: Store, weights: Path, count: int = IMAGES) -> Views:
    """Look at ``count`` fixed images of the reported split through the encoders.

    Neighbours are found by the features that the probes read, from their cache.

    Args:
        config: the run's parameters.
        data: the prepared data set.
        weights: the encoder that was evaluated.
        count: how many images.

    Raises:
        ValueError: there is no such encoder.
    """
    split, size = data.splits[data.report_split], config.data.image_size
    task = next(iter(data.tasks))
    labels = split.labels[task]
    ids = fixed(labels, count)
    view = views.VIEWS[config.evaluate.view]
    images = [view(split[i], size) for i in ids.tolist()]
    pool, nearest = _nearest(config, data, weights, ids)
    shown = views.normalise(torch.stack(images))
    untrained = vit.create(size, config.model, config.seeds.init)
    maps, explained = {}, {}
    for name, module in (("trained", vit.load(weights)), ("random_init", untrained)):
        with torch.no_grad():  # double: the colours must not depend on the number of threads
            patches = module.double()(shown.double())
        maps[name], explained[name] = components(patches.numpy(), module.grid)
    near = sorted({int(i) for rows in nearest.values() for i in rows.ravel()})
    alike = {name: labels[rows] == labels[ids][:, None] for name, rows in nearest.items()}
    return Views(
        numbers=Representation(
            split=data.report_split,
            task=task,
            ids=tuple(ids.tolist()),
            labels=tuple(data.tasks[task][i] for i in labels[ids]),
            explained={name: tuple(shares) for name, shares in explained.items()},
            pool=pool,
            neighbours={n: tuple(map(tuple, rows.tolist())) for n, rows in nearest.items()},
            same={name: int(hits.sum()) for name, hits in alike.items()},
            shown=len(ids) * NEIGHBOURS,
        ),
        images=np.stack([_upright(image) for image in images]),
        maps=maps,
        pictures={i: _upright(view(split[i], size)) for i in near},
        alike=alike,
    )


def _nearest(
    config: Config, data: Store, weights: Path, ids: NDArray[np.int64]
) -> tuple[int, dict[str, NDArray[np.int64]]]:
    """How many images were searched, and the nearest of each query by each kind of features."""
    split = data.splits[data.report_split]
    chosen = seeds.generator(0, "report/pool", len(split)).permutation(len(split))[:POOL]
    pool = np.union1d(ids, chosen)  # random: a file may be in the order of its classes
    every, nearest = np.arange(len(split)), {}
    for name, backbone in backbones.compared(str(weights), config).items():
        part = Part(data, data.report_split, every, config.evaluate.view, backbone.image_size)
        pooled = features.pooled(backbone, config.evaluate.last_layers, part)
        last = pooled.get("last", next(iter(pooled.values())))
        rows = neighbours(last[pool].astype(np.float32), np.searchsorted(pool, ids), NEIGHBOURS)
        nearest[name] = pool[rows]
    return len(pool), nearest


def fixed(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of the first image of each class, then of the second of each, up to ``count``."""
    seen: dict[int, int] = {}
    places = []
    for index, label in enumerate(labels.tolist()):
        seen[label] = seen.get(label, -1) + 1
        places.append((seen[label], label, index))
    return np.array([index for _, _, index in sorted(places)[:count]], dtype=np.int64)


def _upright(image: torch.Tensor) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = image.permute(1, 2, 0).numpy()
    return pixels


def neighbours(
    vectors: NDArray[np.float32], rows: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Rows with the largest cosine similarity to each of ``rows``, itself left out.

    The mean over all images is removed first: it is most of the length of a feature and says
    nothing about an image.

    Args:
        vectors: features, (P, D).
        rows: the queries, (Q,).
        count: how many neighbours.

    Returns:
        Rows of ``vectors``, nearest first, (Q, count).
    """
    centred = vectors - vectors.mean(0)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    likeness = centred[rows] @ centred.T
    likeness[np.arange(len(rows)), rows] = -np.inf
    return np.argsort(-likeness, axis=1, kind="stable")[:, :count]


def components(
    patches: NDArray[np.floating], grid: tuple[int, int]
) -> tuple[NDArray[np.float64], list[float]]:
    """Three principal components of patch features as colours, in a basis that all images share.

    Args:
        patches: features of every patch of some images, (Q, N, D).
        grid: rows and columns of patches.

    Returns:
        Colours in [0, 1], (Q, rows, columns, 3), and each component's share of the variance.
    """
    flat = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(flat.T @ flat)
    basis = vectors[:, ::-1][:, :3]
    basis = basis * np.sign(basis[np.abs(basis).argmax(0), range(3)])  # eigenvectors have no sign
    scores = flat @ basis
    low, high = np.percentile(scores, [2, 98], axis=0)
    colours = np.clip((scores - low) / np.maximum(high - low, 1e-12), 0, 1)
    total = max(float(values.sum()), 1e-12)
    shares = [float(max(v, 0.0)) / total for v in values[::-1][:3]]
    return colours.reshape(len(patches), *grid, 3), shares
