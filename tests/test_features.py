import dataclasses
import os
import platform
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny

from ijepa import backbones, features, views
from ijepa.backbones import Backbone
from ijepa.config import Config
from ijepa.datasets import Item, Source, Split
from ijepa.features import Part
from ijepa.model import vit
from ijepa.runtime import files
from ijepa.store.read import Store, open_store
from ijepa.store.write import write_store


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    monkeypatch.setenv("IJEPA_THREADS", "1")
    monkeypatch.setenv("IJEPA_PRECISION", "fp32")
    return tmp_path / "home"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights that differ from those of seed 0."""
    path = tmp_path / "encoder.safetensors"
    config = tiny()
    vit.save(vit.create(16, config.model, 99), path, {})
    return path


def extract(name: str, config: Config, weights: Path, store: Store, split: str = "test") -> Any:
    backbone = backbones.compared(str(weights), config)[name]
    return features.pooled(backbone, config.evaluate.last_layers, part(store, split, backbone))


def part(store: Store, split: str, backbone: Backbone) -> Part:
    every = np.arange(len(store.splits[split]))
    return Part(store, split, every, "crop", backbone.image_size)


def test_features_are_pooled_tokens_of_the_last_blocks(store: Store, weights: Path) -> None:
    found = extract("trained", tiny(), weights, store)
    model = vit.load(weights)
    images = torch.stack([views.centre(store.splits["test"][i], 16) for i in range(32)])
    with torch.no_grad():
        blocks = model.layers(views.normalise(images), 2)
        last = model(views.normalise(images)).mean(1)
    assert list(found) == ["last", "last2"]
    assert found["last"].shape == (32, 16)
    assert found["last2"].shape == (32, 32)
    # float16 keeps 11 bits
    np.testing.assert_allclose(found["last"], last.numpy(), rtol=1e-3, atol=1e-3)
    expected = torch.cat([b.mean(1) for b in blocks], 1).numpy()
    np.testing.assert_allclose(found["last2"], expected, rtol=1e-3, atol=1e-3)


def test_tokens_are_the_last_layers(store: Store, weights: Path) -> None:
    backbone = backbones.compared(str(weights), tiny())["trained"]
    found = features.tokens(backbone, part(store, "test", backbone))
    images = torch.stack([views.centre(store.splits["test"][i], 16) for i in range(32)])
    with torch.no_grad():
        expected = vit.load(weights)(views.normalise(images)).numpy()
    assert found.shape == expected.shape == (32, 16, 16)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


def test_one_layer_is_one_choice(store: Store, weights: Path) -> None:
    found = extract("trained", tiny(**{"evaluate.last_layers": 1}), weights, store)
    assert {name: array.shape for name, array in found.items()} == {"last": (32, 16)}


def test_random_init_is_where_the_run_started(store: Store, weights: Path) -> None:
    found = extract("random_init", tiny(seed=5), weights, store)
    model = vit.create(16, tiny().model, 5).eval()
    images = torch.stack([views.centre(store.splits["test"][i], 16) for i in range(32)])
    with torch.no_grad():
        expected = model(views.normalise(images)).mean(1)
    np.testing.assert_allclose(found["last"], expected.numpy(), rtol=1e-3, atol=1e-3)
    other = extract("random_init", tiny(seed=6), weights, store)
    assert not np.allclose(found["last"], other["last"], atol=1e-2)


def test_pixels_are_the_image(store: Store, weights: Path) -> None:
    found = extract("pixels", tiny(), weights, store)["pixels"]
    expected = np.stack([store.splits["test"][i].transpose(2, 0, 1) for i in range(32)]) / 255
    np.testing.assert_allclose(found, expected.reshape(32, -1), atol=5e-4)


def test_large_pixels_are_averaged_down(tmp_path: Path, weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    split = Split(1, lambda: iter([Item(image, {"class": 0}, "made")]))
    write_store(Source({"train": split, "test": split}, {"class": ("a",)}, {}), tmp_path / "p")
    backbone = backbones.load("pixels:64", tiny())
    opened = open_store(tmp_path / "p")
    found = features.pooled(backbone, 2, part(opened, "test", backbone))["pixels"]
    blocks = image.reshape(16, 4, 16, 4, 3).mean((1, 3)) / 255
    np.testing.assert_allclose(found[0], blocks.transpose(2, 0, 1).ravel(), atol=5e-4)


def test_second_extraction_reads_the_first(
    store: Store, weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract("trained", tiny(), weights, store)
    (path,) = (home / "features").iterdir()
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(features, "_write", None)  # calling it would fail
    again = extract("trained", tiny(), weights, store)
    assert path.stat().st_mtime_ns == stamp
    assert (again["last2"] == first["last2"]).all()
    assert isinstance(again["last2"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again["last"][0, 0] = 1


def test_every_cause_has_a_cache_of_its_own(
    store: Store, weights: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> int:
        return len(list((home / "features").iterdir()))

    extract("trained", tiny(), weights, store)
    extract("trained", tiny(), weights, store, split="train")
    assert files() == 2
    extract("trained", tiny(**{"evaluate.last_layers": 1}), weights, store)
    assert files() == 3
    extract("random_init", tiny(), weights, store)
    extract("random_init", tiny(seed=1), weights, store)
    vit.save(vit.create(16, tiny(**{"model.heads": 1}).model, 0), weights, {})
    extract("random_init", tiny(), weights, store)
    assert files() == 6
    extract("trained", tiny(), weights, store)
    assert files() == 7
    monkeypatch.setenv("IJEPA_PRECISION", "bf16")
    extract("trained", tiny(), weights, store)
    assert files() == 8
    other = Store(store.manifest, store.tasks, store.splits, "another hash")
    extract("trained", tiny(), weights, other)
    assert files() == 9
    # what the probes, the masks or the training do is no cause
    extract("trained", tiny(**{"evaluate.held_out": 0.3, "train.epochs": 9}), weights, other)
    assert files() == 9


def test_a_cache_is_of_the_images_as_the_encoder_sees_them(store: Store, weights: Path) -> None:
    """Their view, its size, and which of them in which order."""
    backbone = backbones.compared(str(weights), tiny())["trained"]
    one = part(store, "test", backbone)
    others = [
        replace(one, view="squash"), replace(one, size=one.size + 1),
        replace(one, rows=one.rows[:-1]), replace(one, rows=one.rows[::-1].copy()),
    ]  # fmt: skip
    names = [features.cache_file("pooled", backbone, 1, of).name for of in (one, *others)]
    assert len(set(names)) == len(names)


def test_an_interrupted_extraction_leaves_nothing(
    store: Store, weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones.load(str(weights), tiny())
    calls = []

    def fail(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        if len(calls) > 1:
            raise RuntimeError("power cut")
        return images.new_zeros(len(images), 1, 16, dtype=torch.float32)

    broken = dataclasses.replace(backbone, network=None, encode=fail)
    with pytest.raises(RuntimeError, match="power cut"):
        features.pooled(broken, 2, part(store, "train", backbone))
    assert calls
    assert list((home / "features").iterdir()) == []
    assert len(features.pooled(backbone, 2, part(store, "train", backbone))["last"]) == 64


def test_bf16_is_close_to_fp32(
    store: Store, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = extract("trained", tiny(), weights, store)["last2"]
    monkeypatch.setenv("IJEPA_PRECISION", "bf16")
    close = extract("trained", tiny(), weights, store)["last2"]
    assert (exact != close).any()
    np.testing.assert_allclose(exact, close, atol=0.05)


def test_workers_change_nothing(
    store: Store, weights: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = np.array(extract("trained", tiny(), weights, store, "train")["last2"])
    for path in (home / "features").iterdir():
        path.unlink()
    monkeypatch.setenv("IJEPA_WORKERS", "2")
    monkeypatch.setattr(features, "_BATCH", 10)
    assert np.allclose(
        extract("trained", tiny(), weights, store, "train")["last2"], alone, atol=2e-3
    )


def test_damaged_features_are_named_and_computed_again(
    store: Store, weights: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = np.array(extract("trained", tiny(), weights, store)["last2"])
    (path,) = (home / "features").iterdir()
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    flips = rng.choice(len(whole) * 8, 30, replace=False).tolist()
    for number, bit in enumerate([*flips, None, None]):
        data = bytearray(whole)
        if bit is None:  # cut: in the features, and nothing left
            data = data[: len(data) // 2 * (number - len(flips))]
        else:
            data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        os.utime(path, ns=(number, number))  # damage while the clock stood still is not looked for
        assert (extract("trained", tiny(), weights, store)["last2"] == first).all()
        assert capsys.readouterr().out == f"{path}: damaged: computed again\n"
        assert path.read_bytes() == whole
    extract("trained", tiny(), weights, store)
    assert not capsys.readouterr().out


def test_what_killed_processes_left_is_removed(store: Store, weights: Path, home: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    own = files.temporary(home / "features" / "a.npy")
    dead = own.with_name(own.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))
    another = own.with_name(own.name.replace(f"{platform.node()}-", "node17-"))
    own.parent.mkdir(parents=True)
    for path in (own, dead, another):
        path.touch()
    extract("trained", tiny(), weights, store)
    assert own.exists(), "it is being written"
    assert another.exists(), "nobody here knows"
    assert not dead.exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    store: Store, weights: Path, home: Path
) -> None:
    """Not SIGBUS, which a mapping of a file without blocks would get."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*features/\w+\.npy'"):
            extract("trained", tiny(), weights, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((home / "features").iterdir()) == []
