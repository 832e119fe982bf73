"""The figures made of images: masks, principal components of patches, nearest neighbours.

A figure is one canvas of pixels with words on top, so that every tile is drawn exactly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from ijepa import variants
from ijepa.config import Config, as_tree, grid
from ijepa.masks import Keys, Masks
from ijepa.pages import style
from ijepa.pages.run.views import Views
from ijepa.pages.run.words import spoken
from ijepa.store import read as store
from ijepa.training import batches

Pixels = NDArray[np.uint8]
_HIDDEN = 232  # the grey of a patch that is not seen


@dataclass(slots=True)
class Sheet:
    """A canvas of tiles, with words and frames that are drawn over it; units are pixels."""

    canvas: Pixels
    words: list[tuple[float, float, str, dict[str, Any]]]
    frames: list[tuple[float, float, float, dict[str, Any]]]

    @classmethod
    def blank(cls, width: int, height: int) -> "Sheet":
        """An empty white canvas."""
        return cls(np.full((height, width, 3), 255, np.uint8), [], [])

    def paste(self, tile: Pixels, x: int, y: int) -> None:
        """Put a tile with its upper left corner at (x, y)."""
        self.canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile

    def write(self, x: float, y: float, text: str, **how: Any) -> None:
        """Write at (x, y), by default to the right of it and half above, half below."""
        self.words.append((x, y, text, {"ha": "left", "va": "center", "fontsize": 8} | how))

    def frame(self, x: float, y: float, side: float, **how: Any) -> None:
        """Draw a square frame whose upper left corner is (x, y)."""
        self.frames.append((x, y, side, how))

    def save(self, path: Path) -> None:
        """Write ``path`` as PNG and SVG."""
        height, width = self.canvas.shape[:2]
        with style.figure(path, (width / style.DPI, height / style.DPI), fitted=False) as figure:
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            axes.imshow(
                self.canvas, interpolation="nearest", extent=(0, width, height, 0), aspect="auto"
            )
            for x, y, side, how in self.frames:
                axes.add_patch(Rectangle((x, y), side, side, fill=False, **how))
            for x, y, text, how in self.words:
                axes.text(x, y, text, **how)


def _side(size: int, wanted: int) -> int:
    """The side of a tile near ``wanted``: a whole multiple of a small image's."""
    return size * max(1, round(wanted / size)) if size <= wanted else wanted


def _tile(image: Pixels, side: int) -> Pixels:
    """An image as a square tile: small ones keep their pixels, large ones are scaled down."""
    how = Image.Resampling.NEAREST if image.shape[0] <= side else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((side, side), how))


def _draw_masks(settings: Config, step: int, size: int) -> Masks:
    """Masks of ``size`` images that are numbered one after another, in epoch 0."""
    samples = np.arange(size, dtype=np.int64) + step * size
    keys = Keys(settings.seed, step, np.zeros(size, dtype=np.int64), samples)
    found: Masks = variants.load("masks", settings.mask.name).sample(
        keys, grid(settings), settings.mask.options
    )
    return found


def mask_gallery(settings: Config, path: Path, count: int = 8) -> bool:
    """Draw the first images of pretraining's first batch beside their context and their targets.

    Args:
        settings: the parameters.
        path: where to, without a suffix; .png and .svg are written.
        count: how many images.

    Returns:
        Whether the images are real; without a prepared data set they are grey.
    """
    size, patch = settings.data.image_size, settings.model.patch_size
    real = (store.PREPARED / "manifest.json").is_file()
    if real:
        ranks = max(1, settings.train.batch_size // count)  # as if of many: do not read them all
        batch = batches.Batches(store.open_store().splits["train"], settings, 0, ranks)[0]
        images, masks = list(batch.views[0][:count].permute(0, 2, 3, 1).numpy()), batch.masks[0]
    else:
        images, masks = [_grey(size)] * count, _draw_masks(settings, 0, count)
    targets = min(masks.targets.shape[1], 6)
    side, gap, across = _side(size, 128), 10, 2
    block = (2 + targets) * (side + gap) + 3 * gap
    lines = -(-len(images) // across)
    across = min(across, len(images))
    sheet = Sheet.blank(block * across + gap, 44 + lines * (side + gap))
    for number, image in enumerate(images):
        x, y = gap + (number % across) * block, 44 + (number // across) * (side + gap)
        tile, shown = _tile(image, side), [np.ones(grid(settings), bool)]
        shown.append(_chosen(masks.context[number], masks.context_valid[number], settings))
        for target in range(targets):
            index, valid = masks.targets[number, target], masks.targets_valid[number, target]
            shown.append(_chosen(index, valid, settings))
        for column, seen in enumerate(shown):
            left = x + column * (side + gap) + (gap if column else 0) + (gap if column > 1 else 0)
            zoom = np.arange(side) * size // side // patch
            visible = seen[zoom][:, zoom, None]
            sheet.paste(np.where(visible, tile, _HIDDEN).astype(np.uint8), left, y)
            if number < across:
                name = ["image", "context"][column] if column < 2 else f"target {column - 1}"
                sheet.write(left + side / 2, 22, name, ha="center")
    sheet.save(path)
    return real


def _grey(size: int) -> Pixels:
    """What stands for an image when there is no data set: darker towards the lower right."""
    ramp = np.linspace(170, 90, size)
    grey = (ramp[:, None] + ramp[None, :]) / 2
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def _chosen(index: Any, valid: Any, settings: Config) -> NDArray[np.bool_]:
    chosen = np.zeros(grid(settings), bool)
    chosen.ravel()[index[valid].numpy()] = True
    return chosen


def mask_shares(settings: Config, images: int = 2048) -> dict[str, Any]:
    """How much of an image is context, and how much one target has, over many drawn masks.

    Returns:
        For ``context`` and ``target``: mean, smallest, largest, and a histogram (edges, counts) of
        shares of an image's patches; ``masks``, how many images were drawn; ``target_scale`` where
        the strategy has such an option.
    """
    size = settings.train.batch_size
    drawn = [_draw_masks(settings, step, size) for step in range(max(1, images // size))]
    patches = grid(settings)[0] * grid(settings)[1]
    shares = {
        "context": np.concatenate([m.context_valid.sum(1).numpy() for m in drawn]) / patches,
        "target": np.concatenate([m.targets_valid.sum(2).numpy().ravel() for m in drawn])
        / patches,
    }
    found: dict[str, Any] = {"masks": len(shares["context"])}
    for name, share in shares.items():
        # a bin for each possible number of patches up to 64 of them, so that bars cannot alias
        width = max(1, patches // 64) / patches
        low = np.floor(share.min() / width) - 1
        edges = (np.arange(low, np.ceil(share.max() / width) + 2) - 0.5) * width
        counts = np.histogram(share, edges)[0]
        found[name] = {
            "mean": float(share.mean()),
            "smallest": float(share.min()),
            "largest": float(share.max()),
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        }
    found["target_scale"] = as_tree(settings.mask).get("target_scale")
    return found


def patch_maps(views: Views, path: Path) -> None:
    """Fixed images above the principal components of their patches, for each encoder."""
    side, gap, left, top = _side(views.images.shape[1], 150), 10, 190, 10
    count = len(views.images)
    sheet = Sheet.blank(left + count * (side + gap), top + (1 + len(views.maps)) * (side + gap))
    for line, name in enumerate(["image", *views.maps]):
        y = top + line * (side + gap)
        sheet.write(10, y + side / 2, spoken(name), fontsize=8.5, fontweight="bold")
        for column in range(count):
            if name == "image":
                tile = _tile(views.images[column], side)
            else:
                small = Image.fromarray(np.round(255 * views.maps[name][column]).astype(np.uint8))
                tile = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
            sheet.paste(tile, left + column * (side + gap), y)
    sheet.save(path)


def retrieval(views: Views, labels: NDArray[np.int64], path: Path) -> None:
    """Fixed queries beside their nearest images by each kind of features.

    A neighbour of the query's class has a solid blue frame, any other a dashed orange one.

    Args:
        views: queries and neighbours.
        labels: of the whole reported split.
        path: where to, without a suffix.
    """
    side, gap, top = _side(views.images.shape[1], 84), 14, 50
    names = list(views.neighbours)
    nearest = next(iter(views.neighbours.values())).shape[1]
    block = nearest * (side + gap) + 20
    width = gap + (side + 34) + len(names) * block
    sheet = Sheet.blank(width, top + len(views.ids) * (side + gap))
    sheet.write(gap + side / 2, 22, "query", ha="center", fontweight="bold")
    for number, name in enumerate(names):
        x = gap + side + 34 + number * block
        what = spoken(name) if name == "pixels" else f"{spoken(name)} features"
        sheet.write(x, 22, f"nearest by {what}", fontweight="bold")
    for row, query in enumerate(views.ids.tolist()):
        y = top + row * (side + gap)
        sheet.paste(_tile(views.images[row], side), gap, y)
        for number, name in enumerate(names):
            for place, found in enumerate(views.neighbours[name][row].tolist()):
                x = gap + side + 34 + number * block + place * (side + gap)
                sheet.paste(_tile(views.pictures[found], side), x, y)
                same = labels[found] == labels[query]
                how = (
                    {"ec": style.BLUE, "lw": 2.0}
                    if same
                    else {"ec": style.RED, "lw": 1.0, "ls": "--"}
                )
                sheet.frame(x - 3, y - 3, side + 6, **how)
    sheet.save(path)
