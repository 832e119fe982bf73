"""The probes that read tokens, or train the network itself."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from conftest import joined, tiny
from numpy.typing import NDArray

from ijepa import seeds
from ijepa.backbones import ijepa as ours
from ijepa.features import Part
from ijepa.model import vit
from ijepa.probes import Features, Result, _draws, attentive, finetune, linear
from ijepa.store.read import Store

Array = NDArray[Any]


class Tokens(Features):
    """Features whose tokens are given."""

    def tokens(self) -> tuple[Array, Array]:
        return self.choices["tokens"], np.arange(len(self))

    def take(self, rows: Array) -> "Tokens":
        some = super().take(rows)
        return Tokens(some.choices, some.labels)


def hidden(seed: int = 0) -> list[Tokens]:
    """One token of twelve says the class, at any place; the others cancel it in the mean."""
    rng = np.random.default_rng(seed)
    made = []
    for count in (600, 100, 300):
        y = rng.integers(0, 2, count)
        tokens = 0.3 * rng.normal(size=(count, 12, 8))
        every, place = np.arange(count), rng.integers(0, 12, count)
        tokens[every, place, 0] += 3.0  # what marks the token
        tokens[every, place, 1] += 2.0 * (2 * y - 1)
        tokens[:, :, 1] -= tokens[:, :, 1].mean(1, keepdims=True)
        made.append(
            Tokens({"tokens": tokens.astype(np.float16)}, {"class": y, "other": place % 3})
        )
    return made


def attend(parts: list[Tokens], seed: int = 0, **changed: Any) -> dict[str, Result]:
    values: dict[str, Any] = {"lr": (0.01,), "weight_decay": (0.01,), "epochs": 8}
    values |= {"batch_size": 50, "heads": 2}
    options = attentive.Options(**{**values, **changed})
    return attentive.fit_score(*joined(*parts[:2]), parts[2], options, seed, "cpu")


def test_attention_finds_a_token_that_the_mean_hides() -> None:
    parts, state = hidden(), torch.random.get_rng_state()
    result = attend(parts)["class"]
    assert torch.equal(state, torch.random.get_rng_state())
    truth = parts[2].labels["class"]
    assert (result.predictions == truth).mean() > 0.9
    pooled = [
        Features({"last": p.choices["tokens"].mean(1)}, {"class": p.labels["class"]})
        for p in parts
    ]
    options = linear.Options(
        norm=("batch",), lr=(0.1,), weight_decay=(1e-3,), epochs=10, batch_size=64
    )
    mean = linear.fit_score(*joined(*pooled[:2]), pooled[2], options, 0, "cpu")["class"]
    assert (mean.predictions == truth).mean() < 0.65


def test_attention_is_an_average_over_patches_head_by_head() -> None:
    pool = attentive.Pool(8, 2, 3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        pool.weight.copy_(torch.linspace(-1, 1, 24).view(8, 3))
        tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
        for image in range(2):
            values = []
            for head in range(2):
                score = (tokens[image] @ pool.query[:, head]).exp()
                mean = (score[:, None] * tokens[image]).sum(0) / score.sum()
                values.append(mean @ pool.value[head])
            expected = torch.cat(values) @ pool.weight + pool.bias
            torch.testing.assert_close(pool(tokens)[image], expected)
        twice = torch.cat([tokens, tokens], 1)
        torch.testing.assert_close(pool(twice), pool(tokens))


def test_attentive_candidates_and_tasks_do_not_influence_each_other() -> None:
    parts = hidden(1)
    both = attend(parts, lr=(0.01, 1e30), epochs=2)
    alone = attend([Tokens(p.choices, {"class": p.labels["class"]}) for p in parts], epochs=2)
    assert both["class"].candidates[0] == {"features": "last", "lr": 0.01, "weight_decay": 0.01}
    assert both["class"].winner == 0
    assert (both["class"].held_out[1] == -1).all()
    assert (both["class"].predictions == alone["class"].predictions).all()
    assert both["other"].test.shape == (2, 300)
    again, other = attend(parts, epochs=1), attend(parts, seed=1, epochs=1)
    assert (again["class"].test == attend(parts, epochs=1)["class"].test).all()
    assert (again["class"].test != other["class"].test).any()


def test_attentive_selects_on_held_out_and_never_on_test() -> None:
    parts = hidden(2)
    grid: dict[str, Any] = {"lr": (0.01, 1e-5), "epochs": 4}
    swapped = Tokens(parts[2].choices, {t: 1 - y for t, y in parts[2].labels.items()})
    first, again = attend(parts, **grid)["class"], attend([*parts[:2], swapped], **grid)["class"]
    assert first.selected["lr"] == again.selected["lr"] == 0.01
    assert (first.test == again.test).all()
    wrong = [parts[0], Tokens(parts[1].choices, swap(parts[1])), parts[2]]
    assert attend(wrong, **grid)["class"].selected["lr"] == 1e-5


def swap(part: Features) -> dict[str, Array]:
    return {"class": 1 - part.labels["class"], "other": part.labels["other"]}


def test_no_two_draws_of_the_attentive_probe_share_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, drawn = seeds.key, []

    def key(seed: int, purpose: str, *index: int) -> int:
        drawn.append((purpose, *index))
        return real(seed, purpose, *index)

    monkeypatch.setattr(seeds, "key", key)
    parts = [Tokens(p.choices, {"class": p.labels["class"]}) for p in hidden()]
    attend(parts, epochs=3)
    assert len(set(drawn)) == 4, "the query, and the order of each epoch"
    assert drawn == 2 * drawn[:4], "the refit's are those of the fold's fit"


def test_attentive_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"evaluate.attentive.heads: 3 does not divide .* 8"):
        attend(hidden(), heads=3)


def pictures(store: Store, seed: int = 0) -> list[Features]:
    """All but 16 training images, these 16, and the test images."""
    backbone = ours.of(vit.create(16, tiny().model, seed), "random", "random")
    made = []
    for split, rows in (("train", np.arange(48)), ("train", np.arange(48, 64)),
                        ("test", np.arange(32))):  # fmt: skip
        labels = {"class": store.splits[split].labels["class"][rows]}
        made.append(Features({}, labels, backbone, Part(store, split, rows, "crop", 16)))
    return made


def recipe(**changed: Any) -> finetune.Options:
    values: dict[str, Any] = {"fraction": 1.0, "epochs": 8, "warmup_epochs": 1.0, "lr": (3e-3,)}
    values |= {"weight_decay": 0.05, "layer_decay": 0.75, "label_smoothing": 0.1}
    values |= {"batch_size": 8, "crop_scale": (0.8, 1.0), "flip": False, "randaugment": 0}
    return finetune.Options(**{**values, **changed})


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"DEVICE": "cpu", "WORKERS": "0", "PRECISION": "fp32"}.items():
        monkeypatch.setenv(f"IJEPA_{name}", value)


def test_finetuning_learns_and_leaves_the_backbone_as_it_was(store: Store) -> None:
    parts, state = pictures(store), torch.random.get_rng_state()
    network = parts[0].backbone.network  # type: ignore[union-attr]
    before = copy.deepcopy(network.state_dict())  # type: ignore[union-attr]
    flags = [p.requires_grad for p in network.parameters()]  # type: ignore[union-attr]
    result = finetune.fit_score(*joined(*parts[:2]), parts[2], recipe(lr=(1e-7, 3e-3)), 0, "cpu")[
        "class"
    ]
    truth = parts[2].labels["class"]
    assert (result.predictions == truth).mean() > 0.8
    assert result.selected["lr"] == 3e-3
    assert (result.test[0] == truth).mean() < 0.8  # a rate of nearly 0 learns nothing
    assert result.held_out.shape == (2, 16)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())  # type: ignore[union-attr]
    assert flags == [p.requires_grad for p in network.parameters()]  # type: ignore[union-attr]


def test_finetuning_is_a_function_of_the_seed(store: Store) -> None:
    parts, short = pictures(store), recipe(epochs=2, warmup_epochs=0, randaugment=5, flip=True)

    def losses(seed: int) -> list[float]:
        model = finetune.Classifier(parts[0].backbone, 2)  # type: ignore[arg-type]
        return finetune._train(model, parts[0], "class", short, 3e-3, seed, "cpu")

    first, again, other = losses(0), losses(0), losses(1)
    assert len(first) == 12  # 2 epochs of 48 images in batches of 8
    assert first == again
    assert first != other


def test_a_view_is_a_function_of_seed_epoch_and_image(store: Store) -> None:
    part = pictures(store)[0]
    assert part.images is not None
    views = finetune.Views(part.images, part.labels["class"], recipe(crop_scale=(0.3, 1.0)), 0)
    torch.random.default_generator.manual_seed(1)
    first = views[5]
    views[6]
    assert torch.equal(views[5][0], first[0])
    assert first[0].shape == (3, 16, 16)
    assert first[0].dtype == torch.uint8
    # an epoch shows every image once, each with its class
    for epoch in range(2):
        shown = [views[48 * epoch + place][1] for place in range(48)]
        assert sum(shown) == part.labels["class"].sum()
    assert not torch.equal(views[48 + 5][0], first[0])


def test_a_view_comes_with_the_class_of_its_image(store: Store) -> None:
    """The brighter half of an image is its class; the crop is all of it."""
    part = pictures(store)[0]
    assert part.images is not None
    whole = recipe(crop_scale=(1.0, 1.0))
    views = finetune.Views(part.images, part.labels["class"], whole, 0)
    for image, label in map(views.__getitem__, range(48)):
        left, right = image.float().view(3, 16, 2, 8).mean((0, 1, 3))
        assert label == (right > left)


def test_the_rate_rises_over_the_warm_up_and_falls_to_zero(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6 steps of warm-up, so that the seventh has the full rate, and a cosine over 12."""
    part, taken = pictures(store)[0], []

    class Spied(torch.optim.AdamW):
        def step(self, *args: Any) -> None:  # type: ignore[override]
            taken.append(max(group["lr"] for group in self.param_groups))
            super().step(*args)

    monkeypatch.setattr(torch.optim, "AdamW", Spied)
    assert part.backbone is not None
    model = finetune.Classifier(part.backbone, 2)
    finetune._train(model, part, "class", recipe(epochs=3, lr=(1e-3,)), 1e-3, 0, "cpu")
    rising = [(step + 1) / 7 for step in range(6)]
    falling = [0.5 * (1 + np.cos(np.pi * step / 12)) for step in range(12)]
    assert taken == pytest.approx([1e-3 * rate for rate in rising + falling])


def test_a_smoothed_label_bounds_the_loss_from_below(store: Store) -> None:
    """Of two classes and smoothing 0.8: the entropy of (0.6, 0.4)."""
    part, least = pictures(store)[0], -(0.6 * np.log(0.6) + 0.4 * np.log(0.4))
    assert part.backbone is not None
    model, options = finetune.Classifier(part.backbone, 2), recipe(label_smoothing=0.8)
    losses = finetune._train(model, part, "class", options, 3e-3, 0, "cpu")
    assert least - 1e-6 < min(losses) < losses[0] == pytest.approx(np.log(2))


def test_held_out_images_are_predicted_themselves(store: Store) -> None:
    """Here they lie in another order than those that fit."""
    parts = pictures(store)
    parts[1] = parts[1].take(np.argsort(parts[1].labels["class"], kind="stable"))
    result = finetune.fit_score(*joined(*parts[:2]), parts[2], recipe(), 0, "cpu")["class"]
    assert result.held_out_labels.tolist() == [0] * 8 + [1] * 8
    assert result.selection[0] > 0.8


def test_finetuning_a_fraction_looks_at_no_other_label(store: Store) -> None:
    parts, short = pictures(store), recipe(fraction=0.25, epochs=2)
    every, folds = joined(*parts[:2])
    first = finetune.fit_score(every, folds, parts[2], short, 0, "cpu")["class"]
    train = every.labels["class"]
    order = seeds.generator(0, "finetune").permutation(64)
    later = np.setdiff1d(np.arange(64), _draws.fraction(train, 0.75, order))
    changed = train.copy()
    changed[later] = changed[later][::-1]
    assert (changed != train).any()
    assert (_draws.fraction(changed, 0.25, order)
            == _draws.fraction(train, 0.25, order)).all()  # fmt: skip
    other = Features({}, {"class": changed}, every.backbone, every.images)
    again = finetune.fit_score(other, folds, parts[2], short, 0, "cpu")["class"]
    assert (first.test == again.test).all()
    inside = np.intersect1d(_draws.fraction(train, 0.25, order), folds[0])
    assert (first.held_out_labels == train[inside]).all()
    with pytest.raises(ValueError, match=r"finetune.fraction: 0\.01 labels 2 of 64 .* a fold"):
        finetune.fit_score(every, folds, parts[2], recipe(fraction=0.01), 0, "cpu")


def test_layer_decay_gives_each_parameter_its_rate() -> None:
    names = [name for name, _ in vit.create(16, tiny().model, 0).named_parameters()]
    found = finetune.rates([*(f"network.{n}" for n in names), "head.weight", "head.bias"], 0.5)
    assert found["head.weight"] == found["network.norm.weight"] == 1.0
    assert found["network.blocks.1.mlp.fc1.weight"] == 0.5
    assert found["network.blocks.0.attn.qkv.bias"] == 0.25
    assert found["network.patch_embed.proj.weight"] == 0.125
    assert set(finetune.rates(["encoder.layer.10.x", "encoder.layer.11.x"], 0.5).values()) == {
        0.25, 0.5,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"evaluate.finetune.layer_decay: 0\.5 needs an encoder"):
        finetune.rates(["conv.weight"], 0.5)
    model = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([torch.nn.Linear(2, 2)]),
                                 "head": torch.nn.Linear(2, 2)})  # fmt: skip
    groups = finetune._groups(model, recipe(layer_decay=0.5), 0.1)
    rows = {(g["lr"], g["weight_decay"], g["params"][0].ndim) for g in groups}
    assert rows == {(0.05, 0.05, 2), (0.05, 0.0, 1), (0.1, 0.05, 2), (0.1, 0.0, 1)}


def test_warm_up_is_shorter_than_training(store: Store) -> None:
    with pytest.raises(ValueError, match=r"evaluate.finetune.warmup_epochs: 8 is not less than"):
        finetune.fit_score(*pictures(store), recipe(warmup_epochs=8), 0, "cpu")
