"""Fine-tuning: the network itself learns the labels of a task, all of them or a few.

The recipe of Appendix A.2 for 1 % of the labels (Table 2) and for all (Table 15): AdamW, a cosine
after a linear warm-up, a learning rate that falls layer by layer towards the images
(``layer_decay``), label smoothing. The paper has MAE's RandAugment; ``randaugment`` is
torchvision's, with two operations and another scale of magnitudes. Mixup, cutmix and drop path,
which Table 15 adds, are left out.

The head, on the mean of the last layer's patch tokens, starts at 0. ``fraction`` of the images
that may be used are labelled: the same share of each class and at least one image of each, within
those of a larger fraction. No other label is looked at: a fold's labelled images select. Each
learning rate is a fine-tuning of its own, and so is each task; all are refitted after the
selection, so one fold means two fine-tunings of each.

Dropout is off, as in the paper. What an image looks like is a function of (seed, epoch, image).
"""

import copy
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torchvision.transforms import InterpolationMode, v2

from ijepa import seeds
from ijepa.backbones import Backbone, layers
from ijepa.features import Part, loader
from ijepa.probes import (
    Candidates,
    Features,
    Result,
    Settings,
    cosine_decay,
    cross_validate,
)
from ijepa.probes._draws import fraction
from ijepa.runtime import errors
from ijepa.strict import integer, interval, once, real, reals
from ijepa.training import batches

NEEDS = "network"

_BATCH = 64  # images predicted at once: bounds the memory, does not change the result
_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers?)\.(\d+)\.")  # in timm's and transformers' names


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``evaluate.finetune``."""

    fraction: float = real(0, 1, above=True)
    epochs: int = integer(1)
    warmup_epochs: float = real(0)
    lr: tuple[float, ...] = reals(0, above=True)
    weight_decay: float = real(0)
    layer_decay: float = real(0, 1, above=True)
    label_smoothing: float = real(0, 1)
    batch_size: int = integer(1)
    crop_scale: tuple[float, float] = interval(0, 1)
    flip: bool
    randaugment: int = integer(0, 30)


def check(
    options: Options,
    labels: Mapping[str, NDArray[np.int64]],
    folds: Sequence[NDArray[np.int64]],
    seed: int,
    width: int | None,
) -> list[str]:
    """Refuse too long a warm-up, and folds that cannot select: see ``ijepa.probes``."""
    del width
    if options.warmup_epochs >= options.epochs and options.warmup_epochs > 0:
        raise ValueError(
            f"evaluate.finetune.warmup_epochs: {options.warmup_epochs:g} is not less than"
            f" evaluate.finetune.epochs {options.epochs}"
        )
    for task, every in labels.items():
        _draw(task, every, folds, options, seed)
    return []


def _draw(
    task: str,
    every: NDArray[np.int64],
    folds: Sequence[NDArray[np.int64]],
    options: Options,
    seed: int,
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The labelled images, ascending rows (n,), and which of these are in each fold."""
    order = seeds.generator(seed, "finetune").permutation(len(every))
    rows = fraction(every, options.fraction, order)
    labelled = [np.flatnonzero(np.isin(rows, fold)) for fold in folds]
    if not all(0 < len(fold) < len(rows) for fold in labelled):
        raise ValueError(
            f"evaluate.finetune.fraction: {options.fraction:g} labels {len(rows)} of"
            f" {len(every)} images of task {task}; a fold that selects has none or all of them"
        )
    return rows, labelled


class Views(Dataset[tuple[Tensor, int]]):
    """Random views of images with their classes, by place in the stream of all epochs.

    Args:
        part: the images.
        labels: their classes, (n,).
        options: crop_scale, flip and randaugment are used.
        seed: orders the images of each epoch, and draws the views.
    """

    def __init__(self, part: Part, labels: NDArray[np.int64], options: Options, seed: int) -> None:
        self.part, self.labels, self.seed = part, labels, seed
        size = [part.size, part.size]
        crop = v2.RandomResizedCrop(
            size, options.crop_scale, interpolation=InterpolationMode.BICUBIC, antialias=True
        )
        flips = [v2.RandomHorizontalFlip()] if options.flip else []
        more = [v2.RandAugment(magnitude=options.randaugment)] if options.randaugment else []
        self.transform = v2.Compose([crop, *flips, *more])

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        """A view, (3, size, size) uint8, and its class."""
        epoch, place = divmod(position, len(self.part))
        index = int(batches.order(self.seed, epoch, len(self.part))[place])
        row = int(self.part.rows[index])
        with errors.preparing(self.part.split, row):
            image = self.part.store.splits[self.part.split][row]
            pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
            with torch.random.fork_rng(devices=[]):  # torchvision draws from the global state
                torch.default_generator.manual_seed(seeds.key(self.seed, "view", epoch, row) >> 1)
                view: Tensor = self.transform(pixels)
        return view, int(self.labels[index])


class Classifier(nn.Module):
    """A copy of a backbone's network with a linear head, which starts at 0.

    Args:
        backbone: is not changed.
        classes: number of logits.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        # eval: no dropout, and nothing else of a ViT depends on the mode
        self.network = copy.deepcopy(backbone.network).eval().requires_grad_(True)  # type: ignore[union-attr]
        self.head = nn.utils.skip_init(nn.Linear, backbone.width, classes)  # type: ignore[no-untyped-call]
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self._normalise = backbone.normalise

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) float32 of images (B, 3, H, W) uint8."""
        tokens = layers(self.network, self._normalise(images), 1)[-1]
        logits: Tensor = self.head(tokens.mean(1))
        return logits


def fit_score(
    train: Features,
    folds: Sequence[NDArray[np.int64]],
    test: Features,
    options: Options,
    seed: int,
    device: str,
) -> dict[str, Result]:
    """Fine-tune for each task with each learning rate, which ``folds`` choose; predict ``test``.

    Ties go to the lower learning rate.

    Args:
        train: images that labels are drawn from.
        folds: rows of ``train``; the labelled of them choose among the learning rates.
        test: images that are predicted.
        options: the recipe.
        seed: draws the labelled images, orders them and draws their views.
        device: ``cpu`` or ``cuda``.

    Returns:
        task -> result.

    Raises:
        ValueError: warm-up is longer than training, a fold has no labelled image or has them
            all, or the layers cannot be told apart.
    """
    check(options, train.labels, folds, seed, None)
    results: dict[str, Result] = {}
    for task, every in train.labels.items():
        rows, labelled = _draw(task, every, folds, options, seed)
        results |= cross_validate(
            functools.partial(
                _predict, task=task, classes=int(every.max()) + 1, options=options, seed=seed,
                device=device,
            ),
            train.take(rows), labelled, test,
        )  # fmt: skip
    return results


def _predict(
    train: Features,
    others: Features,
    *,
    task: str,
    classes: int,
    options: Options,
    seed: int,
    device: str,
) -> Candidates:
    """Fine-tune with each learning rate for one task, and predict ``others``."""
    assert train.backbone is not None
    predictions, rates = [], sorted(options.lr)
    for lr in rates:
        model = Classifier(train.backbone, classes).to(device)
        _train(model, train, task, options, lr, seed, device)
        predictions.append(_classes(model, others, device))
    candidates: tuple[Settings, ...] = tuple({"features": "last", "lr": lr} for lr in rates)
    return candidates, {task: np.stack(predictions)}


def rates(names: Iterable[str], decay: float) -> dict[str, float]:
    """What each parameter's learning rate is multiplied by (as BEiT and MAE).

    The head and what follows the last of L blocks: 1. Block i of 0, ..., L - 1: decay^(L - i).
    What comes before the blocks: decay^(L + 1).

    Args:
        names: of the parameters, in the order of the network.
        decay: from layer to layer.

    Raises:
        ValueError: no name has a block's number, such as ``blocks.0.``.
    """
    factors, number = {}, 0
    names = list(names)
    blocks = [int(m[1]) for m in map(_BLOCK.search, names) if m]
    if not blocks:
        raise ValueError(
            f"evaluate.finetune.layer_decay: {decay:g} needs an encoder whose parameters are"
            " named by block, such as blocks.0.norm1.weight"
        )
    top = max(blocks) + 2
    for name in names:
        match = _BLOCK.search(name)
        number = int(match[1]) + 1 if match else (top if number else 0)
        factors[name] = decay ** (top - number)
    return factors


def _groups(model: nn.Module, options: Options, lr: float) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay; biases and norms do not decay."""
    parameters = dict(model.named_parameters())
    grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, rate in rates(parameters, options.layer_decay).items():
        decay = options.weight_decay if parameters[name].ndim > 1 else 0.0
        grouped.setdefault((lr * rate, decay), []).append(parameters[name])
    return [{"params": p, "lr": r, "weight_decay": d} for (r, d), p in grouped.items()]


def _train(
    model: nn.Module,
    part: Features,
    task: str,
    options: Options,
    lr: float,
    seed: int,
    device: str,
) -> list[float]:
    """Fit in place; returns the loss of each step."""
    assert part.images is not None
    count = len(part.images)
    batch_size = min(options.batch_size, count)
    optimizer = torch.optim.AdamW(_groups(model, options, lr))
    steps = options.epochs * count // batch_size
    warmup = options.warmup_epochs * count / batch_size

    def schedule(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return cosine_decay(step - warmup, max(1, steps - warmup))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    views = Views(part.images, part.labels[task], options, seed)
    losses = []
    for images, labels in loader(views, range(steps * batch_size), batch_size, device):
        loss = functional.cross_entropy(
            model(images.to(device)),
            labels.to(device),
            label_smoothing=options.label_smoothing,
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses).tolist()


@torch.inference_mode()
def _classes(model: nn.Module, part: Features, device: str) -> NDArray[np.int64]:
    """Class of each image as evaluation shows it, (n,); -1 where the model diverged."""
    assert part.images is not None
    parts = []
    for images in loader(part.images, range(len(part.images)), _BATCH, device):
        logits = model(images.to(device))
        parts.append(torch.where(logits.isfinite().all(1), logits.argmax(1), -1).cpu())
    classes: NDArray[np.int64] = torch.cat(parts).numpy()
    return classes
