"""Encoded image -> (H, W, 3) uint8 RGB, and the reasons for which an image is refused.

Greyscale, palette, alpha, CMYK and YCbCr images become RGB as Pillow's ``convert("RGB")`` has it
(alpha is dropped, not blended; no colour profile is applied), and of 16 bits a colour the upper 8
are kept. EXIF orientation is not applied: the usual ImageNet pipelines do not either, so numbers
stay comparable. Of an animation the first frame counts.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from ijepa.store.duplicates import fingerprint

# What Pillow may try: its other formats are rare, and EPS would call Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Pillow's modes that become RGB. 16-bit and 32-bit greyscale (I;16, I) would be clipped, float
# images (F) have no agreed range, and LAB needs a colour profile.
MODES = frozenset({"RGB", "RGBA", "L", "LA", "1", "P", "PA", "CMYK", "YCbCr"})
MAX_PIXELS = (
    Image.MAX_IMAGE_PIXELS or 2**26
)  # Pillow's limit against decompression bombs, 89 million


@dataclass(frozen=True, slots=True)
class Picture:
    """A good image.

    Attributes:
        size: height and width in pixels.
        mode: Pillow's colour mode of the file, with ``;16`` where it has 16 bits a colour.
        fingerprint: of its bytes, see ``duplicates.fingerprint``.
        pixels: (H, W, 3) uint8 RGB where it was wanted.
    """

    size: tuple[int, int]
    mode: str
    fingerprint: int
    pixels: NDArray[np.uint8] | None


def examine(image: NDArray[np.uint8] | bytes, small: int) -> Picture | str:
    """Decode an image to see that it can be; its pixels are kept up to ``small`` pixels a side.

    Returns:
        What was found, or in a few words why the image is bad.
    """
    if isinstance(image, np.ndarray):
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        return Picture(image.shape[:2], "RGB", fingerprint(image), image)
    if not image:
        return "empty (0 bytes)"
    try:
        with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                return f"{width} x {height} pixels, more than the limit of {MAX_PIXELS}"
            if opened.mode not in MODES:
                return f"colour mode {opened.mode} has no agreed RGB; convert it to 8-bit RGB"
            mode = f"{opened.mode};16" if _has_16_bits(opened) else opened.mode
            if opened.format in ("JPEG", "MPO") and _ends_in_zeros(image):
                return "truncated (zeros in place of its end)"
            if max(width, height) <= small:
                return Picture((height, width), mode, fingerprint(image), _rgb(opened))
            # of a JPEG all bytes are still parsed, but at an eighth of its size: half the time
            opened.draft(None, (1, 1))
            opened.load()
            return Picture((height, width), mode, fingerprint(image), None)
    except UnidentifiedImageError:
        return f"not an image; {', '.join(FORMATS)} are read"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more pixels than the limit of {MAX_PIXELS}"
    except Exception as error:  # on damaged files Pillow's decoders raise any kind of exception
        return f"truncated or corrupt ({' '.join(str(error).split()) or type(error).__name__})"


def _has_16_bits(image: ImageFile.ImageFile) -> bool:
    """Whether a file has 16 bits a colour, of which Pillow keeps the upper 8 in these modes.

    Only its decoders' arguments tell: ``RGB;16B``, or the largest value of a PPM.
    """
    arguments = [
        tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile
    ]
    if image.format == "PPM":
        return any(isinstance(value, int) and value > 255 for args in arguments for value in args)
    return image.format in ("PNG", "TIFF") and any(";16" in str(args[0]) for args in arguments)


def _ends_in_zeros(jpeg: bytes) -> bool:
    """Whether a crashed copy left zeros, which libjpeg decodes: no end marker after the scan's."""
    return jpeg[-1] == 0 and jpeg.rfind(b"\xff\xd9") < jpeg.rfind(b"\xff\xda")


def decode(data: bytes) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) uint8 RGB of an encoded image that ``examine`` found good."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        return _rgb(opened)


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about the direct way
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))
