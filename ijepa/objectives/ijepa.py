"""I-JEPA (Section 3): predict the target encoder's representations of M blocks from one context.

Equation of Section 3, "Loss":  1/M  sum_i  sum_{j in B_i}  || s_hat_yj - s_yj ||_2^2

Named options where paper and released code differ (paper-facts 2.2): ``loss: l2`` is the equation,
``smooth_l1`` the released code's mean over all elements; ``target_norm: layer`` is the released
code's LayerNorm without affine on the targets (the paper does not mention it, training without it
is unstable), ``none`` leaves it out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ijepa import encoder as encoders
from ijepa import schedule
from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.predictor import Predictor
from ijepa.strict import choice, pair
from ijepa.teacher import Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``objective`` that I-JEPA uses."""

    loss: str = choice("l2", "smooth_l1")
    target_norm: str = choice("layer", "none")
    ema: tuple[float, float] = pair(0, 1)  # momentum at the first and the last step


class Objective(nn.Module):
    """The context encoder, the predictor and the target encoder with their loss."""

    def __init__(
        self, context_encoder: encoders.Encoder, model: Model, options: Options, seed: int
    ) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.teacher = Teacher(context_encoder)
        self.predictor = Predictor(context_encoder.grid, model, model.width, seed)
        self.options = options

    @property
    def encoder(self) -> encoders.Encoder:
        """The target encoder is what the paper evaluates (Appendix A.1)."""
        return self.teacher.encoder

    def forward(self, images: Tensor, masks: Masks) -> Tensor:
        """The loss of a batch: images (B, 3, H, W) normalised -> scalar."""
        targets = self.targets(images, masks)
        context = self.context_encoder(images, keep=masks.context, valid=masks.context_valid)
        return self.loss(self.predictor(context, masks), targets, masks.targets_valid)

    @torch.no_grad()
    def targets(self, images: Tensor, masks: Masks) -> Tensor:
        """What is to be predicted, without gradient: (B, M, T, D)."""
        tokens: Tensor = self.teacher(images).float()
        if self.options.target_norm == "layer":
            tokens = nn.functional.layer_norm(tokens, tokens.shape[-1:])
        return encoders.take(tokens, masks.targets.flatten(1)).view(*masks.targets.shape, -1)

    def loss(self, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Compare (B, M, T, D) with (B, M, T, D) where ``valid`` (B, M, T)."""
        prediction = prediction.float()
        if self.options.loss == "smooth_l1":
            element = nn.functional.smooth_l1_loss(prediction, target, reduction="none").mean(-1)
            per_block = (element * valid).sum(-1) / valid.sum(-1)
            return per_block.mean()  # blocks of one size, as released: the mean over all elements
        squared = (prediction - target).square().sum(-1)  # ||.||_2^2, (B, M, T)
        return (squared * valid).sum() / (valid.shape[0] * valid.shape[1])

    def update(self, progress: float) -> dict[str, float]:
        """Move the target encoder; the momentum grows linearly (Appendix A.1)."""
        momentum = schedule.linear(self.options.ema, progress)
        self.teacher.update(self.context_encoder, momentum)
        return {"ema": momentum}


def create(image_size: int, model: Model, options: Options, seed: int) -> Objective:
    """The objective as a run with this seed starts it."""
    return Objective(encoders.create(image_size, model, seed), model, options, seed)
