"""An encoder that this project trained: ``ijepa:out/encoder.safetensors``.

The paper evaluates the target encoder (Appendix A.1); ``out/context_encoder.safetensors`` is the
network that it follows. The file says which of the two it holds, and so does the report.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ijepa.backbones import IMAGENET, Backbone, Normalisation
from ijepa.config import Config, Model
from ijepa.model import vit
from ijepa.runtime import environment, files


def load(place: str, part: str, config: Config) -> Backbone:
    """Open a safetensors file that pretraining or ``ijepa export`` wrote.

    Raises:
        ValueError: no such file, not an encoder of ours, or a part is named: it has one network.
    """
    del config
    if part:
        raise ValueError(f"{place}#{part}: holds one encoder; leave #{part} out")
    network, path = vit.load(Path(place)), Path(place)
    name = f"{vit.metadata(path).get('network', 'target')} encoder of {place}"
    return of(network, name, files.sha256(path))


def of(
    network: vit.Encoder,
    name: str,
    identity: str,
    normalisation: Normalisation = IMAGENET,
    kind: str = "ijepa",
) -> Backbone:
    """An ``Encoder`` on the device in force, as a backbone of a kind."""
    vit.place(network, torch.device(environment.hardware().device))
    size, model, eps = network.image_size, network.model, network.norm.eps
    return Backbone(
        kind=kind,
        name=name,
        identity=identity,
        image_size=size,
        width=network.width,
        depth=network.depth,
        normalisation=normalisation,
        network=network.eval(),
        fresh=lambda seed: created(size, model, seed, normalisation, eps, kind),
    )


def created(
    image_size: int,
    model: Model,
    seed: int,
    normalisation: Normalisation = IMAGENET,
    eps: float = 1e-6,
    kind: str = "ijepa",
) -> Backbone:
    """The encoder that a run with this seed starts from."""
    identity = f"random_init {seed} {image_size} {model} {normalisation} {eps}"
    network = with_eps(vit.create(image_size, model, seed), eps)
    return of(network, f"random init, seed {seed}", identity, normalisation, kind)


def empty(
    image_size: int, patch_size: int, width: int, depth: int, heads: int, hidden: int
) -> vit.Encoder:
    """An ``Encoder`` of someone else's shapes, without memory for its weights: see ``fill``.

    Args:
        image_size: side of the images in pixels.
        patch_size: side of a patch in pixels.
        width: of a token.
        depth: blocks.
        heads: of each block.
        hidden: width of the MLPs.

    Raises:
        ValueError: no such transformer can be: the message names no file.
    """
    if width % heads or width % 4 or not 0 < patch_size <= image_size or image_size % patch_size:
        raise ValueError(
            f"no ViT can have width {width}, {heads} heads, and patches of {patch_size} in images"
            f" of {image_size} pixels"
        )
    ratio = hidden / width
    if int(width * ratio) < hidden:  # the division lost the last bit, and timm rounds down
        ratio = math.nextafter(ratio, math.inf)
    model = Model(
        patch_size=patch_size, width=width, depth=depth, heads=heads, mlp_ratio=ratio,
        predictor_width=width, predictor_depth=1, predictor_heads=heads,  # there is none
        init="official", layer_scale=None,
    )  # fmt: skip
    with torch.device("meta"):
        return vit.Encoder(image_size, model)


def fill(network: vit.Encoder, state: Mapping[str, Tensor]) -> vit.Encoder:
    """Give an ``empty`` encoder its weights: timm's names, of the right shapes."""
    network.load_state_dict({name: t.float() for name, t in state.items()}, assign=True)
    return network


def with_eps(network: vit.Encoder, eps: float) -> vit.Encoder:
    """Set the eps of every LayerNorm."""
    for part in network.modules():
        if isinstance(part, nn.LayerNorm):
            part.eps = eps
    return network
