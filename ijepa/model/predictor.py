"""The predictor (Section 3, "Prediction"): a narrow ViT from context to one target block.

For each target block it takes the context tokens and one mask token per patch of the block (a
shared learnable vector plus the patch's position) and predicts the block's representations. It is
applied once per block, so blocks do not see each other.
"""

import torch
from torch import Tensor, nn

from ijepa import seeds
from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.model.packed import Layout, Queries
from ijepa.model.vit import Blocks, initialise, positions


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
        self.blocks = Blocks(width, model.predictor_depth, model.predictor_heads, model.mlp_ratio)
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
            Predictions, (B, M, T, out_width). Padded tokens are 0.
        """
        size, count, length = masks.targets.shape
        seen = self.embed(context) + self.pos_embed[masks.context]  # (B, C, P)
        seen = seen.repeat_interleave(count, 0)
        asked = (self.mask_token + self.pos_embed[masks.targets]).flatten(0, 1)  # (B·M, T, P)
        targets = Layout.of(masks.targets_valid.flatten(0, 1), tokens=masks.target_count)
        contexts, both = masks.context_valid.repeat_interleave(count, 0), None
        if masks.context_count is not None and masks.target_count is not None:
            both = count * masks.context_count + masks.target_count
        layout = Layout.of(contexts, targets.valid, tokens=both)
        x = layout.pack(torch.cat([seen.to(asked.dtype), asked], 1))
        x = self.blocks(x, layout, Queries.last(length, layout, targets))
        return targets.pad(self.proj(self.norm(x))).view(size, count, length, -1)
