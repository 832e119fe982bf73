"""The objectives of Tables 7 and 11 against sums and patches written out by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from numpy.typing import NDArray
from test_model import images, make, masks_of
from torch import Tensor, nn

from ijepa.masks import Masks
from ijepa.model import vit
from ijepa.objectives import compare, encode, hidden, patches
from ijepa.store.read import Store
from ijepa.training import loop

CPU = torch.device("cpu")
PIXELS = {"objective.name": "pixels"}
INPUT = {"objective.target_masking": "input"}
SHARED = pytest.mark.parametrize("change", [{}, INPUT, PIXELS])


def blocks() -> Masks:
    """One image of 4 x 4 patches: context 0 4 8, blocks {2 3 6 7} and {10 11}, padded to four."""
    valid = torch.tensor([[[True] * 4, [True] * 2 + [False] * 2]])
    targets = torch.tensor([[[2, 3, 6, 7], [10, 11, 0, 0]]])
    return Masks(torch.tensor([[0, 4, 8]]), torch.ones(1, 3, dtype=torch.bool), targets, valid)


def changed_at(patch: int) -> Tensor:
    """The test image with other pixels in one patch."""
    made, row, column = images(1), 4 * (patch // 4), 4 * (patch % 4)
    made[..., row : row + 4, column : column + 4] += torch.linspace(-1, 1, 4)
    return made


def by_hand(image: NDArray[np.float32], patch: int, norm: bool) -> NDArray[np.float64]:
    """The target of one patch of a (3, 16, 16) image, pixel by pixel."""
    values = [
        float(image[channel, 4 * (patch // 4) + row, 4 * (patch % 4) + column])
        for row in range(4)
        for column in range(4)
        for channel in range(3)
    ]
    mean = sum(values) / 48
    variance = sum((v - mean) ** 2 for v in values) / 47
    return (np.array(values) - mean) / (variance + 1e-6) ** 0.5 if norm else np.array(values)


@pytest.mark.parametrize("loss", ["l2", "smooth_l1"])
def test_compare_is_the_sum_over_valid_tokens(loss: str) -> None:
    rng = np.random.default_rng(0)
    prediction, target = rng.normal(0, 2, (2, 3, 2, 4, 5)).astype(np.float32)
    valid = np.arange(4) < np.array([[4, 2], [1, 3], [4, 4]])[..., None]
    expected = 0.0
    for image, block in np.ndindex(3, 2):
        error = (prediction - target)[image, block][valid[image, block]].astype(np.float64)
        size = np.abs(error)
        smooth = np.where(size < 1, error**2 / 2, size - 0.5)
        expected += ((error**2).sum() if loss == "l2" else smooth.mean()) / 6
    tensors = [torch.from_numpy(a) for a in (prediction, target, valid)]
    assert compare(loss, *tensors).item() == pytest.approx(expected, rel=1e-6)
    tensors[0][~tensors[2]] += 100
    assert compare(loss, *tensors).item() == pytest.approx(expected, rel=1e-6)
    assert compare(loss, tensors[1], *tensors[1:]) == 0


@pytest.mark.parametrize("norm", [True, False])
def test_pixel_targets_are_the_patches_pixels(norm: bool) -> None:
    config = tiny(**PIXELS, **{"objective.pixel_norm": norm})
    batch, masks = images() * 2 + 1, masks_of(config)
    targets = make(config).targets(batch, masks).numpy()
    assert targets.shape == (*masks.targets.shape, 48)
    for place in zip(*np.nonzero(masks.targets_valid.numpy()), strict=True):
        expected = by_hand(batch[place[0]].numpy(), int(masks.targets[place]), norm)
        np.testing.assert_allclose(targets[place], expected, rtol=0, atol=2e-5)


def test_a_flat_patch_has_a_finite_target() -> None:
    targets = make(tiny(**PIXELS)).targets(torch.full((1, 3, 16, 16), 0.7), blocks())
    torch.testing.assert_close(targets, torch.zeros(1, 2, 4, 48), rtol=0, atol=1e-3)


def test_patches_are_numbered_as_the_encoders_tokens() -> None:
    encoder = vit.create(16, tiny().model, 0)
    number = torch.arange(16.0)
    image = number.view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
    cut = patches(image.expand(1, 3, 16, 16), 4)
    assert torch.equal(cut, number[None, :, None].expand(1, 16, 48))
    before = encoder.patch_embed(images(1))
    for patch in range(16):
        moved = (encoder.patch_embed(changed_at(patch)) != before).any(-1)[0]
        assert moved.nonzero().tolist() == [[patch]]
        assert (patches(changed_at(patch), 4) != patches(images(1), 4)).any(
            -1
        ).nonzero().tolist() == [[0, patch]]


def test_pixel_loss_is_the_squared_error_of_the_predicted_pixels() -> None:
    config = tiny(**PIXELS)
    objective, masks, batch = make(config), masks_of(config), images()
    context = objective.encoder(batch, keep=masks.context, valid=masks.context_valid)
    predicted = objective.predictor(context, masks).detach().numpy()
    total, (count, size, _) = 0.0, masks.targets.shape
    for place in zip(*np.nonzero(masks.targets_valid.numpy()), strict=True):
        target = by_hand(batch[place[0]].numpy(), int(masks.targets[place]), True)
        total += ((predicted[place] - target) ** 2).sum() / size / count
    assert objective(batch, masks).item() == pytest.approx(total, rel=1e-5)


@SHARED
def test_a_right_prediction_costs_nothing(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = make(tiny(**change))
    target = objective.targets(images(1), blocks())
    monkeypatch.setattr(objective.predictor, "forward", lambda *_: target)
    assert objective(images(1), blocks()) == 0


@SHARED
def test_padding_has_no_influence(change: dict[str, Any]) -> None:
    objective, masks = make(tiny(**change)), blocks()
    other = masks.targets.clone()
    other[~masks.targets_valid] = 15
    moved = objective(images(1), masks._replace(targets=other))
    torch.testing.assert_close(moved, objective(images(1), masks), rtol=1e-6, atol=0)


@SHARED
def test_every_parameter_to_learn_gets_a_gradient(change: dict[str, Any]) -> None:
    """A law of DistributedDataParallel, and: none reaches the target encoder."""
    config = tiny(**change)
    objective = make(config)
    objective(images(), masks_of(config)).backward()
    learned = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in learned} == (
        {"encoder", "predictor"} if change == PIXELS else {"context_encoder", "predictor"}
    )
    for name, parameter in objective.named_parameters():
        if name in learned:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name
        else:
            assert parameter.grad is None, name


@SHARED
def test_masked_pixels_reach_the_loss_through_the_targets_alone(change: dict[str, Any]) -> None:
    """Patches outside context and targets: seen by a target encoder of whole images alone."""
    objective = make(tiny(**change))
    before, after = objective(images(1), blocks()), objective(changed_at(5), blocks())
    assert torch.equal(before, after) == bool(change)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_masked_input_is_the_encoder_on_each_block_alone(norm: str) -> None:
    objective = make(tiny(**INPUT, **{"objective.target_norm": norm}))
    with torch.no_grad():
        for parameter in objective.teacher.parameters():  # not the context encoder's
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(1)))
        found = objective.targets(images(1), blocks())
        for block, keep in enumerate(([2, 3, 6, 7], [10, 11])):
            alone = objective.teacher.encoder(images(1), keep=torch.tensor([keep]))[0]
            if norm == "layer":
                mean, variance = alone.mean(-1, keepdim=True), alone.var(-1, False, keepdim=True)
                alone = (alone - mean) / (variance + 1e-5).sqrt()
            torch.testing.assert_close(found[0, block, : len(keep)], alone, rtol=0, atol=5e-6)


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_targets_are_cut_from_the_encoder_on_the_whole_image(norm: str) -> None:
    """With a last norm that has a scale: at its start another norm after it does nothing."""
    objective = make(tiny(**{"objective.target_norm": norm}))
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(1)))
        found = objective.targets(images(1), blocks())
        whole = objective.teacher.encoder(images(1))[0]
        if norm == "layer":
            mean, variance = whole.mean(-1, keepdim=True), whole.var(-1, False, keepdim=True)
            whole = (whole - mean) / (variance + 1e-5).sqrt()
    for block, keep in enumerate(([2, 3, 6, 7], [10, 11])):
        torch.testing.assert_close(found[0, block, : len(keep)], whole[keep], rtol=0, atol=5e-6)


@pytest.mark.parametrize("patch", range(16))
def test_masked_input_hides_what_is_outside_the_block(patch: int) -> None:
    found = {}
    for where in ("input", "output"):
        objective = make(tiny(**{"objective.target_masking": where}))
        before, after = (objective.targets(x, blocks()) for x in (images(1), changed_at(patch)))
        moved = (before != after).any(-1) & blocks().targets_valid
        found[where] = moved.any(-1)[0].tolist()
    assert found["input"] == [patch in (2, 3, 6, 7), patch in (10, 11)]
    assert found["output"] == [True, True]


@pytest.mark.parametrize(("change", "loss"), [
    ({}, "0x1.7720c60000000p+5"),
    ({"objective.target_norm": "none"}, "0x1.7721580000000p+5"),
    ({"objective.loss": "smooth_l1"}, "0x1.0dc9d80000000p-1"),
    ({"objective.loss": "smooth_l1", "mask.geometry": "official"}, "0x1.23ca600000000p-1"),
])  # fmt: skip
def test_losses_of_version_0_1(change: dict[str, Any], loss: str) -> None:
    """Recorded at 9ae127c, before there was a second objective; other machines round otherwise."""
    config = tiny(**change)
    found = make(config)(images(), masks_of(config)).item()
    assert found == pytest.approx(float.fromhex(loss), rel=1e-5)


def run(store: Store, folder: Path, patch: pytest.MonkeyPatch, **change: Any) -> list[float]:
    """Train for six epochs in a folder; returns the losses of its steps."""
    patch.chdir(folder)
    patch.setenv("IJEPA_HOME", str(folder / "home"))
    config = tiny(**change, **{"train.epochs": 6, "train.lr": 0.003})
    loop.train(config, store, CPU, "fp32", 0, 1)
    rows = [line.split(",") for line in Path("out/history.csv").read_text().splitlines()]
    assert ("ema" in rows[0]) == (change.get("objective.name") != "pixels")
    return [float(row[rows[0].index("loss")]) for row in rows[1:]]


@SHARED
def test_training_lowers_the_loss(
    change: dict[str, Any], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = run(store, tmp_path, monkeypatch, **change)
    assert np.mean(losses[-8:]) < 0.95 * np.mean(losses[:4])
    assert not json.loads(Path("out/pretrain.json").read_text())["collapsed"]


@pytest.mark.parametrize(("momentum", "same"), [(0, "student"), (1, "start")])
def test_momentum_0_and_1(
    momentum: int, same: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0: the target encoder is the context encoder; 1: it stays what it was. Bit for bit."""
    made: list[nn.Module] = []
    real = loop.create_objective
    monkeypatch.setattr(
        loop, "create_objective", lambda *args: made.append(real(*args)) or made[-1]
    )
    losses = run(store, tmp_path, monkeypatch, **{"objective.ema": [momentum, momentum]})
    assert np.isfinite(losses).all()
    (objective,) = made
    start = vit.create(16, tiny().model, 0).state_dict()
    student = objective.context_encoder.state_dict()
    expected = student if same == "student" else start
    assert not torch.equal(student["norm.weight"], start["norm.weight"])
    for name, weight in objective.encoder.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_encode_is_the_encoder_where_nothing_is_hidden() -> None:
    encoder = make(tiny()).encoder
    outputs = encode(encoder, images())
    assert len(outputs) == 2
    torch.testing.assert_close(encoder.norm(outputs[-1]), encoder(images()))
    for ours, theirs in zip(outputs, encoder.layers(images(), 2), strict=True):
        torch.testing.assert_close(encoder.norm(ours), theirs)


def test_encode_shows_the_mask_token_and_not_the_pixels_of_a_hidden_patch() -> None:
    encoder = make(tiny()).encoder
    hide, token = torch.arange(16)[None] == 5, torch.linspace(-1, 1, 16)
    before = encode(encoder, images(1), hide, token)[-1]
    assert torch.equal(before, encode(encoder, changed_at(5), hide, token)[-1])
    assert not torch.equal(before, encode(encoder, changed_at(6), hide, token)[-1])
    assert not torch.equal(before, encode(encoder, images(1), hide, 2 * token)[-1])


def test_encode_places_a_smaller_image_over_the_whole_grid() -> None:
    """Without blocks what is left is patch and position; constant positions stay constant."""
    encoder = make(tiny()).encoder
    encoder.blocks = nn.ModuleList([nn.Identity()])
    small = images(2)[..., :8, :8]
    alone = encoder.patch_embed.proj(small).flatten(2).transpose(1, 2)
    positions = (encode(encoder, small)[-1] - alone)[0]
    assert positions.shape == (4, 16)
    grid = encoder.pos_embed[0].view(4, 4, 16)
    order = positions @ grid.flatten(0, 1).T  # nearest in the grid: a patch of the same quarter
    for number, place in enumerate(order.argmax(1).tolist()):
        assert (place // 4 // 2, place % 4 // 2) == divmod(number, 2)
    encoder.pos_embed = torch.full_like(encoder.pos_embed, 3.0)
    torch.testing.assert_close(encode(encoder, small)[-1], alone + 3)


def test_hidden_is_the_union_of_the_blocks_without_padding() -> None:
    found = hidden(blocks(), 16)
    assert found.nonzero()[:, 1].tolist() == [2, 3, 6, 7, 10, 11]


def test_a_block_without_a_token_adds_nothing() -> None:
    """Blockwise masks may leave an image without a target (``mask.unmasked``)."""
    prediction, target = torch.ones(2, 1, 3, 4), torch.zeros(2, 1, 3, 4)
    valid = torch.tensor([[[True, True, False]], [[False] * 3]])
    assert compare("smooth_l1", prediction, target, valid).item() == 0.25  # 0.5 of one image
    assert compare("l2", prediction, target, valid).item() == 4  # 2 tokens of 4, of one image
