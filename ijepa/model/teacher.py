"""The target encoder (Section 3, "Targets"): the exponential moving average (EMA) of the context
encoder.
"""

import copy

import torch
from torch import Tensor, nn

from ijepa.model.vit import Encoder


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
        """Move towards the encoder that it follows."""
        follow(self.encoder, encoder, momentum)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher <- momentum * teacher + (1 - momentum) * student, for every parameter."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
