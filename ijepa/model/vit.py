"""The Vision Transformer encoder (Section 3; Appendix A.1): timm blocks, no class token.

Positions are fixed 2-D sin-cos embeddings. Parameter names are timm's, so a state dict of a timm
``VisionTransformer(class_token=False)`` of the same shape fits.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.layers.attention import Attention
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ijepa import seeds
from ijepa.config import Model
from ijepa.model import packed
from ijepa.model.packed import Layout, Queries
from ijepa.runtime import weights


def positions(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed 2-D sin-cos position embeddings in raster order, shape (N, width)."""
    return build_sincos2d_pos_embed(list(grid), dim=width, interleave_sin_cos=False)


class Blocks(nn.ModuleList):
    """Pre-norm transformer blocks; LayerNorm eps 1e-6 as in ViT, MAE and the official code.

    Args:
        width, depth, heads, mlp_ratio: of timm's ``Block``, and how many of them.
        layer_scale: first value of LayerScale (arXiv 2103.17239), which data2vec has.
    """

    run: Callable[..., Tensor]

    def __init__(
        self, width: int, depth: int, heads: int, mlp_ratio: float,
        layer_scale: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            Block(width, heads, mlp_ratio=mlp_ratio, qkv_bias=True, init_values=layer_scale)
            for _ in range(depth)
        )
        self.run = packed.run
        for part in self.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = 1e-6

    def forward(
        self, x: Tensor, layout: Layout | None = None, queries: Queries | None = None
    ) -> Tensor:
        """Run them one after the other.

        Args:
            x: tokens, (B, N, D); packed, (T, D), where there is a layout.
            layout: where packed tokens are.
            queries: what the last block has to compute (``packed.run``).

        Returns:
            The same shape, or (Q, D) with queries.
        """
        for number, block in enumerate(self, 1):
            x = self.run(block, x, layout, queries if number == len(self) else None)
        return x


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Gather tokens (B, N, D) at ``index`` (B, L) into (B, L, D)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


class Encoder(nn.Module):
    """Images to patch tokens.

    Args:
        image_size: side of the square images in pixels.
        model: width, depth, heads, mlp_ratio, patch_size and layer_scale are used.
    """

    pos_embed: Tensor

    def __init__(self, image_size: int, model: Model) -> None:
        super().__init__()
        side = image_size // model.patch_size
        self.image_size, self.model = image_size, model
        self.width, self.depth, self.grid = model.width, model.depth, (side, side)
        self.num_patches = side * side
        self.patch_embed = PatchEmbed(image_size, model.patch_size, 3, model.width)
        self.register_buffer("pos_embed", positions(self.grid, model.width)[None])
        self.blocks = Blocks(
            model.width, model.depth, model.heads, model.mlp_ratio, model.layer_scale
        )
        self.norm = nn.LayerNorm(model.width, eps=1e-6)

    def forward(
        self, images: Tensor, keep: Tensor | None = None, valid: Tensor | None = None,
        count: int | None = None,
    ) -> Tensor:  # fmt: skip
        """Encode whole images, or only the patches that are kept.

        Args:
            images: normalised, (B, 3, H, W).
            keep: indices of the visible patches, (B, C); all N when None.
            valid: False where ``keep`` is padding, (B, C); nowhere when None.
            count: how many patches are kept in all, if that is known (``Masks.context_count``).

        Returns:
            Tokens after the final LayerNorm, (B, C, D) or (B, N, D). Padded rows are 0.
        """
        if keep is None:
            tokens: Tensor = self.norm(self.blocks(self.patch_embed(images) + self.pos_embed))
            return tokens
        if valid is None:
            valid, count = torch.ones_like(keep, dtype=torch.bool), keep.numel()
        layout = Layout.of(valid, tokens=count)
        x = self.blocks(self._embed(images, keep, layout), layout)
        return layout.pad(self.norm(x))

    def _embed(self, images: Tensor, keep: Tensor, layout: Layout) -> Tensor:
        """The patches that are kept, embedded, with their positions, (T, D); no other is."""
        kernel, size = self.patch_embed.proj, self.model.patch_size
        assert isinstance(kernel, nn.Conv2d)
        count, channels, height, width = images.shape
        cut = images.view(count, channels, height // size, size, width // size, size)
        pixels = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # as the kernel's weights
        kept = layout.pack(take(pixels, keep))
        embedded = nn.functional.linear(kept, kernel.weight.flatten(1), kernel.bias)
        return embedded + self.pos_embed[0][layout.pack(keep)]

    def layers(self, images: Tensor, last: int) -> list[Tensor]:
        """Outputs of the last blocks, each through the *final* LayerNorm (as VISSL's evaluation).

        Args:
            images: normalised, (B, 3, H, W).
            last: number of blocks.

        Returns:
            ``last`` tensors (B, N, D), the earliest block first.
        """
        x = self.patch_embed(images) + self.pos_embed
        layers = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number >= self.depth - last:
                layers.append(self.norm(x))
        return layers


def initialise(module: nn.Module, init: str, generator: torch.Generator) -> None:
    """Initialise every weight of a module in place.

    ``fan_in``: Xavier-uniform blocks and a patch embedding of std 1/sqrt(fan-in). At small patches
    the released 0.02 leaves patch tokens about five times smaller than the position embeddings,
    and training partly collapses here.
    ``official``: truncated normal of std 0.02 everywhere. The released code also rescales by
    depth, but overwrites that again, so this is what it trains with.
    ``beit``: the same cut at one standard deviation, so that the weights' own is 0.0108, and the
    output layers of block l, counted from 1, divided by sqrt(2 l) (BEiT, arXiv 2106.08254,
    Section 2.5, and its released code; data2vec's too).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            fan_in = part.weight[0].numel()
            if init in ("official", "beit"):
                small_normal(part.weight, init, generator)
            elif isinstance(part, nn.Conv2d):
                std = 1 / math.sqrt(fan_in)
                nn.init.trunc_normal_(
                    part.weight, std=std, a=-2 * std, b=2 * std, generator=generator
                )
            else:
                nn.init.xavier_uniform_(part.weight, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    if init == "beit":
        for part in module.modules():
            if isinstance(part, nn.ModuleList):
                _rescale_by_depth(part)


def small_normal(tensor: Tensor, init: str, generator: torch.Generator) -> None:
    """Fill a tensor with a normal of std 0.02, which ``beit`` cuts at 0.02 and others at 2."""
    bound = 0.02 if init == "beit" else 2.0
    nn.init.trunc_normal_(tensor, std=0.02, a=-bound, b=bound, generator=generator)


@torch.no_grad()
def _rescale_by_depth(stack: nn.ModuleList) -> None:
    """Divide what block l of a stack adds to the residual sum by sqrt(2 l), l from 1."""
    for number, block in enumerate(stack, 1):
        for output in ("attn.proj.weight", "mlp.fc2.weight"):
            block.get_parameter(output).div_(math.sqrt(2 * number))


def create(image_size: int, model: Model, seed: int) -> Encoder:
    """An encoder as a run with this seed starts from it; also that run's random-init baseline."""
    encoder = Encoder(image_size, model)
    initialise(encoder, model.init, seeds.torch_generator(seed, "init/encoder"))
    return encoder


def place(module: nn.Module, device: torch.device) -> None:
    """Move a module, and choose its attention kernel by the device.

    On a CPU and up to 200 tokens explicit attention is twice as fast as torch's fused kernel; on a
    GPU the fused kernels win.
    """
    module.to(device)
    for part in module.modules():
        if isinstance(part, Attention):
            part.fused_attn = device.type != "cpu"  # type: ignore[misc]  # Final for torchscript


def compile_blocks(module: nn.Module) -> None:
    """Compile what computes one transformer block, for all stacks of a module.

    One block and not the whole network: blocks are alike, so that a deep network compiles in the
    time of a shallow one. Lengths change with every batch, hence ``dynamic``.
    """
    run = torch.compile(packed.run, dynamic=True)
    for part in module.modules():
        if isinstance(part, Blocks):
            part.run = run


def save(encoder: Encoder, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights as safetensors; the metadata also holds what ``load`` needs.

    ``metadata`` is one JSON text; equal encoders are equal bytes.
    """
    model = {name: getattr(encoder.model, name) for name in Model.__slots__}
    about = {**metadata, "image_size": encoder.image_size, "model": model}
    weights.save(encoder.state_dict(), path, {"ijepa": json.dumps(about, sort_keys=True)})


def load(path: Path) -> Encoder:
    """Read what ``save`` wrote.

    Raises:
        ValueError: no such file, or not an encoder of ours.
    """
    about = metadata(path)
    encoder = Encoder(about["image_size"], Model(**about["model"]))
    encoder.load_state_dict(load_file(path))
    place(encoder, torch.device("cpu"))
    return encoder.eval()


def metadata(path: Path) -> dict[str, Any]:
    """What ``save`` wrote beside the weights: ``image_size``, ``model``, and what it was given.

    Raises:
        ValueError: no such file, not safetensors, damaged, or not an encoder of ours.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `dvc repro pretrain` makes it")
    texts = weights.metadata(path)
    if "ijepa" not in texts:
        raise ValueError(f"{path}: holds no ijepa encoder")
    return dict(json.loads(texts["ijepa"]))
