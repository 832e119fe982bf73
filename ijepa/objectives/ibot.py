"""iBOT (arXiv 2111.07832): self-distillation across views and of masked patches.

Two global views u and v of an image have masks of their own; local views have none. The student
sees the global views with mask tokens where a patch is hidden and the local views whole, the
teacher, the student's moving average, sees the whole global views. Encoder and head turn a token
into K logits, and with P_s = softmax(logits / t_s) of the student and
P_t = softmax((logits - centre) / t_t) of the teacher

  L_pooled = - mean over (q, w != q)  sum_k  P_t(pooled_q)_k  log P_s(pooled_w)_k      (eq. 3)
  L_patch  = - mean over q, hidden i  sum_k  P_t(patch_qi)_k  log P_s(patch_qi)_k      (eq. 2)
  L = L_pooled + L_patch

for teacher views q in {u, v} and student views w among all; the mean over hidden patches is each
view's own, 0 where nothing is hidden. Names of the released code are in ``docs/objectives.md``,
beside what differs from it: above all that the pooled token is the mean of the patch tokens, as
the shared encoder has no class token.
"""

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ijepa import schedule, seeds
from ijepa.config import Model, Train
from ijepa.masks import Masks
from ijepa.model import flops, vit
from ijepa.model.teacher import Teacher, follow
from ijepa.objectives import encode, hidden
from ijepa.strict import integer, interval, once, pair, real
from ijepa.views import View

TITLE = "iBOT"
ABOUT = (
    "it gives several views of an image, and the hidden patches of a view, the same learned"
    " categories as its own moving average gives to other views and to the patches as they are."
    " The moving average, the teacher, is what is evaluated."
)
CENTRE_MOMENTUM = 0.9  # of the centres, for each step (released code)


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``objective`` that iBOT uses."""

    global_scale: tuple[float, float] = interval(0, 1)  # area of the two global crops
    local_crops: int = integer(0)  # local views
    local_size: int = integer(1)  # pixels: side of a local view
    local_scale: tuple[float, float] = interval(0, 1)  # area of a local crop
    head_hidden: int = integer(1)
    head_bottleneck: int = integer(1)
    prototypes: int = integer(2)
    freeze_prototypes: float = real(0, 1)  # share of the run, from its start
    student_temp: float = real(0, above=True)
    teacher_temp: tuple[float, float] = interval(0)  # before and after its warm-up
    teacher_temp_warmup: float = real(0, 1)  # share of the run
    ema: tuple[float, float] = pair(0, 1)  # momentum at the first and the last step


def check(image_size: int, model: Model, options: Options) -> None:
    """Refuse local views that are no whole number of patches.

    Raises:
        ValueError: ``local_size`` is no multiple of the patch size.
    """
    if options.local_crops and options.local_size % model.patch_size:
        raise ValueError(
            f"local_size: {options.local_size} is not a multiple of model.patch_size"
            f" {model.patch_size}"
        )


def views(image_size: int, model: Model, train: Train, options: Options) -> tuple[View, ...]:
    """Two global views with masks, then the local ones; ``train.crop_scale`` is not used."""
    whole = View(image_size, options.global_scale, masked=True)
    local = View(options.local_size, options.local_scale, masked=False)
    return whole, whole, *([local] * options.local_crops)


class Head(nn.Module):
    """Tokens to their similarity with each prototype, for pooled and patch tokens alike."""

    def __init__(self, width: int, options: Options, init: str, seed: int) -> None:
        super().__init__()
        between, narrow = options.head_hidden, options.head_bottleneck
        self.mlp = nn.Sequential(
            nn.Linear(width, between), nn.GELU(),
            nn.Linear(between, between), nn.GELU(),
            nn.Linear(between, narrow),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.empty(options.prototypes, narrow))
        generator = seeds.torch_generator(seed, "init/head")
        vit.initialise(self, init, generator)
        bound = narrow**-0.5  # a linear layer's default; a length only sets how fast it turns
        nn.init.uniform_(self.prototypes, -bound, bound, generator=generator)

    def forward(self, tokens: Tensor, learns: Tensor | None = None) -> Tensor:
        """The logits: cosines of the angles to the prototypes, float32.

        Args:
            tokens: (..., D).
            learns: 0 or 1, which the gradient of the prototypes is multiplied by. A gradient of
                zero and not none: processes would wait for one.

        Returns:
            (..., K).
        """
        weight: Tensor = self.prototypes
        if learns is not None:
            weight = weight.detach() + learns * (weight - weight.detach())
        directions = nn.functional.normalize(weight.float(), dim=-1)  # weight norm of gain 1
        found = nn.functional.normalize(self.mlp(tokens).float(), dim=-1)
        return nn.functional.linear(found, directions).float()


class Objective(nn.Module):
    """Student and teacher, each an encoder and a head, with their loss."""

    centres: Tensor
    progress: Tensor

    def __init__(
        self, context_encoder: vit.Encoder, model: Model, options: Options, seed: int
    ) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.mask_token = nn.Parameter(torch.zeros(1, model.width))  # a matrix decays, as released
        self.head = Head(model.width, options, model.init, seed)
        self.teacher = Teacher(context_encoder)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        # of the teacher's logits: row 0 of pooled tokens, row 1 of patches
        self.register_buffer("centres", torch.zeros(2, options.prototypes))
        # share of the run that is done, in float64: it is compared with shares of params.yaml
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        # sums of the teacher's logits since the last update and, in the last column, how many.
        # Not a buffer: DistributedDataParallel would replace it by the first process's
        self.sums: Tensor | None = None
        self.model, self.options = model, options

    @property
    def encoder(self) -> vit.Encoder:
        """The teacher's, which the paper evaluates."""
        return self.teacher.encoder

    def forward(self, *inputs: Any) -> Tensor:
        """The loss of a batch.

        Args:
            inputs: the views as ``views`` declares them, (B, 3, S, S) normalised, then the masks
                of the first two.

        Returns:
            A scalar, the mean over images.
        """
        images, masks = inputs[:-2], inputs[-2:]
        hide = torch.cat([hidden(m, self.encoder.num_patches) for m in masks])
        # the hidden patches first, as many as the masks have room for: no waiting for a GPU
        index = hide.int().argsort(dim=1, descending=True, stable=True)[:, : self._room(*masks)]
        asked = hide.gather(1, index)  # (2B, L) bool
        pooled_target, patch_target = self.targets(torch.cat(images[:2]), index)
        pooled, patch = self.predictions(images, hide, index)

        pairs = [(q, w) for q in range(2) for w in range(len(images)) if w != q]
        across = torch.stack([_cross_entropy(pooled_target[q], pooled[w]) for q, w in pairs])
        within = (_cross_entropy(patch_target, patch) * asked).sum(1) / asked.sum(1).clamp(min=1)
        return across.mean() + within.mean()

    def predictions(
        self, images: tuple[Tensor, ...], hide: Tensor, index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The student's log-probabilities.

        Args:
            images: all views.
            hide: hidden patches of the global views, (2B, N) bool.
            index: patches to predict, (2B, L).

        Returns:
            Of the pooled tokens of all V views, (V, B, K), and of patches, (2B, L, K).
        """
        learns = (self.progress >= self.options.freeze_prototypes).float()
        tokens = self._tokens(torch.cat(images[:2]), hide)
        chosen = vit.take(tokens, index)
        logits = self.head(torch.cat([tokens.mean(1, keepdim=True), chosen], 1), learns)
        pooled = logits[:, 0]
        if images[2:]:
            local = self._tokens(torch.cat(images[2:])).mean(1)
            pooled = torch.cat([pooled, self.head(local, learns)])
        pooled = pooled.view(len(images), -1, pooled.shape[-1])
        patch, temperature = logits[:, 1:], self.options.student_temp
        return (pooled / temperature).log_softmax(-1), (patch / temperature).log_softmax(-1)

    @torch.no_grad()
    def targets(self, images: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's probabilities; its logits are kept for the centres.

        Args:
            images: both global views, (2B, 3, S, S).
            index: patches to be predicted, (2B, L).

        Returns:
            Of the pooled tokens, (2, B, K), and of patches, (2B, L, K).
        """
        tokens = self.teacher(images)
        logits = self.teacher_head(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
        pooled, patch = logits[:, 0], logits[:, 1:]
        self._remember(pooled, patch.flatten(0, 1))
        temperature = self._temperature()
        pooled = ((pooled - self.centres[0]) / temperature).softmax(-1)
        patch = ((vit.take(patch, index) - self.centres[1]) / temperature).softmax(-1)
        return pooled.view(2, -1, pooled.shape[-1]), patch

    def update(self, progress: float) -> dict[str, float]:
        """Move the teacher and the centres; the momentum grows along a cosine, as released."""
        momentum = schedule.cosine(self.options.ema, progress)
        self.teacher.update(self.context_encoder, momentum)
        follow(self.teacher_head, self.head, momentum)
        if self.sums is not None:
            means = self.sums[:, :-1] / self.sums[:, -1:]
            self.centres.lerp_(means.to(self.centres.dtype), 1 - CENTRE_MOMENTUM)
            self.sums = None
        self.progress.fill_(progress)
        return {"ema": momentum}

    def flops(self, *inputs: Any, padding: bool = True) -> int:
        """Forward and backward of a batch; what ``forward`` is given.

        Padding is the room for hidden patches beyond those that a view has.
        """
        images, masks = inputs[:-2], inputs[-2:]
        count, patches = len(images[0]), self.encoder.num_patches
        whole = flops.trained_encoder(self.model, patches)
        taught = flops.encoder(self.model, patches) + self._head_flops(1 + patches)
        if padding:
            asked = 2 * count * self._room(*masks)
        else:
            asked = sum(int(hidden(mask, patches).sum()) for mask in masks)
        total = 2 * count * (whole + taught) + flops.trained(self._head_flops(2 * count + asked))
        for local in images[2:]:
            patches = local.shape[-1] // self.model.patch_size
            small = flops.trained_encoder(self.model, patches**2)
            total += count * (small + flops.trained(self._head_flops(1)))
        return total

    def _head_flops(self, tokens: int) -> int:
        """The head's forward pass on so many tokens."""
        widths = [self.model.width, *[self.options.head_hidden] * 2,
                  self.options.head_bottleneck, self.options.prototypes]  # fmt: skip
        return sum(flops.linear(tokens, *each) for each in itertools.pairwise(widths))

    def _room(self, *masks: Masks) -> int:
        """No image has more hidden patches than this: a number of shapes alone."""
        return min(self.encoder.num_patches, max(m.targets[0].numel() for m in masks))

    def _tokens(self, images: Tensor, hide: Tensor | None = None) -> Tensor:
        """The student's tokens after the final norm, (B, N, D)."""
        outputs = encode(self.context_encoder, images, hide, self.mask_token[0])
        tokens: Tensor = self.context_encoder.norm(outputs[-1])
        return tokens

    def _temperature(self) -> Tensor:
        """The teacher's: straight from the first to the second value, then constant."""
        first, last = self.options.teacher_temp
        if not self.options.teacher_temp_warmup:
            return torch.full_like(self.progress, last)
        done = (self.progress / self.options.teacher_temp_warmup).clamp(max=1)
        return first + (last - first) * done

    def _remember(self, *logits: Tensor) -> None:
        """Add the teacher's logits (rows, K), of pooled tokens and of patches, to the sums."""
        sums = torch.stack([nn.functional.pad(x.sum(0), (0, 1), value=len(x)) for x in logits])
        kept = self.sums
        self.sums = sums.double() if kept is None else kept + sums


def _cross_entropy(target: Tensor, log_prediction: Tensor) -> Tensor:
    """- sum_k target_k log prediction_k: (..., K) -> (...)."""
    return -(target * log_prediction).sum(-1)


def create(image_size: int, model: Model, options: Options, seed: int) -> Objective:
    """The objective as a run with this seed starts it."""
    return Objective(vit.create(image_size, model, seed), model, options, seed)
