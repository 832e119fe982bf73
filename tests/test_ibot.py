"""iBOT against its equations: the loss in plain loops, centres, temperature, gradients, FLOPs."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from numpy.typing import NDArray
from test_model import images, make
from torch import Tensor

from ijepa import views
from ijepa.config import Config
from ijepa.datasets import Item, Source, Split
from ijepa.masks import Masks, indices
from ijepa.model import vit
from ijepa.model.vit import Encoder
from ijepa.objectives import encode
from ijepa.probes import _multinomial
from ijepa.store.read import Store, open_store
from ijepa.store.write import write_store
from ijepa.training import batches, checkpoint, loop
from ijepa.views import View

CPU = torch.device("cpu")
IBOT = {
    "objective.name": "ibot",
    "objective.global_scale": [0.4, 1.0],
    "objective.local_crops": 2,
    "objective.local_size": 8,
    "objective.local_scale": [0.1, 0.4],
    "objective.head_hidden": 24,
    "objective.head_bottleneck": 12,
    "objective.prototypes": 20,
    "objective.freeze_prototypes": 0.0,
    "objective.student_temp": 0.1,
    "objective.teacher_temp": [0.04, 0.07],
    "objective.teacher_temp_warmup": 0.5,
    "objective.ema": [0.9, 1.0],
}
HIDDEN = (({2, 3, 6, 7}, set(), {0, 15}), ({1, 5, 9}, {4, 8, 9, 12, 13}, {7}))  # view, image
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3)]  # of two global and two local views


def config(**change: Any) -> Config:
    return tiny(**{**IBOT, **change})


def masks(*hidden: set[int]) -> Masks:
    """Masks of 4 x 4 patches in two target blocks that overlap; padding is index 0, as usual."""
    chosen = np.zeros((len(hidden), 2, 16), bool)
    for image, patches in enumerate(hidden):
        chosen[image, 0, sorted(patches)[:3]] = chosen[image, 1, sorted(patches)[1:]] = True
    targets, targets_valid = indices(chosen)
    context, valid = indices(~chosen.any(1))
    return Masks(context, valid, targets, targets_valid)


def batch(local: int = 2) -> tuple[Any, ...]:
    """Three images: two global views, ``local`` ones, and the masks of ``HIDDEN``."""
    whole = images(6).chunk(2)
    small = images(9, 8)[3:].chunk(2)[:local]
    return *whole, *small, *(masks(*view) for view in HIDDEN)


def moved(**change: Any) -> Any:
    """An objective in the middle of training: a teacher of its own, centres, a tenth is done."""
    objective = make(config(**change))
    generator = torch.manual_seed(1)
    with torch.no_grad():
        for module in (objective.teacher, objective.teacher_head, objective.head):
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        objective.mask_token.normal_(generator=generator)
        objective.centres.normal_(0, 0.1, generator=generator)
    objective.progress.fill_(0.1)
    return objective


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    exact = logits.astype(np.float64) / temperature
    powers = np.exp(exact - exact.max())
    return powers / powers.sum()


def test_the_loss_is_the_equations_term_by_term() -> None:
    """Every view, image and patch on its own; temperature 0.04 + 0.03 * 0.1 / 0.5 = 0.046."""
    objective, inputs = moved(), batch()
    views, count, total = inputs[:4], 3, 0.0
    centre = objective.centres.double().numpy()
    student, teacher = [], []
    with torch.no_grad():
        for number, view in enumerate(views):
            hide = None
            if number < 2:
                hide = torch.tensor([[p in row for p in range(16)] for row in HIDDEN[number]])
            outputs = encode(objective.context_encoder, view, hide, objective.mask_token.flatten())
            student.append(objective.context_encoder.norm(outputs[-1]))
        for view in views[:2]:
            teacher.append(objective.teacher(view))
        for image in range(count):
            pooled_s = [objective.head(t[image].mean(0)).numpy() for t in student]
            pooled_t = [objective.teacher_head(t[image].mean(0)).numpy() for t in teacher]
            for q, w in PAIRS:
                p = softmax(pooled_t[q] - centre[0], 0.046)
                total -= (p * np.log(softmax(pooled_s[w], 0.1))).sum() / len(PAIRS) / count
            for q in range(2):
                for patch in HIDDEN[q][image]:
                    p = softmax(objective.teacher_head(teacher[q][image, patch]).numpy()
                                - centre[1], 0.046)  # fmt: skip
                    s = softmax(objective.head(student[q][image, patch]).numpy(), 0.1)
                    total -= (p * np.log(s)).sum() / len(HIDDEN[q][image]) / count / 2
    assert total > 1
    assert objective(*inputs).item() == pytest.approx(total, rel=2e-5)


def test_the_head_is_three_layers_and_cosines() -> None:
    head, x = moved().head, torch.randn(5, 16, generator=torch.manual_seed(0))
    weights = [(head.mlp[i].weight.double(), head.mlp[i].bias.double()) for i in (0, 2, 4)]
    for token, found in zip(x, head(x), strict=True):
        value = token.double().detach().numpy()
        for number, (weight, bias) in enumerate(weights):
            value = weight.detach().numpy() @ value + bias.detach().numpy()
            if number < 2:  # GELU
                value = np.array([v * (1 + math.erf(v / 2**0.5)) / 2 for v in value])
        for k, prototype in enumerate(head.prototypes.double().detach().numpy()):
            cosine = value @ prototype / np.linalg.norm(value) / np.linalg.norm(prototype)
            assert found[k].item() == pytest.approx(cosine, abs=1e-5)
    with torch.no_grad():
        head.prototypes.mul_(3)
    torch.testing.assert_close(head(x), moved().head(x))  # lengths mean nothing


def test_gradients_reach_all_of_the_student_and_nothing_of_the_teacher() -> None:
    objective = moved()
    objective(*batch()).backward()
    learned = {name.split(".")[0] for name, p in objective.named_parameters() if p.requires_grad}
    assert learned == {"context_encoder", "mask_token", "head"}
    for name, parameter in objective.named_parameters():
        if name.startswith("teacher"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().sum() > 0 or name.endswith("qkv.bias"), name


def test_every_parameter_has_a_gradient_where_nothing_is_hidden() -> None:
    objective = moved(**{"objective.local_crops": 0, "objective.freeze_prototypes": 1.0})
    nothing = masks(set(), set(), set())
    objective(*batch(0)[:2], nothing, nothing).backward()
    grads = {name: p.grad for name, p in objective.named_parameters() if p.requires_grad}
    assert all(grad is not None for grad in grads.values())
    assert not grads["mask_token"].any()


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("patch", [3, 11])  # of image 0: 3 is hidden in view 0, 11 nowhere
def test_hidden_pixels_reach_the_teacher_alone(view: int, patch: int) -> None:
    objective, inputs = moved(), batch()
    hide = torch.tensor([[p in row for p in range(16)] for view in HIDDEN for row in view])
    index = torch.arange(16).expand(6, -1)

    def see(views: tuple[Tensor, ...]) -> list[Tensor]:
        predictions = objective.predictions(views, hide, index)
        return [*predictions, *objective.targets(torch.cat(views[:2]), index)]

    other = [x.clone() for x in inputs[:4]]
    row, column = 4 * (patch // 4), 4 * (patch % 4)
    other[view][0, :, row : row + 4, column : column + 4] += torch.linspace(-1, 1, 4)
    before, after = see(inputs[:4]), see(tuple(other))
    blind = patch in HIDDEN[view][0]
    assert torch.equal(before[0], after[0]) == blind  # the student's pooled tokens
    assert torch.equal(before[1], after[1]) == blind  # and patches
    assert not torch.equal(before[2], after[2])
    assert not torch.equal(before[3], after[3])


def test_what_must_not_change_the_loss() -> None:
    objective, (u, v, a, b, m, n) = moved(), batch()
    loss = objective(u, v, a, b, m, n)
    same = {"rtol": 1e-5, "atol": 0}
    torch.testing.assert_close(objective(u, v, b, a, m, n), loss, **same)  # local views
    torch.testing.assert_close(objective(v, u, a, b, n, m), loss, **same)  # global views
    padded = m.targets.masked_fill(~m.targets_valid, 11)
    torch.testing.assert_close(objective(u, v, a, b, m._replace(targets=padded), n), loss, **same)
    once = [objective(*(x[i : i + 1] for x in (u, v, a, b)), m.rows(i, i + 1), n.rows(i, i + 1))
            for i in range(3)]  # fmt: skip
    torch.testing.assert_close(torch.stack(once).mean(), loss, **same)  # micro-batches
    objective.centres.add_(torch.tensor([[0.7], [-0.4]]))  # all prototypes alike
    torch.testing.assert_close(objective(u, v, a, b, m, n), loss, **same)
    objective.centres[0, 0] -= 1  # one of them: the teacher now prefers it
    assert objective(u, v, a, b, m, n) != loss


def test_the_centres_are_moving_averages_of_the_teachers_logits() -> None:
    objective, inputs = moved(), batch()
    old = objective.centres.clone().numpy()
    objective(*inputs)
    assert np.array_equal(objective.centres.numpy(), old), "only update moves them"
    logits: list[list[NDArray[np.float32]]] = [[], []]
    with torch.no_grad():
        for view, image in itertools.product(range(2), range(3)):
            tokens = objective.teacher(inputs[view])[image]
            logits[0].append(objective.teacher_head(tokens.mean(0)).numpy())
            logits[1] += [objective.teacher_head(token).numpy() for token in tokens]
    assert [len(part) for part in logits] == [6, 96]
    objective.update(0.2)
    for row in range(2):
        expected = 0.9 * old[row] + 0.1 * np.mean(logits[row], 0, dtype=np.float64)
        np.testing.assert_allclose(objective.centres[row].numpy(), expected, rtol=0, atol=1e-6)
    now = objective.centres.clone()
    objective.update(0.3)
    assert torch.equal(objective.centres, now), "the sums start anew"


def parts(inputs: tuple[Any, ...], cut: int) -> list[tuple[Any, ...]]:
    """A batch as two micro-batches, cut before an image."""
    return [
        (*(x[start:stop] for x in inputs[:-2]), *(m.rows(start, stop) for m in inputs[-2:]))
        for start, stop in ((0, cut), (cut, 3))
    ]


@pytest.mark.parametrize("how", ["micro-batches", "processes"])
def test_the_centres_are_the_global_batchs(how: str) -> None:
    whole, share, other = moved(), moved(), moved()
    whole(*batch())
    whole.update(0.2)
    first, second = parts(batch(), 1)
    share(*first)
    if how == "micro-batches":
        share(*second)
    else:
        other(*second)
        share.sums.add_(other.sums)  # as the loop does
    share.update(0.2)
    assert (whole.centres - moved().centres).abs().max() > 0.01
    torch.testing.assert_close(share.centres, whole.centres, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("progress", "expected"), [
    (0.0, 0.04), (0.125, 0.0475), (0.25, 0.055), (0.5, 0.07), (1.0, 0.07),
])  # fmt: skip
def test_the_teachers_temperature_rises_and_stays(progress: float, expected: float) -> None:
    objective = make(config())
    if progress:
        objective.update(progress)
    assert objective._temperature().item() == pytest.approx(expected, rel=1e-12)
    at_once = make(config(**{"objective.teacher_temp_warmup": 0}))
    assert at_once._temperature().item() == 0.07


@pytest.mark.parametrize("progress", [0.25, 0.5, 1.0])
def test_the_teacher_follows_along_a_cosine(progress: float) -> None:
    objective = moved()
    before = {name: p.clone() for name, p in objective.named_parameters()}
    momentum = 1 - 0.1 * (1 + math.cos(math.pi * progress)) / 2
    assert objective.update(progress) == {"ema": pytest.approx(momentum, abs=1e-12)}
    for name, parameter in objective.named_parameters():
        expected = before[name]
        if name.startswith("teacher"):
            student = name.replace("teacher.encoder", "context_encoder").replace("teacher_", "")
            expected = momentum * expected + (1 - momentum) * before[student]
        torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-6)
    assert objective.encoder is objective.teacher.encoder


def test_a_state_dict_holds_centres_and_temperature() -> None:
    objective, fresh = moved(), make(config())
    objective(*batch())
    objective.update(0.3)
    fresh.load_state_dict(objective.state_dict())
    assert torch.equal(fresh(*batch()), objective(*batch()))
    assert fresh._temperature() == objective._temperature() == pytest.approx(0.058)
    assert fresh.centres.abs().sum() > 0


@pytest.mark.parametrize(("progress", "frozen"), [(0.0, True), (0.3, True), (0.4, False)])
def test_frozen_prototypes_have_a_gradient_of_zero(progress: float, frozen: bool) -> None:
    freezes, free = (moved(**{"objective.freeze_prototypes": f}) for f in (0.4, 0.0))
    for objective in (freezes, free):
        objective.progress.fill_(progress)
        objective(*batch()).backward()
    expected = free.head.prototypes.grad * (not frozen)
    assert torch.equal(freezes.head.prototypes.grad, expected)
    assert free.head.prototypes.grad.any()
    for one, two in zip(freezes.parameters(), free.parameters(), strict=True):
        if one is not freezes.head.prototypes and one.requires_grad:
            assert torch.equal(one.grad, two.grad)


@pytest.mark.parametrize("patches", [set(), set(range(16))])
@pytest.mark.parametrize("bf16", [False, True])
def test_flat_images_with_all_or_nothing_hidden_stay_finite(patches: set[int], bf16: bool) -> None:
    objective = make(config())
    inputs = [torch.zeros_like(x) for x in batch()[:4]]
    for step in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = objective(*inputs, masks(*[patches] * 3), masks(*[patches] * 3))
        loss.backward()
        objective.update((step + 1) / 3)
        assert loss.isfinite()
    for name, p in objective.named_parameters():
        assert p.isfinite().all(), name
        assert p.grad is None or p.grad.isfinite().all(), name


def test_seed_and_part_decide_the_head() -> None:
    heads = [make(config(seed=seed)).head.prototypes for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    start = make(config())
    for name, weight in start.teacher_head.state_dict().items():
        assert torch.equal(weight, start.head.state_dict()[name])


def test_the_views_of_a_run() -> None:
    whole, small = View(16, (0.4, 1.0), masked=True), View(8, (0.1, 0.4), masked=False)
    assert batches.views(config()) == (whole, whole, small, small)
    assert batches.views(config(**{"objective.local_crops": 0})) == (whole, whole)


def test_local_views_are_whole_patches() -> None:
    with pytest.raises(
        ValueError, match=r"objective\.local_size: 10 is not a multiple of model\.p"
    ):
        config(**{"objective.local_size": 10})
    config(**{"objective.local_size": 10, "objective.local_crops": 0})  # not used


def tile(label: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A faint ground of one of six hues under strong tiles of any colour, which two crops do not
    share: what is left to agree on is the ground."""
    hue = 2 * np.pi * (label / 6 + np.arange(3) / 3)
    tiles = rng.uniform(-80, 80, (6, 6, 3)).repeat(4, 0).repeat(4, 1)
    return (128 + 20 * np.cos(hue) + tiles).clip(0, 255).astype(np.uint8)


def probe(encoder: Encoder, store: Store) -> float:
    """Test accuracy of a linear probe on 60 labels: the mean over eight sets of labels, with the
    penalty that suits this encoder's test images best."""
    features, labels = {}, np.arange(768) % 6
    for name, split in store.splits.items():
        shown = torch.stack([views.centre(split[i], 16) for i in range(768)])
        with torch.no_grad():
            features[name] = encoder(views.normalise(shown)).mean(1).numpy()
    found = []
    for start in range(0, 480, 60):
        x, y = features["train"][start : start + 60], labels[start : start + 60]
        models = _multinomial.fit(x, y, (0.01, 0.1, 1.0, 10.0), _multinomial.standard(x, "cpu"))
        found.append((models.predict(features["test"]) == labels).mean(1))
    return float(np.mean(found, 0).max())


@pytest.mark.slow
def test_a_small_run_beats_its_random_initialisation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute on a calm core. Seeds 0 to 2: 84.3, 82.9, 83.7 after 76.9, 73.4, 72.1 %."""
    splits = {}
    for number, name in enumerate(("train", "test")):
        rng = np.random.default_rng(number)
        made = [Item(tile(i % 6, rng), {"class": i % 6}, f"made {i}") for i in range(768)]
        splits[name] = Split(768, lambda made=made: iter(made))
    write_store(Source(splits, {"class": tuple("abcdef")}, {"name": "made"}), tmp_path / "store")
    store = open_store(tmp_path / "store")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    change = {
        "train.epochs": 14, "train.batch_size": 32, "train.warmup_epochs": 1.4,
        "train.flip": False, "model.width": 32,
        "objective.head_hidden": 64, "objective.head_bottleneck": 32, "objective.prototypes": 64,
        "objective.teacher_temp": 0.04, "objective.ema": [0.95, 1.0],
    }  # fmt: skip
    loop.train(config(**change), store, CPU, "fp32", 0, 1)
    trained = probe(vit.load(Path("out/encoder.safetensors")), store)
    start = probe(vit.create(16, config(**change).model, 0), store)
    assert trained > start + 0.04


class Killed(BaseException):
    """Stands for kill -9."""


def test_a_resumed_run_is_the_uninterrupted_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "0")
    monkeypatch.delenv("IJEPA_MICRO_BATCH", raising=False)
    monkeypatch.chdir(tmp_path)
    change = {"train.epochs": 1, "train.warmup_epochs": 0, "objective.freeze_prototypes": 0.5}
    real = checkpoint.save

    def save(path: Path, step: int, state: dict[str, Any]) -> None:
        real(path, step, state)
        if step == 3:
            raise Killed

    def run(home: str) -> bytes:
        monkeypatch.setenv("IJEPA_HOME", str(tmp_path / home))
        loop.train(config(**change), store, CPU, "fp32", 0, 1)
        return Path("out/encoder.safetensors").read_bytes()

    straight = run("straight")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        with pytest.raises(Killed):
            run("killed")
    assert run("killed") == straight
