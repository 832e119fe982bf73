"""Packed blocks: what padded ones compute, on fewer tokens."""

import pytest
import torch
from conftest import tiny
from torch import Tensor, nn

from ijepa.model import packed, vit
from ijepa.model.packed import Layout, Queries

LENGTHS = (23, 40, 3, 37, 1, 40, 18)  # 162 of 280 places


def valid_of(lengths: tuple[int, ...], length: int) -> Tensor:
    """The first tokens of each sequence, but for the second: there they lie apart."""
    valid = torch.arange(length) < torch.tensor(lengths)[:, None]
    valid[2] = torch.arange(length) % 17 == 4
    return valid


def block_of(fused: bool, layer_scale: float | None) -> nn.Module:
    torch.manual_seed(0)
    (block,) = vit.Blocks(16, 1, 2, 2.0, layer_scale).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    block.attn.fused_attn = fused
    return block


def padded(block: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
    """The block of timm on padded sequences."""
    bias = torch.zeros(valid.shape, dtype=x.dtype).masked_fill(~valid, -1e300)
    out: Tensor = block(x, attn_mask=bias[:, None, None, :])
    return out


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("layer_scale", [None, 0.3])
def test_a_packed_block_is_the_padded_one(fused: bool, layer_scale: float | None) -> None:
    """Outputs of valid tokens and all gradients, in float64."""
    valid, block = valid_of(LENGTHS, 40), block_of(fused, layer_scale)
    x = torch.randn(*valid.shape, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x) * valid[..., None]
    layout = Layout.of(valid)
    results = []
    for out in (layout.pad(packed.run(block, layout.pack(x), layout)), padded(block, x, valid)):
        grads = torch.autograd.grad((out * weight).sum(), [x, *block.parameters()])
        results.append([out[valid], *grads])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(
            one, other, rtol=0, atol=1e-12 * float(other.detach().abs().max())
        )


def test_queries_alone_get_what_all_would() -> None:
    context, targets = valid_of(LENGTHS, 40), valid_of((3, 9, 9, 1, 5, 9, 2), 9)
    layout, asked = Layout.of(context, targets), Layout.of(targets)
    block = block_of(fused=False, layer_scale=None)
    x = torch.randn(7, 49, 16, dtype=torch.float64)
    whole = layout.pad(packed.run(block, layout.pack(x), layout))[:, 40:]
    some = packed.run(block, layout.pack(x), layout, Queries.last(9, layout, asked))
    torch.testing.assert_close(
        asked.pad(some)[targets],
        whole[targets],
        rtol=0,
        atol=1e-12 * float(whole.detach().abs().max()),
    )


def test_places_computed_are_the_valid_ones_and_few_more() -> None:
    """Of few different numbers, so that few shapes of products are prepared."""
    for lengths in (LENGTHS, (40,) * 7, (1,) * 7, (40, 40, 17, 40, 40, 40, 40)):
        valid = valid_of(lengths, 40)
        places = set(Layout.of(valid).places.tolist())
        assert places >= set(valid.flatten().nonzero()[:, 0].tolist())
        assert len(places) == min(valid.numel(), -(-int(valid.sum()) // 64) * 64)
    both = Layout.of(valid_of(LENGTHS, 40), valid_of((3, 9, 9, 1, 5, 9, 2), 20))
    assert len(both.places) % 64 == 0


def test_packing_and_padding_are_inverse() -> None:
    valid = valid_of(LENGTHS, 40)
    layout, x = Layout.of(valid), torch.randn(7, 40, 2, 3)
    there = layout.pad(layout.pack(x))
    computed = torch.zeros(280, dtype=torch.bool).index_fill(0, layout.places, value=True)
    assert torch.equal(there, x * computed.view(7, 40, 1, 1))
    assert layout.bounds.tolist() == [0, *valid.sum(1).cumsum(0).tolist()]


def test_embedding_some_patches_is_embedding_all_and_taking_them() -> None:
    encoder = vit.create(16, tiny().model, 0).double()
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    keep = torch.tensor([[0, 3, 5], [15, 1, 1], [7, 8, 2]])
    every = encoder.patch_embed(images) + encoder.pos_embed
    valid = torch.tensor([[True] * 3, [True, False, True], [True] * 3])
    layout = Layout.of(valid)
    some = layout.pad(encoder._embed(images, keep, layout))
    torch.testing.assert_close(some[valid], vit.take(every, keep)[valid], rtol=0, atol=1e-12)
