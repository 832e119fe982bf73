"""Folders and parquet files are read in a fixed order, and what is wrong is said in a line."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ijepa import variants
from ijepa.datasets import Item, LeftOut, Source, folder, parquet
from ijepa.store.read import open_store
from ijepa.store.write import write_store


def items(source: Source, split: str) -> list[Item]:
    found = list(source.splits[split].items())
    assert len(found) == source.splits[split].count
    again = [item.origin for item in source.splits[split].items()]
    assert [item.origin for item in found] == again
    return found


def labels(source: Source, split: str, task: str) -> list[str]:
    return [source.tasks[task][item.labels[task]] for item in items(source, split)]


def png(level: int, side: int = 10) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (level, level, level)).save(file, "PNG")
    return file.getvalue()


# Folders


def plant(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(png(len(path)))
    return root


def test_folders_in_sorted_order(tmp_path: Path) -> None:
    plant(
        tmp_path / "in",
        *("train/n02/b.JPEG", "train/n02/a.JPEG", "train/n01/deep/z.png", "train/n10/c.jpg"),
        *("val/n10/c.jpg", "val/n01/x.webp", "val/n02/y.bmp"),
        *("train/n01/.hidden.png", "train/.trash/a.png", "test/ILSVRC2012_test_1.JPEG"),
    )
    (tmp_path / "in/train/n01/README.txt").write_text("not an image")
    source = folder.load(folder.Options(path="in"), tmp_path)
    assert list(source.splits) == ["train", "val"]  # test has no classes
    assert source.tasks == {"class": ("n01", "n02", "n10")}
    assert [item.origin for item in items(source, "train")] == [
        "train/n01/deep/z.png",
        "train/n02/a.JPEG",
        "train/n02/b.JPEG",
        "train/n10/c.jpg",
    ]
    assert labels(source, "val", "class") == ["n01", "n02", "n10"]
    assert items(source, "train")[3].image == tmp_path / "in/train/n10/c.jpg"
    assert str(tmp_path) not in json.dumps(source.origin)
    assert list(source.left_out) == [
        LeftOut("files ending in .txt", 1, ("train/n01/README.txt",)),
        LeftOut("hidden files", 2, ("train/.trash/a.png", "train/n01/.hidden.png")),
        LeftOut("images of test in no class folder", 1, ("test/ILSVRC2012_test_1.JPEG",)),
    ]


def test_what_is_left_out_of_folders_is_counted(tmp_path: Path) -> None:
    images = [f"{split}/{name}/deep/1.png" for split in ("train", "val") for name in "ab"]
    odd = (
        "train/a/.ipynb_checkpoints/1-checkpoint.png", "train/a/deep/.cache/more/2.png",
        "train/a/._1.png", "val/.DS_Store", "val/b/Thumbs.db", "train/a/1.HEIC", "train/b/2.heic",
        "train/b/3.heic", "val/b/4.heic", "train/b/5.jpg.part", "train/b/6.npy", "train/b/README",
        "train/7.png", "valid/a/8.png", "notes.txt",
    )  # fmt: skip
    plant(tmp_path / "in", *images, *odd)
    (tmp_path / "in/train/b/more").symlink_to(tmp_path / "in/train/a")
    (tmp_path / "in/val/c").symlink_to(tmp_path / "in/val/a")  # a class that is a link is one
    plant(tmp_path / "in", "train/c/1.png")
    source = folder.load(folder.Options(path="in"), tmp_path)
    assert [item.origin for item in items(source, "train")] == [images[0], images[1],
                                                                "train/c/1.png"]  # fmt: skip
    assert [item.origin for item in items(source, "val")] == [*images[2:], "val/c/deep/1.png"]
    assert {entry.what: entry.count for entry in source.left_out} == {
        "hidden files": 4, "files ending in .db": 1, "files ending in .heic": 4,
        "files ending in .part": 1, "files ending in .npy": 1, "files without a suffix": 1,
        "links to folders": 1, "images of train in no class folder": 1,
        "files and folders beside train, val and test": 2,
    }  # fmt: skip
    (heic,) = (entry for entry in source.left_out if "heic" in entry.what)
    assert heic.examples == ("train/a/1.HEIC", "train/b/2.heic", "train/b/3.heic")
    write_store(source, tmp_path / "s")
    told = open_store(tmp_path / "s").manifest["left_out"]
    assert {"what": heic.what, "count": 4, "examples": list(heic.examples)} in told


def test_the_order_of_a_folder_is_not_the_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(*given: Any, **named: Any) -> Any:
        for place, folders, names in real(*given, **named):
            folders.reverse()
            yield place, folders, names[::-1]

    real = folder.os.walk
    names = [f"train/cat/{number * 37 % 101}.png" for number in range(100)]
    plant(tmp_path / "in", *names, "val/cat/1.png")
    source = folder.load(folder.Options(path="in"), tmp_path)
    assert [item.origin for item in items(source, "train")] == sorted(names)
    plant(tmp_path / "in", *(f"train/cat/{place}/{k}.npy" for place in "abc" for k in range(2)))
    first = folder.load(folder.Options(path="in"), tmp_path).left_out
    monkeypatch.setattr(folder.os, "walk", walk)
    again = folder.load(folder.Options(path="in"), tmp_path)
    assert again.left_out == first
    assert [item.origin for item in items(again, "train")] == sorted(names)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ((), "data.path: in: no such folder in IJEPA_DATA_ROOT"),
        (("notes.png",), "a folder without images; .* needs train/<class>/"),
        (("cat/a.png", "dog/b.png"), "it has cat, dog; .* move them into train/ and val/"),
        (("train/cat/a.png",), "it has classes in train$"),
        (("train/a.png", "val/b.png"), "it has classes in none"),
        (("val/cat/a.png", "test/cat/a.png"), "it has classes in val, test"),
        (("train/cat/a.png", "val/1.JPEG"), "val has files but no class folders, as ImageNet's"),
        (("train/cat/.x/a.png", "val/cat/b.png"), "train/cat: a folder without images"),
        (("train/cat/a.png", "val/cat/a.png", "val/dog/b.png"), "'dog' is only in val"),
        (("train/cat/a.png", "train/dog/a.png", "val/cat/b.png"), "'dog' is not in val"),
        (("train/cat/a.png", "train/dog/a.txt", "val/cat/b.png", "val/dog/b.png"),
         "train/dog: a folder without images"),
    ],
)  # fmt: skip
def test_wrong_folders(tmp_path: Path, paths: tuple[str, ...], message: str) -> None:
    plant(tmp_path / "in", *paths)
    with pytest.raises(ValueError, match=message) as error:
        folder.load(folder.Options(path="in"), tmp_path)
    assert "\n" not in str(error.value)


# Parquet


def write_parquet(path: Path, images: list[Any], **columns: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=2)


def load_parquet(root: Path, *columns: str, image: str = "image") -> Source:
    options = parquet.Options(path="in", image_column=image, label_columns=columns)
    return parquet.load(options, root)


@pytest.mark.parametrize("form", ["struct", "bytes"])
def test_parquet_shards_and_tasks(tmp_path: Path, form: str) -> None:
    def image(level: int) -> Any:
        return {"bytes": png(level), "path": None} if form == "struct" else png(level)

    write_parquet(
        tmp_path / "in/train-00001-of-00002.parquet", [image(3), image(4), image(5)],
        kind=["owl", "cat", "owl"], count=[3, 10, 5],
    )  # fmt: skip
    write_parquet(
        tmp_path / "in/train-00000-of-00002.parquet", [image(1), image(2)],
        kind=["emu", "cat"], count=[5, 3],
    )  # fmt: skip
    write_parquet(tmp_path / "in/validation-0.parquet", [image(6)], kind=["emu"], count=[10])
    source = load_parquet(tmp_path, "kind", "count")
    assert list(source.splits) == ["train", "val"]
    assert source.tasks == {"kind": ("cat", "emu", "owl"), "count": ("3", "5", "10")}
    assert labels(source, "train", "kind") == ["emu", "cat", "owl", "cat", "owl"]
    assert labels(source, "train", "count") == ["5", "3", "3", "10", "5"]
    assert labels(source, "val", "count") == ["10"]
    found = items(source, "train")
    assert [item.image for item in found] == [png(level) for level in (1, 2, 3, 4, 5)]
    assert found[4].origin == "in/train-00001-of-00002.parquet: row 2"


def test_parquet_class_names_of_hugging_face(tmp_path: Path) -> None:
    feature = {"label": {"names": ["a", "b", "c"], "_type": "ClassLabel"}}
    described = json.dumps({"info": {"features": feature}})
    for split, values in (("train", [2, 0]), ("test", [1])):
        table = pa.table({"image": [png(v) for v in values], "label": values})
        table = table.replace_schema_metadata({"huggingface": described})
        (tmp_path / "in").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / f"in/{split}.parquet")
    source = load_parquet(tmp_path, "label")
    assert source.tasks == {"label": ("a", "b", "c")}
    assert labels(source, "train", "label") == ["c", "a"]
    table = table.set_column(1, "label", pa.array([-1]))  # what unlabelled test sets have
    pq.write_table(table, tmp_path / "in/test.parquet")
    with pytest.raises(ValueError, match=r"the split test has no label, .* no validation-\*"):
        load_parquet(tmp_path, "label")


def test_a_parquet_row_without_an_image_is_a_bad_image(tmp_path: Path) -> None:
    images = [{"bytes": png(1), "path": "a"}, {"bytes": None, "path": "b"}, None]
    write_parquet(tmp_path / "in/train.parquet", images, label=[0, 1, 1])
    write_parquet(tmp_path / "in/test.parquet", images[:1], label=[0])
    source = load_parquet(tmp_path, "label")
    with pytest.raises(ValueError, match=r"in/train\.parquet: row 1 \(image 1 of train\): empty"):
        write_store(source, tmp_path / "s")
    write_store(source, tmp_path / "s", bad_images="skip", max_bad_fraction=1)
    assert len(open_store(tmp_path / "s").splits["train"]) == 1


def test_wrong_parquet(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path: in: no such folder in IJEPA_DATA_ROOT"):
        load_parquet(tmp_path, "label")
    write_parquet(tmp_path / "in/data/train.parquet", [png(1)], label=[0])
    with pytest.raises(ValueError, match=r"needs train-.*; there are parquet files in its data"):
        load_parquet(tmp_path, "label")
    write_parquet(tmp_path / "in/train.parquet", [png(1)], label=[0], size=[0.5], seen=[None])
    write_parquet(tmp_path / "in/test.parquet", [png(1)], label=[1], size=[0.5], seen=[None])
    for columns, image, message in (
        ((), "image", "data.label_columns: .*one or more"),
        (("label", "label"), "image", "data.label_columns: .*different"),
        (
            ("lable",),
            "image",
            "data.label_columns: lable: not in in/train.parquet; it has image, l",
        ),
        (("label",), "img", "data.image_column: img: not in"),
        (("label",), "size", "data.image_column: size: double in in/train.parquet"),
        (("size",), "image", "data.label_columns: size: double .*whole numbers or texts"),
        (("label",), "image", "the split test has the class 1, which the split train has not"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            load_parquet(tmp_path, *columns, image=image)
        assert "\n" not in str(error.value)
    write_parquet(tmp_path / "in/test.parquet", [png(1)], label=pa.array([None], pa.int64()))
    with pytest.raises(ValueError, match="the split test has no label"):
        load_parquet(tmp_path, "label")
    write_parquet(tmp_path / "in/test.parquet", [png(1)] * 2, label=[0, None])
    with pytest.raises(ValueError, match="the split test has empty labels"):
        load_parquet(tmp_path, "label")
    (tmp_path / "in/test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"test\.parquet: not a parquet file, or damaged"):
        load_parquet(tmp_path, "label")


def test_a_parquet_file_damaged_within_is_named(tmp_path: Path) -> None:
    images = [np.random.default_rng(row).bytes(5000) for row in range(8)]
    write_parquet(tmp_path / "in/train.parquet", images, label=[0] * 8)
    write_parquet(tmp_path / "in/test.parquet", images[:1], label=[0])
    data = bytearray((tmp_path / "in/train.parquet").read_bytes())
    data[21_000:21_400] = b"\xff" * 400  # a page header of the fifth or sixth row is in here
    data[4:60] = b"\xff" * 56
    (tmp_path / "in/train.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"train\.parquet: damaged after row"):
        items(load_parquet(tmp_path, "label"), "train")


def test_every_data_set_has_options_and_load() -> None:
    for name in variants.names("datasets"):
        module = variants.load("datasets", name)
        assert module.Options.__dataclass_params__.frozen
        assert callable(module.load)
