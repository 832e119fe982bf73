"""Figures made of images: one canvas of pixels with words on top, so tiles are drawn exactly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from ijepa.pages import style

Pixels = NDArray[np.uint8]


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


def side_near(size: int, wanted: int) -> int:
    """The side of a tile near ``wanted``: a whole multiple of a small image's."""
    return size * max(1, round(wanted / size)) if size <= wanted else wanted


def tile(image: Pixels, side: int) -> Pixels:
    """An image as a square tile: small ones keep their pixels, large ones are scaled down."""
    how = Image.Resampling.NEAREST if image.shape[0] <= side else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((side, side), how))
