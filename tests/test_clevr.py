"""CLEVR's own layout: its counts and distances, what the store and the probes make of them."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tiny
from PIL import Image

from ijepa.datasets import LeftOut, Source, clevr
from ijepa.evaluation import run, scores
from ijepa.evaluation.probing import Job
from ijepa.store.read import open_store
from ijepa.store.write import write_store

OPTIONS = clevr.Options(path="CLEVR_v1.0")


def png(value: int, width: int = 120, height: int = 80) -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (width, height), (value, value, value, 255)).save(file, "PNG")  # as CLEVR's
    return file.getvalue()


def name(split: str, number: int) -> str:
    return f"CLEVR_{split}_{number:06d}.png"


def scene(split: str, number: int, depths: Sequence[Any]) -> dict[str, Any]:
    """As in the file that CLEVR comes with, as far as it matters."""
    objects = [{"shape": "cube", "pixel_coords": [131, 98, depth]} for depth in depths]
    return {
        "image_index": number,
        "split": split,
        "image_filename": name(split, number),
        "objects": objects,
        "relationships": {"left": [[] for _ in depths]},
    }


def scenes_file(root: Path, split: str) -> Path:
    return root / f"CLEVR_v1.0/scenes/CLEVR_{split}_scenes.json"


def write(root: Path, **depths: Sequence[Sequence[Any]]) -> None:
    """A CLEVR with scenes of these depths; image i of a split is i all over."""
    for split, scenes in depths.items():
        path = scenes_file(root, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        made = [scene(split, number, values) for number, values in enumerate(scenes)]
        path.write_text(json.dumps({"info": {"version": "1.0"}, "scenes": made}))
        images = root / "CLEVR_v1.0/images" / split
        images.mkdir(parents=True)
        for number in range(len(scenes)):
            (images / name(split, number)).write_bytes(png(number))
    (root / "CLEVR_v1.0/images/test").mkdir()
    (root / "CLEVR_v1.0/images/test/CLEVR_test_000000.png").write_bytes(png(0))


def labels(source: Source, split: str, task: str) -> list[str]:
    return [source.tasks[task][item.labels[task]] for item in source.splits[split].items()]


def test_counts_and_bins_of_distance(tmp_path: Path) -> None:
    bins = {
        "<= 8.0 units": (0.5, 8, 8.0),
        "8.0-8.5 units": (np.nextafter(8.0, 9), 8.5),
        "8.5-9.0 units": (np.nextafter(8.5, 9), 9.0),
        "9.0-9.5 units": (np.nextafter(9.0, 10), 9.5),
        "9.5-10.0 units": (np.nextafter(9.5, 10), 10.0),
        "> 10.0 units": (np.nextafter(10.0, 11), 11.25, 100),
    }
    nearest = [(depth, words) for words, depths in bins.items() for depth in depths]
    train = [[12.5 if depth < 12 else 100.0, depth, 100.0] for depth, _ in nearest]
    write(tmp_path, train=train, val=[[11.0] * count for count in range(3, 11)])
    source = clevr.load(OPTIONS, tmp_path)
    assert {split: found.count for split, found in source.splits.items()} == {
        "train": len(nearest),
        "val": 8,
    }
    assert source.tasks["count"] == ("3", "4", "5", "6", "7", "8", "9", "10")
    assert source.tasks["distance"] == tuple(bins)
    assert labels(source, "train", "distance") == [words for _, words in nearest]
    assert labels(source, "val", "count") == list(source.tasks["count"])
    assert set(labels(source, "val", "distance")) == {"> 10.0 units"}


def test_images_come_in_the_order_of_the_scenes(tmp_path: Path) -> None:
    write(tmp_path, train=[[9, 9, 9], [9] * 4, [9] * 5], val=[[9, 9, 9]])
    path = scenes_file(tmp_path, "train")
    tree = json.loads(path.read_text())
    del tree["scenes"][1]  # its image has no label then
    path.write_text(json.dumps(tree | {"scenes": tree["scenes"][::-1]}))
    images = tmp_path / "CLEVR_v1.0/images"
    (images / "test").mkdir(exist_ok=True)
    for file in ("test/CLEVR_test_000000.png", "test/CLEVR_test_000001.png", "val/.DS_Store",
                 "val/._CLEVR_val_000000.png", "train/notes.txt"):  # fmt: skip
        (images / file).write_bytes(png(0))
    source = clevr.load(OPTIONS, tmp_path)
    unlabelled = name("train", 1)
    assert source.left_out == [
        LeftOut("files ending in .txt", 1, ("images/train/notes.txt",)),
        LeftOut("hidden files", 2, ("images/val/.DS_Store", "images/val/._CLEVR_val_000000.png")),
        LeftOut("images of test without a scene", 2,
                ("images/test/CLEVR_test_000000.png", "images/test/CLEVR_test_000001.png")),
        LeftOut("images of train without a scene", 1, (f"images/train/{unlabelled}",)),
    ]  # fmt: skip
    items = list(source.splits["train"].items())
    assert [item.origin for item in items] == [f"train/{name('train', n)}" for n in (2, 0)]
    assert [item.image.read_bytes() for item in items] == [png(2), png(0)]
    assert labels(source, "train", "count") == ["5", "3"]
    assert str(tmp_path) not in json.dumps(source.origin)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    def refused() -> str:
        with pytest.raises(ValueError, match=r"^data\.path: CLEVR_v1\.0: no") as error:
            clevr.load(OPTIONS, tmp_path)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no such folder in IJEPA_DATA_ROOT" in refused()
    inner = tmp_path / "CLEVR_v1.0"
    (inner / "CLEVR_v1.0/scenes").mkdir(parents=True)  # unpacked into a folder of its own name
    assert f"no images/train in {inner}; its folder CLEVR_v1.0 looks like CLEVR" in refused()
    (inner / "images/train").mkdir(parents=True)
    assert "no scenes/CLEVR_train_scenes.json in" in refused()
    write(tmp_path / "b", train=[[9, 9, 9]])
    with pytest.raises(ValueError, match="no images/val in"):
        clevr.load(OPTIONS, tmp_path / "b")


GOOD = [9.0, 9.0, 9.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON, or damaged: Expecting value"),
        ("version https://git-lfs", "not JSON, or damaged"),
        ('{"scenes": [{"image_fi', "not JSON, or damaged"),
        ("\xff\xfe", "not JSON, or damaged"),
        ("[" * 10**6, "not JSON, or damaged"),
        ("[]", "has no list 'scenes'"),
        ("{}", "has no list 'scenes'"),
        ('{"scenes": {}}', "has no list 'scenes'"),
        ('{"scenes": []}', "has no list 'scenes', or an empty one"),
    ],
)
def test_files_that_are_no_scenes(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, train=[GOOD], val=[GOOD])
    path = scenes_file(tmp_path, "val")
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")) as error:
        clevr.load(OPTIONS, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "None is not a mapping"),
        ({"image_filename": None}, "image_filename: None is not the name of a file"),
        ({"image_filename": "a\nb.png"}, "image_filename: 'a\\nb.png' is not in "),
        ({"image_filename": "../val/CLEVR_val_000000.png"}, "image_filename: '../val/CLEVR_va"),
        ({"image_filename": "CLEVR_train_000000.png"}, "image_filename: 'CLEVR_train_000000.png'"
         " is of scene 0 too"),
        ({"objects": None}, "objects: None; a list of 3 to 10 is needed"),
        ({"objects": {"a": 1}}, "objects: {'a': 1}; a list of 3 to 10 is needed"),
        ([9, 9], "objects: 2; a list of 3 to 10 is needed"),
        ([9] * 11, "objects: 11; a list of 3 to 10 is needed"),
        ([], "objects: 0; a list of 3 to 10 is needed"),
        ({"objects": [{}] * 3}, "object 0: pixel_coords: None is not [x, y, depth]"),
        ({"objects": [5] * 3}, "object 0: pixel_coords: None is not [x, y, depth]"),
        ({"objects": [{"pixel_coords": [1, 2]}] * 3}, "object 0: pixel_coords: [1, 2] is not"),
        ([9, "8.5", 9], "object 1: pixel_coords: depth '8.5' is not a number in (0, 100]"),
        ([9, 9, None], "object 2: pixel_coords: depth None is not"),
        ([9, 9, True], "object 2: pixel_coords: depth True is not"),
        ([9, 9, float("nan")], "object 2: pixel_coords: depth nan is not"),
        ([float("inf"), 9, 9], "object 0: pixel_coords: depth inf is not"),
        ([9, 0, 9], "object 1: pixel_coords: depth 0 is not"),
        ([-1.5, 9, 9], "object 0: pixel_coords: depth -1.5 is not"),
        ([9, 100.5, 9], "object 1: pixel_coords: depth 100.5 is not"),
    ],
)  # fmt: skip
def test_scenes_that_are_not_clevrs(tmp_path: Path, change: Any, message: str) -> None:
    """A list is of depths, a mapping of keys that differ; the scene is the third of train."""
    write(tmp_path, train=[GOOD, GOOD, GOOD], val=[GOOD])
    path = scenes_file(tmp_path, "train")
    tree = json.loads(path.read_text())
    wrong = tree["scenes"][2]
    if isinstance(change, list):
        wrong = scene("train", 2, change)
    else:
        wrong = wrong | change if isinstance(change, Mapping) else change
    tree["scenes"][2] = wrong
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=re.escape(f"{path}: scene 2: {message}")) as error:
        clevr.load(OPTIONS, tmp_path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 300


def test_an_image_that_is_named_but_missing(tmp_path: Path) -> None:
    write(tmp_path, train=[GOOD, GOOD], val=[GOOD])
    image = tmp_path / "CLEVR_v1.0/images/train" / name("train", 1)
    image.unlink()
    with pytest.raises(ValueError, match=r"train_scenes\.json: scene 1: image_filename: 'CLEVR_"):
        clevr.load(OPTIONS, tmp_path)
    image.mkdir()
    with pytest.raises(ValueError, match=r"CLEVR_train_000001\.png: cannot be read: Is a direct"):
        write_store(clevr.load(OPTIONS, tmp_path), tmp_path / "s")


def test_the_store_packs_it(tmp_path: Path) -> None:
    write(tmp_path, train=[[8.2] * count for count in (3, 10, 5)], val=[[11.0] * 4])
    write_store(clevr.load(OPTIONS, tmp_path), tmp_path / "s")
    store = open_store(tmp_path / "s", verify=True)
    assert store.report_split == "val"
    assert store.splits["train"].labels["count"].tolist() == [0, 7, 2]
    assert store.splits["val"].labels["distance"].tolist() == [5]
    assert store.splits["train"][2].shape == (80, 120, 3)
    assert (store.splits["train"][2] == 2).all()
    assert store.manifest["splits"]["train"]["stored"] == "encoded"
    assert store.manifest["splits"]["train"]["modes"] == {"RGBA": 3}


def test_an_encoder_is_transferred_to_it(
    tmp_path: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey levels give the answers away: 3 objects in dark images, 4 in bright ones."""
    monkeypatch.chdir(tmp_path)
    for key, value in {"HOME": "home", "DATA_ROOT": "raw", "DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"IJEPA_{key}", value)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    many = [[9.2] * 3] * 30 + [[10.5] * 4] * 30
    write(tmp_path / "raw", train=many, val=many)
    for path in (tmp_path / "raw").rglob("*.png"):
        number = int(path.stem[-6:])
        path.write_bytes(png(number + 100 * (number >= 30)))
    entry = {"name": "clevr", "path": "CLEVR_v1.0"}
    knn = {"evaluate.probes": ["knn"], "evaluate.knn": {"k": 5, "temperature": 0.07}}
    for view in ("crop", "squash"):
        config = tiny(**{"evaluate.transfer": [entry], "evaluate.view": view, **knn})
        job = Job(config, "random_init", store_path)
        made = run.evaluate(job, Path("out"), Path("out/metrics.json"))
        assert list(made["tasks"]) == ["class", "clevr/count", "clevr/distance"]
        assert made["encoders"] == ["trained", "pixels"]  # random_init, not beside itself again
        task = made["tasks"]["clevr/distance"]
        assert (task["data"], task["split"]) == ("clevr", "val")
        assert task["n"] == {"train": 60, "held_out": 6, "test": 60}
        assert task["classes"][5] == "> 10.0 units"
        assert (task["chance"], task["knn"]["trained"]["accuracy"]) == (50.0, 100.0)
        assert scores.verify(Path("out"), Path("out/metrics.json")) == []
    assert len(list(Path("home/datasets").iterdir())) == 1  # prepared once for both views
