"""Objectives: one file each, with ``Options`` and ``create(image_size, model, options, seed)``.

``create`` returns an ``nn.Module`` and the training loop knows no more than this:

- ``module(images, masks) -> loss``: a scalar to minimise, the mean over the images given; images
  (B, 3, H, W) normalised, masks ``ijepa.masks.Masks``. Its gradient reaches every parameter that
  requires one, or several processes would wait for each other for ever.
- ``module.update(progress) -> meters``: called after each optimiser step, progress in (0, 1]; what
  it returns is logged, the same names at every step.
- ``module.encoder``: the ``Encoder`` that is evaluated.

A variant imports no other variant: a run depends on one file of them. What they share is here.
"""

from torch import Tensor, nn

LOSSES = ("l2", "smooth_l1")


def compare(loss: str, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The distance of predicted blocks from their targets, the mean over images and blocks.

    Args:
        loss: ``l2`` is the equation of Section 3, the sum of squares over the tokens of a block;
            ``smooth_l1`` the released code's mean over tokens and features (paper-facts 2.2).
        prediction: (B, M, T, D).
        target: float32, (B, M, T, D).
        valid: False where a token is padding, (B, M, T) bool.

    Returns:
        A scalar.
    """
    prediction = prediction.float()
    if loss == "smooth_l1":
        element = nn.functional.smooth_l1_loss(prediction, target, reduction="none").mean(-1)
        per_block = (element * valid).sum(-1) / valid.sum(-1)
        return per_block.mean()  # blocks of one size, as released: the mean over all elements
    assert loss == "l2", loss
    squared = (prediction - target).square().sum(-1)  # ||.||_2^2, (B, M, T)
    return (squared * valid).sum() / (valid.shape[0] * valid.shape[1])
