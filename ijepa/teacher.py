"""The target encoder (Section 3, "Targets"): the exponential moving average (EMA) of the context
encoder.
"""

import copy

import torch
from torch import Tensor, nn

from ijepa.encoder import Encoder


class Teacher(nn.Module):
    """A copy of an encoder that follows it and never gets a gradient."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)

    @torch.no_grad()
    def forward(
        self, images: Tensor, keep: Tensor | None = None, valid: Tensor | None = None
    ) -> Tensor:
        """The encoder's tokens of whole images or of the patches kept, without gradient."""
        tokens: Tensor = self.encoder(images, keep, valid)
        return tokens

    @torch.no_grad()
    def update(self, encoder: Encoder, momentum: float) -> None:
        """teacher <- momentum * teacher + (1 - momentum) * encoder, for every parameter."""
        torch._foreach_lerp_(
            list(self.encoder.parameters()), list(encoder.parameters()), 1 - momentum
        )
