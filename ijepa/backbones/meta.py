"""Meta's official checkpoints: ``meta:IN1K-vit.h.14-300e.pth.tar#target_encoder``.

One pickle holds ``encoder``, ``predictor``, ``target_encoder`` and the optimiser; the networks'
names are timm's behind the ``module.`` of data-parallel training, their positions are stored. The
file says nothing of attention heads, so they come from the official widths.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ijepa import backbones
from ijepa.backbones import Backbone
from ijepa.backbones.ijepa import empty, fill, of
from ijepa.config import Config
from ijepa.runtime import files

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}  # by width: Ti, S, B, L, H, g
NETWORKS = {"encoder": "context", "target_encoder": "target"}  # the file's word -> the paper's


def load(place: str, part: str, config: Config) -> Backbone:
    """Open one network of an official checkpoint.

    Raises:
        ValueError: no network is chosen, no such file, code in it, or not an official encoder.
    """
    del config
    if part not in NETWORKS:
        choices = " or ".join(f"meta:{place}#{name}" for name in NETWORKS)
        raise ValueError(
            f"encoder 'meta:{place}{'#' * bool(part)}{part}': say which network: {choices};"
            " the paper evaluates the target encoder"
        )
    path = Path(place)
    content = backbones.read(path)
    held = content.get(part) if isinstance(content, dict) else None
    if not isinstance(held, dict):
        keys = backbones.few(content, 8) if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path}: no checkpoint of Meta's: no {part!r} in it, but {keys}")
    where = f"{path}#{part}"
    state = {str(name).removeprefix("module."): value for name, value in held.items()}
    width, _, side, patch_size = _shape(where, state, "patch_embed.proj.weight", 4)
    _, patches, _ = _shape(where, state, "pos_embed", 3)
    hidden, _ = _shape(where, state, "blocks.0.mlp.fc1.weight", 2)
    if width not in HEADS:
        raise ValueError(
            f"{where}: width {width} is none of Meta's ({', '.join(map(str, HEADS))}), and the"
            " file does not say how many heads it has"
        )
    grid = math.isqrt(patches)
    if grid * grid != patches or side != patch_size:
        raise ValueError(f"{where}: {patches} patches of {side}×{patch_size} make no square image")
    numbers = {block[1] for name in state if (block := re.match(r"blocks\.(\d+)\.", name))}
    try:
        network = empty(grid * patch_size, patch_size, width, len(numbers), HEADS[width], hidden)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    backbones.match(where, state, network.state_dict())
    name = f"{NETWORKS[part]} encoder of {place}"
    return of(fill(network, state), name, f"meta {files.sha256(path)} {part}", kind="meta")


def _shape(where: str, state: Mapping[str, Any], name: str, dimensions: int) -> tuple[int, ...]:
    value = state.get(name)
    if not isinstance(value, Tensor) or value.ndim != dimensions or not value.numel():
        what = "missing" if value is None else f"no tensor of {dimensions} dimensions"
        raise ValueError(f"{where}: {name}: {what}; is this an encoder of Meta's?")
    return tuple(value.shape)
