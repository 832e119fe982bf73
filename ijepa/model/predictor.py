"""The predictor (Section 3, "Prediction"): a narrow ViT from context to one target block.

For each target block it takes the context tokens and one mask token per patch of the block (a
shared learnable vector plus the patch's position) and predicts the block's representations. It is
applied once per block, so blocks do not see each other.
"""

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ijepa import seeds
from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.model.vit import blocks, compute_dtype, initialise, key_bias, positions


class Predictor(nn.Module):
    """Context tokens to predicted target tokens.

    Args:
        grid: rows and columns of patches.
        model: width, predictor_* and mlp_ratio are used.
        out_width: width of what is predicted; the encoder's width for representations.
        seed: of the initialisation.
    """

    pos_embed: Tensor

    def __init__(self, grid: tuple[int, int], model: Model, out_width: int, seed: int) -> None:
        super().__init__()
        width = model.predictor_width
        self.embed = nn.Linear(model.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos_embed", positions(grid, width))
        self.blocks = blocks(width, model.predictor_depth, model.predictor_heads, model.mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, out_width)
        generator = seeds.torch_generator(seed, "init/predictor")
        initialise(self, model.init, generator)
        nn.init.trunc_normal_(self.mask_token, std=0.02, generator=generator)

    def forward(self, context: Tensor, masks: Masks) -> Tensor:
        """Predict every target block.

        Args:
            context: tokens of the context encoder, (B, C, D).
            masks: the positions of context and targets.

        Returns:
            Predictions, (B, M, T, out_width). Padded tokens hold rubbish.
        """
        size, count, length = masks.targets.shape
        seen = self.embed(context) + self.pos_embed[masks.context]  # (B, C, P)
        seen = seen.repeat_interleave(count, 0)
        asked = (self.mask_token + self.pos_embed[masks.targets]).flatten(0, 1)  # (B·M, T, P)
        x = torch.cat([seen.to(asked.dtype), asked], 1)
        valid = torch.cat(
            [masks.context_valid.repeat_interleave(count, 0), masks.targets_valid.flatten(0, 1)], 1
        )
        bias = key_bias(valid, compute_dtype(x))
        for block in self.blocks[:-1]:
            x = block(x, attn_mask=bias)
        x = _last_tokens_only(self.blocks[-1], x, length, bias)
        predicted: Tensor = self.proj(self.norm(x))
        return predicted.view(size, count, length, -1)


def _last_tokens_only(block: nn.Module, x: Tensor, count: int, bias: Tensor) -> Tensor:
    """``block(x)[:, -count:]`` without computing the other tokens' outputs.

    Exact, and 20 % of a small model's step: of the last block only the targets are read.
    """
    assert isinstance(block, Block)
    assert isinstance(block.attn, Attention)
    attn, normed = block.attn, block.norm1(x)
    size, length, width = normed.shape
    heads, weight, shift = attn.num_heads, attn.qkv.weight, attn.qkv.bias
    query = nn.functional.linear(normed[:, -count:], weight[:width], shift[:width])
    keys = nn.functional.linear(normed, weight[width:], shift[width:])
    q = query.view(size, count, heads, -1).transpose(1, 2)  # (B, heads, count, d)
    k, v = keys.view(size, length, 2, heads, -1).permute(2, 0, 3, 1, 4)
    if attn.fused_attn:
        out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    else:
        out = ((q * attn.scale) @ k.transpose(-2, -1) + bias).softmax(-1) @ v
    x = x[:, -count:] + attn.proj(out.transpose(1, 2).flatten(2))
    tokens: Tensor = x + block.mlp(block.norm2(x))
    return tokens
