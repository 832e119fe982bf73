"""Any timm model with patch tokens: ``timm:vit_base_patch16_224.mae#weights.safetensors``.

``timm:local-dir:FOLDER`` reads timm's own folder of ``config.json`` and weights. The weights are a
file of the user's; timm is never asked for its own, and so never downloads.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.model_config import resolve_input_data_config
from torch import Tensor, nn

from ijepa import backbones, seeds
from ijepa.backbones import Backbone, _published
from ijepa.config import Config
from ijepa.runtime import environment, errors
from ijepa.runtime.files import sha256

LOCAL = "local-dir:"


class Tokens(nn.Module):
    """A timm model behind the call that all networks here answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def layers(self, images: Tensor, last: int | None) -> list[Tensor]:
        """Patch tokens (B, N, D) of the last layers (None: of all) through the final norm.

        Args:
            images: normalised, (B, 3, H, W).
            last: number of layers.
        """
        tokens: list[Tensor] = self.model.forward_intermediates(  # type: ignore[operator]
            images, indices=last, norm=True, output_fmt="NLC", intermediates_only=True
        )
        return tokens


def load(place: str, part: str, config: Config) -> Backbone:
    """Build a timm model and fill it from a file.

    Raises:
        ValueError: timm has no such model, no weights are named, they do not fit, or the model
            has no patch tokens of square images.
    """
    del config
    if place.startswith(LOCAL):
        files = _folder(Path(place.removeprefix(LOCAL)), part)
    else:
        _known(place)
        if not part:
            raise ValueError(
                f"encoder 'timm:{place}': name a file of its weights, timm:{place}#FILE; nothing"
                " is downloaded"
            )
        files = [Path(part)]
    model, where = _model(place), str(files[-1])
    content = backbones.read(files[-1])
    if not isinstance(content, dict):
        raise ValueError(f"{where}: holds no weights by name, but {type(content).__name__}")
    expected = model.state_dict()
    state = _published.unwrap(where, content, expected, _classifiers(model))
    backbones.match(where, state, expected)
    model.load_state_dict(state)
    hashes = " ".join(sha256(file) for file in files)
    known = "" if place.startswith(LOCAL) else place
    return _of(place, model, f"timm {place}", f"timm {timm.__version__} {known} {hashes}")


def _known(place: str) -> None:
    name = place.partition(".")[0]
    if not timm.is_model(name):
        hint = errors.closest(name, timm.list_models(), most=3)
        raise ValueError(f"encoder 'timm:{place}': timm {timm.__version__} has no {name!r}{hint}")


def _folder(folder: Path, part: str) -> list[Path]:
    """config.json and the weights of a folder in timm's layout."""
    if part:
        raise ValueError(f"timm:{LOCAL}{folder}#{part}: holds one model; leave #{part} out")
    names = ("model.safetensors", "pytorch_model.bin")
    weights = [folder / name for name in names if (folder / name).is_file()]
    if not weights or not (folder / "config.json").is_file():
        raise ValueError(f"{folder}: needs config.json and {' or '.join(names)}")
    return [folder / "config.json", weights[0]]


def _model(place: str) -> nn.Module:
    """The model with timm's own initialisation, without its classifier."""
    try:
        model: nn.Module = timm.create_model(place, pretrained=False, num_classes=0)
    except Exception as error:  # a constructor's arguments come from a file: anything can go wrong
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"encoder 'timm:{place}': timm cannot build it ({reason})") from None
    return model.eval()


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the names of the head's weights, which a file may have and we drop."""
    about: Mapping[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    named = about.get("classifier") or ()
    return tuple(f"{name}." for name in ((named,) if isinstance(named, str) else named))


def _of(place: str, model: nn.Module, name: str, identity: str) -> Backbone:
    """A timm model on the device in force, as a backbone."""
    about = resolve_input_data_config(model)
    channels, height, width = about["input_size"]
    if channels != 3 or height != width:
        raise ValueError(
            f"encoder 'timm:{place}': reads {channels}×{height}×{width}, not square RGB images"
        )
    network = Tokens(model).eval()
    try:
        with torch.inference_mode():
            shapes = [t.shape for t in network.layers(torch.zeros(1, 3, height, width), None)]
    except Exception:  # no such method, no such format: each family of timm has its own way
        shapes = []
    if not shapes or len(shapes[-1]) != 3:
        raise ValueError(f"encoder 'timm:{place}': timm gives no patch tokens of this model")
    mean, std = (tuple(about[key]) * (3 if len(about[key]) == 1 else 1) for key in ("mean", "std"))

    def fresh(seed: int) -> Backbone:
        with torch.random.fork_rng(devices=[]):
            drawn = seeds.torch_generator(seed, "init/encoder").initial_seed()
            torch.default_generator.manual_seed(drawn)
            untrained = _model(place)
        about = f"timm {timm.__version__} {place} {identity} random init {seed}"
        return _of(place, untrained, f"random init, seed {seed}", about)

    return Backbone(
        kind="timm",
        name=name,
        identity=f"{identity} {mean} {std}",
        image_size=height,
        width=shapes[-1][-1],
        depth=alike(shapes),
        normalisation=(mean, std),
        network=network.to(environment.hardware().device),
        fresh=fresh,
    )


def alike(shapes: Sequence[tuple[int, ...]]) -> int:
    """How many of the last layers have the shape of the last: of a pyramid, its last stage.

    Probes concatenate layers, so those must have one width.
    """
    return next((n for n, s in enumerate(reversed(shapes)) if s != shapes[-1]), len(shapes))
