"""Rendered scenes: the data set that needs no download.

Each image shows several solids on a plain ground, seen by one fixed camera: spheres, cubes and
cylinders, patterned, lit from one side, near and far, hiding one another. There are three labels:

- ``class``: how the solids are arranged (in a row, in a ring, as an arrow, ...). Each solid is
  light or dark, by the toss of a coin, on a ground between the two, so the mean colour of a place
  hardly depends on whether a solid is there, and a linear probe on pixels stays near chance
  (shadows leave it a little). Shapes, patterns, colours, light, number, size and place say nothing
  about the arrangement. Part of an arrangement tells where the rest of it is. Fewer than three
  solids have no arrangement, and three or four can look like several: no probe reaches 100 %.
- ``count``: how many solids there are. Each of them shows at least ``_VISIBLE`` of the picture.
- ``distance``: depth of the closest solid's centre along the camera's axis, in the six bins of
  VTAB's Clevr/Dist. The bins are drawn uniformly.

``nuisance_amplitude`` adds a grey random field that says nothing about any label. It is as
predictable from one patch to the next as ``nuisance_length`` makes it.

It is a test bench, made to be learnable in minutes; it stands in for no photographs. Image i of a
split depends on (render_seed, split, i) and the options alone, never on what is rendered with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ijepa.datasets import (
    DISTANCES,
    EDGES,
    Item,
    Source,
    Split,
    _field,
    _solids,
    distance_bin,
)
from ijepa.datasets._solids import F64, I64, SHAPES, Solids
from ijepa.seeds import uniforms
from ijepa.strict import integer, interval, once, real

CLASSES = ("row", "ranks", "rising", "falling", "ring", "wedge", "arrow", "columns")

_NEAREST, _FARTHEST = 7.25, 10.9  # depths between which the closest solid lies
_RADIUS = (0.48, 0.64)
_WIDE, _DEEP = 0.8, 2.5  # half width, in half the view's; depth along the ground
_SCALE = (0.65, 0.9)  # of the arrangement
_ASIDE = 0.3  # how far it may be off the middle, in half its width
_VISIBLE = 0.002  # share of the picture's pixels that every solid shows
_ATTEMPTS, _SHRINK = 100, 0.97
_CHUNK = 16  # images rendered together: their arrays stay in the processor's cache


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to render."""

    image_size: int = integer(16, 512)  # pixels: side of the square
    train_images: int = integer(1)
    test_images: int = integer(1)
    render_seed: int = integer(0, 2**31 - 1)  # not `seed`: runs differ, their images do not
    objects: tuple[int, int] = interval(0, 16)  # fewest and most solids
    nuisance_amplitude: float = real(0)  # standard deviation of the field in grey levels of 255
    nuisance_length: float = real(0)  # pixels: of its kernel, see `_field.gaussian`


def load(options: Options, root: Path) -> Source:
    """The scenes; nothing is read from ``root``."""
    low, high = options.objects

    def split(name: str, count: int) -> Split:
        def items() -> Iterator[Item]:
            for start in range(0, count, _CHUNK):
                samples = np.arange(start, min(start + _CHUNK, count))
                images, labels, _ = render(options, name, samples)
                for row, sample in enumerate(samples):
                    values = {task: int(label[row]) for task, label in labels.items()}
                    yield Item(images[row], values, f"scenes {name} {sample}")

        return Split(count, items)

    return Source(
        splits={
            "train": split("train", options.train_images),
            "test": split("test", options.test_images),
        },
        tasks={
            "class": CLASSES,
            "count": tuple(str(count) for count in range(low, high + 1)),
            "distance": DISTANCES,
        },
        origin={"renderer": "ijepa.datasets.scenes", "render_seed": options.render_seed},
    )


def render(
    options: Options, split: str, samples: I64
) -> tuple[NDArray[np.uint8], dict[str, I64], NDArray[np.int8]]:
    """Draw the images of a split with the given indices.

    Returns:
        Images (n, H, W, 3); each task's labels (n,); the solid that each pixel shows, -1 for the
        ground, (n, H, W).

    Raises:
        ValueError: the solids do not fit into so small a picture.
    """
    low, high = options.objects
    size, n = options.image_size, len(samples)

    def draw(purpose: str, count: int, rows: I64 = samples, attempt: int = 0) -> F64:
        return uniforms(options.render_seed, f"scenes/{split}/{purpose}", attempt, rows, count)

    u = draw("labels", 4)
    kind = (u[:, 0] * len(CLASSES)).astype(np.int64)
    count = low + (u[:, 1] * (high - low + 1)).astype(np.int64)
    lower, upper = np.array((_NEAREST, *EDGES)), np.array((*EDGES, _FARTHEST))
    drawn = (u[:, 2] * len(upper)).astype(np.int64)
    closest = upper[drawn] - u[:, 3] * (upper - lower)[drawn]  # in (lower, upper], like the bins

    # A scene that hides a solid is laid out again, with the same labels and smaller solids.
    scene = Solids(*(np.empty((n, high), kind) for kind in _KINDS))
    depth, owner = np.empty((n, size, size), np.float32), np.empty((n, size, size), np.int8)
    redo = np.arange(n)
    for attempt in range(_ATTEMPTS):
        places = draw("places", _SCENE + high * _SOLID, samples[redo], attempt)
        tried = _lay_out(places, kind[redo], count[redo], closest[redo], high, attempt)
        for name in Solids.__slots__:
            getattr(scene, name)[redo] = getattr(tried, name)
        depth[redo], owner[redo] = _solids.cast(tried, size)
        shows = np.stack([(owner[redo] == k).sum((1, 2)) for k in range(high)], 1)
        redo = redo[(tried.shown & (shows < max(_VISIBLE * size * size, 1))).any(1)]
        if not len(redo):
            break
    else:
        raise ValueError(f"data.objects: {high} solids do not fit into {size} x {size} pixels")

    look = draw("look", _solids.SCENE_NUMBERS + high * _solids.PAINT_NUMBERS)
    labels = {"class": kind, "count": count - low, "distance": distance_bin(closest)}
    images = _solids.shade(scene, depth, owner, look)
    if options.nuisance_amplitude:
        images = _over(images, options, split, samples)
    return images, labels, owner


def _over(
    images: NDArray[np.uint8], options: Options, split: str, samples: I64
) -> NDArray[np.uint8]:
    """The images under their fields, the same in all three colours, cut off at 0 and 255."""
    field = _field.gaussian(
        options.render_seed, f"datasets/scenes/{split}/nuisance", samples,
        options.image_size, options.nuisance_length,
    )  # fmt: skip
    lit = images + options.nuisance_amplitude * field[..., None]
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


_KINDS = (bool, np.int64, np.float32, np.float32, np.float32, np.float32, np.float32)
_SCENE, _SOLID = 4, 5  # uniform numbers of the layout of a scene and of each solid


def _lay_out(u: F64, kind: I64, count: I64, closest: F64, most: int, attempt: int) -> Solids:
    """Put the solids where their arrangement wants them, the closest at depth ``closest``."""
    scene, solid = u[:, :_SCENE], u[:, _SCENE:].reshape(-1, most, _SOLID)
    radius = (_RADIUS[0] + solid[..., 0] * (_RADIUS[1] - _RADIUS[0])) * _SHRINK**attempt
    shape = (solid[..., 1] * len(SHAPES)).astype(np.int64)
    half = radius * np.where(shape == SHAPES.index("sphere"), 1.0, _solids.FLAT)
    shown = np.arange(most) < count[:, None]

    across, along = _arrangement(kind, count, most, turn=scene[:, 0])
    scale = _SCALE[0] + scene[:, 1:2] * (_SCALE[1] - _SCALE[0])
    across = across * scale + (2 * scene[:, 2:3] - 1) * _ASIDE + (solid[..., 3] - 0.5) * 0.12
    along = along * scale * _DEEP + (solid[..., 4] - 0.5) * 0.25
    # Depth is AHEAD * z + DOWN * (height - EYE): all move along the ground to the depth wanted.
    raised = _solids.DOWN * (half - _solids.EYE)
    nearest = np.where(shown, _solids.AHEAD * along + raised, np.inf).min(1)
    z = along + ((closest - nearest) / _solids.AHEAD)[:, None]
    x = across * (_WIDE * _solids.HALF_WIDTH * closest)[:, None]
    values = (x, z, radius, half, 2 * np.pi * solid[..., 2])
    return Solids(shown, shape, *(value.astype(np.float32) for value in values))


def _arrangement(kind: I64, count: I64, most: int, turn: F64) -> tuple[F64, F64]:
    """Places of the solids: across in [-1, 1] and along in [0, 1], (n, m) each."""
    k = np.arange(most)[None, :]
    line = k / np.maximum(count - 1, 1)[:, None]  # 0 to 1 along a line of all
    half = k // 2 / np.maximum((count + 1) // 2 - 1, 1)[:, None]  # along two lines of half of them
    angle = 2 * np.pi * (k / count[:, None] + turn[:, None])
    span, other = 2 * line - 1, k % 2 + 0 * line
    places = {
        "row": (span, 0 * line),
        "ranks": (2 * half - 1, other),
        "rising": (span, line),
        "falling": (span, 1 - line),
        "ring": (np.cos(angle), 0.5 + 0.5 * np.sin(angle)),
        "wedge": (span, np.abs(span)),
        "arrow": (span, 1 - np.abs(span)),
        "columns": (0.8 * (2 * other - 1), half),
    }
    rows = np.arange(len(kind))
    across = np.stack([places[name][0] for name in CLASSES])[kind, rows]
    along = np.stack([places[name][1] for name in CLASSES])[kind, rows]
    return across, along
