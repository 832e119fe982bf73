"""Masked autoencoder (MAE, arXiv 2111.06377): predict the pixels of the hidden patches.

The encoder sees the context patches alone (Section 3, "MAE encoder"). The decoder, a ViT of its
own width, depth and heads with its own fixed positions, gets all N patches: what the encoder made
of the visible ones, and one learned mask token wherever there is none ("MAE decoder"); a linear
layer turns its tokens into the pixels of a patch. With H the hidden patches of an image, x_i the
P·P·3 pixels of patch i and y_i what is predicted of them, the loss of an image is (Section 3,
"Reconstruction target"; Section 4.1, "Reconstruction target")

    1/|H| sum_{i in H} 1/(P·P·3) ||y_i - (x_i - mean(x_i)) / sqrt(var(x_i) + 1e-6)||²

and without ``pixel_norm`` x_i itself. That of a batch is the mean over its images; the original
averages over all hidden patches of a batch, which is the same as all images hide equally many.

It is MAE with ``mask.name: random`` and ``mask.target_scale: 0.75``. Under other masks H is the
union of the target blocks, and a patch that is neither context nor target has a mask token and no
loss. The context encoder is evaluated, without the decoder, as in the original.

Named deviations, from sharing one encoder, one loop and one evaluation with the rivals:

- *no class token*: the original carries one, without a loss, through encoder and decoder, for its
  probes; it reports average pooling to work as well (Appendix A.1).
- *initialisation* is ``model.init``: ``fan_in`` is Xavier-uniform for linear layers, as the
  original, but the patch embedding is normal with std 1/sqrt(fan-in) and not Xavier-uniform.
- *contexts of different lengths*, which other masks than random ones of one share give, lie one
  after the other, and attention stays within an image; the original has one length.
- *crops* are resized bilinearly; the original's bicubically.

Fixed sin-cos positions, blocks without dropout and the per-patch target are as in the original.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ijepa import seeds
from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.model import flops, vit
from ijepa.objectives import hidden, patches, standardise
from ijepa.strict import integer, once

TITLE = "MAE"
ABOUT = (
    "from a few patches it predicts the pixels of all others, through a decoder that is not kept."
    " The encoder of the few patches is what is evaluated."
)


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``objective`` that MAE uses; the original's decoder is 512 wide, 8 deep."""

    pixel_norm: bool
    decoder_width: int = integer(4)
    decoder_depth: int = integer(1)
    decoder_heads: int = integer(1)


class Decoder(nn.Module):
    """The encoder's tokens of some patches to the pixels of all.

    Args:
        grid: rows and columns of patches.
        model: width, mlp_ratio, patch_size and init are used.
        options: width, depth and heads.
        seed: of the initialisation.
    """

    pos_embed: Tensor

    def __init__(self, grid: tuple[int, int], model: Model, options: Options, seed: int) -> None:
        super().__init__()
        width = options.decoder_width
        self.embed = nn.Linear(model.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("pos_embed", vit.positions(grid, width))
        self.blocks = vit.Blocks(
            width, options.decoder_depth, options.decoder_heads, model.mlp_ratio
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, 3 * model.patch_size**2)
        generator = seeds.torch_generator(seed, "init/decoder")
        vit.initialise(self, model.init, generator)
        nn.init.normal_(self.mask_token, std=0.02, generator=generator)

    def forward(self, context: Tensor, masks: Masks) -> Tensor:
        """Predict the pixels of every patch.

        Args:
            context: tokens of the encoder, (B, C, D).
            masks: where they belong.

        Returns:
            Predictions, (B, N, P·P·3).
        """
        number = torch.arange(len(self.pos_embed), device=context.device)
        # gathered and not scattered: padding cannot overwrite patch 0, and sums have one order
        here = (masks.context[:, None] == number[:, None]) & masks.context_valid[:, None]
        place, seen = here.int().argmax(-1), here.any(-1)  # of (B, N, C)
        tokens = self.embed(context).to(self.mask_token.dtype)
        x = torch.where(seen[..., None], vit.take(tokens, place), self.mask_token)
        predicted: Tensor = self.proj(self.norm(self.blocks(x + self.pos_embed)))
        return predicted


class Objective(nn.Module):
    """The encoder and the decoder with their loss."""

    def __init__(self, encoder: vit.Encoder, model: Model, options: Options, seed: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.grid, model, options, seed)
        self.model, self.options = model, options

    def forward(self, images: Tensor, masks: Masks) -> Tensor:
        """The loss of a batch: images (B, 3, H, W) normalised -> scalar.

        An image without a hidden patch adds 0 to the mean.
        """
        context = self.encoder(images, masks.context, masks.context_valid, masks.context_count)
        predicted = self.decoder(context, masks).float()
        each = (predicted - self.targets(images)).square().mean(-1)  # (B, N)
        wanted = hidden(masks, each.shape[1])
        loss: Tensor = ((each * wanted).sum(1) / wanted.sum(1).clamp(min=1)).mean()
        return loss

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """The pixels of every patch, as they are to be predicted, (B, N, P·P·3)."""
        pixels = patches(images.float(), self.model.patch_size)
        return standardise(pixels) if self.options.pixel_norm else pixels

    def update(self, progress: float) -> dict[str, float]:
        """Nothing follows the encoder."""
        return {}

    def flops(self, images: Tensor, masks: Masks, padding: bool = True) -> int:
        """Of the loss and its gradient; the decoder computes all patches, as the original."""
        (length, _), total = masks.lengths(padding), self.encoder.num_patches
        width, model = self.options.decoder_width, self.model
        decoder = (
            flops.linear(length, model.width, width)
            + self.options.decoder_depth * flops.block(width, model.mlp_ratio, total)
            + flops.linear(total, width, 3 * model.patch_size**2)
        )
        encoder = flops.trained_encoder(model, length)
        return int((encoder + flops.trained(decoder)).sum())


def check(image_size: int, model: Model, options: Options) -> None:
    """Refuse a decoder that cannot be.

    Raises:
        ValueError: its width is not a multiple of 4 (positions) and of its heads.
    """
    width, heads = options.decoder_width, options.decoder_heads
    if width % 4 or width % heads:
        raise ValueError(f"decoder_width: {width} is not a multiple of 4 and of its {heads} heads")


def create(image_size: int, model: Model, options: Options, seed: int) -> Objective:
    """The objective as a run with this seed starts it."""
    return Objective(vit.create(image_size, model, seed), model, options, seed)
