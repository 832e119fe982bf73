"""The stage prepare, from a raw folder to an opened store, and what a user sees when it cannot."""

import io
import resource
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from ijepa import prepare
from ijepa.runtime import errors
from ijepa.store.read import open_store

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout, without a database."""
    monkeypatch.chdir(tmp_path)
    for name, value in (
        ("IJEPA_DATA_ROOT", str(tmp_path / "raw")),
        ("IJEPA_HOME", str(tmp_path / "home")),
        ("IJEPA_MONGO_URL", "off"),
        ("DVC_ROOT", str(tmp_path)),
    ):
        monkeypatch.setenv(name, value)
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty"]
    for command in (["init", "-q"], [*commit, "-m", "a"]):  # else the record says "unknown"
        subprocess.run(["git", *command], check=True)
    return tmp_path


def run(**data: Any) -> int:
    """The stage's exit status with changed parameters of the data section."""
    yaml = YAML(typ="safe", pure=True)
    tree = yaml.load((ROOT / "params.yaml").read_text())
    tree["data"] |= {"name": "folder", "path": "pets", **data}
    with Path("params.yaml").open("w") as file:
        yaml.dump(tree, file)
    return errors.run(prepare.main)


def plant(place: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            folder = place / "raw/pets" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                file = io.BytesIO()
                colour = (label, number, 255 * (split == "val"))
                Image.new("RGB", (120, 130), colour).save(file, "PNG")
                (folder / f"{number}.png").write_bytes(file.getvalue())


def test_prepare_and_what_it_says(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plant(place)
    assert run() == 0
    said = capfd.readouterr()
    assert "train: 8 images, encoded; 0 bad ones left out" in said.out
    assert said.err == ""  # a progress bar is for terminals
    store = open_store(place / "data/prepared", verify=True)
    assert store.tasks == {"class": ("cat", "dog")}
    assert store.report_split == "val"
    assert store.splits["train"][5].tolist()[0][0] == [1, 1, 0]
    first = (place / "data/prepared/manifest.json").read_bytes()

    bad = place / "raw/pets/train/dog/2.png"
    bad.write_bytes(bad.read_bytes()[:60])
    assert run() == 2
    said = capfd.readouterr()
    assert "error: train/dog/2.png (image 6 of train): truncated or corrupt" in said.err
    assert said.err.count("\n") == 1
    assert (place / "data/prepared/manifest.json").read_bytes() == first

    assert run(bad_images="skip", max_bad_fraction=0.2) == 0
    assert "train: 7 images, encoded; 1 bad ones left out" in capfd.readouterr().out


def test_what_is_left_out_converted_and_equal_is_said(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(place)
    first = place / "raw/pets/train/cat/0.png"
    for name in ("val/dog/leak.png", "train/cat/\x1b[31m.heic", "train/cat/.hidden.png"):
        (place / "raw/pets" / name).write_bytes(first.read_bytes())
    with Image.open(first) as image:
        image.convert("CMYK").save(place / "raw/pets/train/dog/cmyk.jpg")
    assert run() == 0
    said = capfd.readouterr().out.splitlines()
    for line in (
        "train: converted to RGB: 1 CMYK",
        "left out: 1 files ending in .heic, such as train/cat/\\x1b[31m.heic",
        "left out: 1 hidden files, such as train/cat/.hidden.png",
        "equal images: 1 image of val in train too",
        "equal images: 1 image in two classes or more",
    ):
        assert line in said
    manifest = open_store(place / "data/prepared").manifest
    assert "train/cat/\x1b[31m.heic" in manifest["left_out"][0]["examples"]  # true there
    before = (place / "data/prepared/manifest.json").read_bytes()
    assert run(duplicates="refuse") == 2
    error = capfd.readouterr().err
    assert error.startswith("error: data.duplicates: refuse: 1 image of val in train too; ")
    assert error.count("\n") == 1
    assert (place / "data/prepared/manifest.json").read_bytes() == before


def test_mistakes_are_one_line(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for data, message in (
        ({}, "error: data.path: pets: no such folder in IJEPA_DATA_ROOT"),
        ({"bad_images": "ignore"}, "params.yaml: data.bad_images: 'ignore' is not one of fail, s"),
        ({"name": "cifar10"}, "error: IJEPA_DATA_ROOT: no CIFAR-10 in"),
    ):
        assert run(**data) == 2
        said = capfd.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (place / "data").exists()
    assert not (place / "home").exists()  # found before anything was recorded


def test_a_full_disk_is_one_line_and_the_older_data_stays(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plant(place)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(place / "raw/pets/train/dog/0.png")
    assert run() == 0
    first = (place / "data/prepared/manifest.json").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    capfd.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert errors.run(prepare.main) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert capfd.readouterr().err == "error: data/prepared: File too large\n"
    assert (place / "data/prepared/manifest.json").read_bytes() == first
    assert [path.name for path in (place / "data").iterdir()] == ["prepared"]


def test_images_in_place_give_the_stage_the_same_pixels(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(place)
    assert run() == 0
    copied = open_store(place / "data/prepared").splits["train"]
    pixels = [copied[index].tobytes() for index in range(8)]
    monkeypatch.setenv("IJEPA_STORAGE", "in_place")
    assert run() == 0
    there = open_store(place / "data/prepared", verify=True).splits["train"]
    assert [there[index].tobytes() for index in range(8)] == pixels
    assert not list((place / "data/prepared").rglob("images-*"))
