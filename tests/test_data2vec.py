"""data2vec against its equations, written out patch by patch, and what reaches what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from small_run import gains
from test_mae import block_by_hand, grow, layer_norm
from test_model import images, make, masks_of
from test_objectives import blocks, changed_at
from torch import Tensor, nn

from ijepa.config import Config
from ijepa.masks import Masks
from ijepa.model import vit
from ijepa.objectives import data2vec

DATA2VEC = {
    "objective.name": "data2vec", "objective.top_layers": 2, "objective.beta": 2.0,
    "objective.target_norm": "layer", "objective.ema": 0.9,
}  # fmt: skip
BLOCKWISE = {
    "mask.name": "blockwise", "mask.target_scale": 0.6, "mask.target_aspect": [0.3, 3.0],
    "mask.block_patches": 2, "mask.unmasked": 0.0,
}  # fmt: skip
HIDDEN = {2, 3, 6, 7, 10, 11}  # of test_objectives.blocks()


def config(**change: Any) -> Config:
    return tiny(**{**DATA2VEC, **BLOCKWISE, **change})


def grown(chosen: Config) -> Any:
    """Student and teacher are different networks, and every parameter has an effect."""
    return grow(make(chosen))


def outputs_by_hand(encoder: Any, image: Any, hide: list[int], token: Any) -> list[Any]:
    """What each block makes of a (3, 16, 16) image some patches of which are a token."""
    kernel = encoder.patch_embed.proj.weight.detach().numpy()
    bias, x = encoder.patch_embed.proj.bias.detach().numpy(), []
    for patch in range(16):
        row, column = 4 * (patch // 4), 4 * (patch % 4)
        pixels = image[:, row : row + 4, column : column + 4]
        x.append(token if patch in hide else (kernel * pixels).sum((1, 2, 3)) + bias)
    tokens, found = np.stack(x) + encoder.pos_embed[0].numpy(), []
    for block in encoder.blocks:
        tokens = block_by_hand(block, tokens)
        found.append(tokens)
    return found


def plain_norm(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


@pytest.mark.parametrize("change", [
    {},
    {"objective.target_norm": "none", "objective.beta": 0.3},
    {"objective.top_layers": 1},
    {"mask.name": "multiblock", "mask.target_scale": [0.15, 0.2]},
])  # fmt: skip
def test_loss_is_the_equation(change: dict[str, Any]) -> None:
    """Smooth-L1 of the head on the student's output from the teacher's layers, element by element.

    beta 0.3: of both kinds, squares and moduli, there are many.
    """
    chosen = config(**change)
    objective, masks, batch = grown(chosen), masks_of(chosen), images() * 2 + 1
    beta, total, kinds = chosen.objective.options.beta, 0.0, []
    for image in range(3):
        hide = sorted(set(masks.targets[image][masks.targets_valid[image]].tolist()))
        student, pixels = objective.context_encoder, batch[image].numpy()
        token = objective.mask_token.detach().numpy().ravel()
        last = layer_norm(outputs_by_hand(student, pixels, hide, token)[-1], student.norm)
        head = objective.head.weight.detach().numpy(), objective.head.bias.detach().numpy()
        predicted = last @ head[0].T + head[1]
        layers = outputs_by_hand(objective.teacher.encoder, pixels, [], None)
        top = layers[-chosen.objective.options.top_layers :]
        target = sum(plain_norm(layer) for layer in top) / len(top)
        if chosen.objective.options.target_norm == "layer":
            target = plain_norm(target)
        for patch in hide:
            for error in np.abs(predicted[patch] - target[patch]):
                kinds.append(error < beta)
                element = error**2 / (2 * beta) if error < beta else error - beta / 2
                total += element / 16 / len(hide) / 3
    assert objective(batch, masks).item() == pytest.approx(total, rel=2e-5)
    assert 0 < np.mean(kinds) < 1, "the test sees both kinds"


def test_targets_are_normed_over_features() -> None:
    target = grown(config()).targets(images())
    assert target.dtype == torch.float32
    torch.testing.assert_close(target.mean(-1), torch.zeros(3, 16), rtol=0, atol=1e-5)
    torch.testing.assert_close(target.var(-1, False), torch.ones(3, 16), rtol=0, atol=1e-3)
    mean = grown(config(**{"objective.target_norm": "none"})).targets(images())
    assert (mean.var(-1, False) < 0.999).any(), "a mean of two normed layers is shorter than they"
    torch.testing.assert_close(nn.functional.layer_norm(mean, (16,)), target, rtol=0, atol=1e-5)


def test_the_final_norm_of_the_teacher_and_the_masks_are_not_in_the_target() -> None:
    objective = grown(config())
    before = objective.targets(images())
    with torch.no_grad():
        objective.teacher.encoder.norm.weight.mul_(-3)
    assert torch.equal(objective.targets(images()), before)
    with torch.no_grad():
        objective.teacher.encoder.blocks[0].norm1.weight.mul_(-3)
    assert not torch.equal(objective.targets(images()), before)


def prediction(objective: Any, batch: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the head says in a forward pass."""
    said: list[Tensor] = []
    with monkeypatch.context() as patch:
        real = objective.head.forward
        patch.setattr(objective.head, "forward", lambda x: said.append(real(x)) or said[-1])
        objective(batch, blocks())
    return said[0]


@pytest.mark.parametrize("patch", range(16))
def test_the_student_never_sees_hidden_pixels_and_the_teacher_sees_all(
    patch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = grown(config())
    said = [prediction(objective, x, monkeypatch) for x in (images(1), changed_at(patch))]
    assert torch.equal(*said) == (patch in HIDDEN)
    targets = [objective.targets(x) for x in (images(1), changed_at(patch))]
    assert (targets[0] != targets[1]).any(-1).all(), "through attention every target moves"


def test_the_student_predicts_hidden_patches_from_where_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mask tokens are one vector: their positions alone tell them apart."""
    objective = grown(config())
    said = prediction(objective, images(1), monkeypatch)[0]
    places = sorted(HIDDEN)
    assert torch.cdist(said[places], said[places]).fill_diagonal_(9).min() > 1e-3
    objective.context_encoder.pos_embed.zero_()
    alike = prediction(objective, images(1), monkeypatch)[0][places]
    torch.testing.assert_close(alike, alike[:1].expand_as(alike), rtol=0, atol=1e-5)


def test_the_loss_looks_at_hidden_patches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = grown(config())
    right = objective.targets(images(1))
    said = right.clone().requires_grad_()
    monkeypatch.setattr(objective.head, "forward", lambda _: said)
    assert objective(images(1), blocks()) == 0
    said = (right + 5).requires_grad_()
    loss = objective(images(1), blocks())
    assert loss.item() == pytest.approx(5 - 2 / 2)
    loss.backward()
    assert said.grad is not None
    assert set(said.grad.any(-1)[0].nonzero().flatten().tolist()) == HIDDEN
    expected = torch.full((16,), 1 / 16 / 6)  # the modulus has a slope of one
    torch.testing.assert_close(said.grad[0, 10], expected)


def test_padding_has_no_influence() -> None:
    objective, masks = grown(config()), blocks()
    before = objective(images(1), masks)
    other = masks.targets.clone()
    other[~masks.targets_valid] = 15
    moved = masks._replace(
        targets=other, context=torch.tensor([[1, 5]]), context_valid=torch.zeros(1, 2).bool()
    )
    assert torch.equal(objective(images(1), moved), before), "nor has the context"


@pytest.mark.parametrize("change", [{}, {"mask.target_scale": [0.2, 0.8]}])
def test_a_batch_is_the_mean_of_its_images(change: dict[str, Any]) -> None:
    chosen = config(**change)
    objective, masks, batch = grown(chosen), masks_of(chosen, 4), images(4)
    whole = objective(batch, masks)
    halves = [objective(batch[i : i + 2], masks.rows(i, i + 2)) for i in (0, 2)]
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-6, atol=0)


def test_an_image_that_hides_nothing_adds_nothing() -> None:
    objective, masks = grown(config()), blocks()
    none = masks._replace(targets_valid=torch.zeros_like(masks.targets_valid))
    loss = objective(images(1), none)
    loss.backward()
    assert loss == 0
    learned = [p for p in objective.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in learned), "a law of DDP"
    both = Masks(*(torch.cat(pair) for pair in zip(masks[:4], none[:4], strict=True)))
    torch.testing.assert_close(
        objective(images(2), both), objective(images(1), masks) / 2, rtol=1e-6, atol=0
    )


def test_gradient_reaches_student_head_and_mask_token_and_never_the_teacher() -> None:
    objective = make(config())
    objective(images(), masks_of(config())).backward()
    learned = {name.split(".")[0] for name, p in objective.named_parameters() if p.requires_grad}
    assert learned == {"context_encoder", "head", "mask_token"}
    for name, parameter in objective.named_parameters():
        if name.startswith("teacher"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name


@pytest.mark.parametrize(("ema", "momentum"), [(0.9, 0.9), ([0.9, 1.0], 0.925)])
def test_teacher_is_evaluated_and_follows_the_student(ema: Any, momentum: float) -> None:
    objective = make(config(**{"objective.ema": ema}))
    assert objective.encoder is objective.teacher.encoder
    assert objective.encoder is not objective.context_encoder
    before = [p.clone() for p in objective.encoder.parameters()]
    with torch.no_grad():
        for parameter in objective.context_encoder.parameters():
            parameter.add_(1)
    # a quarter of the way, where a cosine is not a line
    assert objective.update(0.25) == {"ema": pytest.approx(momentum)}
    for old, new in zip(before, objective.encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 1 - momentum)


def test_teacher_starts_as_the_student_and_the_seed_makes_both() -> None:
    objective, other = make(config()), make(config(seed=1))
    start = vit.create(16, config().model, 0).state_dict()
    for network in (objective.encoder, objective.context_encoder):
        assert all(torch.equal(v, start[name]) for name, v in network.state_dict().items())
    assert not torch.equal(objective.mask_token, other.mask_token)
    assert not torch.equal(objective.head.weight, other.head.weight)
    again = data2vec.create(16, config().model, config().objective.options, 0)
    assert torch.equal(objective.head.weight, again.head.weight)


def test_layer_scale_is_in_student_and_teacher() -> None:
    objective = make(config(**{"model.layer_scale": 1e-4}))
    for network in (objective.encoder, objective.context_encoder):
        assert network.blocks[0].ls1.gamma.tolist() == pytest.approx([1e-4] * 16)


def test_the_loss_is_the_same_under_autocast_up_to_rounding() -> None:
    objective, masks = grown(config()), masks_of(config())
    exact = objective(images(), masks)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(images(), masks)
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), rel=0.05)
    assert rounded != exact


@pytest.mark.parametrize(("change", "words"), [
    ({"top_layers": 3}, "top_layers: 3 is more than model.depth 2"),
    ({"beta": 0}, "beta: 0 is not a number in (0, inf)"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        config(**{f"objective.{key}": value for key, value in change.items()})
    assert str(caught.value) == f"params.yaml: objective.{words}"


@pytest.mark.slow
def test_half_a_minute_of_training_beats_random_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher, on pooled features; counts get worse, as they do with MAE."""
    change = {"objective.beta": 0.5, "objective.ema": [0.95, 1.0], "train.weight_decay": 0.05}
    found = gains(tmp_path, monkeypatch, **DATA2VEC | BLOCKWISE | change)
    assert found["distance"].z > 4, found
    assert found["distance"].after > found["distance"].before + 0.04, found
