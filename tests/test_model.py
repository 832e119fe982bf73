"""Encoder, predictor, target encoder and objective against the equations of the paper."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from torch import Tensor, nn

from ijepa import seeds, variants
from ijepa.config import Config, grid
from ijepa.masks import Keys, Masks
from ijepa.model import vit


def images(count: int = 3, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def masks_of(config: Config, count: int = 3) -> Masks:
    keys = Keys(0, 0, np.zeros(count, np.int64), np.arange(count))
    drawn: Masks = variants.load("masks", config.mask.name).sample(
        keys, grid(config), config.mask.options
    )
    return drawn


def make(config: Config) -> nn.Module:
    family = variants.load("objectives", config.objective.name)
    made: nn.Module = family.create(16, config.model, config.objective.options, config.seed)
    vit.place(made, torch.device("cpu"))
    return made


def test_padding_changes_no_visible_token() -> None:
    config = tiny()
    encoder = vit.create(16, config.model, 0)
    vit.place(encoder, torch.device("cpu"))
    keep = torch.tensor([[1, 4, 7, 9]])
    alone = encoder(images(1), keep=keep)
    padded = encoder(
        images(1),
        keep=torch.cat([keep, torch.zeros(1, 3, dtype=torch.int64)], 1),
        valid=torch.tensor([[True] * 4 + [False] * 3]),
    )
    torch.testing.assert_close(padded[:, :4], alone, rtol=0, atol=1e-6)


def test_hidden_patches_do_not_reach_the_context_encoder() -> None:
    config = tiny()
    encoder = vit.create(16, config.model, 0)
    changed = images(1)
    changed[..., 12:, 12:] += 1  # patch 15
    keep = torch.arange(15)[None]
    assert torch.equal(encoder(images(1), keep=keep), encoder(changed, keep=keep))
    assert not torch.equal(encoder(images(1)), encoder(changed))


def test_patches_that_are_kept_keep_their_positions() -> None:
    """All patches in another order are the whole image; a part of them tells where it lies."""
    encoder, order = vit.create(16, tiny().model, 0), torch.arange(16).flip(0)
    whole = encoder(images(2))
    shuffled = encoder(images(2), keep=order.expand(2, 16))
    torch.testing.assert_close(shuffled, whole[:, order], rtol=0, atol=5e-6)
    same = images(1)[..., :4, :4].repeat(1, 1, 4, 4)  # one picture in every patch
    first, last = (encoder(same, keep=torch.tensor([keep])) for keep in ([0, 1], [14, 15]))
    assert (first - last).abs().amax(-1).min() > 1e-2


def test_layers_are_the_last_ones_and_end_with_the_output() -> None:
    encoder = vit.create(16, tiny(**{"model.depth": 4}).model, 0)
    every = encoder.layers(images(), 4)
    torch.testing.assert_close(every[-1], encoder(images()))
    for last in range(1, 5):
        for found, expected in zip(encoder.layers(images(), last), every[-last:], strict=True):
            assert torch.equal(found, expected)
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.pairwise(every))


def test_seed_decides_the_initialisation() -> None:
    model = tiny().model
    states = [vit.create(16, model, seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(
        states[0]["blocks.0.mlp.fc1.weight"], states[2]["blocks.0.mlp.fc1.weight"]
    )


@pytest.mark.parametrize(("init", "patch", "linear"), [
    ("official", 0.02, 0.02),
    # a unit normal cut at one deviation has a variance of 1 - 2 phi(1) / (2 Phi(1) - 1) = 0.2911
    ("beit", 0.02 * 0.2911**0.5, 0.02 * 0.2911**0.5),
    # patch: 1/sqrt(3·4·4), cut at two deviations; Xavier-uniform 16 -> 64: sqrt(2 / 80)
    ("fan_in", 0.88 / 48**0.5, (2 / 80) ** 0.5),
])  # fmt: skip
def test_initial_standard_deviations(init: str, patch: float, linear: float) -> None:
    encoder = vit.create(16, tiny(**{"model.init": init}).model, 0)
    assert encoder.patch_embed.proj.weight.std().item() == pytest.approx(patch, rel=0.06)
    assert encoder.blocks[0].mlp.fc1.weight.std().item() == pytest.approx(linear, rel=0.06)


def test_beits_initialisation_is_cut_at_one_deviation_and_shrinks_with_depth() -> None:
    """The largest weights and the deviations that the released modeling_cyclical.py has."""
    chosen = tiny(**{"model.init": "beit", "model.width": 256, "model.depth": 12}).model
    encoder = vit.create(16, chosen, 0)
    for number, block in enumerate(encoder.blocks, 1):
        scale = 1 / (2 * number) ** 0.5
        for weight in (block.attn.proj.weight, block.mlp.fc2.weight):
            assert weight.std().item() == pytest.approx(0.01079 * scale, rel=0.02)
            assert weight.abs().max().item() == pytest.approx(0.02 * scale, rel=1e-3)
        for weight in (block.attn.qkv.weight, block.mlp.fc1.weight):
            assert weight.std().item() == pytest.approx(0.01079, rel=0.02)
            assert weight.abs().max().item() == pytest.approx(0.02, rel=1e-3)


def test_data2vecs_mask_token_and_head_start_as_beits() -> None:
    beit = {"model.width": 256, "model.init": "beit", "objective.name": "data2vec"}
    objective = make(tiny(**beit))
    for tensor in (objective.mask_token, objective.head.weight):
        assert tensor.std().item() == pytest.approx(0.01079, rel=0.1)
        assert 0.019 < tensor.abs().max().item() <= 0.02


@pytest.mark.parametrize("name", variants.names("objectives"))
def test_a_mask_token_starts_as_small_as_released(name: str) -> None:
    wide = {"model.width": 256, "model.predictor_width": 256, "objective.decoder_width": 256}
    objective = make(tiny(**wide, **{"objective.name": name}))
    (token,) = (p for key, p in objective.named_parameters() if key.endswith("mask_token"))
    expected = 0.0 if name == "ibot" else 0.02
    assert token.std().item() == pytest.approx(expected, rel=0.15)


def test_positions_are_fixed_and_distinct() -> None:
    encoder = vit.create(16, tiny().model, 0)
    assert "pos_embed" not in dict(encoder.named_parameters())
    assert torch.cdist(encoder.pos_embed[0], encoder.pos_embed[0]).fill_diagonal_(9).min() > 0.1


def test_a_block_is_predicted_for_itself_from_context_and_positions() -> None:
    config = tiny()
    predictor = make(config).predictor
    masks = masks_of(config)
    context = torch.randn(
        3, masks.context.shape[1], 16, generator=torch.Generator().manual_seed(1)
    )
    both = predictor(context, masks)
    one = Masks(*masks[:2], masks.targets[:, :1], masks.targets_valid[:, :1])
    torch.testing.assert_close(predictor(context, one)[:, 0], both[:, 0], rtol=0, atol=2e-6)
    flipped = predictor(context.flip(-1), masks)
    assert (flipped - both).abs().amax() > 1e-3


def test_predictions_depend_on_where_context_and_targets_are() -> None:
    """Tokens are a set: in another order with their positions they say the same, without not."""
    predictor, draw = make(tiny()).predictor, torch.Generator().manual_seed(1)
    context = torch.randn(1, 4, 16, generator=draw)
    seen, asked = torch.tensor([[0, 3, 6, 9]]), torch.tensor([[[10, 11, 14, 15]]])
    order, swapped = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 3, 0, 2])

    def predict(tokens: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        masks = Masks(context, context >= 0, targets, targets >= 0)
        made: Tensor = predictor(tokens, masks)
        return made

    before = predict(context, seen, asked)
    same = predict(context[:, order], seen[:, order], asked)
    torch.testing.assert_close(same, before, rtol=0, atol=2e-6)
    moved = predict(context, seen, asked[..., swapped])
    torch.testing.assert_close(moved, before[:, :, swapped], rtol=0, atol=2e-6)
    for other in (
        predict(context, seen[:, order], asked),
        predict(context, seen + 1, asked),
        moved,
        predict(context, seen, asked - 9),
    ):
        assert (other - before).abs().amax(-1).min() > 1e-4, "each prediction moves"


def test_padding_changes_no_prediction() -> None:
    predictor, draw = make(tiny()).predictor, torch.Generator().manual_seed(1)
    context, rubbish = torch.randn(1, 6, 16, generator=draw).split([4, 2], 1)
    seen, asked = torch.tensor([[1, 3, 6, 9]]), torch.tensor([[[10, 11, 14]]])
    alone = predictor(context, Masks(seen, seen >= 0, asked, asked >= 0))
    for padding in (0, 7):
        more = nn.functional.pad(seen, (0, 2), value=padding)
        long = nn.functional.pad(asked, (0, 3), value=padding)
        masks = Masks(more, torch.arange(6)[None] < 4, long, torch.arange(6)[None, None] < 3)
        padded = predictor(torch.cat([context, 9 * rubbish], 1), masks)
        torch.testing.assert_close(padded[:, :, :3], alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", variants.names("objectives"))
def test_no_two_parts_of_an_objective_start_from_one_stream(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, drawn, real = tiny(**{"objective.name": name}), [], seeds.key

    def key(seed: int, purpose: str, *index: int) -> int:
        drawn.append(purpose)
        return real(seed, purpose, *index)

    monkeypatch.setattr(seeds, "key", key)
    make(config)
    assert len(set(drawn)) == len(drawn) == 2, drawn  # the encoder, and what reads it


def test_gradient_reaches_the_context_encoder_and_never_the_target() -> None:
    config = tiny()
    objective = make(config)
    objective(images(), masks_of(config)).backward()
    for name, parameter in objective.named_parameters():
        if name.startswith("teacher"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name


def test_loss_is_the_papers_equation() -> None:
    """1/M sum_i sum_{j in B_i} ||s_hat - s||², computed token by token."""
    config = tiny()
    objective, masks, batch = make(config), masks_of(config), images()
    tokens = nn.functional.layer_norm(objective.encoder(batch), (16,))
    context = objective.context_encoder(batch, keep=masks.context, valid=masks.context_valid)
    predicted = objective.predictor(context, masks)
    total, count, blocks, _ = 0.0, *masks.targets.shape
    for image in range(count):
        for block in range(blocks):
            for place, patch in enumerate(masks.targets[image, block].tolist()):
                if masks.targets_valid[image, block, place]:
                    error = predicted[image, block, place] - tokens[image, patch]
                    total += (error**2).sum().item() / blocks / count
    assert objective(batch, masks).item() == pytest.approx(total, rel=1e-5)


def test_smooth_l1_is_the_released_mean_over_elements() -> None:
    config = tiny(**{"objective.loss": "smooth_l1", "mask.geometry": "official"})
    objective, masks, batch = make(config), masks_of(config), images()
    target = objective.targets(batch, masks)
    context = objective.context_encoder(batch, keep=masks.context, valid=masks.context_valid)
    expected = nn.functional.smooth_l1_loss(objective.predictor(context, masks), target)
    assert masks.targets_valid.all()
    torch.testing.assert_close(objective(batch, masks), expected)


def test_target_norm() -> None:
    config = tiny()
    normed = make(config).targets(images(), masks_of(config))
    torch.testing.assert_close(normed.mean(-1), torch.zeros(normed.shape[:-1]), rtol=0, atol=1e-5)
    plain = make(tiny(**{"objective.target_norm": "none"}))
    with torch.no_grad():  # the final LayerNorm has an affine part, so make it visible
        plain.encoder.norm.bias += 1
    assert plain.targets(images(), masks_of(config)).mean().item() == pytest.approx(1, abs=1e-4)


def test_a_batch_is_the_mean_of_its_images() -> None:
    """What makes micro-batches and ranks exact: losses of shares average to the batch's."""
    for loss in ("l2", "smooth_l1"):
        config = tiny(**{"objective.loss": loss})
        objective, masks, batch = make(config), masks_of(config, 4), images(4)
        whole = objective(batch, masks)
        parts = [objective(batch[i : i + 2], masks.rows(i, i + 2)) for i in (0, 2)]
        torch.testing.assert_close(sum(parts) / 2, whole, rtol=1e-6, atol=0)


def test_ema_is_the_weighted_mean_and_its_momentum_grows_linearly() -> None:
    objective = make(tiny(**{"objective.ema": [0.9, 1.0]}))
    before = [p.clone() for p in objective.teacher.parameters()]
    with torch.no_grad():
        for parameter in objective.context_encoder.parameters():
            parameter.add_(1)
    assert objective.update(0.25) == {"ema": pytest.approx(0.925)}  # a cosine: 0.915
    for old, new in zip(before, objective.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.075)
    frozen = [p.clone() for p in objective.teacher.parameters()]
    objective.update(1.0)
    assert all(
        torch.equal(a, b) for a, b in zip(frozen, objective.teacher.parameters(), strict=True)
    )


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    encoder = vit.create(16, tiny().model, 0)
    vit.save(encoder, path, {"data": "x"})
    first = path.read_bytes()
    vit.save(encoder, path, {"data": "x"})
    assert path.read_bytes() == first
    torch.testing.assert_close(vit.load(path)(images()), encoder(images()), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="no such file"):
        vit.load(path.with_name("nothing"))


def test_tokens_equal_hugging_faces_ijepa() -> None:
    """A random-weight IJepaModel with its weights mapped into ours."""
    transformers = pytest.importorskip("transformers")
    config = tiny()
    theirs = transformers.IJepaModel(
        transformers.IJepaConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            image_size=16, patch_size=4, layer_norm_eps=1e-6, qkv_bias=True,
        )
    ).eval()  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    ours = vit.create(16, config.model, 0)
    vit.place(ours, torch.device("cpu"))
    ours.load_state_dict(_mapped(theirs.state_dict()))
    with torch.no_grad():
        expected = theirs(images()).last_hidden_state
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(images()), expected, rtol=0, atol=5e-6)


def _mapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers 5's names of an IJepaModel to timm's."""
    made = {
        "pos_embed": state["embeddings.position_embeddings"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": state["layernorm.weight"],
        "norm.bias": state["layernorm.bias"],
    }
    for block in range(2):
        theirs, ours = f"layers.{block}.", f"blocks.{block}."
        for kind in ("weight", "bias"):
            made[f"{ours}attn.qkv.{kind}"] = torch.cat(
                [state[f"{theirs}attention.{part}_proj.{kind}"] for part in "qkv"]
            )
            made[f"{ours}attn.proj.{kind}"] = state[f"{theirs}attention.o_proj.{kind}"]
            for a, b in (("norm1", "layernorm_before"), ("norm2", "layernorm_after"),
                         ("mlp.fc1", "mlp.fc1"), ("mlp.fc2", "mlp.fc2")):  # fmt: skip
                made[f"{ours}{a}.{kind}"] = state[f"{theirs}{b}.{kind}"]
    return made
