import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from torchvision.transforms.v2 import functional as transforms

from ijepa import seeds, variants, views
from ijepa.features import Part
from ijepa.store.read import Images, Store
from ijepa.training import augment, batches
from ijepa.training.batches import Batches
from ijepa.views import View

STEP = {"train.batch_size": 8}


def test_ranks_see_the_shares_of_one_global_batch(store: Store) -> None:
    config = tiny(**STEP)
    for position in (0, 8, 60, 120):  # 60 crosses an epoch of 64 images
        whole = Batches(store.splits["train"], config)[position]
        for world in (2, 4):
            shares = [
                Batches(store.splits["train"], config, rank, world)[position]
                for rank in range(world)
            ]
            assert all((share.samples == whole.samples).all() for share in shares)
            assert torch.equal(torch.cat([share.views[0] for share in shares]), whole.views[0])
            (masks,) = whole.masks
            for name in masks._fields[:4]:
                parts = [getattr(share.masks[0], name) for share in shares]
                assert torch.equal(torch.cat(parts), getattr(masks, name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
def test_workers_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Batches(store.splits["train"], tiny(**STEP))
    plain = list(batches.loader(data, 0))
    for workers in (2, 8):
        monkeypatch.setenv("IJEPA_WORKERS", str(workers))
        loader = batches.loader(data, 0)
        assert getattr(loader, "num_workers", 0) == workers
        for expected, found in zip(plain, loader, strict=True):
            assert (expected.samples == np.asarray(found.samples)).all()
            assert torch.equal(expected.views[0], found.views[0])
            pairs = zip(expected.masks[0][:4], found.masks[0][:4], strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_every_epoch_shows_every_image_once_in_its_own_order(store: Store) -> None:
    data = Batches(store.splits["train"], tiny(**STEP))
    epochs = [
        np.concatenate([data[64 * epoch + 8 * k].samples for k in range(8)]) for epoch in range(3)
    ]
    assert all((np.sort(samples) == np.arange(64)).all() for samples in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


def test_a_smaller_fraction_lies_within_a_larger_one() -> None:
    small, large = (set(batches.training_subset(0, f, 1000)) for f in (0.1, 0.5))
    assert len(small) == 100
    assert len(large) == 500
    assert small < large
    assert small != set(batches.training_subset(1, 0.1, 1000))


def test_crops_have_the_asked_area_and_aspect_and_lie_inside() -> None:
    config = tiny(**{"train.flip": True})
    n = 4000
    box, flip = batches.crops(config, np.zeros(n, np.int64), np.arange(n), 200, 300, (0.3, 1.0))
    top, left, height, width = box.T
    assert (top >= 0).all()
    assert (top + height <= 200).all()
    assert (left >= 0).all()
    assert (left + width <= 300).all()
    area = height * width / (200 * 300)
    assert area.min() == pytest.approx(0.3, abs=0.01)
    assert area.max() == pytest.approx(8 / 9, abs=0.01)  # 200 x 267 is the largest that fits
    assert (width / height).min() == pytest.approx(0.75, abs=0.02)
    assert (width / height).max() == pytest.approx(4 / 3, abs=0.02)
    assert flip.mean() == pytest.approx(0.5, abs=0.04)
    assert (top + height == 200).any(), "the last row is reachable"
    still = tiny(**{"train.flip": False})
    drawn = batches.crops(still, np.zeros(n, np.int64), np.arange(n), 9, 9, (0.3, 1.0))
    assert not drawn[1].any()


def test_crops_of_images_that_no_crop_fits_fall_back_to_the_centre() -> None:
    whole = (1.0, 1.0)
    box, _ = batches.crops(tiny(), np.zeros(3, np.int64), np.arange(3), 10, 100, whole)
    assert (box == np.array([0, 43, 10, 13])).all()


def test_views_are_independent_and_the_first_is_that_of_a_single_one(store: Store) -> None:
    """What an objective declares: sizes, crop areas, and masks for the masked ones alone."""
    images = store.splits["train"]
    single = Batches(images, tiny(**STEP))[0]
    data = Batches(images, tiny(**STEP))
    data.views = (
        View(16, (0.6, 1.0), masked=True),
        View(16, (0.6, 1.0), masked=True),
        View(8, (0.1, 0.2), masked=False),
    )
    batch = data[0]
    assert [tuple(view.shape) for view in batch.views] == [(8, 3, 16, 16)] * 2 + [(8, 3, 8, 8)]
    assert len(batch.masks) == 2
    assert torch.equal(batch.views[0], single.views[0])
    assert all(
        torch.equal(a, b) for a, b in zip(batch.masks[0][:4], single.masks[0][:4], strict=True)
    )
    assert not torch.equal(batch.views[0], batch.views[1])
    assert not torch.equal(batch.masks[0].context, batch.masks[1].context)
    again = data[0]
    assert all(torch.equal(a, b) for a, b in zip(batch.views, again.views, strict=True))


def test_augmentations_change_colours_and_neither_crop_nor_mask(store: Store) -> None:
    images = store.splits["train"]
    plain = Batches(images, tiny(**STEP))[0]
    inverted = Batches(images, tiny(**STEP, **{"train.solarize": 1.0}))[0]
    expected = torch.where(plain.views[0] >= 128, 255 - plain.views[0], plain.views[0])
    assert torch.equal(inverted.views[0], expected)
    pairs = zip(plain.masks[0][:4], inverted.masks[0][:4], strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    drawn = Batches(images, tiny(**STEP, **{"train.color_jitter": 0.4}))
    assert torch.equal(drawn[0].views[0], drawn[0].views[0])
    assert not torch.equal(drawn[0].views[0], plain.views[0])


def test_crops_of_two_views_are_independent() -> None:
    n = 2000
    config, place = tiny(), (np.zeros(n, np.int64), np.arange(n))
    first, second = (
        batches.crops(config, *place, 100, 100, (0.2, 0.8), view)[0].prod(1) for view in (0, 1)
    )
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.07  # three standard errors


MASKS = [{"mask.name": name} for name in variants.names("masks")]
MASKS += [
    {"mask.name": "multiblock", "mask.geometry": "official"},
    {"mask.name": "multiblock", "mask.geometry": "official", "mask.truncate_group": 3},
    {"mask.name": "multiblock", "mask.context_ratio": 0.15},
]


@pytest.mark.parametrize("mask", MASKS, ids=lambda change: "-".join(map(str, change.values())))
@pytest.mark.parametrize("objective", ["ijepa", "ibot"])  # one view, and several
def test_no_two_uses_of_a_step_share_random_numbers(
    objective: str, mask: dict[str, Any], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From order to colour: what decides one thing of an image decides no other."""
    config = tiny(**STEP, **mask, **{"objective.name": objective, "train.color_jitter": 0.4})
    data, drawn, real = Batches(store.splits["train"], config), [], seeds.key

    def key(seed: int, purpose: str, *index: int) -> int:
        drawn.append((seed, purpose, *index))
        return real(seed, purpose, *index)

    monkeypatch.setattr(seeds, "key", key)
    batches.order.cache_clear()
    assert len(data[60].samples) == 8  # of two epochs
    assert len(set(drawn)) == len(drawn), "a purpose is drawn for twice"
    names = {purpose.split("/")[0] for _, purpose, *_ in drawn}
    assert names == {"order", "crop", "augment", "mask"}
    assert sum(purpose == "order" for _, purpose, *_ in drawn) == 2


@pytest.mark.parametrize("change", [{}, {"train.color_jitter": 0.4, "train.solarize": 0.5}])
def test_the_crop_says_nothing_of_the_colours(change: dict[str, Any], store: Store) -> None:
    """A view's augmentation, row by row, is that of its own numbers."""
    config = tiny(**STEP, **change, **{"train.crop_scale": [1.0, 1.0], "train.flip": False})
    data = Batches(store.splits["train"], config)
    batch = data[0]
    epochs = np.zeros(8, np.int64)
    u = seeds.uniforms(config.seed, "augment", epochs, batch.samples, augment.DRAWS)
    crop = seeds.uniforms(config.seed, "crop", epochs, batch.samples, augment.DRAWS)
    assert not np.isclose(u, crop).any()
    boxes, _ = batches.crops(config, epochs, batch.samples, 16, 16, (1.0, 1.0))
    for row, sample in enumerate(batch.samples):
        top, left, height, width = boxes[row]
        cut = store.splits["train"][int(sample)][top : top + height, left : left + width]
        plain = transforms.resize(torch.from_numpy(cut.transpose(2, 0, 1).copy()), [16, 16])
        assert torch.equal(batch.views[0][row], augment.photometric(plain, config.train, u[row]))


def test_a_crop_is_drawn_from_numbers_that_know_nothing_of_each_other() -> None:
    """Area, aspect, row, column and flip of 4000 crops that fit at once; four standard errors."""
    n = 4000
    config = tiny(**{"train.flip": True})
    box, flip = batches.crops(config, np.zeros(n, np.int64), np.arange(n), 100, 100, (0.2, 0.5))
    top, left, height, width = box.T
    free = top / (101 - height), left / (101 - width)
    correlation = np.corrcoef([height * width, width / height, *free, flip])
    assert np.abs(correlation - np.eye(5)).max() < 4 / n**0.5


def test_a_view_shows_its_crop_and_each_view_its_own_share_of_the_image() -> None:
    """Red tells the column and green the row, so a view's colours say where it was cut."""
    row, column = np.mgrid[:200, :200].astype(np.uint8)
    image = np.stack([column, row, 0 * row], 2)
    config = tiny(**{"train.batch_size": 64, "train.flip": False})
    data = Batches([image] * 64, config)  # type: ignore[arg-type]
    data.views = (View(32, (0.6, 0.8), masked=True), View(32, (0.1, 0.2), masked=False))
    batch, place = data[0], np.zeros(64, np.int64)
    for number, (view, shown) in enumerate(zip(data.views, batch.views, strict=True)):
        box, _ = batches.crops(config, place, batch.samples, 200, 200, view.crop_scale, number)
        top, left, height, width = box.T
        middle = shown.double().mean((2, 3)).numpy()
        np.testing.assert_allclose(middle[:, 0], left + (width - 1) / 2, rtol=0, atol=1)
        np.testing.assert_allclose(middle[:, 1], top + (height - 1) / 2, rtol=0, atol=1)
        low, high = view.crop_scale
        assert low - 0.02 < (height * width / 200**2).min()
        assert (height * width / 200**2).max() < high + 0.02


def test_flagged_images_are_mirrored_and_no_others(store: Store) -> None:
    images = store.splits["train"]
    never, often = (tiny(**STEP, **{"train.flip": flip}) for flip in (False, True))
    plain, some = Batches(images, never)[0], Batches(images, often)[0]
    place = np.zeros(8, np.int64), plain.samples
    _, flips = batches.crops(often, *place, 16, 16, often.train.crop_scale)
    assert 0 < flips.sum() < 8
    for row, flipped in enumerate(flips):
        still, shown = plain.views[0][row].int(), some.views[0][row].int()
        assert (still - still.flip(-1)).abs().max() > 50, "a mirrored image is another"
        expected = still.flip(-1) if flipped else still
        assert (shown - expected).abs().max() <= bool(flipped)  # rounding of the mirrored resize


def test_centre() -> None:
    image = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    assert torch.equal(views.centre(image, 16), torch.from_numpy(image.transpose(2, 0, 1)))
    grey = np.full((60, 90, 3), 7, np.uint8)
    grey[:, :10] = 255  # outside of the centre crop
    view = views.centre(grey, 32)
    assert view.shape == (3, 32, 32)
    assert (view == 7).all()


def test_squash_keeps_what_the_crop_cuts_away() -> None:
    """A photograph of CLEVR's size with an object at each of its sides."""
    image = np.zeros((320, 480, 3), np.uint8)
    image[150:170, :40, 0] = 255  # left
    image[150:170, 440:, 1] = 255  # right
    image[150:170, 230:250, 2] = 255  # in the middle
    whole, cut = views.squash(image, 96).int(), views.centre(image, 96).int()
    assert whole.shape == cut.shape == (3, 96, 96)
    assert whole.amax((1, 2)).tolist() == [255, 255, 255]
    assert cut.amax((1, 2)).tolist() == [0, 0, 255]
    # 20 x 20 pixels are 4 x 6 in a 96th of 480 x 320, and 6.9 x 6.9 in a crop at 110 / 320
    for view, size in ((whole, 4 * 6), (cut, 6.875**2)):
        assert view[2].sum() / 255 == pytest.approx(size, rel=0.05)
    square = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    assert torch.equal(views.squash(square, 16), torch.from_numpy(square.transpose(2, 0, 1)))


def test_normalise() -> None:
    black = views.normalise(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    assert black[0, :, 0, 0].tolist() == pytest.approx(
        [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    )


def test_steps(store: Store) -> None:
    def steps(**change: float) -> int:
        return Batches(store.splits["train"], tiny(**{**STEP, **change})).steps

    assert steps(**{"train.epochs": 3}) == 24
    assert steps(**{"train.epochs": 0.5, "train.warmup_epochs": 0}) == 4
    assert steps(**{"data.train_fraction": 0.5}) == 12


def test_a_workers_copy_holds_no_order_and_makes_the_same_batch(store: Store) -> None:
    data = Batches(store.splits["train"], tiny(**STEP, **{"data.train_fraction": 0.9}))
    copy = pickle.loads(pickle.dumps(data))
    assert not hasattr(copy, "subset")
    for position in (0, 56):  # 56 begins in one epoch of 58 images and ends in the next
        drawn = data.draw(position)
        assert drawn.samples.shape == drawn.epochs.shape == (8,)
        batches.order.cache_clear()
        made, expected = copy[drawn], data[position]
        assert (made.samples == expected.samples).all()
        assert torch.equal(made.views[0], expected.views[0])
        assert all(
            torch.equal(a, b)
            for a, b in zip(made.masks[0][:4], expected.masks[0][:4], strict=True)
        )


def test_what_a_worker_is_given_does_not_grow_with_the_set() -> None:
    """Of a batch, of features, and of labels that it never asks for."""
    record = {"stored": "encoded", "shards": [{"file": "a", "count": 14_000_000}], "shape": None}
    images = Images(Path("x"), {**record, "count": 14_000_000}, ("class",), Path("y"))
    data = Batches(images, tiny(**STEP))
    assert len(data.subset) == 14_000_000
    part = Part(Store({}, {}, {"train": images}, ""), "train", data.subset, "crop", 16)
    for given in (data, data.draw(8 * 10**6), part.views):
        assert len(pickle.dumps(given)) < 10_000
