"""A frozen encoder's features of every image, extracted once and kept on disk.

``(images, width)`` for the last block and ``(images, n * width)`` for the last n blocks: each
block's patch tokens through the final LayerNorm, averaged over the patches, concatenated with
the last block's at the end (VISSL's concatPOOL4), so that one array holds both choices. The cache
lies under ``environment.home()``, named by everything that the features depend on; a file in it is
whole or absent.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ijepa import batches, encoder, environment
from ijepa.config import Config, signature
from ijepa.store import Images, Store

Choices = Mapping[str, NDArray[np.float16]]

ENCODERS = ("trained", "random_init", "pixels")  # what is compared, the one of interest first
PIXELS_SIDE = 32  # pixels: larger images are averaged down to this before they count as features
_BATCH = 64  # images; on a CPU larger ones fall out of the cache and are slower


@dataclass(frozen=True, slots=True)
class Frozen:
    """Something that turns images into features.

    Attributes:
        identity: equal for equal functions; names the cached files.
        width: of the features of one image.
        choices: name of a feature choice -> how many of the last columns it is.
        compute: normalisation included, (B, 3, H, W) uint8 -> (B, width) float32.
    """

    identity: str
    width: int
    choices: Mapping[str, int]
    compute: Callable[[Tensor], Tensor]


def frozen(name: str, config: Config, weights: Path) -> Frozen:
    """One of ``ENCODERS``, on the device in force.

    Args:
        name: ``trained`` is the target encoder in ``weights``, ``random_init`` the encoder that a
            run of this seed starts from, ``pixels`` the image itself in [0, 1].
        config: seed, data.image_size, model and evaluate.last_layers are used.
        weights: the safetensors file of the trained encoder.

    Raises:
        ValueError: ``weights`` is missing or not an encoder of these parameters.
    """
    assert name in ENCODERS, name
    if name == "pixels":
        side = min(config.data.image_size, PIXELS_SIDE)
        width = 3 * side * side
        return Frozen(f"pixels {side}", width, {"pixels": width}, lambda x: _pixels(x, side))
    if name == "trained":
        model = encoder.load(weights)
        if (model.image_size, model.model) != (config.data.image_size, config.model):
            raise ValueError(f"{weights}: is not of params.yaml's model; `dvc repro pretrain`")
        identity = hashlib.sha256(weights.read_bytes()).hexdigest()
    else:
        model = encoder.create(config.data.image_size, config.model, config.seed)
        identity = f"random_init {config.seed} {signature(config, ('model',))}"
    hardware = environment.hardware()
    device, low = torch.device(hardware.device), hardware.precision == "bf16"
    encoder.place(model, device)
    model.eval()
    last, width = config.evaluate.last_layers, model.width

    def compute(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16) if low else nullcontext():
            blocks = model.layers(batches.normalise(images), last)
        return torch.cat([tokens.float().mean(1) for tokens in blocks], dim=1)

    return Frozen(
        f"{identity} layers {last} {device.type} {hardware.precision}",
        last * width,
        {"last": width} | ({f"last{last}": last * width} if last > 1 else {}),
        compute,
    )


def _pixels(images: Tensor, side: int) -> Tensor:
    """Images (B, 3, H, W) uint8 -> (B, 3 * side * side) in [0, 1]."""
    values = images.float() / 255
    if images.shape[-1] > side:
        values = torch.nn.functional.adaptive_avg_pool2d(values, side)
    return values.flatten(1)


def extract(
    source: Frozen,
    store: Store,
    split: str,
    image_size: int,
    progress: bool = False,
    rows: NDArray[np.int64] | None = None,
) -> Choices:
    """The features of a split, or of some of its images, from the cache or computed now.

    Args:
        source: from ``frozen``.
        store: the prepared data set.
        split: its split.
        image_size: side of the square images in pixels.
        progress: whether to show a bar.
        rows: which images; all when None.

    Returns:
        choice -> (n, D) read-only, memory-mapped; row i is image i of the split, or ``rows[i]``.
    """
    images = store.splits[split]
    rows = np.arange(len(images)) if rows is None else rows
    path = cache_file(source, store, split, image_size, rows)
    if not path.is_file():
        views = _Centred(images, image_size, rows)
        _write(path, source, views, f"  features of {split}" if progress else None)
    array = np.load(path, mmap_mode="r")
    assert array.shape == (len(rows), source.width), (path, array.shape)
    return {name: array[:, -columns:] for name, columns in source.choices.items()}


def cache_file(
    source: Frozen, store: Store, split: str, image_size: int, rows: NDArray[np.int64]
) -> Path:
    """Where features are kept: named by the function, the data, and the code that computes it."""
    code = [Path(str(module.__file__)).read_bytes() for module in (batches, encoder)]
    code.append(Path(__file__).read_bytes())
    name = json.dumps([
        source.identity, store.hash, split, image_size, torch.__version__,
        hashlib.sha256(rows.tobytes()).hexdigest(),
        *(hashlib.sha256(text).hexdigest() for text in code),
    ])  # fmt: skip
    folder = environment.home() / "features"
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npy"


def _write(path: Path, source: Frozen, images: "_Centred", bar: str | None) -> None:
    """Compute the features into a temporary file that takes its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    os.close(handle)
    try:
        shape = (len(images), source.width)
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        start = 0
        for rows in _compute(source, images, bar):
            array[start : start + len(rows)] = rows
            start += len(rows)
        array.flush()
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


class _Centred(Dataset[Tensor]):
    """The evaluation view of each image, (3, size, size) uint8."""

    def __init__(self, images: Images, size: int, rows: NDArray[np.int64]) -> None:
        self.images, self.size, self.rows = images, size, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        return batches.centre(self.images[int(self.rows[index])], self.size)


def _compute(source: Frozen, images: _Centred, bar: str | None) -> Iterator[NDArray[np.float16]]:
    """Features of the images in order, a batch at a time."""
    device = environment.hardware().device
    loader = DataLoader(
        images,
        batch_size=_BATCH,
        num_workers=environment.number("IJEPA_WORKERS"),
        pin_memory=device == "cuda",
    )
    with torch.inference_mode():
        for batch in tqdm(loader, bar, unit="batch", leave=False, disable=bar is None):
            rows: NDArray[np.float16] = source.compute(batch.to(device)).half().cpu().numpy()
            yield rows
