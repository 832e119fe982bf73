"""``params.yaml`` -> one frozen, checked ``Config``; ``signature`` is a run's identity.

A section is flat. What every variant of a family shares is a field here; what one variant needs
is a field of that variant's own ``Options`` (``ijepa/masks/multiblock.py``, ...). There are no
defaults: ``params.yaml`` is the only source. A key is known when the section or any variant of
its family has it, and only the chosen variant's keys are part of the signature.
"""

import dataclasses
import functools
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ijepa import variants
from ijepa.runtime import files
from ijepa.strict import (
    choice,
    integer,
    interval,
    maybe,
    pair,
    real,
    refuse_unknown,
    texts,
    value,
)

PARAMS = Path("params.yaml")
INPUTS = Path("out/inputs")
STAGES = ("prepare", "pretrain", "evaluate", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """The seed of each part of the randomness (``seeds.PARTS``); null in the file is ``seed``."""

    init: int = maybe(integer(0, 2**31 - 1))
    order: int = maybe(integer(0, 2**31 - 1))
    mask: int = maybe(integer(0, 2**31 - 1))
    labels: int = maybe(integer(0, 2**31 - 1))
    probe: int = maybe(integer(0, 2**31 - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What is learned from. ``options`` belongs to the data set ``ijepa/datasets/<name>.py``."""

    name: str
    image_size: int = integer(8, 4096)  # pixels: side of the square that the encoder sees
    train_fraction: float = real(0, 1, above=True)  # share of the training images used to pretrain
    bad_images: str = choice("fail", "skip")  # what an unreadable image does
    max_bad_fraction: float = real(0, 1)  # with skip: the share above which preparing fails
    duplicates: str = choice("report", "refuse")  # equal images in two splits or two classes
    options: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which patches are context and targets. ``options``: ``ijepa/masks/<name>.py``."""

    name: str
    options: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The Vision Transformers (Appendix A.1): encoder and predictor."""

    patch_size: int = integer(1, 256)  # pixels
    width: int = integer(4)
    depth: int = integer(1)
    heads: int = integer(1)
    mlp_ratio: float = real(0, above=True)
    predictor_width: int = integer(4)
    predictor_depth: int = integer(1)
    predictor_heads: int = integer(1)
    init: str = choice("fan_in", "official", "beit")  # see ijepa.model.vit.initialise
    layer_scale: float | None = maybe(real(0, above=True))  # of the encoder's blocks; null: none


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is predicted and compared. ``options``: ``ijepa/objectives/<name>.py``."""

    name: str
    options: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """The optimisation (Appendix A.1)."""

    epochs: float = real(0, above=True)
    batch_size: int = integer(1)  # global: all ranks and micro-batches together
    shards: int = integer(1)  # of the batch, whose gradients are added along one tree
    crop_scale: tuple[float, float] = interval(0, 1)  # area of the random resized crop
    crop_aspect: tuple[float, float] = interval(0)
    flip: bool
    color_jitter: float = real(0, 1)  # strength, see ijepa.augment; 0 is none
    grayscale: float = real(0, 1)  # probability, as the next two
    blur: float = real(0, 1)
    solarize: float = real(0, 1)
    lr_start: float = real(0)
    lr: float = real(0, above=True)  # the peak, after warm-up
    lr_final: float = real(0)
    warmup_epochs: float = real(0)
    lr_schedule: str = choice("cosine", "constant")
    weight_decay: tuple[float, float] = pair(0)  # at the first and the last step
    weight_decay_schedule: str = choice("linear", "cosine")  # paper: linear; official code: cosine
    betas: tuple[float, float] = pair(0, 1)
    clip_norm: float | None = maybe(real(0, above=True))  # most of the gradient's norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate:
    """How the frozen encoder is probed. ``options`` maps each probe's name to its ``Options``."""

    encoder: str = choice("target", "context")  # paper: target
    view: str = choice("crop", "squash")  # paper: centre crop; released Clevr configs: squash
    train_fraction: float = real(0, 1, above=True)  # share of the training images probes may use
    held_out: float = real(0, 0.5, above=True)  # share of these in one fold
    folds: int = integer(1)  # that select, each by candidates fitted on all other labels
    last_layers: int = integer(1)  # blocks concatenated beside the last one alone (paper: 4)
    transfer: tuple[Data, ...]  # other labelled data sets: what differs from the data section
    probes: tuple[str, ...] = texts()
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All of ``params.yaml``. Science reads ``seeds``; ``seed`` is what a run goes by."""

    seed: int = integer(0, 2**31 - 1)
    seeds: Seeds
    data: Data
    mask: Mask
    model: Model
    objective: Objective
    train: Train
    evaluate: Evaluate


def load(path: Path = PARAMS) -> Config:
    """Read and check the parameters, the way DVC reads them (YAML 1.2: ``1e-3`` is a number).

    Raises:
        ValueError: one line that names file, key, value and what is allowed.
    """
    return parse(files.read_yaml(path), str(path))


def parse(tree: Any, where: str) -> Config:
    """Check a tree of plain values; ``where`` names it in the error messages."""
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: {tree!r} is not a mapping of sections")
    config: Config = _build(Config, _with_seeds(_with_transfer(tree, where)), where, "")
    _check_together(config, where)
    return config


def _with_seeds(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with every part of the randomness that follows ``seed`` set to it."""
    parts = tree.get("seeds")
    if not isinstance(parts, dict) or "seed" not in tree:
        return tree  # what is wrong is said where the sections are built
    return {**tree, "seeds": {p: tree["seed"] if v is None else v for p, v in parts.items()}}


def _with_transfer(tree: dict[str, Any], where: str) -> dict[str, Any]:
    """The tree with every entry of ``evaluate.transfer`` completed by the data section."""
    data, evaluate = tree.get("data"), tree.get("evaluate")
    if not isinstance(data, dict) or not isinstance(evaluate, dict):
        return tree  # what is wrong is said where the sections are built
    entries, key = evaluate.get("transfer"), f"{where}: evaluate.transfer"
    if not isinstance(entries, list):
        raise ValueError(f"{key}: {entries!r} is not a list, such as [{{name: cifar10}}]")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "name" not in entry:
            raise ValueError(
                f"{key}[{number}]: {entry!r} is not a data set's name and the keys of data that"
                " differ, such as {name: folder, path: pets}"
            )
    names = [entry["name"] for entry in entries]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(
                f"{key}[{number}].name: {name!r} is evaluate.transfer[{names.index(name)}] too;"
                " results go by this name, so evaluate the two in separate runs"
            )
    return {**tree, "evaluate": {**evaluate, "transfer": [{**data, **e} for e in entries]}}


def _check_together(config: Config, where: str) -> None:
    """The rules that tie several keys together."""
    size, model, train = config.data.image_size, config.model, config.train
    if size % model.patch_size:
        raise ValueError(
            f"{where}: model.patch_size: {model.patch_size} does not divide data.image_size {size}"
        )
    for name, width, heads in (
        ("model.width", model.width, model.heads),
        ("model.predictor_width", model.predictor_width, model.predictor_heads),
    ):
        if width % 4 or width % heads:
            raise ValueError(
                f"{where}: {name}: {width} is not a multiple of 4 and of its {heads} heads"
            )
    if model.depth < config.evaluate.last_layers:
        raise ValueError(
            f"{where}: evaluate.last_layers: {config.evaluate.last_layers} is more than"
            f" model.depth {model.depth}"
        )
    evaluate = config.evaluate
    if evaluate.folds * evaluate.held_out > 1 + 1e-9:  # 3 of 1/3 are all
        raise ValueError(
            f"{where}: evaluate.folds: {evaluate.folds} of evaluate.held_out"
            f" {evaluate.held_out:g} are more than all labels; at most"
            f" {math.floor(1 / evaluate.held_out + 1e-9)}"
        )
    if train.warmup_epochs >= train.epochs and train.warmup_epochs > 0:
        raise ValueError(
            f"{where}: train.warmup_epochs: {train.warmup_epochs:g} is not less than"
            f" train.epochs {train.epochs:g}"
        )
    if train.shards & (train.shards - 1) or train.batch_size % train.shards:
        raise ValueError(
            f"{where}: train.shards: {train.shards} is not a power of two that divides"
            f" train.batch_size {train.batch_size}"
        )
    try:
        variants.declared("masks", config.mask.name, "check")(grid(config), config.mask.options)
    except ValueError as error:
        raise ValueError(f"{where}: mask.{error}") from None
    objective = config.objective
    check = variants.declared("objectives", objective.name, "check")
    if check is not None:
        try:
            check(size, model, objective.options)
        except ValueError as error:
            raise ValueError(f"{where}: objective.{error}") from None


def check_processes(config: Config, processes: int) -> None:
    """Every process needs as many images, or the mean of their means is not the batch's.

    Raises:
        ValueError: so many processes cannot share a batch.
    """
    for key, count in (("batch_size", config.train.batch_size), ("shards", config.train.shards)):
        if count % processes and (key, count) != ("shards", 1):
            raise ValueError(
                f"IJEPA_PROCESSES: {processes} does not divide {PARAMS}: train.{key} {count}"
            )


def grid(config: Config) -> tuple[int, int]:
    """Rows and columns of patches of an image."""
    side = config.data.image_size // config.model.patch_size
    return side, side


_FAMILY = {"Data": "datasets", "Mask": "masks", "Objective": "objectives"}


def _build(cls: Any, tree: Any, where: str, prefix: str) -> Any:
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: {prefix.rstrip('.')}: {tree!r} is not a mapping")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.name != "options"}
    refuse_unknown(tree, f"{where}: {prefix}", sorted({*fields, *_option_names(cls)}))
    values = {name: _value(cls, f, tree, where, prefix) for name, f in fields.items()}
    if cls is Evaluate:
        values["options"] = {
            name: _build(_options(where, f"{prefix}probes", "probes", name), tree.get(name), where,
                         f"{prefix}{name}.")
            for name in values["probes"]
        }  # fmt: skip
    elif cls.__name__ in _FAMILY:
        options = _options(where, f"{prefix}name", _FAMILY[cls.__name__], values["name"])
        values["options"] = options(
            **{
                f.name: _value(options, f, tree, where, prefix)
                for f in dataclasses.fields(options)
            }
        )
    return cls(**values)


def _options(where: str, key: str, family: str, name: str) -> Any:
    try:
        return variants.declared(family, name, "Options")
    except ValueError as error:
        raise ValueError(f"{where}: {key}: {error}") from None


@functools.cache
def _option_names(cls: Any) -> frozenset[str]:
    """The keys that some variant of the section's family declares."""
    if cls is Evaluate:
        return frozenset(variants.names("probes"))
    family = _FAMILY.get(cls.__name__)
    if family is None:
        return frozenset()
    return frozenset(
        f.name
        for name in variants.names(family)
        for f in dataclasses.fields(variants.declared(family, name, "Options"))
    )


@functools.cache
def keys() -> frozenset[str]:
    """Every dotted key that ``params.yaml`` may have: the sections' and all their variants'."""
    known = set()
    kinds: dict[str, Any] = typing.get_type_hints(Config)
    for section, kind in kinds.items():
        if kind is int:
            known.add(section)  # the seed
            continue
        known |= {f"{section}.{f.name}" for f in dataclasses.fields(kind) if f.name != "options"}
        if kind is Evaluate:
            known |= {
                f"{section}.{probe}.{f.name}"
                for probe in variants.names("probes")
                for f in dataclasses.fields(variants.declared("probes", probe, "Options"))
            }
        else:
            known |= {f"{section}.{name}" for name in _option_names(kind)}
    return frozenset(known)


def _value(cls: Any, f: Any, tree: Mapping[str, Any], where: str, prefix: str) -> Any:
    key = f"{where}: {prefix}{f.name}"
    if f.name not in tree:
        raise ValueError(f"{key}: missing; {f.metadata.get('allowed', 'a value')} is needed")
    kind, raw = typing.get_type_hints(cls)[f.name], tree[f.name]
    if dataclasses.is_dataclass(kind):
        return _build(kind, raw, where, f"{prefix}{f.name}.")
    if kind == tuple[Data, ...]:
        return tuple(
            _build(Data, entry, where, f"{prefix}{f.name}[{number}].")
            for number, entry in enumerate(raw)
        )
    return value(kind, raw, key, **f.metadata)


def as_tree(config: Any) -> Any:
    """A config as plain JSON values, each variant's options beside its section's own keys."""
    if dataclasses.is_dataclass(config):
        tree = {f.name: as_tree(getattr(config, f.name)) for f in dataclasses.fields(config)}
        options = tree.pop("options", {})
        return {**tree, **options}
    if isinstance(config, Mapping):
        return {name: as_tree(value) for name, value in config.items()}
    return [as_tree(v) for v in config] if isinstance(config, tuple) else config


def signature(config: Config) -> str:
    """SHA-256 of the resolved science, so of ``seed`` what ``seeds`` took of it.

    ``data.duplicates`` stops a run or does not, and changes no number of one.
    """
    tree = as_tree(config)
    del tree["seed"]
    for data in (tree["data"], *tree["evaluate"]["transfer"]):
        del data["duplicates"]
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def parameters(config: Config, stage: str) -> dict[str, Any]:
    """The resolved keys that a stage is a function of, as plain values; it may read no other.

    ``data.train_fraction`` chooses among the prepared images, so it prepares nothing again.
    ``evaluate`` reads ``seeds.init`` for the encoder before training, a baseline.
    """
    tree = as_tree(config)
    size = {"image_size": tree["data"]["image_size"]}
    transfer = [_without_fraction(data) for data in tree["evaluate"]["transfer"]]
    by_stage: dict[str, dict[str, Any]] = {
        "prepare": {"data": _without_fraction(tree["data"])},
        "pretrain": {
            **{name: tree[name] for name in ("mask", "model", "objective", "train")},
            "seeds": {part: tree["seeds"][part] for part in ("init", "order", "mask")},
            "data": {**size, "train_fraction": tree["data"]["train_fraction"]},
        },
        "evaluate": {
            "model": tree["model"],
            "seeds": {part: tree["seeds"][part] for part in ("init", "labels", "probe")},
            "data": size,
            "evaluate": {**tree["evaluate"], "transfer": transfer},
        },
        "report": tree,
    }
    return by_stage[stage]


def _without_fraction(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "train_fraction"}
