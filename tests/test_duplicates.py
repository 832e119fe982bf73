"""Equal images in two splits or two classes are counted while they are packed, or refused."""

import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_store import jpeg, pixels

from ijepa.datasets import Item, Source, Split
from ijepa.store import duplicates
from ijepa.store.read import open_store
from ijepa.store.write import write_store

NOTHING: dict[str, Any] = {"within": {"train": 0, "test": 0}, "across": {"test in train": 0},
                           "classes": 0, "examples": []}  # fmt: skip


def counted(**splits: list[tuple[int, ...]]) -> dict[str, Any]:
    """The census of splits whose images are (fingerprint, label, ...)."""
    census = duplicates.Census()
    for name, images in splits.items():
        prints = array("Q", [image[0] for image in images])
        labels = np.array([image[1:] for image in images], np.int32).reshape(len(images), -1).T
        census.add(name, prints, labels)
    return census.count()


def by_hand(splits: dict[str, list[tuple[int, ...]]]) -> dict[str, Any]:
    """The same by loops over all pairs."""
    seen: dict[int, set[tuple[int, ...]]] = {}
    for images in splits.values():
        for value, *label in images:
            seen.setdefault(value, set()).add(tuple(label))
    values = {name: [image[0] for image in images] for name, images in splits.items()}
    return {
        "within": {name: sum(value in of[:k] for k, value in enumerate(of))
                   for name, of in values.items()},
        "across": {f"{b} in {a}": sum(value in values[a] for value in values[b])
                   for a, b in itertools.combinations(values, 2)},
        "classes": sum(len(labels) > 1 for labels in seen.values()),
    }  # fmt: skip


def test_a_census_is_what_all_pairs_say() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        splits = {
            name: [tuple(row) for row in rng.integers(0, (9, 2, 2), (rng.integers(1, 9), 3))]
            for name in ("train", "val", "test")[: rng.integers(2, 4)]
        }
        found = counted(**splits)  # type: ignore[arg-type]
        examples = found.pop("examples")
        assert found == by_hand(splits)  # type: ignore[arg-type]
        leaks = any(found["across"].values()) or found["classes"]
        assert bool(examples) == bool(leaks)
        for (first, i), (second, j) in examples:
            one, other = splits[first][i], splits[second][j]
            assert one[0] == other[0]
            assert first != second or one[1:] != other[1:]


def test_fingerprints_beyond_63_bits_and_examples_in_order() -> None:
    train = [(k, 0) for k in range(20)] + [(2**64 - 1, 0), (2**63, 0)]
    found = counted(train=train, test=[(2**64 - 1, 0), (2**63, 1), (5, 0), (99, 0)])
    assert found["across"] == {"test in train": 3}
    assert found["classes"] == 1
    assert found["examples"] == [
        [["train", 5], ["test", 2]], [["train", 20], ["test", 0]], [["train", 21], ["test", 1]],
    ]  # fmt: skip
    assert counted(train=train, test=[(1000, 0)]) == NOTHING
    many = counted(train=train, test=train)
    assert many["across"] == {"test in train": 22}
    assert len(many["examples"]) == 5


def source(**splits: list[tuple[Any, int]]) -> Source:
    def split(images: list[tuple[Any, int]]) -> Split:
        def items() -> Iterator[Item]:
            for index, (image, label) in enumerate(images):
                yield Item(image, {"class": label}, f"pile/{index}")

        return Split(len(images), items)

    return Source({n: split(images) for n, images in splits.items()}, {"class": ("a", "b")}, {})


@pytest.mark.parametrize("form", ["pixels", "small", "large", "file"])
def test_equal_images_of_a_store_are_in_its_manifest(tmp_path: Path, form: str) -> None:
    """However they are stored: as pixels, decoded, encoded, and files."""

    def image(seed: int) -> Any:
        if form == "pixels":
            return pixels(seed)
        data = jpeg(seed, 40, 40) if form == "small" else jpeg(seed)
        if form == "file":
            path = tmp_path / f"{seed}.jpg"
            path.write_bytes(data)
            return path
        return data

    same, odd = image(1), image(2)
    pile = source(train=[(image(0), 0), (same, 1), (same, 1), (odd, 0)],
                  test=[(odd, 1), (same, 1), (image(3), 0)])  # fmt: skip
    write_store(pile, tmp_path / "s")
    told = open_store(tmp_path / "s").manifest["duplicates"]
    assert told == {
        "within": {"train": 1, "test": 0}, "across": {"test in train": 2}, "classes": 1,
        "examples": [[["train", 2], ["test", 1]], [["train", 3], ["test", 0]]],
    }  # fmt: skip
    assert duplicates.said(told) == [
        "2 images of test in train too", "1 image in two classes or more",
        "1 image of train that train has already",
    ]  # fmt: skip
    with pytest.raises(
        ValueError,
        match=r"data\.duplicates: refuse: 2 images of test in train too; .*"
        r"; the first: image 2 of train is image 1 of test",
    ):
        write_store(pile, tmp_path / "refused", equal_images="refuse")  # fmt: skip
    assert not (tmp_path / "refused").exists()


def test_copies_within_a_class_of_a_split_are_no_leak(tmp_path: Path) -> None:
    pile = source(train=[(pixels(0), 0), (pixels(0), 0)], test=[(pixels(1), 0)])
    write_store(pile, tmp_path / "s", equal_images="refuse")
    told = open_store(tmp_path / "s").manifest["duplicates"]
    assert told == NOTHING | {"within": {"train": 1, "test": 0}}


def test_one_image_in_two_classes_of_train_is_refused(tmp_path: Path) -> None:
    pile = source(train=[(pixels(0), 0), (pixels(0), 1)], test=[(pixels(1), 0)])
    with pytest.raises(ValueError, match=r"1 image in two classes.*image 0 of train is image"):
        write_store(pile, tmp_path / "s", equal_images="refuse")


def test_pixels_of_another_shape_are_another_image() -> None:
    image = pixels(0, 4, 6)
    assert duplicates.fingerprint(image) == duplicates.fingerprint(image.copy())
    assert duplicates.fingerprint(image) != duplicates.fingerprint(image.reshape(6, 4, 3))
    flipped = image[:, ::-1]
    assert duplicates.fingerprint(flipped) == duplicates.fingerprint(flipped.copy())


def test_left_out_images_are_not_counted(tmp_path: Path) -> None:
    pile = source(train=[(b"", 0), (jpeg(0), 0), (b"", 1), (jpeg(1), 1)], test=[(jpeg(0), 0)])
    write_store(pile, tmp_path / "s", bad_images="skip", max_bad_fraction=1)
    told = open_store(tmp_path / "s").manifest["duplicates"]
    assert told["across"] == {"test in train": 1}
    assert told["examples"] == [[["train", 0], ["test", 0]]]
