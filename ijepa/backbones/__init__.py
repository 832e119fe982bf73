"""Frozen encoders: one file each, with ``load``; all of them answer one call, ``Backbone.layers``.

``load(place, part, config) -> Backbone`` opens what a spec ``KIND:PLACE#PART`` names: the kind is
the file's name here, the place whatever that kind reads (a file, a folder, a model's name), the
part one of several networks in it. ``config`` is the run's; only kinds without a place use it.
Files that others wrote go through ``read``, which runs no code in them, and ``match``.
"""

import argparse
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ijepa import variants
from ijepa.config import Config
from ijepa.runtime import environment, weights

ENCODERS = ("trained", "random_init", "pixels")  # what is compared, the one of interest first

Normalisation = tuple[tuple[float, float, float], tuple[float, float, float]]
# mean and standard deviation in [0, 1]
IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """An encoder of images and what it expects of them.

    Attributes:
        kind: the file of this folder that opened it.
        name: for the reader of a report: what it is and which of a file's networks.
        identity: equal for equal functions; names the cached features.
        image_size: side of its square images in pixels.
        width: of a token.
        depth: how many layers it can give.
        normalisation: mean and standard deviation of each channel, for values in [0, 1].
        network: has ``layers(images, last)``, a list of ``last`` tensors (B, N, D) of patch
            tokens, the earliest layer first, for normalised images (B, 3, H, W). Nothing where
            there is nothing to train.
        encode: the same call for an encoder that is no network, from uint8 images.
        fresh: the same architecture as a run with this seed starts it; None where there is none.
    """

    kind: str
    name: str
    identity: str
    image_size: int
    width: int
    depth: int
    normalisation: Normalisation = IMAGENET
    network: nn.Module | None = None
    encode: Callable[[Tensor], Tensor] | None = None
    fresh: Callable[[int], "Backbone"] | None = None

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> float32 as the network expects it."""
        mean, std = (images.new_tensor(v, dtype=torch.float32) for v in self.normalisation)
        scaled: Tensor = (images.float() - 255 * mean[:, None, None]) / (255 * std[:, None, None])
        return scaled

    @torch.inference_mode()
    def layers(self, images: Tensor, last: int) -> list[Tensor]:
        """Patch tokens of the last layers, each through the final norm (as VISSL's evaluation).

        Args:
            images: (B, 3, H, W) uint8, on the device in force.
            last: number of layers, at most ``depth``.

        Returns:
            ``last`` tensors (B, N, D) float32, the earliest layer first.
        """
        if self.network is None:
            assert self.encode is not None, self.name
            return [self.encode(images)]
        return layers(self.network, self.normalise(images), last)

    def choices(self, last: int) -> Mapping[str, int]:
        """The pooled features a probe may read: name -> how many of the last columns they are."""
        if self.network is None:
            return {"pixels": self.width}
        many = {f"last{last}": last * self.width} if last > 1 else {}
        return {"last": self.width} | many


def layers(network: nn.Module, images: Tensor, last: int) -> list[Tensor]:
    """``network.layers`` in the precision in force, as float32.

    Args:
        network: a backbone's, or a copy of it that is being trained.
        images: (B, 3, H, W), normalised.
        last: number of layers.
    """
    low = environment.hardware().precision == "bf16"
    with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
        tokens: list[Tensor] = network.layers(images, last)  # type: ignore[operator]
    return [layer.float() for layer in tokens]


def load(spec: str, config: Config) -> Backbone:
    """Open the encoder that a spec names: ``KIND:PLACE#PART``, or a safetensors file of ours.

    Args:
        spec: such as ``out/encoder.safetensors``, ``pixels``, or
            ``meta:IN1K-vit.h.14-300e.pth.tar#target_encoder``.
        config: seeds.init, data.image_size and model are used by the kinds without a place.

    Raises:
        ValueError: there is no such kind, or what it names cannot be read; one line.
    """
    kind, place, part = parts(spec)
    try:
        module = variants.load("backbones", kind)
    except ValueError:
        kinds = ", ".join(variants.names("backbones"))
        raise ValueError(
            f"encoder {spec!r}: not a .safetensors file, nor KIND:PLACE with KIND one of {kinds}"
        ) from None
    backbone: Backbone = module.load(place, part, config)
    return backbone


def parts(spec: str) -> tuple[str, str, str]:
    """Kind, place and part of a spec; a path that is there may have ``:`` and ``#`` in it."""
    kind, colon, rest = spec.partition(":")
    plain = spec.partition("#")[0].endswith(".safetensors")
    if (spec.endswith(".safetensors") and Path(spec).is_file()) or (plain and not colon):
        kind, rest = "ijepa", spec
    if Path(rest).exists():
        return kind, rest, ""
    cuts = [match.start() for match in re.finditer("#", rest)]
    cut = next((cut for cut in reversed(cuts) if Path(rest[:cut]).exists()), min(cuts, default=-1))
    return (kind, rest, "") if cut < 0 else (kind, rest[:cut], rest[cut + 1 :])


def compared(spec: str, config: Config) -> dict[str, Backbone]:
    """The encoder of interest and its baselines: itself before training, and the pixels it sees.

    Args:
        spec: of the encoder, see ``load``.
        config: seeds.init, evaluate.last_layers, and what ``load`` uses.

    Raises:
        ValueError: the encoder cannot be used, or has fewer layers than are asked for.
    """
    trained, last = load(spec, config), config.evaluate.last_layers
    if trained.network is not None and trained.depth < last:
        raise ValueError(
            f"evaluate.last_layers: {last} is more than the {trained.depth} layers of"
            f" {trained.name}"
        )
    backbones = {"trained": trained}
    if trained.fresh is not None:
        backbones["random_init"] = trained.fresh(config.seeds.init)
    backbones["pixels"] = variants.load("backbones", "pixels").of(trained.image_size)
    return {  # random_init or pixels may be of interest themselves: no baseline of its own
        name: backbone
        for name, backbone in backbones.items()
        if name == "trained" or backbone.identity != trained.identity
    }


def read(path: Path) -> Any:
    """What a file of weights holds, on the CPU: safetensors, or a pickle of tensors and values.

    A pickle can run any code. ``weights_only`` builds plain values and refuses everything else,
    and there is no second try without it. The arguments of a training script are plain values too:
    an ``argparse.Namespace`` runs nothing.

    Raises:
        ValueError: no such file, code in it, or damaged; one line.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, and nothing is downloaded")
    if path.suffix == ".safetensors":
        weights.metadata(path)  # says what is wrong: what `ijepa export` writes has a checksum
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        mapped = zipfile.is_zipfile(path)  # torch cannot map its old format
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged files raise whatever the reader stumbled over
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            reason = f"refused: it names {code[1]}, and only tensors and plain values are read"
        else:
            reason = f"no file of weights, or damaged ({type(error).__name__})"
        raise ValueError(f"{path}: {reason}") from None


def match(where: str, held: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not, name by name and shape by shape, what a network needs.

    Args:
        where: the file, for the message.
        held: what it holds.
        expected: tensors of the right names, shapes and kinds; their values do not matter.

    Raises:
        ValueError: a name is missing or extra, or a shape differs; one line with the first few.
    """
    differing = [
        f"{name} ({_shape(held[name])}, not {_shape(tensor)})"
        for name, tensor in expected.items()
        if name in held and _shape(held[name]) != _shape(tensor)
    ]
    wrong = {
        "missing": [name for name in expected if name not in held],
        "extra": [name for name in held if name not in expected],
        "of another shape": differing,
    }
    if any(wrong.values()):
        lists = "; ".join(f"{word} {few(names)}" for word, names in wrong.items() if names)
        raise ValueError(f"{where}: not the weights of this network: {lists}")


def _shape(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    kind = "" if value.is_floating_point() else f"{value.dtype} "
    return kind + "×".join(map(str, value.shape))


def few(names: Iterable[object], most: int = 3) -> str:
    """The first names, and how many more there are."""
    every = [str(name) for name in names]
    more = [f"{len(every) - most} more"] if len(every) > most else []
    return ", ".join(every[:most] + more)
