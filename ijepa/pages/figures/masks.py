"""Images beside their context and their targets."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa import variants
from ijepa.config import Config, grid
from ijepa.pages.figure import Words
from ijepa.pages.sheet import Pixels, Sheet, side_near, tile
from ijepa.results import Results
from ijepa.results import masks as drawn
from ijepa.store.read import PREPARED, open_store
from ijepa.training import batches

IMAGES = 6
_HIDDEN = 232  # the grey of a patch that is not seen


def needs(results: Results) -> bool:
    """Masks; where there is no image, grey stands for it."""
    return results.masks.masks > 0


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    objective = variants.load("objectives", results.parameters["objective"]["name"])
    what = (
        "The first images of pretraining's first batch, cropped as it saw them"
        if results.provenance.data
        else "There is no data set here, so grey stands for images"
    )
    return Words(
        "Context and targets",
        f"{IMAGES} images, each beside its visible context and its target blocks.",
        f"{what}; what is no context is grey. {objective.TITLE}: {objective.ABOUT}",
        picture=True,
    )


def draw(settings: Config, path: Path, count: int = IMAGES) -> bool:
    """Draw the first images of pretraining's first batch beside their context and their targets.

    Args:
        settings: the parameters.
        path: where to, without a suffix; .png and .svg are written.
        count: how many images.

    Returns:
        Whether the images are real; without a prepared data set they are grey.
    """
    size, patch = settings.data.image_size, settings.model.patch_size
    real = (PREPARED / "manifest.json").is_file()
    if real:
        ranks = max(1, settings.train.batch_size // count)  # as if of many: do not read them all
        batch = batches.Batches(open_store().splits["train"], settings, 0, ranks)[0]
        images, masks = list(batch.views[0][:count].permute(0, 2, 3, 1).numpy()), batch.masks[0]
    else:
        images, masks = [_grey(size)] * count, drawn.draw(settings, 0, count)
    targets = min(masks.targets.shape[1], 6)
    side, gap = side_near(size, 128), 10
    block = (2 + targets) * (side + gap) + 3 * gap
    across = min(2, len(images))
    sheet = Sheet.blank(block * across + gap, 44 + -(-len(images) // across) * (side + gap))
    for number, image in enumerate(images):
        x, y = gap + (number % across) * block, 44 + (number // across) * (side + gap)
        seen = [np.ones(grid(settings), bool)]
        seen.append(_patches(masks.context[number], masks.context_valid[number], settings))
        for target in range(targets):
            index, valid = masks.targets[number, target], masks.targets_valid[number, target]
            seen.append(_patches(index, valid, settings))
        for column, visible in enumerate(seen):
            left = x + column * (side + gap) + gap * min(column, 2)
            zoom = np.arange(side) * size // side // patch
            pixels = np.where(visible[zoom][:, zoom, None], tile(image, side), _HIDDEN)
            sheet.paste(pixels.astype(np.uint8), left, y)
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


def _patches(index: Any, valid: Any, settings: Config) -> NDArray[np.bool_]:
    """Which patches of the grid a mask names."""
    named = np.zeros(grid(settings), bool)
    named.ravel()[index[valid].numpy()] = True
    return named
