"""data2vec for images, version 1.0 (arXiv 2202.03555): predict averaged layers of a teacher.

The student sees the whole image with a mask token in place of the embedding of each hidden patch
(Section 3.2); the teacher, its exponential moving average (equation of Section 3.3), sees the
image as it is. With a^l_i what block l of L makes of patch i and LN the LayerNorm over features
without parameters, the target of the K = ``top_layers`` last blocks is (Section 3.3, "Targets";
the second LN is the released code's, ``target_norm: none`` leaves it out)

    y_i = LN( 1/K sum_{l = L-K+1..L} LN(a^l_i) )

and f_i, one linear layer on the student's output, is compared with it over the hidden patches H
by the smooth-L1 loss (Section 3.4), of an image

    1/|H| sum_{i in H} 1/D sum_d s(f_id - y_id),  s(e) = e² / (2 beta) if |e| <= beta,
                                                         |e| - beta / 2  otherwise.

That of a batch is the mean over its images. Block *outputs* are averaged, after the residual sum,
as the released recipes for images do (``layer_results: end``).

It is data2vec with ``mask.name: blockwise`` and 120 of 196 patches hidden; under other masks H is
the union of the target blocks, and all other patches are seen.

Which network is evaluated: ``encoder`` is the teacher, as for I-JEPA, so that a difference between
the two is the objective's and not an average's; it is also what the student is trained to be like,
and the only one whose input is whole images. The original fine-tunes the student (its
checkpoints' ``model``), which is ``context_encoder``: ``evaluate.encoder: context`` probes it.

Named deviations, from sharing one encoder, one loop and one evaluation with the rivals:

- *positions* are fixed 2-D sin-cos, added once; the original has a relative position bias in
  attention, shared by all blocks, and none added (as BEiT, arXiv 2106.08254).
- *no class token*: the original carries one, without a loss, and pools patches to fine-tune.
- *LayerScale* only with ``model.layer_scale`` (original: 1e-4 for ViT-B, 1e-5 for ViT-L).
- *no drop path and no attention dropout* (original: 0.25 and 0.05 for B, 0.2 and 0.15 for L): a
  step is a function of weights and batch alone.
- *keys of attention have a bias*; BEiT's have none. It cancels in the softmax.
- *initialisation* is ``model.init``; ``beit`` is the original's.
- *exactly* the share of patches is hidden (``ijepa.masks.blockwise``), not at most that.
- *the teacher's momentum* may grow, as I-JEPA's, or be constant, as the original's after its
  start; a ViT-L of 1,600 epochs was trained in two runs with two momenta.
- *crops* are resized bilinearly; the original's bicubically.
- *the teacher's precision* is the run's; the original's is float32, beside a float16 student.
- *colour jitter* is the bench's (``ijepa.training.augment``).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ijepa import schedule, seeds
from ijepa.config import Model
from ijepa.masks import Masks
from ijepa.model import flops, vit
from ijepa.model.teacher import Teacher
from ijepa.objectives import encode, hidden
from ijepa.strict import choice, integer, once, pair, real

TITLE = "data2vec"
ABOUT = (
    "from an image with hidden patches it predicts what its own moving average, which sees the"
    " whole image, makes of them: the mean of its last layers. The moving average, the teacher, is"
    " what is evaluated."
)


@once
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keys of ``objective`` that data2vec uses."""

    top_layers: int = integer(1)  # of the teacher's, that are averaged (the original: 6)
    beta: float = real(0, above=True)  # where the loss turns from squares to moduli (original: 2)
    target_norm: str = choice("layer", "none")
    ema: tuple[float, float] = pair(0, 1)  # momentum at the first and the last step


class Objective(nn.Module):
    """The student, its linear head and the teacher with their loss."""

    def __init__(
        self, context_encoder: vit.Encoder, model: Model, options: Options, seed: int
    ) -> None:
        super().__init__()
        self.context_encoder = context_encoder
        self.teacher = Teacher(context_encoder)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, model.width))
        self.head = nn.Linear(model.width, model.width)
        generator = seeds.torch_generator(seed, "init/head")
        vit.initialise(self.head, model.init, generator)
        vit.small_normal(self.mask_token, model.init, generator)
        self.model, self.options = model, options

    @property
    def encoder(self) -> vit.Encoder:
        """The teacher; why, says the module's docstring."""
        return self.teacher.encoder

    def forward(self, images: Tensor, masks: Masks) -> Tensor:
        """The loss of a batch: images (B, 3, H, W) normalised -> scalar.

        An image without a hidden patch adds 0 to the mean.
        """
        hide = hidden(masks, self.context_encoder.num_patches)
        last = encode(self.context_encoder, images, hide, self.mask_token.flatten())[-1]
        predicted = self.head(self.context_encoder.norm(last)).float()
        each = nn.functional.smooth_l1_loss(
            predicted, self.targets(images), reduction="none", beta=self.options.beta
        ).mean(-1)  # (B, N)
        return ((each * hide).sum(1) / hide.sum(1).clamp(min=1)).mean()

    @torch.no_grad()
    def targets(self, images: Tensor) -> Tensor:
        """What is to be predicted of every patch, without gradient: float32, (B, N, D)."""
        outputs = encode(self.teacher.encoder, images)[-self.options.top_layers :]
        norm, width = nn.functional.layer_norm, (self.model.width,)
        mean = torch.stack([norm(output.float(), width) for output in outputs]).mean(0)
        return norm(mean, width) if self.options.target_norm == "layer" else mean

    def update(self, progress: float) -> dict[str, float]:
        """Move the teacher; a single ``ema`` is a constant momentum, as the original's."""
        momentum = schedule.linear(self.options.ema, progress)
        self.teacher.update(self.context_encoder, momentum)
        return {"ema": momentum}

    def flops(self, images: Tensor, masks: Masks, padding: bool = True) -> int:
        """Of the loss and its gradient; both networks compute all patches, so none is padding."""
        total, model = self.context_encoder.num_patches, self.model
        student = flops.trained_encoder(model, total)
        head = flops.trained(flops.linear(total, model.width, model.width))
        return len(images) * (student + head + flops.encoder(model, total))


def check(image_size: int, model: Model, options: Options) -> None:
    """Refuse to average more layers than there are.

    Raises:
        ValueError: ``top_layers`` is more than the encoder's depth.
    """
    if options.top_layers > model.depth:
        raise ValueError(
            f"top_layers: {options.top_layers} is more than model.depth {model.depth}"
        )


def create(image_size: int, model: Model, options: Options, seed: int) -> Objective:
    """The objective as a run with this seed starts it."""
    return Objective(vit.create(image_size, model, seed), model, options, seed)
