"""Table 6's other strategies, and contexts of one size (mask.context_ratio)."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from conftest import tiny
from numpy.typing import NDArray
from test_masks import PAPER, chosen, keys

from ijepa.masks import Masks, block, multiblock, random, rasterized

BLOCK = block.Options(target_scale=(0.6, 0.6), target_aspect=(0.75, 1.5))
RANDOM = random.Options(target_scale=(0.6, 0.6))
QUADRANT = rasterized.Options()
TABLE_6 = [
    pytest.param(rasterized, QUADRANT, id="rasterized"),
    pytest.param(block, BLOCK, id="block"),
    pytest.param(random, RANDOM, id="random"),
]


def of(masks: Masks, patches: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Chosen context (B, N) and targets (B, M, N)."""
    context = chosen(masks.context, masks.context_valid, patches)
    targets = chosen(masks.targets, masks.targets_valid, patches)
    return context.numpy().astype(bool), targets.numpy().astype(bool)


@pytest.mark.parametrize(("strategy", "options"), TABLE_6)
@pytest.mark.parametrize("shape", [(14, 14), (6, 6), (5, 6)])
def test_context_is_the_targets_complement(
    strategy: Any, options: Any, shape: tuple[int, int]
) -> None:
    strategy.check(shape, options)
    context, targets = of(strategy.sample(keys(500), shape, options), shape[0] * shape[1])
    assert (context.astype(int) + targets.sum(1) == 1).all(), "each patch has exactly one part"


def test_context_shares_of_table_6() -> None:
    shape, many = (14, 14), keys(4000)
    context, targets = of(rasterized.sample(many, shape, QUADRANT), 196)
    assert (context.sum(1) == 49).all(), "0.25"
    assert (targets.sum(2) == 49).all()
    assert targets.shape[1] == 3
    context, targets = of(random.sample(many, shape, RANDOM), 196)
    assert (context.sum(1) == 78).all(), "0.4: 196 less round(117.6)"
    assert targets.shape[1] == 1
    context, targets = of(block.sample(many, shape, BLOCK), 196)
    assert context.mean() == pytest.approx(0.4, abs=0.002)
    assert context.mean(1).min() > 0.38, "height and width are rounded to whole patches"
    assert context.mean(1).max() < 0.45
    rectangle = targets.reshape(-1, 14, 14)
    assert (rectangle.any(2).sum(1) * rectangle.any(1).sum(1) == targets.sum((1, 2))).all()


@pytest.mark.parametrize("shape", [(14, 14), (5, 7)])
def test_each_quadrant_is_the_context_equally_often(shape: tuple[int, int]) -> None:
    context, targets = of(rasterized.sample(keys(8000), shape, QUADRANT), shape[0] * shape[1])
    kinds, counts = np.unique(context, axis=0, return_counts=True)
    assert len(kinds) == 4
    assert np.abs(counts - 2000).max() < 4 * (8000 * 0.25 * 0.75) ** 0.5
    heights, widths = {shape[0] // 2, -(-shape[0] // 2)}, {shape[1] // 2, -(-shape[1] // 2)}
    for kind in kinds.reshape(4, *shape):
        height, width = kind.any(1).sum(), kind.any(0).sum()
        assert height * width == kind.sum()
        assert height in heights
        assert width in widths
    for kind in kinds:
        others = targets[(context == kind).all(1)]
        assert (others == others[0]).all(), "the other three, in one order"


def test_a_block_of_the_papers_size_always_covers_the_centre() -> None:
    context, targets = of(block.sample(keys(4000), (14, 14), BLOCK), 196)
    assert targets.any((0, 1)).all()
    never = np.zeros((14, 14), bool)
    never[5:9, 5:9] = True
    assert np.array_equal(~context.any(0).reshape(14, 14), never)


def test_random_masks_choose_every_patch_and_every_set_equally_often() -> None:
    _, targets = of(random.sample(keys(4000), (14, 14), RANDOM), 196)
    share = 118 / 196
    assert np.abs(targets.mean((0, 1)) - share).max() < 4.5 * (share * (1 - share) / 4000) ** 0.5
    half = random.Options(target_scale=(0.5, 0.5))
    _, targets = of(random.sample(keys(6000), (2, 2), half), 4)
    sets, counts = np.unique(targets[:, 0], axis=0, return_counts=True)
    assert len(sets) == 6, "of 4 patches, 2"
    assert np.abs(counts - 1000).max() < 4 * (6000 / 6 * 5 / 6) ** 0.5


def test_the_share_of_random_targets_is_uniform_over_its_range() -> None:
    wide = random.Options(target_scale=(0.2, 0.6))
    masks = random.sample(keys(4000), (10, 10), wide)
    counts = np.bincount(masks.targets_valid.sum((1, 2)).numpy(), minlength=61)
    assert counts[:20].sum() == 0
    assert len(counts) == 61
    assert np.abs(counts[21:60] - 100).max() < 45, "100 images each; the two ends have half"
    assert 25 < counts[20] < 80
    assert 25 < counts[60] < 80


def test_block_refuses_exactly_what_could_leave_no_context() -> None:
    rng, said = np.random.default_rng(0), []
    for _ in range(200):
        shape = (int(rng.integers(2, 7)), int(rng.integers(2, 7)))
        scale, flat = float(rng.uniform(0.5, 1)), float(rng.uniform(0.5, 1.2))
        aspect = (flat, flat * float(rng.uniform(1, 1.3)))
        options = block.Options(target_scale=(scale, scale), target_aspect=aspect)
        covered = (block.sample(keys(500), shape, options).context_valid.sum(1) == 0).any()
        try:
            block.check(shape, options)
            words = ""
        except ValueError as error:
            words = str(error)
        if "is a block of up to" not in words:  # nor is it too large
            assert ("leave no context" in words) == covered
            said.append(words)
    assert 10 < said.count("") < len(said) - 10


TABLES_8_TO_10: list[dict[str, Any]] = [
    {},
    {"target_scale": (0.075, 0.2)},
    {"target_scale": (0.2, 0.3)},
    {"context_scale": (0.4, 1.0)},
    {"num_targets": 1},
]


@pytest.mark.parametrize("change", TABLES_8_TO_10)
@pytest.mark.parametrize("side", [6, 14])
def test_context_ratio_holds_every_context_at_one_size(change: dict[str, Any], side: int) -> None:
    free = dataclasses.replace(PAPER, min_context=5, **change)
    held = dataclasses.replace(free, context_ratio=0.25)
    multiblock.check((side, side), held)
    many, patches = keys(3000), side * side
    visible, drawn = of(multiblock.sample(many, (side, side), free), patches)
    context, targets = of(multiblock.sample(many, (side, side), held), patches)
    assert (context.sum(1) == patches // 4).all()
    assert not (context & targets.any(1)).any()
    enough = visible.sum(1) >= patches // 4
    assert enough.mean() > 0.5
    assert np.array_equal(targets[enough], drawn[enough]), "not redrawn: the same targets"
    assert (context <= visible)[enough].all(), "and a part of the same context"
    again = (targets != drawn).any((1, 2))
    assert np.array_equal(again, ~enough), "too little context: redrawn"


def test_context_ratio_keeps_a_uniformly_random_part_of_the_visible_patches() -> None:
    options = dataclasses.replace(PAPER, context_ratio=0.25)
    visible, _ = of(multiblock.sample(keys(6000), (14, 14), PAPER), 196)
    context, _ = of(multiblock.sample(keys(6000), (14, 14), options), 196)
    enough = visible.sum(1) >= 49
    visible, context = visible[enough], context[enough]
    share = visible * (49 / visible.sum(1, keepdims=True))  # chance of each patch to be kept
    z = (context.sum(0) - share.sum(0)) / np.sqrt((share * (1 - share)).sum(0))
    assert np.abs(z).max() < 4.5
    assert z.std() == pytest.approx(1, abs=0.2)


def test_context_ratio_is_exact_at_the_largest_that_check_admits() -> None:
    def admitted(count: int) -> bool:
        try:
            multiblock.check((8, 8), dataclasses.replace(PAPER, context_ratio=count / 64))
        except ValueError:
            return False
        return True

    most = max(count for count in range(10, 64) if admitted(count))
    assert 16 < most < 40
    options = dataclasses.replace(PAPER, context_ratio=most / 64)
    drawn = multiblock.sample(keys(20000, seed=1), (8, 8), options)
    assert (drawn.context_valid.sum(1) == most).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"name": "rasterized"},
            "mask.name: rasterized cannot split a grid of 1 x 1 patches in quadrants",
        ),
        (
            {"name": "block", "target_scale": 0.9},
            "mask.target_scale: 0.9 with target_aspect [0.75, 1.5] is a block of up to 4.6 x 4.4",
        ),
        (
            {"name": "block", "target_scale": 0.95, "target_aspect": 1.0},
            "mask.target_scale: 0.95 with target_aspect [1, 1] is a block that can cover all",
        ),
        (
            {"name": "random", "target_scale": [0.5, 0.98]},
            "mask.target_scale: 0.98 is 16 targets of a grid of 4 x 4 patches; from 1 to 15 are",
        ),
        ({"name": "random", "target_scale": 0.01}, "mask.target_scale: 0.01 is 0 targets of"),
        ({"context_ratio": 1.5}, "mask.context_ratio: 1.5 is not null or a number in (0, 1]"),
        ({"context_ratio": 0}, "mask.context_ratio: 0 is not null or a number in (0, 1]"),
        ({"context_ratio": "a"}, "mask.context_ratio: 'a' is not null or a number in (0, 1]"),
        (
            {"context_ratio": 0.9},
            "mask.context_ratio: 0.9 is 14 patches of a 4 x 4 grid; from 2 (min_context) to ",
        ),
        (
            {"context_ratio": 0.05},
            "mask.context_ratio: 0.05 is 1 patches of a 4 x 4 grid; from 2 (min_context) to ",
        ),
        (
            {"truncate_group": 128},
            "mask.truncate_group: 128 with geometry paper, which cuts no context",
        ),
        (
            {"context_ratio": 0.25, "geometry": "official"},
            "mask.context_ratio: 0.25 with geometry official, which cuts every context to the",
        ),
    ],
)
def test_what_the_grid_cannot_hold_is_refused_in_one_line(
    change: dict[str, Any], words: str
) -> None:
    dotted = {f"mask.{key}": value for key, value in change.items()}
    if change.get("name") == "rasterized":
        dotted |= {"data.image_size": 16, "model.patch_size": 16}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        tiny(**dotted)
    assert str(caught.value).startswith(f"params.yaml: {words}")
    assert "\n" not in str(caught.value)
