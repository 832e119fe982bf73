"""Hugging Face's layout of I-JEPA: ``huggingface:FOLDER``, an IJepaModel or its classifier.

``config.json`` and ``model.safetensors`` (or its shards) are read here, without transformers, and
renamed into our ``Encoder``. transformers 4's names are what ``save_pretrained`` writes in version
5 too; version 5's own names are read as well.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ijepa import backbones
from ijepa.backbones import IMAGENET, Backbone, Normalisation
from ijepa.backbones.ijepa import empty, fill, of, with_eps
from ijepa.config import Config
from ijepa.runtime.files import read_json, sha256

SETTINGS = {  # keys of config.json that describe the network, and what transformers assumes
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 16,
}
FIXED = {"hidden_act": "gelu", "num_channels": 3, "qkv_bias": True}  # what our encoder has
EPS = 1e-12  # transformers' default; Meta and timm have 1e-6
UNUSED = ("classifier.", "pooler.", "embeddings.mask_token")  # no part of the patch tokens
RENAMED = {  # version 5 -> version 4
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}


def load(place: str, part: str, config: Config) -> Backbone:
    """Open a folder that ``save_pretrained`` or ``ijepa export --format hf`` wrote.

    Raises:
        ValueError: a file is missing or damaged, or not of an I-JEPA encoder.
    """
    del config
    if part:
        raise ValueError(f"huggingface:{place}#{part}: holds one encoder; leave #{part} out")
    folder = Path(place)
    about, files = folder / "config.json", _weights(folder)
    size, patch_size, width, depth, heads, hidden, eps = _settings(about)
    try:
        network = empty(size, patch_size, width, depth, heads, hidden)
    except ValueError as error:
        raise ValueError(f"{about}: {error}") from None
    held = {_name(name): t for file in files for name, t in backbones.read(file).items()}
    state = {name: t for name, t in held.items() if not name.startswith(UNUSED)}
    theirs = layout(depth)
    needed = split(network.state_dict(), theirs)
    backbones.match(str(folder), state, needed)
    ours = {name: torch.cat([state[one] for one in parts]) for name, parts in theirs.items()}
    processor = folder / "preprocessor_config.json"
    normalisation = _normalisation(processor) if processor.is_file() else IMAGENET
    hashes = " ".join(sha256(file) for file in (about, *files))
    identity = f"huggingface {hashes} {normalisation}"
    network = with_eps(fill(network, ours), eps)
    return of(network, f"Hugging Face encoder of {place}", identity, normalisation, "huggingface")


def layout(depth: int) -> dict[str, tuple[str, ...]]:
    """Our name of each tensor -> transformers 4's: three where ours is query, key and value."""
    modules: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("embeddings.patch_embeddings.projection",),
        "norm": ("layernorm",),
    }
    for number in range(depth):
        ours, theirs = f"blocks.{number}", f"encoder.layer.{number}"
        attention = f"{theirs}.attention.attention"
        modules |= {
            f"{ours}.norm1": (f"{theirs}.layernorm_before",),
            f"{ours}.attn.qkv": tuple(f"{attention}.{n}" for n in ("query", "key", "value")),
            f"{ours}.attn.proj": (f"{theirs}.attention.output.dense",),
            f"{ours}.norm2": (f"{theirs}.layernorm_after",),
            f"{ours}.mlp.fc1": (f"{theirs}.intermediate.dense",),
            f"{ours}.mlp.fc2": (f"{theirs}.output.dense",),
        }
    return {"pos_embed": ("embeddings.position_embeddings",)} | {
        f"{ours}.{kind}": tuple(f"{one}.{kind}" for one in theirs)
        for ours, theirs in modules.items()
        for kind in ("weight", "bias")
    }


def split(state: Mapping[str, Tensor], names: Mapping[str, tuple[str, ...]]) -> dict[str, Tensor]:
    """A state dict of our ``Encoder`` under transformers' names, see ``layout``."""
    return {
        one: piece
        for ours, theirs in names.items()
        for one, piece in zip(theirs, state[ours].chunk(len(theirs)), strict=True)
    }


def _name(name: str) -> str:
    """A name of the file as version 4 writes it, without the prefix of a classifier's base."""
    name = name.removeprefix("ijepa.")
    if name.startswith("layers."):
        name = f"encoder.{name.replace('layers', 'layer', 1)}"
        for new, old in RENAMED.items():
            name = name.replace(new, old)
    return name


def _weights(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or not index.is_file():
        return [whole]
    names = _json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{index}: weight_map: lists no files")
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(f"{index}: weight_map: {name!r} is no safetensors file beside it")
    return [folder / name for name in shards]


def _settings(path: Path) -> tuple[int, int, int, int, int, int, float]:
    """Image and patch size, width, depth, heads, hidden width, and eps of config.json."""
    config = _json(path)
    if config.get("model_type") != "ijepa":
        raise ValueError(f"{path}: model_type: {config.get('model_type')!r} is not 'ijepa'")
    for key, value in FIXED.items():
        if config.get(key, value) != value:
            raise ValueError(f"{path}: {key}: {config[key]!r} is not {value!r}, all we have")
    chosen = SETTINGS | {key: config[key] for key in SETTINGS if key in config}
    for key in ("image_size", "patch_size"):
        value = chosen[key]
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            chosen[key] = value[0]
    for key, value in chosen.items():
        if type(value) is not int or not 0 < value < 1 << 16:
            raise ValueError(f"{path}: {key}: {value!r} is not a whole number > 0")
    eps = config.get("layer_norm_eps", EPS)
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise ValueError(f"{path}: layer_norm_eps: {eps!r} is not a number in (0, 1)")
    width, depth, heads, hidden, size, patch_size = chosen.values()
    return size, patch_size, width, depth, heads, hidden, eps


def _normalisation(path: Path) -> Normalisation:
    """Mean and standard deviation of preprocessor_config.json."""
    config = _json(path)
    if config.get("do_normalize", True) is False:
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    keys = ("image_mean", "image_std")
    channels = []
    for key, default in zip(keys, IMAGENET, strict=True):
        values = config.get(key, default)
        if (
            not isinstance(values, list | tuple)
            or len(values) != 3
            or not all(isinstance(v, int | float) and (v > 0 or key == keys[0]) for v in values)
        ):
            raise ValueError(f"{path}: {key}: {values!r} is not one number for each colour")
        channels.append((float(values[0]), float(values[1]), float(values[2])))
    return channels[0], channels[1]


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file, and nothing is downloaded")
    tree = read_json(path)
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: no JSON object")
    return tree
