"""Which encoded images are good, what becomes of them, and why others are refused."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ijepa.store import pictures


def pixels(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_colour_modes_become_rgb_and_exif_orientation_is_not_applied() -> None:
    grey = np.arange(0, 120, 2, dtype=np.uint8).reshape(6, 10)
    image = Image.fromarray(grey)
    wanted = np.repeat(grey[:, :, None], 3, axis=2)
    clear = image.convert("P")
    clear.info["transparency"] = bytes(range(256))  # Pillow warns when it converts this to RGB
    turned = Image.Exif()
    turned[0x0112] = 6  # "rotate by 90 degrees"
    for data in (
        encoded(image, "PNG"),
        encoded(image.convert("LA"), "PNG"),
        encoded(image.convert("RGBA"), "PNG"),
        encoded(image.convert("P"), "PNG"),
        encoded(clear, "PNG"),
        encoded(image.convert("RGB"), "PNG", exif=turned),
    ):
        seen = pictures.examine(data, 96)
        assert isinstance(seen, pictures.Picture)
        assert np.array_equal(seen.pixels, wanted)
        assert np.array_equal(pictures.decode(data), wanted)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + body


PHOTO = Image.fromarray(pixels(0, 120, 100))
BAD = {
    "empty": (b"", "empty"),
    "text": (b"<html>404</html>", "not an image"),
    "cmyk": (encoded(PHOTO.convert("CMYK")), "colour mode CMYK"),
    "16 bits": (encoded(Image.new("I;16", (9, 9)), "PNG"), "colour mode I;16"),
    "corrupt": (encoded(PHOTO, "PNG")[:5000] + b"junk" * 9000, "truncated or corrupt"),
    "enormous": (png_header(10_000, 10_000), "limit"),
    "bomb": (png_header(50_000, 50_000), "limit"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_has_a_reason(kind: str) -> None:
    data, reason = BAD[kind]
    found = pictures.examine(data, 96)
    assert isinstance(found, str)
    assert reason in found
    assert "\n" not in found


def test_an_enormous_image_is_bad_however_warnings_are_set() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "limit" in str(pictures.examine(png_header(10_000, 10_000), 96))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
@pytest.mark.parametrize("side", [64, 200])
def test_a_jpeg_cut_anywhere_is_bad(side: int, options: dict[str, bool]) -> None:
    data = encoded(Image.fromarray(pixels(5, side, side)), **options)
    assert isinstance(pictures.examine(data, 96), pictures.Picture)
    for length in [*range(1, len(data), len(data) // 60), *range(len(data) - 20, len(data))]:
        assert isinstance(pictures.examine(data[:length], 96), str), length
        padded = data[:length] + bytes(len(data) - length)  # what a crashed copy can leave
        assert isinstance(pictures.examine(padded, 96), str), length
