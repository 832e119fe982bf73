import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, params, tiny

from ijepa import config as configs
from ijepa import presets, variants
from ijepa.config import Config, grid
from ijepa.masks import Keys, Masks, check_blocks, multiblock, subset

PAPER = multiblock.Options(
    geometry="paper",
    num_targets=4,
    target_scale=(0.15, 0.2),
    target_aspect=(0.75, 1.5),
    context_scale=(0.85, 1.0),
    min_context=10,
    context_ratio=None,
    truncate_group=None,
)
OFFICIAL = dataclasses.replace(PAPER, geometry="official")


def keys(count: int = 256, seed: int = 0, step: int = 0) -> Keys:
    return Keys(seed, step, np.zeros(count, np.int64), step * count + np.arange(count))


def chosen(index: torch.Tensor, valid: torch.Tensor, patches: int) -> torch.Tensor:
    """Padded indices back to chosen patches."""
    out = torch.zeros(*index.shape[:-1], patches, dtype=torch.int64)
    return out.scatter_add_(-1, index, valid.long())


def every_strategy() -> list[Any]:
    return [pytest.param(name, id=name) for name in variants.names("masks")]


@pytest.mark.parametrize("name", every_strategy())
@pytest.mark.parametrize("side", [4, 8, 14])
def test_laws_of_every_strategy(name: str, side: int) -> None:
    config: Config = tiny(**{"mask.name": name, "data.image_size": 4 * side})
    strategy, options, shape = variants.load("masks", name), config.mask.options, grid(config)
    drawn: Masks = strategy.sample(keys(), shape, options)
    context = chosen(drawn.context, drawn.context_valid, side * side)
    targets = chosen(drawn.targets, drawn.targets_valid, side * side)
    assert context.max() == 1
    assert targets.max() == 1, "a patch is named once"
    assert (context.sum(-1) >= 1).all()
    assert (targets.sum(-1) >= 1).all()
    assert not (context * targets.amax(1)).any(), "no context patch is a target"
    assert (context.sum(0) > 0).all(), "every patch is context at some time"
    assert (targets.sum((0, 1)) > 0).all(), "every patch is a target at some time"
    assert (drawn.context[~drawn.context_valid] == 0).all()
    again = strategy.sample(keys(), shape, options)
    assert all(torch.equal(a, b) for a, b in zip(drawn[:4], again[:4], strict=True))
    other = strategy.sample(keys(seed=1), shape, options)
    assert not torch.equal(chosen(other.context, other.context_valid, side * side), context)


@pytest.mark.parametrize("name", every_strategy())
def test_an_images_mask_does_not_depend_on_its_batch(name: str) -> None:
    config = tiny(**{"mask.name": name, "data.image_size": 56})
    strategy, options = variants.load("masks", name), config.mask.options
    together = strategy.sample(keys(64), (14, 14), options)
    alone = strategy.sample(Keys(0, 99, np.zeros(1, np.int64), np.array([17])), (14, 14), options)
    for index, valid in ((0, 1), (2, 3)):
        one = chosen(together[index][17:18], together[valid][17:18], 196)
        assert torch.equal(one, chosen(alone[index], alone[valid], 196))


@pytest.mark.parametrize(
    ("options", "sha256"),
    [
        (PAPER, "f2c1f62465ad37606925b5c875e272b6a96ed1b2e181e216b4eeed418142046e"),
        (OFFICIAL, "d9c48ea9ee20cbb86c7fe910ac87c72573e234b562893a7f0eec950455219add"),
    ],
)
def test_masks_are_those_of_the_first_release(options: multiblock.Options, sha256: str) -> None:
    """Hashes from before ``context_ratio``: published runs keep their masks, bit for bit."""
    found = hashlib.sha256()
    for shape, least in (((14, 14), 10), ((8, 8), 6), ((6, 6), 6), ((5, 9), 6)):
        for seed in (0, 3):
            batch = Keys(seed, 5, np.arange(96) // 40, np.arange(96) * 7)
            wanted = dataclasses.replace(options, min_context=least)
            for tensor in multiblock.sample(batch, shape, wanted)[:4]:
                found.update(tensor.numpy().astype(np.uint8).tobytes())
                found.update(str(tuple(tensor.shape)).encode())
    assert found.hexdigest() == sha256


def test_blocks_are_rectangles_of_the_asked_scale_and_aspect() -> None:
    drawn = multiblock.sample(keys(2000), (14, 14), PAPER)
    blocks = chosen(drawn.targets, drawn.targets_valid, 196).view(-1, 14, 14).numpy()
    height, width = blocks.any(2).sum(1), blocks.any(1).sum(1)
    assert (height * width == blocks.sum((1, 2))).all()
    # half a patch of rounding on each side of sqrt(scale * N * aspect)
    area = 196 * np.array(PAPER.target_scale)
    assert height.min() >= np.sqrt(area[0] * 0.75) - 0.5
    assert height.max() <= np.sqrt(area[1] * 1.5) + 0.5
    assert width.min() >= np.sqrt(area[0] / 1.5) - 0.5
    assert width.max() <= np.sqrt(area[1] / 0.75) + 0.5


def test_scale_and_aspect_are_independent_in_the_paper_and_one_number_as_released() -> None:
    wide = {"target_scale": (0.05, 0.3)}
    paper = multiblock.sample(keys(4000), (30, 30), dataclasses.replace(PAPER, **wide))
    assert abs(_scale_aspect_correlation(paper)) < 0.05
    released = [
        multiblock.sample(keys(2, step=step), (30, 30), dataclasses.replace(OFFICIAL, **wide))
        for step in range(200)
    ]
    both = [_blocks_of(masks)[:1] for masks in released]
    assert _correlation(np.concatenate(both)) > 0.9


def _blocks_of(masks: Masks) -> Any:
    return chosen(masks.targets, masks.targets_valid, 900).view(-1, 30, 30).numpy()


def _correlation(blocks: Any) -> float:
    height, width = blocks.any(2).sum(1), blocks.any(1).sum(1)
    return float(np.corrcoef(height * width, np.log(height / width))[0, 1])


def _scale_aspect_correlation(masks: Masks) -> float:
    return _correlation(_blocks_of(masks))


def test_official_geometry_has_the_released_samplers_warts() -> None:
    batches = [multiblock.sample(keys(128, step=step), (14, 14), OFFICIAL) for step in range(40)]
    touched = np.zeros((14, 14))
    for masks in batches:
        targets = chosen(masks.targets, masks.targets_valid, 196).view(128, 4, 14, 14)
        context = chosen(masks.context, masks.context_valid, 196).view(128, 14, 14)
        touched += (targets.sum((0, 1)) + context.sum(0)).numpy()
        assert masks.targets_valid.all(), "all blocks of a batch have one size"
        assert masks.context_valid.all(), "every context is cut to the shortest"
    assert (touched[-1] == 0).all(), "the last row is never used (PR 40)"
    assert (touched[:, -1] == 0).all()
    assert (touched[:13, :13] > 0).all()
    ratio = np.mean([masks.context.shape[1] / 196 for masks in batches])
    assert ratio == pytest.approx(0.257, abs=0.01)  # measured at 128 images
    upper = [(masks.context // 14 < 7).float().mean().item() for masks in batches]
    assert np.mean(upper) > 0.6, "cutting in raster order loses the lower rows"


def test_contexts_are_cut_to_the_shortest_of_their_group() -> None:
    """Consecutive images of the global batch, the last group what is left; no target moves."""
    together = multiblock.sample(keys(50), (14, 14), OFFICIAL)
    whole = dataclasses.replace(OFFICIAL, truncate_group=1)  # nothing is cut: its own shortest
    uncut = multiblock.sample(keys(50), (14, 14), whole)
    assert torch.equal(uncut.targets, together.targets)
    lengths = uncut.context_valid.sum(1)
    assert len(set(lengths.tolist())) > 5
    for group in (2, 16, 50, 1000):
        options = dataclasses.replace(OFFICIAL, truncate_group=group)
        cut = multiblock.sample(keys(50), (14, 14), options)
        assert torch.equal(cut.targets, uncut.targets)
        for start in range(0, 50, group):
            rows = slice(start, start + group)
            shortest = int(lengths[rows].min())
            assert (cut.context_valid[rows].sum(1) == shortest).all()
            assert torch.equal(cut.context[rows, :shortest], uncut.context[rows, :shortest])
    assert all(torch.equal(a, b) for a, b in zip(cut[:4], together[:4], strict=True)), (
        "null: all of them"
    )


def test_the_official_preset_has_the_published_context() -> None:
    """.266 of 256 patches (issue 35's log of the released code: .269 in groups of 112)."""
    _, preset = presets.load("vit_h14_official", ROOT / "experiments/presets")
    tree = params()
    presets.apply(tree, preset, "params.yaml")
    config = configs.parse(tree, "params.yaml")
    options, size = config.mask.options, config.train.batch_size
    assert (grid(config), size, options.truncate_group) == ((16, 16), 2048, 128)

    def share(options: multiblock.Options, steps: int) -> float:
        drawn = (multiblock.sample(keys(size, step=k), (16, 16), options) for k in range(steps))
        return float(np.mean([masks.context_valid.sum().item() / size / 256 for masks in drawn]))

    assert share(options, 40) == pytest.approx(0.266, abs=0.005)
    whole = dataclasses.replace(options, truncate_group=None)
    assert 1 - share(whole, 40) / share(options, 40) == pytest.approx(0.17, abs=0.03)


def test_paper_geometry_cuts_nothing() -> None:
    drawn = multiblock.sample(keys(4000), (8, 8), dataclasses.replace(PAPER, min_context=6))
    ratio = drawn.context_valid.sum().item() / (4000 * 64)
    # 0.48 with areas rounded down to whole patches first, as released
    assert ratio == pytest.approx(0.47, abs=0.01)
    drawn = multiblock.sample(keys(4000), (14, 14), PAPER)
    assert drawn.context_valid.sum().item() / (4000 * 196) == pytest.approx(0.46, abs=0.01)


def test_a_subset_has_as_many_patches_as_wanted_and_all_where_they_are_fewer() -> None:
    rng = np.random.default_rng(0)
    chosen, u = rng.random((200, 16)) < 0.5, rng.random((200, 16))
    for count in (0, 1, 5, 16):
        part = subset(chosen, count, u)
        assert not (part & ~chosen).any()
        assert (part.sum(1) == np.minimum(count, chosen.sum(1))).all()
    each = rng.integers(0, 17, 200)
    assert (subset(chosen, each, u).sum(1) == np.minimum(each, chosen.sum(1))).all()


def test_rows_and_move() -> None:
    drawn = multiblock.sample(keys(8), (8, 8), dataclasses.replace(PAPER, min_context=6))
    assert torch.equal(drawn.rows(2, 5).targets, drawn.targets[2:5])
    assert torch.equal(drawn.to(torch.device("cpu")).context, drawn.context)


def test_of_several_draws_the_largest_context_stays() -> None:
    """Where none has enough patches, one more draw never makes an image's context smaller."""
    never_enough = dataclasses.replace(PAPER, min_context=64)
    sizes = [
        multiblock._paper(keys(), (8, 8), never_enough, attempts)[0].sum(1)
        for attempts in range(1, 8)
    ]
    assert (np.diff(sizes, axis=0) >= 0).all()
    assert (sizes[-1] > sizes[0]).any()


def test_a_block_as_long_as_the_grid_is_one_too_long_for_the_released_sampler() -> None:
    """Its top and left are drawn below ``grid - block``, which is then nothing."""
    whole = dataclasses.replace(PAPER, target_scale=(0.5, 1.0), target_aspect=(1.0, 1.0))
    check_blocks((4, 4), whole.target_scale, whole.target_aspect)
    with pytest.raises(ValueError, match=r"a block of up to 4\.0 x 4\.0 patches"):
        check_blocks((4, 4), whole.target_scale, whole.target_aspect, 1)
    check_blocks((5, 5), (0.3, 0.64), whole.target_aspect, 1)
