"""The store gives back what was put in, says what is bad, and notices damage."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import shutil
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ijepa.datasets import Item, Source, Split, folder
from ijepa.store import pictures
from ijepa.store.read import Images, Store, open_store
from ijepa.store.write import write_store

TASKS = {"class": ("cat", "dog", "emu"), "count": ("3", "4")}


def pixels(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def jpeg(seed: int, height: int = 120, width: int = 100) -> bytes:
    return encoded(Image.fromarray(pixels(seed, height, width)))


def split(images: Sequence[np.ndarray | bytes]) -> Split:
    def items() -> Iterator[Item]:
        for index, image in enumerate(images):
            yield Item(image, {"class": index % 3, "count": index % 2}, f"pile/{index}.jpg")

    return Split(len(images), items)


def source(train: Sequence[np.ndarray | bytes], test: Sequence[np.ndarray | bytes]) -> Source:
    return Source({"train": split(train), "test": split(test)}, TASKS, {"form": "pile"})


def tree(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def test_small_images_come_back_byte_for_byte(tmp_path: Path) -> None:
    train, test = [pixels(seed) for seed in range(23)], [pixels(99)]
    write_store(source(train, test), tmp_path / "s", shard_bytes=5 * 192)
    store = open_store(tmp_path / "s", verify=True)
    images = store.splits["train"]
    assert [len(images), len(store.splits["test"])] == [23, 1]
    for index in range(23):
        assert np.array_equal(images[index], train[index])
        assert images[index].flags.writeable  # torch.from_numpy wants that
    record = store.manifest["splits"]["train"]
    assert [shard["count"] for shard in record["shards"]] == [5, 5, 5, 5, 3]
    assert record["stored"] == "decoded"
    assert record["class_counts"] == {"class": [8, 8, 7], "count": [12, 11]}
    assert images.labels["class"].tolist() == [index % 3 for index in range(23)]
    assert images.labels["count"].tolist() == [index % 2 for index in range(23)]
    assert store.tasks == TASKS
    assert list(store.tasks) == ["class", "count"]  # the first task is the headline
    assert list(store.splits) == ["train", "test"]
    assert store.report_split == "test"
    with pytest.raises(IndexError):
        images[23]


def test_large_images_keep_their_own_bytes(tmp_path: Path) -> None:
    train = [jpeg(seed, 100 + seed, 120) for seed in range(7)]
    write_store(source(train, [pixels(0)]), tmp_path / "s", shard_bytes=2 * len(train[0]) + 999)
    store = open_store(tmp_path / "s", verify=True)
    record = store.manifest["splits"]["train"]
    assert record["stored"] == "encoded"
    assert len(record["shards"]) > 2
    files = [tmp_path / "s/train" / shard["file"] for shard in record["shards"]]
    assert b"".join(file.read_bytes() for file in files) == b"".join(train)
    for index in range(7):
        with Image.open(io.BytesIO(train[index])) as wanted:
            assert np.array_equal(store.splits["train"][index], np.array(wanted))


@pytest.mark.parametrize(("splits", "reported"), [
    (["train", "val"], "val"), (["train", "test"], "test"), (["train", "val", "test"], "test"),
])  # fmt: skip
def test_the_test_split_is_reported_where_there_is_one(splits: list[str], reported: str) -> None:
    images: Any = dict.fromkeys(splits)
    assert Store({}, {}, images, "").report_split == reported


@pytest.mark.parametrize(
    ("sides", "stored"),
    [([96, 96], "decoded"), ([97, 97], "encoded"), ([32, 32, 33], "encoded")],
)
def test_what_is_stored_decoded(tmp_path: Path, sides: list[int], stored: str) -> None:
    train = [encoded(Image.fromarray(pixels(i, side, 32)), "PNG") for i, side in enumerate(sides)]
    write_store(source(train, [pixels(0)]), tmp_path / "s")
    store = open_store(tmp_path / "s", verify=True)
    assert store.manifest["splits"]["train"]["stored"] == stored
    for index, side in enumerate(sides):
        assert np.array_equal(store.splits["train"][index], pixels(index, side, 32))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>404</html>", "not an image"),
        (jpeg(0)[:999], "truncated"),
        (encoded(Image.new("F", (9, 9)), "TIFF"), "colour mode F"),
    ],
)
def test_a_bad_image_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        write_store(source([jpeg(1), jpeg(2), data], [jpeg(3)]), tmp_path / "s")
    assert "pile/2.jpg (image 2 of train)" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_skipping_keeps_the_others_in_order_and_lists_what_is_missing(tmp_path: Path) -> None:
    train: list[bytes] = [jpeg(seed) for seed in range(20)]
    train[4], train[11] = b"", train[11][:700]
    whole = source(train, [jpeg(99)])
    write_store(whole, tmp_path / "s", bad_images="skip", max_bad_fraction=0.1)
    store = open_store(tmp_path / "s", verify=True)
    kept = [index for index in range(20) if index not in (4, 11)]
    images = store.splits["train"]
    assert images.labels["class"].tolist() == [index % 3 for index in kept]
    for place, index in enumerate(kept):
        assert np.array_equal(images[place], pictures.decode(train[index]))
    skipped = store.manifest["splits"]["train"]["skipped"]
    assert skipped["count"] == 2
    assert [entry["index"] for entry in skipped["images"]] == [4, 11]
    assert skipped["images"][0]["origin"] == "pile/4.jpg"
    assert store.manifest["splits"]["test"]["skipped"]["count"] == 0


def test_too_many_bad_images_fail_and_leave_the_older_data_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    write_store(source([jpeg(0)], [jpeg(1)]), path)
    before = tree(path)
    train = [jpeg(seed) for seed in range(17)] + [b""] * 3
    with pytest.raises(ValueError, match=r"3 of 20 images are bad.*max_bad_fraction 0\.1"):
        write_store(source(train, [jpeg(1)]), path, bad_images="skip", max_bad_fraction=0.1)
    assert tree(path) == before
    with pytest.raises(ValueError, match="no good image"):
        write_store(source([b""], [jpeg(1)]), path, bad_images="skip", max_bad_fraction=1)
    with pytest.raises(ValueError, match="the split test has no images"):
        write_store(source([jpeg(0)], []), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_a_label_that_is_no_class_is_named(tmp_path: Path) -> None:
    def items() -> Iterator[Item]:
        yield Item(pixels(0), {"class": -1, "count": 0}, "pile/0.jpg")

    broken = Source({"train": Split(1, items), "test": split([pixels(1)])}, TASKS, {})
    with pytest.raises(ValueError, match=r"pile/0\.jpg: the label class is -1, .* from 0 to 2"):
        write_store(broken, tmp_path / "s")


def planted(root: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small store of one kind, whose source is a folder of files."""
    monkeypatch.setenv("IJEPA_DATA_ROOT", str(root / "raw"))
    monkeypatch.setenv("IJEPA_STORAGE", "in_place" if storage == "in_place" else "copy")
    side = 8 if storage == "decoded" else 100
    for name in ("train/cat/0", "train/cat/1", "train/dog/2", "val/cat/3", "val/dog/4"):
        file = root / "raw/pets" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(Image.fromarray(pixels(int(name[-1]), side, side) // 32), "PNG"))
    write_store(folder.load(folder.Options(path="pets"), root / "raw"), root / "s")
    return root / "s"


def everything(path: Path) -> list[object]:
    """All that a store gives to whoever reads it."""
    store = open_store(path)
    return [
        store.hash,
        *(
            [images[index].tobytes() for index in range(len(images))]
            + [(task, labels.tolist()) for task, labels in images.labels.items()]
            for images in store.splits.values()
        ),
    ]


@pytest.mark.parametrize("storage", ["decoded", "encoded", "in_place"])
def test_no_flipped_bit_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    """In any file, of the source too where the images stay there; the file is named."""
    path, rng = planted(tmp_path, storage, monkeypatch), np.random.default_rng(0)
    record = open_store(path).manifest["splits"]["train"]
    assert record["stored"] == storage
    assert bool(record["paths"]) is not bool(record["shards"])
    files = [file for file in path.rglob("*") if file.is_file()]
    if storage == "in_place":
        files += [file for file in (tmp_path / "raw").rglob("*") if file.is_file()]
    everything(path)
    for file in files:
        whole = file.read_bytes()
        file.chmod(0o644)
        for bit in rng.choice(len(whole) * 8, min(60, len(whole) * 8), replace=False).tolist():
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            file.write_bytes(flipped)
            with pytest.raises(ValueError, match=r"damaged|changed since") as error:
                everything(path)
            assert "\n" not in str(error.value)
            assert file.name in str(error.value)
        for cut in (whole[:-1], whole[: len(whole) // 2], b""):
            file.write_bytes(cut)
            with pytest.raises(ValueError, match=rf"{file.name}.*; "):
                everything(path)
        file.unlink()
        with pytest.raises(ValueError, match=f"{file.name}: (missing|cannot|no such)|no prepared"):
            everything(path)
        file.write_bytes(whole)
    everything(path)


@pytest.mark.parametrize("storage", ["decoded", "encoded", "in_place"])
def test_damage_after_the_first_read_is_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    path = planted(tmp_path, storage, monkeypatch)
    images = open_store(path).splits["train"]
    assert images[1].any()
    file = path / "train/images-00000.bin"
    if storage == "in_place":
        file = tmp_path / "raw/pets/train/cat/1.png"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1  # in the middle one of three images
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{file.name}: (damaged: image 1 of train|changed)"):
        images[1]
    if storage != "in_place":
        images[0], images[2]  # the others are as they were
        return
    index = path / "train/paths.bin"
    index.chmod(0o644)
    index.write_bytes(index.read_bytes().replace(b"cat/1", b"cat/7"))
    with pytest.raises(ValueError, match=r"paths\.bin: damaged"):  # not a file that is missing
        images[1]


def test_an_older_store_says_so(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="format 1, this code reads 2; `dvc repro -f prepare`"):
        open_store(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 2}')
    with pytest.raises(ValueError, match="SHA256SUMS: no such file"):
        open_store(tmp_path)
    for text in ("[" * 100_000, "[]", "{"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=r"manifest\.json: not"):
            open_store(tmp_path)
    with pytest.raises(ValueError, match="no prepared data set"):
        open_store(tmp_path / "nowhere")


def test_images_in_place_are_the_copied_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same pixels, labels, order and content hash, and no image is written."""
    copied, there = (
        open_store(planted(tmp_path / kind, kind, monkeypatch)) for kind in ("encoded", "in_place")
    )
    (tmp_path / "in_place/raw").rename(tmp_path / "moved")  # as a whole it may move
    monkeypatch.setenv("IJEPA_DATA_ROOT", str(tmp_path / "moved"))
    for name, images in open_store(tmp_path / "in_place/s", verify=True).splits.items():
        for index, image in enumerate(images[i] for i in range(len(images))):
            assert np.array_equal(image, copied.splits[name][index])
        assert images.labels["class"].tolist() == copied.splits[name].labels["class"].tolist()
        one, other = (store.manifest["splits"][name] for store in (copied, there))
        for key in ("sha256", "bytes", "count", "class_counts", "modes"):
            assert one[key] == other[key], key
    assert not list((tmp_path / "in_place/s").rglob("images-*"))
    assert str(tmp_path) not in (tmp_path / "in_place/s/manifest.json").read_text()
    image = tmp_path / "moved/pets/train/cat/1.png"
    image.rename(image.with_name("moved.png"))
    with pytest.raises(ValueError, match=r"cat/1\.png: cannot be read: No such .* put the file"):
        open_store(tmp_path / "in_place/s").splits["train"][1]


def test_only_files_of_single_images_stay_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_STORAGE", "in_place")
    for images in ([jpeg(0)], [pixels(0)]):
        with pytest.raises(ValueError, match="IJEPA_STORAGE: in_place needs a file for each"):
            write_store(source(images, images), tmp_path / "s")
    monkeypatch.setenv("IJEPA_STORAGE", "link")
    with pytest.raises(ValueError, match="IJEPA_STORAGE: 'link' is not one of copy, in_place"):
        write_store(source([jpeg(0)], [jpeg(0)]), tmp_path / "s")


def test_too_little_disk_is_said_before_an_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the sizes of files, or of an image where all are alike."""
    path = planted(tmp_path, "encoded", monkeypatch)
    before = tree(path)
    size = sum(file.stat().st_size for file in (tmp_path / "raw").rglob("*.png"))
    usage = shutil.disk_usage(tmp_path)
    pets = folder.load(folder.Options(path="pets"), tmp_path / "raw")
    alike = source([pixels(0)] * 50, [pixels(0)])
    for data, need in ((pets, size), (alike, 51 * 192)):
        for free in (need, need - 1):
            monkeypatch.setattr(shutil, "disk_usage", lambda _, f=free: usage._replace(free=f))
            if free < need:
                with pytest.raises(ValueError, match=r"will be written, .* free; IJEPA_STORAGE"):
                    write_store(data, path)
                assert tree(path) == before
            else:
                write_store(data, tmp_path / "fits")


def test_labels_take_the_bytes_that_their_classes_need(tmp_path: Path) -> None:
    for classes, kind in ((256, "u1"), (257, "u2")):
        items = [Item(pixels(0), {"class": label}, "") for label in (0, classes - 1)]
        both = Split(2, lambda items=items: iter(items))  # type: ignore[misc]
        names = tuple(map(str, range(classes)))
        write_store(Source({"train": both, "test": both}, {"class": names}, {}), tmp_path / "s")
        assert np.load(tmp_path / "s/train/labels.npy").dtype == kind
        labels = open_store(tmp_path / "s").splits["train"].labels["class"]
        assert labels.dtype == np.int64
        assert labels.tolist() == [0, classes - 1]


def test_equal_sources_give_equal_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = [jpeg(seed, 90 + seed) for seed in range(70)]
    for cores in (1, 5):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        write_store(source(train, [pixels(1)]), tmp_path / str(cores), shard_bytes=40_000)
    assert tree(tmp_path / "1") == tree(tmp_path / "5")
    manifest = (tmp_path / "1/manifest.json").read_bytes()
    assert open_store(tmp_path / "1").hash == hashlib.sha256(manifest).hexdigest()
    assert str(tmp_path) not in manifest.decode()
    other = source([*train[:-1], jpeg(999)], [pixels(1)])
    write_store(other, tmp_path / "other")
    assert open_store(tmp_path / "other").hash != open_store(tmp_path / "1").hash
    record = json.loads(manifest)["splits"]["train"]
    assert record["sha256"] == hashlib.sha256(b"".join(train)).hexdigest()
    for shard in record["shards"]:
        assert (tmp_path / "1/train" / shard["file"]).stat().st_size == shard["bytes"]


def total(images: Images) -> int:
    return sum(int(images[index].sum()) for index in range(len(images)))


def test_a_worker_process_reads_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = [pixels(seed) for seed in range(9)], [jpeg(seed) for seed in range(3)]
    write_store(source(train, test), tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    splits = open_store(Path("s")).splits  # a relative path must not tie workers to this folder
    monkeypatch.chdir("/")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for images in splits.values():
            here = total(images)  # maps the files: they must not travel
            assert len(pickle.dumps(images)) < 2000
            assert pool.submit(total, images).result() == here
    assert total(splits["train"]) == sum(int(image.sum()) for image in train)


def test_writing_holds_a_few_images_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    def items() -> Iterator[Item]:
        for _ in range(1000):
            yield Item(np.zeros((96, 96, 3), np.uint8), {"class": 0, "count": 0}, "pile")

    whole = Source({"train": Split(1000, items), "test": split([pixels(0)])}, TASKS, {})
    tracemalloc.start()
    try:
        write_store(whole, tmp_path / "s")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "s/train/images-00000.bin").stat().st_size == 1000 * 96 * 96 * 3  # 28 MB
    assert peak < 8e6
