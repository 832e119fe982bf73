"""Training steps to measure: ours, and the released code's on the same images and masks.

A step is forward, backward, AdamW and EMA on images that lie on the device: no loader, no health
readings. The released code is a checkout of github.com/facebookresearch/ijepa (CC BY-NC: keep it
outside this repository). Its modules get the padded masks, whose padding they take for patches:
the same tokens and not the same mathematics. Its step is that of its ``train.py``: AdamW as torch
chooses it, a loop over the parameters for the EMA, in half precision on a GPU a gradient scaler.
"""

import copy
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ijepa import config as configs
from ijepa import presets, variants
from ijepa.masks import Keys, Masks
from ijepa.model import vit
from ijepa.runtime import files
from ijepa.training.loop import create_objective, create_optimizer
from ijepa.views import normalise

SHAPES = 8  # batches of different masks


def autocast(device: torch.device, half: bool) -> torch.autocast:
    """The precision of a step."""
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def config(name: str) -> configs.Config:
    """params.yaml, or with a preset or a ``scale:NAME`` of ``experiments`` on it."""
    tree = files.read_yaml(configs.PARAMS)
    if name == "default":
        return configs.parse(tree, name)
    if name.startswith("scale:"):
        scale = files.read_yaml(Path("experiments/scales") / f"{name[6:]}.yaml")
        presets.apply(tree, presets.load(scale["preset"])[1], name)
        keys = {key: value for key, value in scale.items() if "." in key}
        presets.apply(tree, keys, name)
    elif name == "vit_s16":  # no preset: the paper trains none
        presets.apply(tree, presets.load("vit_b16_300ep")[1], name)
        presets.apply(tree, {"model.width": 384, "model.heads": 6}, name)
    else:
        presets.apply(tree, presets.load(name)[1], name)
    return configs.parse(tree, name)


def batches(setup: configs.Config, micro: int) -> list[tuple[Tensor, Masks]]:
    """Images as they come from a loader, and masks, on the GPU."""
    grid, size = configs.grid(setup), setup.train.batch_size
    sample = variants.load("masks", setup.mask.name).sample
    side = setup.data.image_size
    drawn = []
    for step in range(SHAPES):
        places = np.arange(step * size, (step + 1) * size)
        keys = Keys(0, step, np.zeros(size, np.int64), places)
        masks = sample(keys, grid, setup.mask.options).rows(0, micro)
        drawn.append((torch.randint(0, 256, (micro, 3, side, side), dtype=torch.uint8), masks))
    return drawn


def ours(
    setup: configs.Config,
    drawn: list[tuple[Tensor, Masks]],
    device: torch.device,
    half: bool,
    compiled: bool = False,
) -> Callable[[], None]:
    """Our step."""
    objective = create_objective(setup, device)
    if compiled:
        vit.compile_blocks(objective)
    optimizer = create_optimizer(objective, setup)
    turn = itertools.cycle([(images.to(device), masks.to(device)) for images, masks in drawn])

    def step() -> None:
        images, masks = next(turn)
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, half):
            loss = objective(normalise(images), masks)
        loss.backward()
        optimizer.step()
        objective.update(0.5)

    return step


def official(
    setup: configs.Config,
    drawn: list[tuple[Tensor, Masks]],
    device: torch.device,
    half: bool,
    folder: Path,
) -> Callable[[], None]:
    """The released code's step."""
    sys.path.insert(0, str(folder))
    from src.masks.utils import apply_masks  # type: ignore[import-not-found]
    from src.models.vision_transformer import (  # type: ignore[import-not-found]
        VisionTransformer,
        VisionTransformerPredictor,
    )
    from src.utils.tensors import repeat_interleave_batch  # type: ignore[import-not-found]

    model, size = setup.model, setup.data.image_size
    norm = lambda width: nn.LayerNorm(width, eps=1e-6)  # noqa: E731
    encoder = VisionTransformer(
        img_size=[size], patch_size=model.patch_size, embed_dim=model.width, depth=model.depth,
        num_heads=model.heads, mlp_ratio=model.mlp_ratio, qkv_bias=True, norm_layer=norm,
    ).to(device)  # fmt: skip
    predictor = VisionTransformerPredictor(
        num_patches=encoder.patch_embed.num_patches, embed_dim=model.width,
        predictor_embed_dim=model.predictor_width, depth=model.predictor_depth,
        num_heads=model.predictor_heads, qkv_bias=True, norm_layer=norm,
    ).to(device)  # fmt: skip
    target = copy.deepcopy(encoder).requires_grad_(False)
    trained = [p for net in (encoder, predictor) for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    scaler = torch.amp.GradScaler(device.type, enabled=half and device.type == "cuda")
    turn = itertools.cycle(
        [
            (images.to(device), [masks.context.to(device)], [*masks.targets.to(device).unbind(1)])
            for images, masks in drawn
        ]
    )

    def step() -> None:
        raw, contexts, blocks = next(turn)
        images = normalise(raw)
        with autocast(device, half):
            with torch.no_grad():
                wanted = target(images)
                wanted = nn.functional.layer_norm(wanted, (wanted.size(-1),))
                wanted = apply_masks(wanted, blocks)
                wanted = repeat_interleave_batch(wanted, len(images), repeat=1)
            predicted = predictor(encoder(images, contexts), contexts, blocks)
            loss = nn.functional.smooth_l1_loss(predicted, wanted)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        with torch.no_grad():
            for new, old in zip(encoder.parameters(), target.parameters(), strict=True):
                old.data.mul_(0.996).add_((1.0 - 0.996) * new.detach().data)

    return step
