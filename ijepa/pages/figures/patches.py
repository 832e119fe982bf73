"""Fixed images above the principal components of their patches, for each encoder."""

from pathlib import Path

import numpy as np
from PIL import Image

from ijepa.pages import style
from ijepa.pages.figure import Words
from ijepa.pages.sheet import Sheet, side_near, tile
from ijepa.pages.text import spoken
from ijepa.results import Results
from ijepa.results.representation import Views


def needs(results: Results) -> bool:
    """Images and an encoder."""
    return results.representation is not None


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    seen = results.representation
    assert seen
    shares = "; ".join(
        f"{spoken(name)} {sum(seen.explained[name]):.0%}"
        for name in style.ENCODERS
        if name in seen.explained
    )
    return Words(
        "Principal components of patch features",
        f"{len(seen.ids)} images ({', '.join(seen.labels)}) above colour maps of their patch"
        " features.",
        "The first three principal components of the last block's patch features as red, green and"
        " blue, in one basis for all images of an encoder, scaled up to the image. Equal colours"
        " are similar patches; colours mean nothing from one encoder to the other. Share of the"
        f" variance shown: {shares}. The images are the first of each class in the {seen.split}"
        " split, chosen before training.",
        picture=True,
    )


def draw(views: Views, path: Path) -> None:
    """A row of images, and one of maps for each encoder."""
    side, gap, left, top = side_near(views.images.shape[1], 150), 10, 190, 10
    count = len(views.images)
    sheet = Sheet.blank(left + count * (side + gap), top + (1 + len(views.maps)) * (side + gap))
    for line, name in enumerate(["image", *views.maps]):
        y = top + line * (side + gap)
        sheet.write(10, y + side / 2, spoken(name), fontsize=8.5, fontweight="bold")
        for column in range(count):
            if name == "image":
                pixels = tile(views.images[column], side)
            else:
                small = Image.fromarray(np.round(255 * views.maps[name][column]).astype(np.uint8))
                pixels = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
            sheet.paste(pixels, left + column * (side + gap), y)
    sheet.save(path)
