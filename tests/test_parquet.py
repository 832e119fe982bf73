"""Parquet files as Hugging Face publishes them, and what is wrong with a copy of them."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_datasets import items, labels, load_parquet, png, write_parquet

from ijepa.datasets import LeftOut, Source
from ijepa.store.read import open_store
from ijepa.store.write import write_store

ANIMALS = ("cat", "dog", "emu")


def described(names: Any) -> bytes:
    """Hugging Face's metadata of a file with a ClassLabel."""
    feature = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return json.dumps({"info": {"features": feature}}).encode()


def write(
    path: Path, values: Sequence[int | None], metadata: bytes | None = None, start: int = 0
) -> None:
    """A file of one image a label; no two images are equal while ``start`` differs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(start + k), "path": f"{k}.png"} for k in range(len(values))]
    table = pa.table({"image": images, "label": pa.array(values, pa.int64())})
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    pq.write_table(table, path, row_group_size=2)


def refusal(root: Path) -> str:
    """The line that a folder is refused with."""
    with pytest.raises(ValueError) as error:  # noqa: PT011 (its callers look at the text)
        load_parquet(root, "label")
    assert "\n" not in str(error.value)
    return str(error.value)


# splits without labels


@pytest.mark.parametrize("nothing", [-1, None])
@pytest.mark.parametrize("metadata", [None, described(ANIMALS)])
def test_a_test_split_without_labels_is_left_out_before_an_image_is_read(
    tmp_path: Path, nothing: int | None, metadata: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/train.parquet", [0, 1, 2, 0], metadata)
    write(tmp_path / "in/validation.parquet", [2, 1], metadata, 10)
    for shard in range(2):
        write(tmp_path / f"in/test-0000{shard}-of-00002.parquet", [nothing] * 3, metadata, 20)
    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetFile, "iter_batches", None)
        source = load_parquet(tmp_path, "label")
    assert list(source.splits) == ["train", "val"]
    assert source.left_out == [
        LeftOut(
            "rows of the split test, none of which has a label",
            6,
            ("test-00000-of-00002.parquet", "test-00001-of-00002.parquet"),
        )
    ]
    assert list(source.origin["files"]) == ["train", "val"]
    write_store(load_parquet(tmp_path, "label"), tmp_path / "s")
    assert open_store(tmp_path / "s").report_split == "val"


@pytest.mark.parametrize(
    ("split", "values", "message"),
    [
        ("test", [-1, 1, -1], "in/test.parquet: row 0: the label label is -1, not a class from 0"),
        ("train", [0, 1, -1], "in/train.parquet: row 2: the label label is -1, not a class fr"),
        ("validation", [-1, -1], "in/validation.parquet: row 0: the label label is -1, not a "),
        ("train", [0, None, 1], "in/train.parquet: row 1: the label label is None, not a class"),
        ("test", [0, 3], "in/test.parquet: row 1: the label label is 3, not a class from 0 to 2"),
    ],
)
def test_a_missing_label_elsewhere_is_an_error_before_an_image_is_read(
    tmp_path: Path, split: str, values: list[int | None], message: str
) -> None:
    for name in ("train", "validation", "test"):
        labels = values if name == split else [0, 1, 2]
        write(tmp_path / f"in/{name}.parquet", labels, described(ANIMALS))
    assert message in refusal(tmp_path)


def test_minus_one_is_a_class_where_train_has_it(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        write(tmp_path / f"in/{name}.parquet", [-1, 1])
    write(tmp_path / "in/test.parquet", [-1, -1])
    source = load_parquet(tmp_path, "label")
    assert source.tasks == {"label": ("-1", "1")}
    assert labels(source, "test", "label") == ["-1", "-1"]


def test_a_class_that_train_has_not_is_a_label_still(tmp_path: Path) -> None:
    for name, values in (("train", [1, 2]), ("validation", [1, 2]), ("test", [0, 0])):
        write(tmp_path / f"in/{name}.parquet", values, described(ANIMALS))
    assert labels(load_parquet(tmp_path, "label"), "test", "label") == ["cat", "cat"]


def test_a_split_with_a_label_in_any_column_is_kept(tmp_path: Path) -> None:
    image = [{"bytes": png(1), "path": "x"}]
    for name, kind, count in (("train", 0, 5), ("validation", 0, 5), ("test", -1, 5)):
        write_parquet(tmp_path / f"in/{name}.parquet", image, kind=[kind], count=[count])
    with pytest.raises(ValueError, match="kind: the split test has the class -1, which the spl"):
        load_parquet(tmp_path, "kind", "count")
    assert list(load_parquet(tmp_path, "count").splits) == ["train", "val", "test"]


# numbered files


def numbered(root: Path, *names: str) -> None:
    for name in (*names, "test.parquet"):
        write(root / f"in/{name}", [0, 1])


@pytest.mark.parametrize("hashed", ["", "-0a1b2c3d4e5f6a7b"])
@pytest.mark.parametrize("gone", [{0}, {1}, {2}, {0, 1}])
def test_a_missing_shard_is_named(tmp_path: Path, gone: set[int], hashed: str) -> None:
    there = sorted({0, 1, 2} - gone)
    numbered(tmp_path, *(f"train-0000{k}-of-00003{hashed}.parquet" for k in there))
    said = refusal(tmp_path)
    assert f"in/train-0000{min(gone)}-of-00003.parquet: missing; {len(there)} of 3 files" in said


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("digits", [1, 5])
def test_all_shards_are_all_images(tmp_path: Path, first: int, digits: int) -> None:
    numbers = [f"{k:0{digits}d}-of-{11:0{digits}d}" for k in range(first, first + 11)]
    numbered(tmp_path, *(f"train-{number}.parquet" for number in numbers))
    assert load_parquet(tmp_path, "label").splits["train"].count == 22


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train-0-of-2.parquet", "train-1-of-3.parquet"),
         "train-1-of-3.parquet: one of 3 files, and train-0-of-2.parquet is one of 2"),
        (("train-0-of-1-aa.parquet", "train-0-of-1-bb.parquet"),
         "train-0-of-1-bb.parquet: is file 0 of 1, as train-0-of-1-aa.parquet is"),
        (("train.parquet", "train-0-of-1.parquet"),
         "train.parquet: stands beside train-0-of-1.parquet"),
        (("train-0-of-1.parquet", "train-1-of-1.parquet"), "there are 2 files, not 1"),
    ],
)  # fmt: skip
def test_shards_of_two_sets_do_not_mix(
    tmp_path: Path, names: tuple[str, ...], message: str
) -> None:
    numbered(tmp_path, *names)
    assert message in refusal(tmp_path)


def test_every_named_part_of_a_split_is_complete_by_itself(tmp_path: Path) -> None:
    numbered(tmp_path, "train-a-0-of-1.parquet", "train-b-0-of-2.parquet", "train-c.parquet")
    assert "in/train-b-1-of-2.parquet: missing" in refusal(tmp_path)
    write(tmp_path / "in/train-b-1-of-2.parquet", [0, 1])
    assert load_parquet(tmp_path, "label").splits["train"].count == 8


# names of classes


@pytest.mark.parametrize("order", list(itertools.permutations(ANIMALS)))
def test_a_label_means_the_class_of_its_files_name(tmp_path: Path, order: tuple[str]) -> None:
    write(tmp_path / "in/train-0-of-2.parquet", [0, 1, 2], described(ANIMALS))
    write(tmp_path / "in/train-1-of-2.parquet", [2, 0, 1], described(order))
    write(tmp_path / "in/test.parquet", [1, 2], described(order))
    source = load_parquet(tmp_path, "label")
    assert source.tasks == {"label": ANIMALS}
    assert labels(source, "train", "label") == [*ANIMALS, order[2], order[0], order[1]]
    assert labels(source, "test", "label") == [order[1], order[2]]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (ANIMALS, ("cat", "dog"), "in/test.parquet: label: the class 'emu' is only in train.parq"),
        (("cat", "dog"), ANIMALS, "in/test.parquet: label: the class 'emu' is only here, not in "),
        (ANIMALS, None, "in/test.parquet: label: has no class names, unlike train.parquet"),
        (None, ANIMALS, "in/test.parquet: label: has class names, unlike train.parquet"),
        (("cat", "cat", "emu"), ("emu", "cat", "cat"), "2 classes are named 'cat': which is"),
        (("cat", "emu"), ("emu", "cat", "cat"), "2 classes are named 'cat': which is which"),
    ],
)
def test_files_that_name_other_classes_are_refused(
    tmp_path: Path, train: Any, test: Any, message: str
) -> None:
    write(tmp_path / "in/train.parquet", [0, 1], described(train) if train else None)
    write(tmp_path / "in/test.parquet", [0, 1], described(test) if test else None)
    assert message in refusal(tmp_path)


def test_classes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """ImageNet's lists of names have a crane that flies and one that lifts."""
    names = ("crane", "emu", "crane")
    for split in ("train", "test"):
        write(tmp_path / f"in/{split}.parquet", [0, 1, 2], described(names))
    source = load_parquet(tmp_path, "label")
    assert source.tasks == {"label": ("crane (0)", "emu", "crane (2)")}
    assert [item.labels["label"] for item in items(source, "train")] == [0, 1, 2]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"{broken", "not JSON (Expecting property name"),
        (b"\xff\xfe{}", "not JSON ("),
        (b"[1]", "not a mapping where 'info' belongs"),
        (b'{"info": null}', "not a mapping where 'features' belongs"),
        (b'{"info": {"features": [1]}}', "not a mapping where 'label' belongs"),
        (b'{"info": {"features": {"label": [1]}}}', "label: no list of class names"),
        (described(None), "label: no list of class names"),
        (described("cat"), "label: no list of class names"),
        (described(["cat", 3]), "label: no list of class names"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_odd_metadata_is_one_line_that_names_the_file(
    tmp_path: Path, metadata: bytes, message: str, split: str
) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"in/{name}.parquet", [0, 1], metadata if name == split else b"{}")
    assert f"in/{split}.parquet: its Hugging Face metadata: {message}" in refusal(tmp_path)


# files and columns


def test_paths_instead_of_images(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": None, "path": f"{k}.png"} for k in range(5)], kind)
    for images in (rows, pa.array([f"{k}.png" for k in range(5)])):
        table = pa.table({"image": images, "label": [0] * 5})
        for split in ("train", "test"):
            (tmp_path / "in").mkdir(exist_ok=True)
            pq.write_table(table, tmp_path / f"in/{split}.parquet", row_group_size=2)
        said = refusal(tmp_path)
        assert said.startswith("data.image_column: image: ")
        assert "paths" in said
    assert "paths are not read" in said
    table = pa.table({"image": rows, "label": [0] * 5})
    pq.write_table(table, tmp_path / "in/train.parquet")
    wanted = "in in/train.parquet the column holds paths, not images; write the images into the"
    assert wanted in refusal(tmp_path)


def test_what_is_left_out_of_parquet_folders_is_counted(tmp_path: Path) -> None:
    odd = ("._train-00000.parquet", ".cache/train.parquet", "README.md", "extra.parquet",
           "more/train.parquet", "train.parquet.part", "dataset_infos.json")  # fmt: skip
    write(tmp_path / "in/train.parquet", [0])
    write(tmp_path / "in/test.parquet", [0])
    for name in odd:
        write(tmp_path / "in" / name, [0])
    source: Source = load_parquet(tmp_path, "label")
    assert len(items(source, "train")) == 1
    assert {entry.what: entry.examples for entry in source.left_out} == {
        "hidden files": ("._train-00000.parquet", ".cache/train.parquet"),
        "files ending in .md": ("README.md",),
        "files ending in .part": ("train.parquet.part",),
        "files ending in .json": ("dataset_infos.json",),
        "parquet files of no split": ("extra.parquet",),
        "parquet files in folders below": ("more/train.parquet",),
    }
