"""Which encoded images are good, what becomes of them, and why others are refused."""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

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


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + body


PHOTO = Image.fromarray(pixels(0, 120, 100))
BAD = {
    "empty": (b"", "empty"),
    "text": (b"<html>404</html>", "not an image; BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP are read"),
    "16 bits": (encoded(Image.new("I;16", (9, 9)), "PNG"), "colour mode I;16"),
    "corrupt": (encoded(PHOTO, "PNG")[:5000] + b"junk" * 9000, "truncated or corrupt"),
    "enormous": (png_header(10_000, 10_000), "limit"),
    "bomb": (png_header(50_000, 50_000), "limit"),
}


def png16(kind: int, values: np.ndarray) -> bytes:
    """A PNG of 16 bits a colour, (H, W, channels) uint16, which Pillow cannot write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def tiff16(values: np.ndarray) -> bytes:
    """A TIFF of 16 bits a colour, (H, W, 3) uint16."""
    height, width, _ = values.shape
    tags = {256: width, 257: height, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: height, 279: 0}
    after = 8 + 2 + 12 * len(tags) + 4
    tags |= {258: after, 273: after + 6, 279: values.nbytes}
    entries = b"".join(
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value)
        for tag, value in tags.items()
    )
    start = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return start + struct.pack("<HHH", 16, 16, 16) + values.astype("<u2").tobytes()


DEEP = np.random.default_rng(3).integers(0, 2**16, (9, 7, 3))
SMALL = Image.fromarray(pixels(1, 9, 7))
# every mode that Pillow has, in a file of each format that can have it
TAKEN = {
    "1": [encoded(SMALL.convert("1"), form) for form in ("BMP", "PNG", "PPM", "TIFF")],
    "L": [encoded(SMALL.convert("L"), form) for form in ("BMP", "JPEG", "PNG", "PPM", "TIFF")],
    "LA": [encoded(SMALL.convert("LA"), form) for form in ("PNG", "TIFF")],
    "P": [encoded(SMALL.convert("P"), form) for form in ("BMP", "GIF", "PNG", "TIFF")],
    "PA": [encoded(SMALL.convert("P").convert("PA"), "TIFF")],
    "RGB": [encoded(SMALL, form) for form in ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")],
    "RGBA": [encoded(SMALL.convert("RGBA"), form) for form in ("PNG", "TIFF")],
    "CMYK": [encoded(SMALL.convert("CMYK"), form) for form in ("JPEG", "TIFF")],
    "YCbCr": [encoded(SMALL.convert("YCbCr"), "TIFF")],
    "RGB;16": [
        png16(2, DEEP),
        tiff16(DEEP),
        b"P6 7 9 65535\n" + DEEP.astype(">u2").tobytes(),
    ],
    "RGBA;16": [png16(6, np.dstack([DEEP, DEEP[..., :1]])), png16(4, DEEP[..., :2])],
}
REFUSED = {
    "I;16": [encoded(Image.new("I;16", (9, 9)), form) for form in ("PNG", "TIFF")],
    "I": [encoded(Image.new("I", (9, 9)), form) for form in ("PPM", "TIFF")],
    "F": [encoded(Image.new("F", (9, 9)), form) for form in ("PPM", "TIFF")],
    "LAB": [encoded(Image.new("LAB", (9, 9)), "TIFF")],
}
NEVER = {"RGBX", "HSV", "RGBa", "La", "I;16L", "I;16B", "I;16N"}  # no format that is read has them


def test_every_mode_of_pillow_is_taken_or_refused_by_name() -> None:
    assert {mode for mode in TAKEN if ";" not in mode} == pictures.MODES
    assert pictures.MODES | set(REFUSED) | NEVER == set(Image.MODES)


@pytest.mark.parametrize("mode", TAKEN)
@pytest.mark.parametrize("small", [0, 96])
def test_a_mode_is_converted_as_pillow_does_and_listed(mode: str, small: int) -> None:
    for data in TAKEN[mode]:
        seen = pictures.examine(data, small)
        assert isinstance(seen, pictures.Picture)
        assert seen.mode == mode
        with Image.open(io.BytesIO(data)) as image:
            wanted = np.array(image.convert("RGB"))
        assert np.array_equal(pictures.decode(data), wanted)
        assert small == 0 or np.array_equal(seen.pixels, wanted)


def test_of_16_bits_a_colour_the_upper_8_are_kept() -> None:
    for data in TAKEN["RGB;16"][:2]:
        assert np.array_equal(pictures.decode(data), DEEP >> 8)


@pytest.mark.parametrize("mode", REFUSED)
def test_a_mode_without_an_agreed_rgb_is_refused_by_name(mode: str) -> None:
    for data in REFUSED[mode]:
        assert f"colour mode {mode} has no agreed RGB" in str(pictures.examine(data, 96))


def test_a_format_that_is_not_documented_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def ghostscript(*_: object) -> None:
        raise AssertionError("Pillow was asked for Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    others = [encoded(SMALL, form) for form in ("TGA", "ICO", "JPEG2000", "PCX")]
    for data in (eps, *others):
        assert str(pictures.examine(data, 96)).startswith("not an image; BMP, GIF")


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


def test_a_cameras_jpeg_with_a_second_image_is_its_first() -> None:
    """Pillow calls it MPO; a crashed copy of it is found as of any JPEG."""
    first, second = (Image.fromarray(pixels(seed, 120, 100)) for seed in (7, 8))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert isinstance(pictures.examine(data, 96), pictures.Picture)
    with Image.open(io.BytesIO(encoded(first))) as image:
        assert np.array_equal(pictures.decode(data), np.array(image))
    half = len(data) // 4
    assert isinstance(pictures.examine(data[:half] + bytes(len(data) - half), 96), str)
