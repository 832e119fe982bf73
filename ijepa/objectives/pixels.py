"""Predict the pixels of the target blocks instead of representations (Table 7, "Pixels").

The same context encoder and predictor, applied once per target block; the predictor ends in the
pixels of a patch, and there is no target encoder. The paper does not describe how it built its
pixel variant, so what follows is ours: the targets are the pixels of the normalised, augmented
view, and with ``pixel_norm`` each patch is standardised, as MAE (arXiv 2111.06377, Section 4.1)
does; the context encoder is evaluated, as no average of it exists.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.model import flops, vit
from ijepa.model.predictor import Predictor
from ijepa.objectives import LOSSES, compare, patches, standardise
from ijepa.strict import choice, once

TITLE = "Pixel targets"
ABOUT = (
    "from a context it predicts the pixels of target blocks of the same image. This encoder, the"
    " context encoder, is what is evaluated."
)


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``objective`` that the prediction of pixels uses."""

    loss: str = choice(*LOSSES)
    pixel_norm: bool


class Objective(nn.Module):
    """The context encoder and a predictor of pixels with their loss."""

    def __init__(self, encoder: vit.Encoder, model: Model, options: Options, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.predictor = Predictor(encoder.grid, model, 3 * model.patch_size**2, seed)
        self.patch_size, self.options = model.patch_size, options

    def forward(self, images: Tensor, masks: Masks) -> Tensor:
        """The loss of a batch: images (B, 3, H, W) normalised -> scalar."""
        context = self.encoder(images, masks.context, masks.context_valid, masks.context_count)
        prediction = self.predictor(context, masks)
        target = self.targets(images, masks)
        return compare(self.options.loss, prediction, target, masks.targets_valid)

    @torch.no_grad()
    def targets(self, images: Tensor, masks: Masks) -> Tensor:
        """The pixels to be predicted, (B, M, T, P·P·3)."""
        pixels = patches(images.float(), self.patch_size)
        if self.options.pixel_norm:
            pixels = standardise(pixels)
        return vit.take(pixels, masks.targets.flatten(1)).view(*masks.targets.shape, -1)

    def flops(self, images: Tensor, masks: Masks, padding: bool = True) -> int:
        """FLOPs of this batch's loss and its gradient (``ijepa.model.flops``)."""
        model = self.encoder.model
        context, blocks = masks.lengths(padding)
        encoder = flops.trained_encoder(model, context)
        predictor = flops.predictor(model, context, blocks, 3 * model.patch_size**2)
        return int((encoder + flops.trained(predictor)).sum())

    def update(self, progress: float) -> dict[str, float]:
        """Nothing follows the context encoder."""
        return {}


def create(image_size: int, model: Model, options: Options, seed: int) -> Objective:
    """The objective as a run with this seed starts it."""
    return Objective(vit.create(image_size, model, seed), model, options, seed)
