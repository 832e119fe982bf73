"""Objectives: one file each, with ``Options`` and ``create(image_size, model, options, seed)``.

``create`` returns an ``nn.Module`` and the training loop knows no more than this:

- ``module(images, masks) -> loss``: a scalar to minimise, the mean over the images given; images
  (B, 3, H, W) normalised, masks ``ijepa.masks.Masks``.
- ``module.update(progress) -> meters``: called after each optimiser step, progress in (0, 1]; what
  it returns is logged.
- ``module.encoder``: the ``Encoder`` that is evaluated.
"""
