"""Photometric augmentations: pure, off by default, with the stated probabilities and ranges."""

import colorsys
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from numpy.typing import NDArray
from torch import Tensor

from ijepa.config import Train
from ijepa.training.augment import DRAWS, photometric, wanted

SWITCHES = ("color_jitter", "grayscale", "blur", "solarize")
HALF = 0.5  # a uniform number that changes no colour: every jitter is 1, or 0 for the hue


def options(**change: float) -> Train:
    off = dataclasses.replace(tiny().train, **dict.fromkeys(SWITCHES, 0.0))
    return dataclasses.replace(off, **change)


def view(size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=generator)


def numbers(**at: float) -> NDArray[np.float64]:
    """Uniforms that choose nothing, but for some: jitter, factors, order, gray, ..."""
    names = ("jitter", "brightness", "contrast", "saturation", "hue", "order", "gray", "blur",
             "sigma", "solarize")  # fmt: skip
    assert len(names) == DRAWS
    idle = dict.fromkeys(("jitter", "gray", "blur", "solarize"), 0.999)
    return np.array([(dict.fromkeys(names, HALF) | idle | at)[name] for name in names])


def test_nothing_is_wanted_and_nothing_changes_by_default() -> None:
    train = tiny().train
    assert not wanted(train)
    made, rng = view(), np.random.default_rng(0)
    for _ in range(50):
        assert photometric(made, train, rng.random(DRAWS)) is made
    assert photometric(made, train, np.zeros(DRAWS)) is made


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_is_wanted_and_is_its_own(switch: str) -> None:
    train = options(**{switch: 0.5})
    assert wanted(train)
    # the numbers of the others choose all they can, and still nothing of theirs is done
    mine = {"color_jitter": "jitter", "grayscale": "gray"}.get(switch, switch)
    others = {name: 0.0 for name in ("jitter", "gray", "blur", "solarize") if name != mine}
    made, strong = view(56), {"brightness": 0.0, "sigma": 0.9}
    assert photometric(made, train, numbers(**others, **strong)) is made
    assert not photometric(made, train, numbers(**{mine: 0.0}, **strong)).equal(made)


def test_equal_numbers_give_equal_views_and_leave_the_input_alone() -> None:
    train = options(color_jitter=0.4, grayscale=0.2, blur=0.5, solarize=0.2)
    torch.manual_seed(0)
    state, rng, made = torch.get_rng_state(), np.random.default_rng(1), view()
    several = set()
    for _ in range(30):
        u = rng.random(DRAWS)
        first = photometric(made, train, u)
        assert first.equal(photometric(view(), train, u.copy()))
        assert first.shape == made.shape
        assert first.dtype == torch.uint8
        several.add(first.numpy().tobytes())
    assert len(several) > 20
    assert made.equal(view())
    assert torch.get_rng_state().equal(state), "nothing is drawn"


@pytest.mark.parametrize(("switch", "value", "expected"), [
    ("color_jitter", 0.4, 0.8), ("grayscale", 0.3, 0.3), ("blur", 0.6, 0.6),
    ("solarize", 0.2, 0.2),
])  # fmt: skip
def test_each_probability_is_a_frequency(switch: str, value: float, expected: float) -> None:
    """2000 draws: four standard errors are 0.04."""
    train = options(**{switch: value})
    made, draws = view(56)[..., :8, :].contiguous(), np.random.default_rng(2).random((2000, DRAWS))
    draws[:, 1], draws[:, 8] = 0.0, 0.9  # a brightness and a blur that show
    changed = np.mean([not photometric(made, train, u).equal(made) for u in draws])
    error = (expected * (1 - expected) / len(draws)) ** 0.5
    assert abs(changed - expected) < 4 * error


def test_grey_views_have_the_luma_in_every_channel() -> None:
    made = view()
    grey = photometric(made, options(grayscale=1.0), numbers(gray=0.0))
    red, green, blue = made.double().numpy()
    luma = 0.2989 * red + 0.587 * green + 0.114 * blue  # ITU-R 601
    for channel in grey:
        np.testing.assert_allclose(channel.numpy(), luma, rtol=0, atol=1)
        assert channel.equal(grey[0])


def test_solarise_inverts_from_128_on() -> None:
    made = torch.arange(256, dtype=torch.uint8).view(1, 16, 16).repeat(3, 1, 1)
    found = photometric(made, options(solarize=1.0), numbers(solarize=0.0))
    expected = [v if v < 128 else 255 - v for v in range(256)]
    assert found.flatten(1).tolist() == [expected] * 3


@pytest.mark.parametrize("size", [8, 48, 224])
@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_blur_is_a_gaussian_in_proportion_to_the_side(size: int, u: float) -> None:
    """The view of a point is the kernel: its values by definition, truncated at its borders."""
    made = torch.zeros(3, size, size, dtype=torch.uint8)
    middle = size // 2
    made[:, middle, middle] = 255
    found = photometric(made, options(blur=1.0), numbers(blur=0.0, sigma=u)).numpy()
    sigma = (0.1 + 1.9 * u) * size / 224
    offset = np.arange(size) - middle
    line = np.exp(-0.5 * (offset / sigma) ** 2)
    expected = 255 * np.outer(line, line) / line.sum() ** 2
    # Pillow blurs with three boxes: near a Gaussian above a pixel, within a tenth of it below
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2 if sigma > 1 else 25)
    assert (found == found[0]).all()


@pytest.mark.parametrize("u", [0.0, 0.25, 1 - 2**-53])
def test_the_jitters_ranges_are_the_originals(u: float) -> None:
    """Strength 0.4: 0.6 to 1.4, saturation 0.8 to 1.2, hue -0.1 to 0.1 of the circle."""
    train, made = options(color_jitter=0.4), view() // 2 + 30
    pixels = made.double().numpy()

    def one(name: str) -> NDArray[Any]:
        return photometric(made, train, numbers(jitter=0.0, **{name: u})).numpy()

    factor, saturation, hue = 0.6 + 0.8 * u, 0.8 + 0.4 * u, -0.1 + 0.2 * u
    luma = np.tensordot([0.2989, 0.587, 0.114], pixels, 1)
    mean = np.floor(luma).mean()
    # within 5 of 255: Pillow turns the hue, also by nothing, in whole steps of 256
    clipped = {
        "brightness": factor * pixels,
        "contrast": factor * pixels + (1 - factor) * mean,
        "saturation": saturation * pixels + (1 - saturation) * luma,
    }
    for name, expected in clipped.items():
        np.testing.assert_allclose(one(name), expected.clip(0, 255), rtol=0, atol=5)
    turned = one("hue")
    for row, column in np.ndindex(16, 16):
        h, s, v = colorsys.rgb_to_hsv(*pixels[:, row, column] / 255)
        expected = 255 * np.array(colorsys.hsv_to_rgb((h + hue) % 1, s, v))
        np.testing.assert_allclose(turned[:, row, column], expected, rtol=0, atol=10)


def test_the_order_of_the_jitters_is_drawn() -> None:
    train = options(color_jitter=1.0)
    change = {"brightness": 0.9, "contrast": 0.1, "saturation": 0.9, "hue": 0.8}
    found = {
        photometric(view(), train, numbers(jitter=0.0, order=(n + 0.5) / 24, **change))
        .numpy()
        .tobytes()
        for n in range(24)
    }
    assert len(found) > 12  # some orders commute


def test_strength_one_reaches_black_and_no_further() -> None:
    u = numbers(jitter=0.0, brightness=0.0)
    assert not photometric(view(), options(color_jitter=1.0), u).any()
