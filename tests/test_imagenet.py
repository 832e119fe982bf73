"""A tiny ImageNet-1k as it is published is prepared with the settings of every ImageNet preset."""

import copy
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from PIL import Image
from test_pictures import encoded, pixels

from ijepa import config as configs
from ijepa import presets, variants
from ijepa.config import Config
from ijepa.runtime import files
from ijepa.store.read import Store, open_store
from ijepa.store.remarks import remarks
from ijepa.store.write import write_store
from ijepa.training.batches import Batches

WNIDS = ("n01440764", "n02105855", "n03126707")
NAMES = ("tench, Tinca tinca", "Shetland sheepdog, Shetland sheep dog, Shetland", "crane")
FOLDER = ROOT / "experiments/presets"
IMAGENET = sorted(
    path.stem
    for path in FOLDER.glob("*.yaml")
    if "imagenet" in str(files.read_yaml(path).get("data.path"))
)


def photo(seed: int, form: str = "JPEG", mode: str = "RGB") -> bytes:
    return encoded(Image.fromarray(pixels(seed, 110 + seed % 7, 130)).convert(mode), form)


def train_images() -> list[tuple[str, int, bytes]]:
    """Name, class and bytes of the training images, with the kinds that ImageNet has."""
    odd = {
        (0, 1): photo(1, mode="CMYK"),  # 20 or so in ImageNet
        (1, 2): photo(2, "PNG", "RGBA"),  # n02105855_2933.JPEG is a PNG
        (2, 0): photo(3, mode="L"),
    }
    return [
        (f"{WNIDS[label]}_{k}.JPEG", label, odd.get((label, k), photo(10 * label + k + 100)))
        for label in range(3)
        for k in range(4)
    ]


def validation_images() -> list[tuple[str, int, bytes]]:
    labels = (2, 0, 1, 1, 0, 2)
    return [
        (f"ILSVRC2012_val_{k + 1:08d}.JPEG", label, photo(200 + k))
        for k, label in enumerate(labels)
    ]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """IJEPA_DATA_ROOT with both forms, at the places that the presets name and beside them."""
    root = tmp_path_factory.mktemp("raw")
    for name in ("imagenet", "imagenet22k"):
        for split, images in (("train", train_images()), ("val", validation_images())):
            for file, label, data in images:
                path = root / name / split / WNIDS[label] / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        (root / name / "test").mkdir()
        for k in range(5):
            path = root / name / f"test/ILSVRC2012_test_{k + 1:08d}.JPEG"
            path.write_bytes(photo(300 + k))
    feature = {"image": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}
    metadata = {b"huggingface": json.dumps({"info": {"features": feature}}).encode()}
    train, test = train_images(), [("", -1, photo(300 + k)) for k in range(5)]
    (root / "parquet").mkdir()
    for file, images in (
        ("train-00000-of-00002", train[::2]),  # published in a random order
        ("train-00001-of-00002", train[1::2]),
        ("validation-00000-of-00001", validation_images()),
        ("test-00000-of-00001", test),
    ):
        rows = [{"bytes": data, "path": name} for name, _, data in images]
        labels = pa.array([label for _, label, _ in images], pa.int64())
        table = pa.table({"image": rows, "label": labels}).replace_schema_metadata(metadata)
        pq.write_table(table, root / f"parquet/{file}.parquet", row_group_size=4)
    return root


def resolved(name: str, **more: Any) -> Config:
    """A preset over params.yaml, and what a user changes of it."""
    tree = copy.deepcopy(files.read_yaml(ROOT / "params.yaml"))
    presets.apply(tree, presets.load(name, FOLDER)[1] | more, name)
    return configs.parse(tree, name)


def prepared(config: Config, root: Path, path: Path) -> Store:
    """What the stage prepare does with a data set."""
    data = config.data
    source = variants.load("datasets", data.name).load(data.options, root)
    write_store(
        source, path, bad_images=data.bad_images, max_bad_fraction=data.max_bad_fraction,
        equal_images=data.duplicates,
    )  # fmt: skip
    return open_store(path)


def kinds(store: Store) -> Mapping[str, Any]:
    return {name: record["modes"] for name, record in store.manifest["splits"].items()}


def test_these_are_the_presets_of_imagenet() -> None:
    assert len(IMAGENET) == 9
    assert {"vit_h14", "vit_g16", "ibot_vit_l16"} <= set(IMAGENET)


@pytest.mark.parametrize("name", IMAGENET)
@pytest.mark.parametrize("form", ["folder", "parquet"])
def test_imagenet_is_prepared_as_it_is_published(
    name: str, form: str, published: Path, tmp_path: Path
) -> None:
    other = {"data.name": "parquet", "data.path": "parquet"} if form == "parquet" else {}
    config = resolved(name, **other)
    assert config.data.bad_images == "fail"
    store = prepared(config, published, tmp_path / "s")
    assert kinds(store) == {"train": {"CMYK": 1, "L": 1, "RGB": 9, "RGBA": 1}, "val": {"RGB": 6}}
    assert store.report_split == "val"
    assert store.tasks == ({"class": WNIDS} if form == "folder" else {"label": NAMES})
    task = next(iter(store.tasks))
    counts = {split: record["class_counts"] for split, record in store.manifest["splits"].items()}
    assert counts == {"train": {task: [4, 4, 4]}, "val": {task: [2, 2, 2]}}
    what = "images of test in no class folder" if form == "folder" else "rows of the split test"
    (line,) = (line for line in remarks(store.manifest) if "left out" in line)
    assert line.startswith(f"left out: 5 {what}")
    assert "train: converted to RGB: 1 CMYK, 1 L, 1 RGBA" in remarks(store.manifest)
    data = train_images() if form == "folder" else train_images()[::2] + train_images()[1::2]
    for index, (_, label, image) in enumerate(data):
        assert store.splits["train"].labels[task][index] == label
        with Image.open(io.BytesIO(image)) as wanted:
            assert np.array_equal(store.splits["train"][index], np.array(wanted.convert("RGB")))


def test_a_batch_of_imagenet_has_all_its_kinds(published: Path, tmp_path: Path) -> None:
    config = resolved("vit_l16", **{"train.batch_size": 12})
    batch = Batches(prepared(config, published, tmp_path / "s").splits["train"], config)[0]
    assert batch.views[0].shape == (12, 3, 224, 224)
    assert sorted(batch.samples) == list(range(12))
