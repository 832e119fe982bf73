"""Objectives: one file each, with ``Options`` and ``create(image_size, model, options, seed)``.

``create`` returns an ``nn.Module`` and the training loop knows no more than this:

- ``module(*views, *masks) -> loss``: a scalar to minimise, the mean over the images given; views
  (B, 3, S, S) normalised, masks ``ijepa.masks.Masks``, one for each masked view. Its gradient
  reaches every parameter that requires one, or several processes would wait for each other for
  ever.
- ``module.update(progress) -> meters``: called after each optimiser step, progress in (0, 1]; what
  it returns is logged, the same names at every step.
- ``module.flops(*views, *masks, padding=True)``: the floating-point operations of that loss and
  its gradient (``ijepa.model.flops``) with all padding, a function of shapes alone; or without
  ``padding`` what the patches need that the masks name, each image and each target block at its
  own length. Where nothing is padded the two are equal.
- ``module.encoder``: the ``Encoder`` that is evaluated, and where it follows the one that is
  trained, ``module.context_encoder``.

A module that adds something up over the images of a step beside its gradients has ``module.sums``,
a tensor or None: the loop makes it the sum over the global batch before ``update``.

``TITLE`` is what people call the variant, ``ABOUT`` the end of a sentence that starts "An encoder
learned from images without labels:"; the report's reader sees both. Two more functions may be left
out: ``views(image_size, model, train, options) -> tuple[View, ...]`` declares what is needed
beyond one masked view, and ``check(image_size, model, options)`` raises ``ValueError`` ("<key>:
...") for what cannot be.

A variant imports no other variant: a run depends on one file of them. What they share is here.
"""

import torch
from torch import Tensor, nn

from ijepa.masks import Masks
from ijepa.model.vit import Encoder

LOSSES = ("l2", "smooth_l1")


def compare(loss: str, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The distance of predicted blocks from their targets, the mean over images and blocks.

    Args:
        loss: ``l2`` is the equation of Section 3, the sum of squares over the tokens of a block;
            ``smooth_l1`` the released code's mean over tokens and features.
        prediction: (B, M, T, D).
        target: float32, (B, M, T, D).
        valid: False where a token is padding, (B, M, T) bool.

    Returns:
        A scalar.
    """
    prediction = prediction.float()
    if loss == "smooth_l1":
        element = nn.functional.smooth_l1_loss(prediction, target, reduction="none").mean(-1)
        # a block without a token adds 0
        per_block = (element * valid).sum(-1) / valid.sum(-1).clamp(min=1)
        return per_block.mean()  # blocks of one size, as released: the mean over all elements
    assert loss == "l2", loss
    squared = (prediction - target).square().sum(-1)  # ||.||_2^2, (B, M, T)
    return (squared * valid).sum() / (valid.shape[0] * valid.shape[1])


def patches(images: Tensor, size: int) -> Tensor:
    """Cut images (B, 3, H, W) into N patches of ``size`` x ``size`` pixels, (B, N, size·size·3).

    Patches are in raster order, as the encoder's tokens; inside one: row, column, channel.
    """
    count, channels, height, width = images.shape
    cut = images.view(count, channels, height // size, size, width // size, size)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def standardise(pixels: Tensor) -> Tensor:
    """Each patch (..., P·P·3) to mean 0 and variance 1 (MAE, arXiv 2111.06377, Section 4.1)."""
    variance, mean = torch.var_mean(pixels, -1, keepdim=True)  # unbiased, as MAE's
    return (pixels - mean) / (variance + 1e-6).sqrt()


def hidden(masks: Masks, count: int) -> Tensor:
    """The patches of any target block of an image.

    Args:
        masks: of B images.
        count: patches of an image, N.

    Returns:
        (B, N) bool.
    """
    index, valid = masks.targets.flatten(1), masks.targets_valid.flatten(1)
    found = torch.zeros(len(index), count, dtype=torch.int64, device=index.device)
    return found.scatter_add_(1, index, valid.long()) > 0


def encode(
    encoder: Encoder,
    images: Tensor,
    hide: Tensor | None = None,
    mask_token: Tensor | None = None,
) -> list[Tensor]:
    """What every block makes of all patches, some of them behind a mask token.

    Args:
        encoder: its final norm is not applied; ``encoder.norm`` of the last is its output.
        images: normalised, (B, 3, H, W), sides multiples of the patch size. Where the grid is not
            the encoder's, positions are interpolated bicubically (DINO, arXiv 2104.14294).
        hide: True where the patch embedding is replaced by the mask token, (B, N).
        mask_token: (D,).

    Returns:
        The outputs of all blocks, (B, N, D) each.
    """
    embedded = encoder.patch_embed.proj(images)  # (B, D, rows, columns)
    positions = encoder.pos_embed
    if embedded.shape[2:] != encoder.grid:
        square = positions.transpose(1, 2).reshape(1, -1, *encoder.grid)
        positions = nn.functional.interpolate(
            square, embedded.shape[2:], mode="bicubic", align_corners=False
        ).flatten(2).transpose(1, 2)  # fmt: skip
    x = embedded.flatten(2).transpose(1, 2)
    if hide is not None:
        assert mask_token is not None
        x = torch.where(hide[..., None], mask_token.to(x.dtype), x)
    x = x + positions
    found = []
    for block in encoder.blocks:
        x = block(x)
        found.append(x)
    return found
