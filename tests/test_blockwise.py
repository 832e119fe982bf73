"""Blockwise masks: the exact share, the algorithm image by image, and what is refused."""

from typing import Any

import numpy as np
import pytest
from conftest import tiny
from numpy.typing import NDArray
from test_mask_strategies import of
from test_masks import keys

from ijepa import seeds
from ijepa.masks import Keys, blockwise, random

BEIT = (0.3, 1 / 0.3)


def options(scale: float | tuple[float, float], least: int = 16, **change: Any) -> Any:
    scale = scale if isinstance(scale, tuple) else (scale, scale)
    given = {"target_aspect": BEIT, "unmasked": 0.0, **change}
    return blockwise.Options(target_scale=scale, block_patches=least, **given)


DATA2VEC = options(120 / 196)
IBOT = options((0.1, 0.5), unmasked=0.5)


def hidden(count: int, grid: tuple[int, int], chosen: Any, seed: int = 0) -> NDArray[np.bool_]:
    """Hidden patches, (B, rows, columns)."""
    _, targets = of(blockwise.sample(keys(count, seed), grid, chosen), grid[0] * grid[1])
    return targets[:, 0].reshape(-1, *grid)


@pytest.mark.parametrize(("grid", "scale", "least", "exactly"), [
    ((14, 14), 120 / 196, 16, 120),
    ((14, 14), 0.4, 75, 78),
    ((6, 6), 0.6, 3, 22),
    ((5, 9), 0.6, 4, 27),
    ((4, 4), 0.15, 3, 2),
    ((8, 8), 0.98, 16, 63),
    ((3, 3), 0.1, 4, 1),
])  # fmt: skip
def test_exactly_the_share_is_hidden(
    grid: tuple[int, int], scale: float, least: int, exactly: int
) -> None:
    chosen = options(scale, least)
    blockwise.check(grid, chosen)
    masks = blockwise.sample(keys(2000), grid, chosen)
    context, targets = of(masks, grid[0] * grid[1])
    assert targets.shape[1] == 1
    assert (targets.sum((1, 2)) == exactly).all()
    assert (context ^ targets[:, 0]).all(), "all the rest is context"
    assert masks.targets_valid.all(), "equal counts need no padding"


def by_hand(image: int, grid: tuple[int, int], chosen: Any) -> tuple[Any, int, bool]:
    """The hidden patches of one image, rectangle by rectangle.

    Returns:
        The mask, the number of rectangles hidden in part, and whether BEiT would have given up.
    """

    def uniforms(purpose: str, count: int) -> list[float]:
        drawn = seeds.uniforms(0, f"mask/blockwise{purpose}", 0, np.array([image]), count)[0]
        return [float(v) for v in drawn]

    low, high = chosen.target_scale
    share, any_at_all = uniforms("", 2)
    wanted = round((low + share * (high - low)) * grid[0] * grid[1])
    if any_at_all < chosen.unmasked:
        wanted = 0
    mask, number, misses, parts, given_up = np.zeros(grid, bool), 0, 0, 0, False
    while mask.sum() < wanted:
        u, missing = uniforms(f"/{number}", 4), wanted - mask.sum()
        area = chosen.block_patches + u[0] * (missing - chosen.block_patches)
        flat, tall = chosen.target_aspect
        aspect = flat * (tall / flat) ** u[1]
        height, width = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        new = []
        if 1 <= height < grid[0] and 1 <= width < grid[1]:
            top, left = int(u[2] * (grid[0] - height + 1)), int(u[3] * (grid[1] - width + 1))
            block = [(top + i, left + j) for i in range(height) for j in range(width)]
            new = [place for place in block if not mask[place]]
        if len(new) > missing and misses >= 10:
            parts += 1
            order = uniforms(f"/{number}/part", grid[0] * grid[1])
            new = sorted(new, key=lambda place: order[place[0] * grid[1] + place[1]])[:missing]
        if 0 < len(new) <= missing:
            misses = 0
            for place in new:
                mask[place] = True
        else:
            misses += 1
            given_up |= misses == 10
        number += 1
    return mask, parts, given_up


@pytest.mark.parametrize("chosen", [DATA2VEC, IBOT, options(0.9, 30)])
@pytest.mark.parametrize("grid", [(14, 14), (9, 12)])
def test_masks_are_the_algorithms_image_by_image(grid: tuple[int, int], chosen: Any) -> None:
    found = hidden(40, grid, chosen)
    expected = [by_hand(image, grid, chosen) for image in range(40)]
    for image, (mask, _, _) in enumerate(expected):
        assert np.array_equal(found[image], mask), image


def test_rectangles_hidden_in_part_are_the_exception_and_do_occur() -> None:
    drawn = [by_hand(image, (14, 14), DATA2VEC) for image in range(300)]
    parts = [part for _, part, _ in drawn]
    assert max(parts) == 1, "it hides all that is missing"
    assert 0.15 < np.mean(parts) < 0.3
    assert sum(given_up for _, _, given_up in drawn) == 88, "as BEiT's code fed with these numbers"


def test_a_mask_is_a_function_of_seed_epoch_and_image_alone() -> None:
    batch = Keys(3, 0, np.arange(50) // 20, np.arange(50) * 7)
    together, _ = of(blockwise.sample(batch, (14, 14), IBOT), 196)
    for row in (0, 21, 49):
        one = Keys(3, 99, batch.epochs[[row]], batch.samples[[row]])
        alone, _ = of(blockwise.sample(one, (14, 14), IBOT), 196)
        assert np.array_equal(alone[0], together[row])
    for other in (Keys(4, 0, batch.epochs, batch.samples), batch.__class__(
        3, 0, batch.epochs + 1, batch.samples
    )):  # fmt: skip
        assert not np.array_equal(of(blockwise.sample(other, (14, 14), IBOT), 196)[0], together)


def test_the_share_is_uniform_and_half_of_the_images_have_none() -> None:
    counts = hidden(6000, (10, 10), IBOT).sum((1, 2))
    bare = (counts == 0).mean()
    assert bare == pytest.approx(0.5, abs=4 * (0.25 / 6000) ** 0.5)
    counts = np.bincount(counts[counts > 0], minlength=51)
    assert len(counts) == 51
    assert counts[1:10].sum() == 0
    assert np.abs(counts[11:50] - 75).max() < 4.5 * 75**0.5, "the two ends have half"


def test_an_image_without_a_target_is_all_context() -> None:
    masks = blockwise.sample(keys(20), (6, 6), options(0.5, 4, unmasked=1.0))
    assert masks.context_valid.all()
    assert masks.context.shape == (20, 36)
    assert not masks.targets_valid.any()


def test_patches_are_hidden_alike_under_the_symmetries_of_the_grid() -> None:
    often = hidden(6000, (8, 8), options(0.6, 5)).mean(0)
    assert often.min() > 0.15, "the corners too, although fewer rectangles reach them"
    spread = (0.25 / 6000) ** 0.5
    for image in (often[::-1], often[:, ::-1], often.T):
        assert np.abs(often - image).max() < 4.5 * 2**0.5 * spread


def test_hidden_patches_lie_together() -> None:
    """Of two neighbours both are hidden far more often than if chosen one by one (0.375)."""

    def both(mask: NDArray[np.bool_]) -> float:
        return float((mask[:, 1:] & mask[:, :-1]).mean())

    apart = random.sample(keys(1000), (14, 14), random.Options(target_scale=(0.612, 0.612)))
    assert both(of(apart, 196)[1].reshape(-1, 14, 14)) == pytest.approx(0.373, abs=0.005)
    assert both(hidden(1000, (14, 14), DATA2VEC)) > 0.5


def test_aspect_and_smallest_block_bound_the_first_rectangle() -> None:
    """All of 16 patches in one rectangle: its height over width is what was asked for."""
    for flat, tall, sizes in ((1.0, 1.0, {(4, 4)}), (4.0, 4.0, {(8, 2)}), (0.25, 0.25, {(2, 8)})):
        masks = hidden(300, (14, 14), options(16 / 196, 16, target_aspect=(flat, tall)))
        assert {(int(m.any(1).sum()), int(m.any(0).sum())) for m in masks} == sizes


@pytest.mark.parametrize(("change", "words"), [
    ({"target_scale": 0.02}, "target_scale: 0.02 is 0 hidden patches of a grid of 4 x 4; from 1"),
    ({"target_scale": [0.5, 0.98]}, "target_scale: 0.98 is 16 hidden patches of a grid of 4 x 4"),
    ({"block_patches": 30}, "block_patches: a block of 30 patches with target_aspect [0.3, 3] "),
    (
        {"target_aspect": 8, "block_patches": 16},
        "block_patches: a block of 16 patches with target_aspect [8, 8] is not smaller than a ",
    ),
    ({"block_patches": 0}, "block_patches: 0 is not a whole number >= 1"),
    ({"unmasked": 1.5}, "unmasked: 1.5 is not a number in [0, 1]"),
])  # fmt: skip
def test_what_the_grid_cannot_hold_is_refused_in_one_line(
    change: dict[str, Any], words: str
) -> None:
    wanted = {"name": "blockwise", "target_scale": 0.6, "target_aspect": [0.3, 3.0]}
    wanted |= {"block_patches": 2, "unmasked": 0.0}
    tiny(**{f"mask.{key}": value for key, value in wanted.items()})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        tiny(**{f"mask.{key}": value for key, value in (wanted | change).items()})
    assert str(caught.value).startswith(f"params.yaml: mask.{words}")
    assert "\n" not in str(caught.value)


def test_check_refuses_exactly_the_blocks_that_never_fit() -> None:
    rng, said = np.random.default_rng(0), []
    for _ in range(300):
        grid = (int(rng.integers(3, 12)), int(rng.integers(3, 12)))
        least, flat = int(rng.integers(1, 50)), float(rng.uniform(0.2, 3))
        chosen = options(0.5, least, target_aspect=(flat, flat))
        height, width = round((least * flat) ** 0.5), round((least / flat) ** 0.5)
        try:
            blockwise.check(grid, chosen)
            said.append(False)
        except ValueError:
            said.append(True)
        assert said[-1] == (height >= grid[0] or width >= grid[1])
    assert 50 < sum(said) < 250
