"""MAE against its equation, written out patch by patch, and what reaches what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from small_run import gains
from test_model import images, make, masks_of
from test_objectives import blocks, by_hand, changed_at
from torch import Tensor, nn

from ijepa.config import Config
from ijepa.masks import Masks
from ijepa.model import vit
from ijepa.objectives import mae

MAE = {
    "objective.name": "mae", "objective.pixel_norm": True, "objective.decoder_width": 12,
    "objective.decoder_depth": 2, "objective.decoder_heads": 3,
}  # fmt: skip
RANDOM = {"mask.name": "random", "mask.target_scale": 0.75}
NOT_SEEN = [p for p in range(16) if p not in (0, 4, 8)]  # of test_objectives.blocks()


def config(**change: Any) -> Config:
    return tiny(**{**MAE, **RANDOM, **change})


def grow(objective: nn.Module) -> nn.Module:
    """Parameters as after some training: mask token, biases and norms are not 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return objective


def layer_norm(x: Any, norm: nn.LayerNorm) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + shift


def block_by_hand(block: Any, x: Any) -> Any:
    """A pre-norm transformer block on tokens (L, D) in numpy."""

    def linear(layer: nn.Linear, value: Any) -> Any:
        return value @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    heads, normed, mixed = block.attn.num_heads, layer_norm(x, block.norm1), []
    q, k, v = np.split(linear(block.attn.qkv, normed), 3, -1)
    for head in range(heads):
        part = slice(head * x.shape[1] // heads, (head + 1) * x.shape[1] // heads)
        score = q[:, part] @ k[:, part].T / (x.shape[1] // heads) ** 0.5
        weight = np.exp(score - score.max(-1, keepdims=True))
        mixed.append(weight / weight.sum(-1, keepdims=True) @ v[:, part])
    x = x + linear(block.attn.proj, np.concatenate(mixed, -1))
    hidden = linear(block.mlp.fc1, layer_norm(x, block.norm2))
    gelu = nn.functional.gelu(torch.from_numpy(hidden)).numpy()
    return x + linear(block.mlp.fc2, gelu)


def decoder_by_hand(decoder: Any, context: Any, seen: list[int]) -> Any:
    """Pixels of all 16 patches from the tokens (C, D) of the patches seen."""
    embedded = context @ decoder.embed.weight.detach().numpy().T
    embedded = embedded + decoder.embed.bias.detach().numpy()
    token = decoder.mask_token.detach().numpy().ravel()
    x = np.stack([embedded[seen.index(p)] if p in seen else token for p in range(16)])
    x = x + decoder.pos_embed.numpy()
    for block in decoder.blocks:
        x = block_by_hand(block, x)
    last = layer_norm(x, decoder.norm)
    return last @ decoder.proj.weight.detach().numpy().T + decoder.proj.bias.detach().numpy()


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("mask", [RANDOM, {"mask.name": "multiblock"}])
def test_loss_is_the_equation(norm: bool, mask: dict[str, Any]) -> None:
    """Mean over an image's hidden patches of the mean squared error of a patch's pixels."""
    chosen = tiny(**{**MAE, **mask, "objective.pixel_norm": norm})
    objective, masks, batch = grow(make(chosen)), masks_of(chosen), images() * 2 + 1
    expected = 0.0
    for image in range(3):
        seen = masks.context[image][masks.context_valid[image]].tolist()
        hide = sorted(set(masks.targets[image][masks.targets_valid[image]].tolist()))
        assert not set(seen) & set(hide)
        context = objective.encoder(batch[[image]], keep=torch.tensor([seen]))[0].detach().numpy()
        found = decoder_by_hand(objective.decoder, context, seen)
        errors = [np.mean((found[p] - by_hand(batch[image].numpy(), p, norm)) ** 2) for p in hide]
        expected += sum(errors) / len(hide) / 3
    assert objective(batch, masks).item() == pytest.approx(expected, rel=2e-5)


def test_a_right_prediction_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = make(config())
    right = objective.targets(images(1))
    monkeypatch.setattr(objective.decoder, "forward", lambda *_: right)
    assert objective(images(1), blocks()) == 0
    monkeypatch.setattr(objective.decoder, "forward", lambda *_: right + 3)
    assert objective(images(1), blocks()).item() == pytest.approx(9)


def test_the_loss_looks_at_hidden_patches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """All else is free: gradient by the prediction, of patches and of images."""
    objective, union = make(config()), {2, 3, 6, 7, 10, 11}
    predicted = torch.randn(1, 16, 48, generator=torch.manual_seed(3)).requires_grad_()
    monkeypatch.setattr(objective.decoder, "forward", lambda *_: predicted)
    objective(images(1), blocks()).backward()
    assert predicted.grad is not None
    assert set(predicted.grad.any(-1)[0].nonzero().flatten().tolist()) == union
    expected = 2 * (predicted - objective.targets(images(1)))[0, 10] / 48 / 6
    torch.testing.assert_close(predicted.grad[0, 10], expected.detach())


def parts(batch: Tensor, masks: Masks, objective: Any) -> tuple[Tensor, Tensor]:
    """Prediction and target of a batch."""
    context = objective.encoder(batch, keep=masks.context, valid=masks.context_valid)
    return objective.decoder(context, masks), objective.targets(batch)


@pytest.mark.parametrize("patch", range(16))
def test_hidden_pixels_reach_the_loss_through_their_own_target_alone(patch: int) -> None:
    objective = grow(make(config()))
    before, after = (parts(x, blocks(), objective) for x in (images(1), changed_at(patch)))
    assert torch.equal(before[0], after[0]) == (patch in NOT_SEEN), "the encoder sees the context"
    moved = (before[1] != after[1]).any(-1)[0].nonzero().flatten().tolist()
    assert moved == [patch]
    loss = [objective(x, blocks()) for x in (images(1), changed_at(patch))]
    neither = patch in NOT_SEEN and patch not in (2, 3, 6, 7, 10, 11)
    assert torch.equal(*loss) == neither


def test_the_decoder_gives_a_mask_token_to_all_that_is_not_context() -> None:
    """Each patch stands at its place: position and token, seen when there are no blocks."""
    objective = grow(make(config()))
    decoder = objective.decoder
    decoder.blocks, decoder.norm, decoder.proj = nn.Identity(), nn.Identity(), nn.Identity()
    context = torch.randn(1, 3, 16, generator=torch.manual_seed(0))
    found = decoder(context, blocks())[0] - decoder.pos_embed
    for patch in NOT_SEEN:
        torch.testing.assert_close(found[patch], decoder.mask_token[0, 0])
    for place, patch in enumerate((0, 4, 8)):
        torch.testing.assert_close(found[patch], decoder.embed(context)[0, place])


def test_padding_has_no_influence() -> None:
    """Neither where it points nor how long it is, of context and of targets."""
    objective, masks = grow(make(config())), blocks()
    before = objective(images(1), masks)
    other = masks.targets.clone()
    other[~masks.targets_valid] = 15
    moved = objective(images(1), masks._replace(targets=other))
    torch.testing.assert_close(moved, before, rtol=1e-6, atol=0)
    for index in (0, 4, 9):
        padded = masks._replace(
            context=torch.cat([masks.context, torch.full((1, 2), index)], 1),
            context_valid=torch.cat([masks.context_valid, torch.zeros(1, 2).bool()], 1),
        )
        torch.testing.assert_close(objective(images(1), padded), before, rtol=1e-6, atol=0)


def test_context_in_another_order_is_the_same() -> None:
    objective, masks = grow(make(config())), blocks()
    turned = masks._replace(context=masks.context.flip(1))
    torch.testing.assert_close(
        objective(images(1), turned), objective(images(1), masks), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("mask", [RANDOM, {"mask.name": "multiblock"}])
def test_a_batch_is_the_mean_of_its_images(mask: dict[str, Any]) -> None:
    chosen = tiny(**MAE, **mask)
    objective, masks, batch = grow(make(chosen)), masks_of(chosen, 4), images(4)
    each = [objective(batch[i : i + 1], masks.rows(i, i + 1)) for i in range(4)]
    whole = objective(batch, masks)
    torch.testing.assert_close(sum(each) / 4, whole, rtol=1e-6, atol=0)
    halves = [objective(batch[i : i + 2], masks.rows(i, i + 2)) for i in (0, 2)]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-6, atol=0)


def test_an_image_that_hides_nothing_adds_nothing() -> None:
    objective, masks = grow(make(config())), blocks()
    none = masks._replace(targets_valid=torch.zeros_like(masks.targets_valid))
    loss = objective(images(1), none)
    loss.backward()
    assert loss == 0
    assert all(p.grad is not None for p in objective.parameters()), "a law of DDP"
    both = Masks(*(torch.cat(pair) for pair in zip(masks[:4], none[:4], strict=True)))
    torch.testing.assert_close(
        objective(images(2), both), objective(images(1), masks) / 2, rtol=1e-6, atol=0
    )


def test_every_parameter_gets_a_gradient() -> None:
    objective = make(config())
    objective(images(), masks_of(config())).backward()
    names = {name.split(".")[0] for name, _ in objective.named_parameters()}
    assert names == {"encoder", "decoder"}
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name
    assert not hasattr(objective, "context_encoder")
    assert objective.update(0.5) == {}


def test_a_gradient_step_is_the_same_under_autocast_up_to_rounding() -> None:
    objective, masks = grow(make(config())), masks_of(config())
    exact = objective(images(), masks)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(images(), masks)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.02)
    assert rounded != exact


def test_seed_and_init_make_the_decoder() -> None:
    one, same, other = (
        mae.create(16, config().model, config().objective.options, seed) for seed in (0, 0, 1)
    )
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(one.decoder.mask_token, other.decoder.mask_token)
    start = vit.create(16, config().model, 0).state_dict()
    assert all(torch.equal(v, start[name]) for name, v in one.encoder.state_dict().items())
    wide = config(**{"objective.decoder_width": 512, "objective.decoder_heads": 16})
    token = mae.create(16, wide.model, wide.objective.options, 0).decoder.mask_token
    assert token.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(("change", "words"), [
    ({"decoder_width": 10}, "decoder_width: 10 is not a multiple of 4 and of its 3 heads"),
    ({"decoder_heads": 5}, "decoder_width: 12 is not a multiple of 4 and of its 5 heads"),
    ({"decoder_depth": 0}, "decoder_depth: 0 is not a whole number >= 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        config(**{f"objective.{key}": value for key, value in change.items()})
    assert str(caught.value) == f"params.yaml: objective.{words}"


@pytest.mark.slow
def test_half_a_minute_of_training_beats_random_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On pooled features. Counts get worse: a random ViT's sum over patches is good at them."""
    wide = {"objective.decoder_width": 32, "objective.decoder_depth": 1}
    found = gains(tmp_path, monkeypatch, **MAE | RANDOM | wide | {"objective.decoder_heads": 2})
    for task, least in (("distance", 0.1), ("class", 0.05)):
        assert found[task].z > 5, found
        assert found[task].after > found[task].before + least, found
