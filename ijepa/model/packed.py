"""Transformer blocks on sequences of different lengths, without computing their padding.

Masks give every image a context of its own length, and a batch is padded to the longest: at the
laptop's size a quarter of all tokens. Here the tokens of a batch lie one after the other, (T, D),
with T their true number. Norms, linear layers and MLPs see no sequence and run on that as it is.
Attention does: on a GPU in half precision it is torch's kernel for variable lengths, elsewhere the
sequences are padded for it alone, and no query sees a padded key. The mathematics are those of
padded blocks; a test compares the two in float64.

On a CPU a few padded places are computed all the same, so that T is a multiple of ``_ROUND``:
oneDNN prepares bf16 products for each new shape, which costs half a step of a small model, and
remembers about a thousand of them.
"""

from dataclasses import dataclass

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.attention import varlen

_ROUND = 64  # tokens


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the tokens of B sequences are, of L places each.

    Attributes:
        shape: (B, L).
        places: index into the B·L places of each token that is computed, (T,) int64, ascending.
        valid: False where a place has no token, (B, L) bool.
        bounds: where each sequence begins and the last one ends among the valid tokens,
            (B + 1,) int32.
    """

    shape: tuple[int, int]
    places: Tensor
    valid: Tensor
    bounds: Tensor

    @classmethod
    def of(cls, *valid: Tensor, tokens: int | None = None) -> "Layout":
        """The layout of sequences of one or more parts.

        Args:
            valid: of each part, False where it is padding, (B, L_part) bool.
            tokens: how many are not, if that is known: a GPU is then not waited for.
        """
        whole = torch.cat(valid, 1)
        count, length = whole.shape
        bounds = nn.functional.pad(whole.sum(1).cumsum(0), (1, 0)).int()
        if whole.is_meta:  # shapes alone: which places have a token is not known
            return cls((count, length), torch.arange(whole.numel(), device="meta"), whole, bounds)
        computed = torch.cat([_rounded(part) for part in valid], 1)
        return cls((count, length), _places(computed.flatten(), tokens), whole, bounds)

    def pack(self, tokens: Tensor) -> Tensor:
        """The tokens of (B, L, ...) one after the other, (T, ...)."""
        flat = tokens.flatten(0, 1)
        return flat if len(self.places) == len(flat) else flat.index_select(0, self.places)

    def pad(self, tokens: Tensor) -> Tensor:
        """Tokens (T, ...) in their places (B, L, ...); zeros where there is none."""
        count, length = self.shape
        if len(tokens) < count * length:
            empty = tokens.new_zeros(count * length, *tokens.shape[1:])
            tokens = empty.index_copy(0, self.places, tokens)
        return tokens.view(count, length, *tokens.shape[1:])


def _places(wanted: Tensor, count: int | None) -> Tensor:
    """Where a vector is True, ascending, (count,) int64."""
    if wanted.is_cuda and count is not None:
        return wanted.nonzero_static(size=count)[:, 0]
    return wanted.nonzero()[:, 0]


def _rounded(valid: Tensor) -> Tensor:
    """The places to compute: those that are valid, and the first others up to a round number."""
    if valid.is_cuda:
        return valid
    other = ~valid.flatten()
    room = -int(valid.sum()) % _ROUND
    return valid | (other & (other.cumsum(0) <= room)).view_as(valid)


@dataclass(frozen=True, slots=True)
class Queries:
    """Some tokens of each sequence: those that a last block has to compute.

    Attributes:
        rows: which of the T tokens they are, ascending, (Q,) int64.
        layout: of these alone; B sequences.
    """

    rows: Tensor
    layout: Layout

    @classmethod
    def last(cls, count: int, whole: Layout, layout: Layout) -> "Queries":
        """The tokens in the last ``count`` places of each sequence, whose own layout is given."""
        (sequences, length), meta = whole.shape, whole.places.is_meta
        if meta:
            return cls(torch.arange(sequences * count, device="meta"), layout)
        asked = whole.places % length >= length - count
        return cls(_places(asked, len(layout.places)), layout)


def run(
    block: nn.Module, x: Tensor, layout: Layout | None = None, queries: Queries | None = None
) -> Tensor:
    """``block`` on tokens, packed or not.

    Args:
        block: a timm ``Block`` without dropout.
        x: tokens, (B, N, D), or packed ones, (T, D).
        layout: where packed tokens are.
        queries: compute the outputs of these alone. Exact, and 20 % of a small model's step: of
            the last block of the predictor only the targets are read.

    Returns:
        The same shape, or (Q, D).
    """
    assert isinstance(block, Block)
    if layout is None:
        whole: Tensor = block(x)
        return whole
    attn = block.attn
    assert isinstance(attn, Attention)
    normed = block.norm1(x)
    width, heads = attn.attn_dim, attn.num_heads
    if queries is None:
        q, k, v = attn.qkv(normed).view(-1, 3, heads, attn.head_dim).unbind(1)
        asked = layout
    else:
        x, asked = x.index_select(0, queries.rows), queries.layout
        weight, shift = attn.qkv.weight, attn.qkv.bias
        wanted = normed.index_select(0, queries.rows)
        q = nn.functional.linear(wanted, weight[:width], shift[:width])
        q = q.view(-1, heads, attn.head_dim)
        both = nn.functional.linear(normed, weight[width:], shift[width:])
        k, v = both.view(-1, 2, heads, attn.head_dim).unbind(1)
    mixed = _attention(q, k, v, asked, layout, attn.fused_attn)
    x = x + block.ls1(attn.proj(mixed.flatten(1)))
    tokens: Tensor = x + block.ls2(block.mlp(block.norm2(x)))
    return tokens


def _attention(
    q: Tensor, k: Tensor, v: Tensor, asked: Layout, seen: Layout, fused: bool
) -> Tensor:
    """Softmax attention within each sequence: (Q, H, d), (T, H, d) twice -> (Q, H, d)."""
    half = q.dtype in (torch.bfloat16, torch.float16)
    if q.is_cuda and half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256:  # what the kernel takes
        mixed: Tensor = varlen.varlen_attn(
            q, k, v, asked.bounds, seen.bounds, asked.shape[1], seen.shape[1]
        )  # type: ignore[assignment]  # a pair only with return_aux
        return mixed
    padded = (side.transpose(1, 2) for side in (asked.pad(q), seen.pad(k), seen.pad(v)))
    queries, keys, values = padded  # (B, H, L, d)
    bias = key_bias(seen.valid, q.dtype)
    if fused:
        out = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    else:
        scores = (queries * q.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
        out = (scores + bias).softmax(-1) @ values
    return asked.pack(out.transpose(1, 2))


def key_bias(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores so that no query sees a padded key.

    Args:
        valid: False where a token is padding, (B, L) bool.
        dtype: of the scores.

    Returns:
        0 or a large negative number, (B, 1, 1, L).
    """
    bias = torch.zeros(valid.shape, dtype=dtype, device=valid.device)
    return bias.masked_fill_(~valid, torch.finfo(dtype).min)[:, None, None, :]
