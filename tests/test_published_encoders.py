"""Weights in the layouts of the projects that publish them, written by torch.save as theirs."""

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny
from test_encoders import images, noisy, timm_model
from test_encoders import workspace as workspace
from torch import Tensor, nn

from ijepa import backbones
from ijepa.backbones import _published
from ijepa.model import vit

State = Mapping[str, Tensor]


def encoder() -> dict[str, Tensor]:
    return dict(timm_model(0).state_dict())


def prefixed(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def head() -> dict[str, Tensor]:
    """DINO's projection head."""
    return {"head.mlp.0.weight": torch.ones(4, 64), "head.last_layer.weight_v": torch.ones(9, 4)}


ARGUMENTS = argparse.Namespace(lr=0.1, output_dir="out", betas=(0.9, 0.95))
DECODER = {
    "mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 5, 8),
    "decoder_blocks.0.norm1.weight": torch.ones(8), "decoder_pred.bias": torch.ones(8),
}  # fmt: skip
# what the project's own torch.save writes -> what is said of it
LAYOUTS: dict[str, tuple[Callable[[State], Any], str]] = {
    "timm": (lambda s: s, ""),
    "mae-encoder": (lambda s: {"model": s}, "took 'model'"),
    "mae-training": (
        lambda s: {"model": {**s, **DECODER}, "optimizer": {"state": {}}, "epoch": 799,
                   "scaler": {}, "args": ARGUMENTS},
        "took 'model'; left out mask_token, decoder_pos_embed, decoder_blocks.0.norm1.weight,"
        " 1 more",
    ),
    "ibot-backbone": (lambda s: {"state_dict": s}, "took 'state_dict'"),
    "ibot-training": (
        lambda s: {
            "student": prefixed("module.", {**prefixed("backbone.", s), **head()}),
            "teacher": {**prefixed("backbone.", {**s, "masked_embed": torch.zeros(1, 64)}),
                        **head()},
            "optimizer": {}, "epoch": 1, "args": ARGUMENTS, "ibot_loss": {"center": torch.ones(1)},
        },
        "took 'teacher'; took the prefix backbone. off; left out masked_embed, head.mlp.0.weight,"
        " head.last_layer.weight_v",
    ),
    "dino-training": (
        lambda s: {"student": {}, "teacher": prefixed("module.backbone.", s), "args": ARGUMENTS},
        "took 'teacher'; took the prefix module. off; took the prefix backbone. off",
    ),
    "dinov2-training": (
        lambda s: {"teacher": {**prefixed("backbone.", s), "dino_head.mlp.0.bias": torch.ones(1),
                               "head2.bias": torch.ones(1)}},
        "took 'teacher'; took the prefix backbone. off; left out dino_head.mlp.0.bias, head2.bias",
    ),
    "dinov2": (lambda s: {**s, "mask_token": torch.zeros(1, 64)}, "left out mask_token"),
    "data-parallel": (lambda s: prefixed("module.", s), "took the prefix module. off"),
    "compiled": (lambda s: prefixed("_orig_mod.", s), "took the prefix _orig_mod. off"),
    "encoder-and-decoder": (
        lambda s: {"state_dict": {**prefixed("encoder.", s), "decoder.weight": torch.ones(3)}},
        "took 'state_dict'; took the prefix encoder. off; left out decoder.weight",
    ),
    "classifier": (
        lambda s: {**s, "head.weight": torch.ones(5, 64), "head.bias": torch.ones(5)},
        "left out head.weight, head.bias",
    ),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_file_is_the_network_in_it(
    name: str, zipped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same features as timm's flat file gives, and one line of what was taken."""
    _published._say.cache_clear()
    layout, said = LAYOUTS[name]
    torch.save(encoder(), "flat.pth")
    torch.save(layout(encoder()), "weights.pth", _use_new_zipfile_serialization=zipped)
    first, other = (
        backbones.load(f"timm:test_vit#{file}", tiny()) for file in ("flat.pth", "weights.pth")
    )
    pixels = images(first.image_size, 1)
    for one, two in zip(first.layers(pixels, 2), other.layers(pixels, 2), strict=True):
        assert torch.equal(one, two)
    backbones.load("timm:test_vit#weights.pth", tiny())
    assert capsys.readouterr().out == (f"weights.pth: {said}\n" if said else "")


@pytest.mark.parametrize(("layout", "message"), [
    (lambda s: {"model": {k: v for k, v in s.items() if k != "cls_token"}}, "missing cls_token$"),
    (lambda s: {"model": {**s, "headphones": torch.ones(1)}}, "extra headphones$"),
    (lambda s: {"model": {**s, "blocks.0.mask_token": torch.ones(1)}},
     r"extra blocks\.0\.mask_token$"),
    (lambda s: {"model": {"model": s}}, "not the weights of this network"),
    (lambda s: {"model": s, "teacher": s}, "holds 'model' and 'teacher'"),
    (lambda s: {**prefixed("backbone.", s), "neck.weight": torch.ones(1)}, r"extra neck\.weight$"),
    (lambda s: {"model": prefixed("net.", s)}, "not the weights of this network"),
])  # fmt: skip
def test_what_remains_matches_strictly(layout: Callable[[State], Any], message: str) -> None:
    torch.save(layout(encoder()), "weights.pth")
    with pytest.raises(ValueError, match=message) as error:
        backbones.load("timm:test_vit#weights.pth", tiny())
    assert "\n" not in str(error.value)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it-ran"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_arguments_are_plain_values_and_nothing_else_is(zipped: bool) -> None:
    """Also not within a Namespace, which is let in."""
    hidden = argparse.Namespace(lr=1, hook=Code())
    for content in ({"model": encoder(), "args": hidden}, {"model": encoder(), "args": Code()}):
        torch.save(content, "weights.pth", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"weights\.pth: refused: it names"):
            backbones.load("timm:test_vit#weights.pth", tiny())
        assert not Path("it-ran").exists()


@pytest.mark.parametrize("folder", ["2026-11-26T10:00:00", "run#3", "a:b#c", "plain"])
def test_a_path_that_is_there_may_have_any_name(folder: str, tmp_path: Path) -> None:
    Path(folder).mkdir()
    vit.save(vit.create(16, tiny().model, 0), Path(folder) / "encoder.safetensors", {})
    torch.save(encoder(), Path(folder) / "weights.pth")
    kind = backbones.load(f"{folder}/encoder.safetensors", tiny())
    assert (kind.kind, kind.width) == ("ijepa", 16)
    assert backbones.load(f"ijepa:{folder}/encoder.safetensors", tiny()).identity == kind.identity
    for place in (folder, tmp_path / folder):
        assert backbones.load(f"timm:test_vit#{place}/weights.pth", tiny()).kind == "timm"
    assert backbones.parts(f"meta:{folder}/weights.pth#encoder") == (
        "meta", f"{folder}/weights.pth", "encoder",
    )  # fmt: skip
    assert backbones.parts(f"huggingface:{folder}") == ("huggingface", folder, "")
    shutil.rmtree(folder)
    assert backbones.parts("meta:gone.pth.tar#encoder") == ("meta", "gone.pth.tar", "encoder")


def test_a_flat_file_may_have_a_part_named_model() -> None:
    """A network whose own tensors lie under a wrapper's name is not unwrapped."""
    network = noisy(lambda: nn.ModuleDict({"model": nn.Linear(2, 2)}))
    state = network.state_dict()
    assert _published.unwrap("x", state, state, ()) == state
