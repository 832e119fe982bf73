"""What a step costs: analytic FLOPs, from shapes alone.

Counted is what the mathematics needs of matrix products and convolutions, two FLOPs for a
multiply-add, as ``torch.utils.flop_counter`` counts them. Norms, softmax, GELU, losses, the
optimiser and the teacher's average are left out, as there: their cost grows with the width, that
of products with its square. Attention is counted as the two products it is, forward and backward,
however it is executed: fused kernels compute the scores once more in the backward pass and torch's
counter adds that (2.5 times the forward pass, not 2), but a result must not depend on the device.
Nothing here is measured, so equal runs have equal counts.

Whether padding is counted is for the caller: with the lengths of the images (``Masks.lengths``)
the functions count what is useful; with those that a batch is padded to, what it would cost to
compute its padding too. The difference is the price of an implementation and none of the method,
so equal compute is equal useful compute. Ours pads for attention alone, and only on a CPU
(``ijepa.model.packed``).

Forward functions count one sequence of an integer length, or as many as an array has lengths.
Backward of a product costs twice its forward: once for the gradient of the weights (or of the
second factor), once for that of the input. So what is trained costs ``trained(forward)`` in all,
three times its forward pass, but a layer that reads data, as the patch embedding, needs no
gradient of its input. A teacher has no backward pass.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ijepa.config import Model

Count = TypeVar("Count", int, NDArray[np.int64])


def linear(tokens: Count, inputs: int, outputs: int) -> Count:
    """A linear layer on ``tokens`` vectors, forward."""
    return 2 * tokens * inputs * outputs


def block(width: int, mlp_ratio: float, length: Count, queries: Count | None = None) -> Count:
    """A transformer block on one sequence of ``length`` tokens, forward.

    Args:
        width: of the tokens.
        mlp_ratio: width of the hidden layer of the MLP over ``width``.
        length: tokens of the sequence.
        queries: only so many tokens are computed, as in the last block of the predictor; the
            others are only looked at. All when None.
    """
    queries = length if queries is None else queries
    hidden = int(width * mlp_ratio)
    keys_values = linear(length, width, 2 * width)
    query_and_projection = 2 * linear(queries, width, width)
    scores_and_mixing = 2 * (2 * queries * length * width)
    mlp = 2 * linear(queries, width, hidden)
    return keys_values + query_and_projection + scores_and_mixing + mlp


def patch_embedding(model: Model, patches: Count) -> Count:
    """The embedding of ``patches`` patches of an image, forward."""
    return linear(patches, 3 * model.patch_size**2, model.width)


def encoder(model: Model, length: Count) -> Count:
    """The encoder on one image, forward.

    Args:
        model: width, depth, mlp_ratio and patch_size are used.
        length: patches that it sees; no other is embedded.
    """
    return patch_embedding(model, length) + model.depth * block(
        model.width, model.mlp_ratio, length
    )


def trained(forward: Count, reads_data: Count | int = 0) -> Count:
    """Forward and backward of a part whose weights are trained.

    Args:
        forward: FLOPs of its forward pass.
        reads_data: how many of them are of layers whose input needs no gradient.
    """
    return 3 * forward - reads_data


def trained_encoder(model: Model, length: Count) -> Count:
    """The encoder on one image, forward and backward; arguments as of ``encoder``."""
    return trained(encoder(model, length), patch_embedding(model, length))


def predictor(
    model: Model, context: NDArray[np.int64], targets: NDArray[np.int64], out_width: int
) -> NDArray[np.int64]:
    """The predictor on each image, forward.

    Args:
        model: width, predictor_width, predictor_depth and mlp_ratio are used.
        context: tokens of the context, (B,).
        targets: tokens of each target block, (B, M); the predictor runs once for each (Section 3),
            but for one without a token there is nothing to predict.
        out_width: of what is predicted.

    Returns:
        FLOPs, (B,).
    """
    width, length = model.predictor_width, context[:, None] + targets
    whole = (model.predictor_depth - 1) * block(width, model.mlp_ratio, length)
    last = block(width, model.mlp_ratio, length, queries=targets)
    once = (whole + last + linear(targets, width, out_width)) * (targets > 0)
    total: NDArray[np.int64] = linear(context, model.width, width) + once.sum(1)
    return total
