"""I-JEPA (Section 3): predict the target encoder's representations of M blocks from one context.

Equation of Section 3, "Loss":  1/M  sum_i  sum_{j in B_i}  || s_hat_yj - s_yj ||_2^2

Named options where paper and released code differ: ``loss: l2`` is the equation,
``smooth_l1`` the released code's mean over all elements; ``target_norm: layer`` is the released
code's LayerNorm without affine on the targets (the paper does not mention it, training without it
is unstable), ``none`` leaves it out.

``target_masking`` is the comparison of Table 11. ``output``: the target encoder sees the whole
image and the blocks are cut from what it returns. ``input``: it sees the patches of one block at a
time, at their positions in the image, and runs once for each block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ijepa import schedule
from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.model import flops, vit
from ijepa.model.predictor import Predictor
from ijepa.model.teacher import Teacher
from ijepa.objectives import LOSSES, compare
from ijepa.strict import choice, once, pair

TITLE = "I-JEPA"
ABOUT = (
    "from a context block it predicts the representations that its own moving average gives to"
    " target blocks of the same image. The moving average, the target encoder, is what is"
    " evaluated."
)


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``objective`` that I-JEPA uses."""

    loss: str = choice(*LOSSES)
    target_norm: str = choice("layer", "none")
    target_masking: str = choice("output", "input")
    ema: tuple[float, float] = pair(0, 1)  # momentum at the first and the last step


class Objective(nn.Module):
    """The context encoder, the predictor and the target encoder with their loss."""

    def __init__(
        self, context_encoder: vit.Encoder, model: Model, options: Options, seed: int
    ) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.teacher = Teacher(context_encoder)
        self.predictor = Predictor(context_encoder.grid, model, model.width, seed)
        self.options = options

    @property
    def encoder(self) -> vit.Encoder:
        """The target encoder is what the paper evaluates (Appendix A.1)."""
        return self.teacher.encoder

    def forward(self, images: Tensor, masks: Masks) -> Tensor:
        """The loss of a batch: images (B, 3, H, W) normalised -> scalar."""
        targets = self.targets(images, masks)
        context = self.context_encoder(
            images, masks.context, masks.context_valid, masks.context_count
        )
        prediction = self.predictor(context, masks)
        return compare(self.options.loss, prediction, targets, masks.targets_valid)

    @torch.no_grad()
    def targets(self, images: Tensor, masks: Masks) -> Tensor:
        """What is to be predicted, without gradient: (B, M, T, D). Padded tokens hold rubbish."""
        if self.options.target_masking == "input":
            blocks = zip(masks.targets.unbind(1), masks.targets_valid.unbind(1), strict=True)
            tokens = torch.stack([self.teacher(images, keep, valid) for keep, valid in blocks], 1)
        else:
            tokens = vit.take(self.teacher(images), masks.targets.flatten(1))
            tokens = tokens.view(*masks.targets.shape, -1)
        tokens = tokens.float()
        if self.options.target_norm == "layer":
            tokens = nn.functional.layer_norm(tokens, tokens.shape[-1:])
        return tokens

    def flops(self, images: Tensor, masks: Masks, padding: bool = True) -> int:
        """FLOPs of this batch's loss and its gradient (``ijepa.model.flops``)."""
        model, patches = self.context_encoder.model, self.context_encoder.num_patches
        context, blocks = masks.lengths(padding)
        if self.options.target_masking == "input":
            teacher = flops.encoder(model, blocks).sum()
        else:
            teacher = len(images) * flops.encoder(model, patches)
        student = flops.trained_encoder(model, context)
        predictor = flops.predictor(model, context, blocks, model.width)
        return int(teacher + (student + flops.trained(predictor)).sum())

    def update(self, progress: float) -> dict[str, float]:
        """Move the target encoder; the momentum grows linearly (Appendix A.1)."""
        momentum = schedule.linear(self.options.ema, progress)
        self.teacher.update(self.context_encoder, momentum)
        return {"ema": momentum}


def create(image_size: int, model: Model, options: Options, seed: int) -> Objective:
    """The objective as a run with this seed starts it."""
    return Objective(vit.create(image_size, model, seed), model, options, seed)
