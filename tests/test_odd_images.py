"""Images of any legal size train and are evaluated; one that cannot be prepared is named."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from numpy.typing import NDArray
from PIL import Image
from test_pictures import encoded, pixels
from torch._utils import ExceptionWrapper

from ijepa import features, views
from ijepa.datasets import Item, Source, Split
from ijepa.probes import finetune
from ijepa.runtime import errors
from ijepa.store.read import Store, open_store
from ijepa.store.write import write_store
from ijepa.training import health
from ijepa.training.batches import Batches

SIZES = ((1, 1), (1, 500), (500, 1), (1, 2), (2, 1), (3, 2000), (40, 40), (40, 1))
FINE_TUNED = finetune.Options(
    fraction=1.0, epochs=1, warmup_epochs=0, lr=(0.001,), weight_decay=0.0, layer_decay=0.75,
    label_smoothing=0.0, batch_size=4, crop_scale=(0.1, 1.0), flip=True, randaugment=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def thin(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One image of each size, twice: all of the one colour of its number, and as noise."""
    images = [np.full((*size, 3), 10 * k, np.uint8) for k, size in enumerate(SIZES)]
    images += [pixels(k, *size) for k, size in enumerate(SIZES)]
    data = [encoded(Image.fromarray(image), "PNG") for image in images]

    def items() -> Iterator[Item]:
        return (Item(image, {"class": k % 2}, f"pile/{k}") for k, image in enumerate(data))

    splits = {name: Split(len(data), items) for name in ("train", "test")}
    path = tmp_path_factory.mktemp("thin") / "s"
    write_store(Source(splits, {"class": ("a", "b")}, {}), path)
    return open_store(path)


def test_images_one_pixel_high_or_wide_train(thin: Store) -> None:
    config = tiny(**{"train.flip": True, "train.batch_size": 16, "train.crop_scale": 0.3})
    flipped = 0
    for position in range(0, 320, 16):
        batch, again = (Batches(thin.splits["train"], config)[position] for _ in range(2))
        assert torch.equal(batch.views[0], again.views[0])
        for sample, view in zip(batch.samples, batch.views[0], strict=True):
            if sample < len(SIZES):
                assert (view == 10 * sample).all()
        noise = batch.views[0][list(batch.samples).index(len(SIZES) + 3)]  # two pixels wide
        flipped += int(noise[0, 0, 0] != thin.splits["train"][len(SIZES) + 3][0, 0, 0])
    assert 0 < flipped < 20


@pytest.mark.parametrize("view", ["crop", "squash"])
def test_images_one_pixel_high_or_wide_are_evaluated_and_fine_tuned(
    thin: Store, view: str
) -> None:
    part = features.Part(thin, "test", np.arange(2 * len(SIZES)), view, 16)
    tuned = finetune.Views(part, np.arange(len(part)), FINE_TUNED, 0)
    shown = [(part[row], row) for row in range(len(part))]
    for image, row in (*shown, *(tuned[position] for position in range(4 * len(part)))):
        assert image.shape == (3, 16, 16)
        assert row >= len(SIZES) or (image == 10 * row).all()


def test_a_very_long_image_is_cut_before_it_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = views._LONGEST
    image = pixels(0, 3, 1000)
    seen = [views.centre(image, 16), views.centre(image.transpose(1, 0, 2), 16)]
    monkeypatch.setattr(views, "_LONGEST", 10**9)
    whole = [views.centre(image, 16), views.centre(image.transpose(1, 0, 2), 16)]
    assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))
    monkeypatch.setattr(views, "_LONGEST", longest)
    resize, sides = views.transforms.resize, []

    def measured(image: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        sides.append(max(image.shape))
        return resize(image, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(views.transforms, "resize", measured)
    assert views.centre(pixels(0, 1, 10_000), 16).shape == (3, 16, 16)
    assert sides == [longest]


class Broken:
    """A split whose image 5 cannot be read."""

    def __init__(self, store: Store, error: Exception) -> None:
        self.images, self.error = store.splits["train"], error

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index == 5:
            raise self.error
        return self.images[index]


def places(store: Store, error: Exception) -> dict[str, object]:
    """Where images are prepared: training, its meters, features, fine-tuning."""
    broken = Broken(store, error)
    config = tiny(**{"train.batch_size": len(broken)})
    part = features.Part(
        Store({}, {}, {"train": broken}, ""),  # type: ignore[dict-item]
        "train", np.array([3, 5]), "crop", 16,
    )  # fmt: skip
    tuned = finetune.Views(part, np.zeros(2, np.int64), FINE_TUNED, 0)
    return {
        "training": lambda: Batches(broken, config)[0],  # type: ignore[arg-type]
        "health": lambda: health.fixed_images(broken, config),  # type: ignore[arg-type]
        "features": lambda: part[1],
        "finetune": lambda: [tuned[0], tuned[1]],
    }


@pytest.mark.parametrize("place", ["training", "health", "features", "finetune"])
@pytest.mark.parametrize("error", [OSError("broken data"), ValueError("x"), SyntaxError("bad")])
def test_an_image_that_cannot_be_read_is_named(
    store: Store, place: str, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert errors.run(places(store, error)[place]) == 2  # type: ignore[arg-type]
    assert capsys.readouterr().err == f"error: image 5 of train: {error}\n"


@pytest.mark.parametrize("place", ["training", "health", "features", "finetune"])
def test_a_fault_of_ours_keeps_its_traceback_and_names_the_image(store: Store, place: str) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        places(store, ZeroDivisionError())[place]()  # type: ignore[operator]
    assert raised.value.__notes__ == ["while image 5 of train was prepared"]


def test_a_view_that_cannot_be_made_is_named(thin: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(*_: object, **__: object) -> None:
        raise ValueError("At least one stride is negative")

    monkeypatch.setattr("ijepa.training.batches.transforms.resize", resize)
    with pytest.raises(errors.ImageError, match=r"^image \d+ of train: At least one stride"):
        Batches(thin.splits["train"], tiny())[0]


def test_what_comes_from_a_worker_is_one_line_still() -> None:
    """torch puts the worker's traceback into the message."""
    try:
        with errors.preparing("train", 5):
            raise OSError("broken\ndata")
    except errors.ImageError:
        wrapped = pickle.loads(pickle.dumps(ExceptionWrapper(where="in DataLoader worker 0")))
    with pytest.raises(errors.ImageError) as raised:
        wrapped.reraise()
    assert str(raised.value) == "image 5 of train: broken\ndata"


@pytest.mark.slow
def test_a_loaders_worker_names_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IJEPA_WORKERS", "1")
    images = [pixels(0, 200, 200), pixels(1, 200, 200)]
    data = [encoded(Image.fromarray(image), "PNG") for image in images]
    pile = Split(2, lambda: (Item(image, {"class": 0}, "pile") for image in data))
    write_store(Source({"train": pile, "test": pile}, {"class": ("a",)}, {}), tmp_path / "s")
    part = features.Part(open_store(tmp_path / "s"), "test", np.arange(2), "crop", 16)
    file = tmp_path / "s/test/images-00000.bin"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1000])  # after the set was opened
    with pytest.raises(errors.ImageError, match=r"^image 1 of test: ") as raised:
        list(features.loader(part, range(2), 1, "cpu"))
    assert "\n" not in str(raised.value)
