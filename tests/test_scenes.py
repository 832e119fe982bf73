"""The rendered scenes keep their promises: pure, balanced, visible, and their labels right."""

import functools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ijepa.datasets import DISTANCES, EDGES, Source, _field, distance_bin, scenes

SIZES = {32: (1, 4), 64: (3, 10), 96: (3, 10)}


def options(
    size: int,
    objects: tuple[int, int] | None = None,
    nuisance: tuple[float, float] = (0.0, 3.0),
    **other: int,
) -> scenes.Options:
    values = {"train_images": 40, "test_images": 20, "render_seed": 0} | other
    amplitude, length = nuisance
    return scenes.Options(
        image_size=size,
        objects=objects or SIZES[size],
        nuisance_amplitude=amplitude,
        nuisance_length=length,
        **values,
    )


@functools.cache
def rendered(
    size: int, count: int, split: str = "train"
) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.int64]], NDArray[np.int8]]:
    chunks = [
        scenes.render(options(size), split, np.arange(start, min(start + 16, count)))
        for start in range(0, count, 16)
    ]
    return (
        np.concatenate([images for images, _, _ in chunks]),
        {task: np.concatenate([labels[task] for _, labels, _ in chunks]) for task in chunks[0][1]},
        np.concatenate([owner for _, _, owner in chunks]),
    )


@pytest.mark.parametrize("size", SIZES)
def test_images_do_not_depend_on_what_is_rendered_with_them(size: int) -> None:
    images, labels, _ = rendered(size, 40)
    for samples in ([0], [7], [39, 3, 21], list(range(5, 40))):
        again, same, _ = scenes.render(options(size), "train", np.array(samples))
        assert np.array_equal(again, images[samples])
        assert all(np.array_equal(same[task], labels[task][samples]) for task in labels)


def test_splits_and_render_seeds_differ() -> None:
    images, _, _ = rendered(32, 40)
    other = scenes.render(options(32, render_seed=1), "train", np.arange(40))[0]
    test = rendered(32, 40, "test")[0]
    everything = np.concatenate([images, other, test]).reshape(120, -1)
    assert len(np.unique(everything, axis=0)) == 120


def test_load_gives_the_rendered_images_in_order() -> None:
    source: Source = scenes.load(options(32), Path("unused"))
    assert {name: split.count for name, split in source.splits.items()} == {
        "train": 40,
        "test": 20,
    }
    items = list(source.splits["train"].items())
    images, labels, _ = rendered(32, 40)
    assert np.array_equal(np.stack([np.asarray(item.image) for item in items]), images)
    assert [item.labels["class"] for item in items] == labels["class"].tolist()
    assert source.tasks["count"] == ("1", "2", "3", "4")
    assert [len(names) for names in source.tasks.values()] == [8, 4, 6]
    assert images.dtype == np.uint8


@pytest.mark.parametrize("size", SIZES)
def test_every_counted_solid_can_be_seen(size: int) -> None:
    _, labels, owner = rendered(size, 96)
    low, high = SIZES[size]
    shows = np.stack([(owner == k).sum((1, 2)) for k in range(high)], 1)
    assert np.array_equal((shows > 0).sum(1), labels["count"] + low)
    assert shows[shows > 0].min() >= 0.002 * size**2


def test_a_bin_of_distance_includes_its_upper_edge() -> None:
    edges = np.array(EDGES)
    assert distance_bin(edges).tolist() == [0, 1, 2, 3, 4]
    assert distance_bin(np.nextafter(edges, np.inf)).tolist() == [1, 2, 3, 4, 5]
    assert len(DISTANCES) == len(edges) + 1


def test_the_closest_solid_is_where_its_label_says(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.float32]] = []
    cast = scenes._solids.cast

    def spy(solids: scenes.Solids, size: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        camera = scenes._solids
        depth = camera.AHEAD * solids.z + camera.DOWN * (solids.half - camera.EYE)
        seen.append(np.where(solids.shown, depth, np.inf).min(1))
        return cast(solids, size)

    monkeypatch.setattr(scenes._solids, "cast", spy)
    labels = scenes.render(options(64, (1, 3)), "train", np.arange(200))[1]
    off = distance_bin(seen[0] + 1e-5) != distance_bin(seen[0] - 1e-5)
    assert off.sum() < 5  # float32 cannot tell the two sides of an edge
    assert np.array_equal(distance_bin(seen[0])[~off], labels["distance"][~off])


def test_labels_are_balanced_and_independent() -> None:
    labels = rendered(32, 1600)[1]
    for task, classes in (("class", 8), ("count", 4), ("distance", 6)):
        seen = np.bincount(labels[task], minlength=classes)
        assert len(seen) == classes
        expected = 1600 / classes
        assert ((seen - expected) ** 2 / expected).sum() < 25  # chi-squared, 7 degrees: p = 0.001
    for one, other in (("class", "count"), ("class", "distance"), ("count", "distance")):
        table = np.zeros((labels[one].max() + 1, labels[other].max() + 1))
        np.add.at(table, (labels[one], labels[other]), 1)
        assert ((table - 1600 / table.size) ** 2 / (1600 / table.size)).sum() < table.size + 40


def test_solids_that_cannot_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_VISIBLE", 0.2)
    with pytest.raises(ValueError, match=r"data.objects: 9 solids do not fit into 16 x 16"):
        scenes.render(options(16, (9, 9)), "train", np.arange(2))


@pytest.mark.slow
def test_a_linear_probe_on_pixels_cannot_read_the_class() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    images, labels, _ = rendered(32, 6000)
    pixels = (images.reshape(6000, -1) / 127.5 - 1)[:, ::2]
    probe = linear.RidgeClassifier(alpha=3000).fit(pixels[:5000], labels["class"][:5000])
    assert probe.score(pixels[5000:], labels["class"][5000:]) < 0.25  # chance: 0.125


@pytest.mark.parametrize("length", [0.0, 1.0, 3.0])
def test_a_nuisance_has_the_variance_and_correlation_that_it_promises(length: float) -> None:
    """400 fields of 48 x 48: of 400 / (2 length sqrt(pi))² independent values and more."""
    field = _field.gaussian(0, "datasets/scenes/train/nuisance", np.arange(400), 48, length)
    assert abs(field.mean()) < 0.02
    assert field.var() == pytest.approx(1, abs=0.02)
    for apart in (1, 3, 6):
        expected = np.exp(-((apart / (2 * length)) ** 2)) if length else 0.0
        for one, other in [
            (field[:, apart:], field[:, :-apart]),
            (field[:, :, apart:], field[:, :, :-apart]),
        ]:
            assert (one * other).mean() == pytest.approx(expected, abs=0.03)
    assert (field[:, :24] ** 2).mean() == pytest.approx((field[:, 24:] ** 2).mean(), abs=0.05)


def test_a_nuisance_lies_over_the_same_scene_and_says_nothing_of_it() -> None:
    samples = np.arange(64)
    clean, labels, owner = scenes.render(options(32), "train", samples)
    under, same, shown = scenes.render(options(32, nuisance=(20.0, 3.0)), "train", samples)
    assert np.array_equal(owner, shown)
    assert all(np.array_equal(same[task], labels[task]) for task in labels)
    added = under.astype(int) - clean
    inside = ((clean > 80) & (clean < 175)).all(3)  # nothing is cut off there
    assert np.array_equal(added[inside][:, 0], added[inside][:, 2]), "grey"
    assert added[inside].std() == pytest.approx(20, abs=2)
    alone, _, _ = scenes.render(options(32, nuisance=(20.0, 3.0)), "train", samples[[5]])
    assert np.array_equal(alone[0], under[5])
    other, _, _ = scenes.render(options(32, nuisance=(20.0, 3.0)), "test", samples)
    fields = _field.gaussian(0, "datasets/scenes/test/nuisance", samples, 32, 3.0)
    assert not np.array_equal(other, under)
    twice = fields - _field.gaussian(0, "datasets/scenes/train/nuisance", samples, 32, 3.0)
    assert twice.std() == pytest.approx(2**0.5, abs=0.1), "train and test are independent"
