"""Loss and gradients of data2vec and iBOT against numbers that the authors' released code gave.

Weights, images and masks are formulas, so that any program can have the same; docs/objectives.md
says what was run, and by how much all parameters' gradients differed.
"""

from typing import Any

import pytest
import torch
from conftest import tiny
from test_data2vec import DATA2VEC
from test_ibot import IBOT, masks
from test_model import make
from torch import Tensor, nn

from ijepa.config import Config

HIDDEN = (({0, 5, 10, 15, 3}, {1, 2, 6, 7, 11}), ({4, 8, 9}, set()))  # view, image


def wave(shape: torch.Size | tuple[int, ...], phase: float) -> Tensor:
    """Numbers of [-1, 1] that look irregular: float32 of the sine of 0.7 n² + phase."""
    n = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.7 * n * n + phase).reshape(shape).float()


def set_weights(objective: nn.Module) -> None:
    """Student and teacher get different ones; keys have no bias, as in data2vec's code."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(objective.named_parameters()):
            parameter.copy_(0.2 * wave(parameter.shape, number))
            if (".norm" in f".{name}" and name.endswith("weight")) or "gamma" in name:
                parameter.add_(1)
            if name.endswith("qkv.bias"):
                parameter[len(parameter) // 3 : 2 * len(parameter) // 3] = 0


def batch(views: int) -> list[Tensor]:
    """Views of two images."""
    return [wave((2, 3, 16, 16), 100 + view) for view in range(views)]


def projected(objective: nn.Module, names: tuple[str, ...]) -> list[float]:
    """Each parameter's gradient along a wave, so that neither its sign nor its place is lost."""
    gradients = dict(objective.named_parameters())
    found = []
    for name in names:
        gradient = gradients[name].grad
        assert gradient is not None
        found.append((gradient.double() * wave(gradient.shape, 7).double()).sum().item())
    return found


PARAMETERS = (
    "context_encoder.patch_embed.proj.weight", "context_encoder.blocks.0.norm1.weight",
    "context_encoder.blocks.0.attn.qkv.weight", "context_encoder.blocks.1.attn.proj.weight",
    "context_encoder.blocks.1.mlp.fc1.weight", "context_encoder.blocks.1.mlp.fc2.bias",
    "context_encoder.norm.bias", "mask_token",
)  # fmt: skip


def data2vec(beta: float) -> Config:
    return tiny(**{**DATA2VEC, "objective.beta": beta, "model.layer_scale": 0.1})


# engine_for_cyclical.train_one_epoch with modeling_cyclical's network, whose class token no patch
# may attend to: mean of the last two blocks' outputs, each normalised, normalised again
DATA2VEC_RELEASED: dict[float, tuple[float, list[float]]] = {
    2.0: (0.282556504, [-0.0053109621, -0.0062860938, 0.042743381, -0.0056951113, 0.0045645484,
        -0.022631864, -0.036046285, 0.0067118348, 0.24812059, 0.023676846]),
    0.1: (0.834310532, [-0.020523289, -0.011667815, 0.13688634, -0.0079319278, 0.019432973,
        -0.043524802, -0.055650964, 0.036518025, 0.51605915, 0.084031612]),
}  # fmt: skip


@pytest.mark.parametrize("beta", DATA2VEC_RELEASED)
def test_data2vecs_loss_and_gradient_are_the_released_codes(beta: float) -> None:
    loss, gradients = DATA2VEC_RELEASED[beta]
    objective: Any = make(data2vec(beta))
    set_weights(objective)
    value = objective(*batch(1), masks(*HIDDEN[0]))
    value.backward()
    assert value.item() == pytest.approx(loss, rel=1e-6)
    found = projected(objective, (*PARAMETERS, "head.weight", "head.bias"))
    assert found == pytest.approx(gradients, rel=2e-5, abs=3e-6)


def ibot() -> Config:
    return tiny(**{**IBOT, "objective.local_size": 16, "objective.freeze_prototypes": 0.1})


# iBOTLoss, iBOTHead with shared prototypes and MultiCropWrapper, with the mean of the patches in
# place of the class token: in the first epoch, when the prototypes do not learn, and later
IBOT_RELEASED: dict[float, tuple[float, list[float], list[float]]] = {
    0.0: (0.205302119, [-0.21683586, 0.022521137, -0.31221882, 0.23351739, -0.024816716,
        0.058240236, 0.21786864, -0.1107655, -1.7333892, 3.4337122, 0], [-0.21569289,
        -0.31162285]),
    0.9: (0.256826311, [-0.20994081, 0.021484689, -0.2996148, 0.22388175, -0.030472162,
        0.061526753, 0.21199126, -0.10489901, -1.649302, 3.2504183, 0.041294522], [-0.21569289,
        -0.31162285]),
}  # fmt: skip


@pytest.mark.parametrize("progress", IBOT_RELEASED)
def test_ibots_loss_gradient_and_centres_are_the_released_codes(progress: float) -> None:
    loss, gradients, centres = IBOT_RELEASED[progress]
    objective: Any = make(ibot())
    set_weights(objective)
    objective.progress.fill_(progress)
    objective.centres.copy_(0.1 * wave((2, 20), 3))
    value = objective(*batch(4), *(masks(*view) for view in HIDDEN))
    value.backward()
    assert value.item() == pytest.approx(loss, rel=1e-6)
    names = (*PARAMETERS, "head.mlp.0.weight", "head.mlp.4.bias", "head.prototypes")
    assert projected(objective, names) == pytest.approx(gradients, rel=2e-5, abs=3e-6)
    objective.update(0.5)
    found = (objective.centres.double() * wave((2, 20), 5).double()).sum(1).tolist()
    assert found == pytest.approx(centres, rel=1e-5)
