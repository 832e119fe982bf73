"""The trail: what differs in the weights is found at its step, and by its name."""

import zlib
from pathlib import Path

import pytest
import torch
from torch import nn

from ijepa import pretrain
from ijepa.runtime import files
from ijepa.study import parting
from ijepa.tracking.runs import TRAIL
from ijepa.training import trail


def test_a_checksum_is_of_the_bytes_of_its_tensor_alone() -> None:
    layer = nn.Linear(3, 2).double()
    layer.register_buffer("step", torch.tensor(7))  # without a dimension
    before = trail.row(5, layer)
    assert before["step"] == 5
    weight = layer.weight.detach().numpy().tobytes()
    assert before["trail"]["weight"] == f"{zlib.crc32(weight):08x}"
    assert set(before["trail"]) == {"weight", "bias", "step"}
    with torch.no_grad():
        layer.bias[1] = torch.nextafter(layer.bias[1], torch.tensor(9.0).double())  # one bit
    after = trail.row(5, layer)["trail"]
    assert [name for name in after if after[name] != before["trail"][name]] == ["bias"]
    assert trail.row(5, nn.Linear(3, 2).bfloat16())["trail"], "numpy knows no bfloat16"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of three rows; from step 4 on their second weight differs, at 6 the first too."""
    steps = {2: ("aa", "bb", "cc"), 4: ("aa", "bb", "cd"), 6: ("ab", "bb", "ce")}
    other = {2: ("aa", "bb", "cc"), 4: ("aa", "b0", "cd"), 6: ("a0", "b0", "ce")}
    for name, rows in (("one", steps), ("two", other)):
        sums = {
            step: dict(zip("xyz", (f"{text:0>8}" for text in row), strict=True))
            for step, row in rows.items()
        }
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / TRAIL, pretrain.packed(sums))
    return tmp_path / "one", tmp_path / "two"


def test_the_first_step_and_weight_that_differ_are_named(folders: tuple[Path, Path]) -> None:
    one, two = folders
    known = parting.trail(one)
    assert known is not None
    assert known["steps"] == [2, 4, 6]
    assert all(len(text) == 8 for text in known["sums"])
    assert parting.first_weights(known, (one,), one) == ""
    found = parting.first_weights(known, (one,), two)
    assert found == "the weights of step 4, equal up to step 2: y, the first of 1 of 3 tensors"
    alone = parting.first_weights(known, (), two)
    assert alone == "the weights of step 4, equal up to step 2", "a lock file names no tensor"


def test_without_a_trail_nothing_is_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    known = parting.trail(folders[0])
    assert known is not None
    assert parting.trail(tmp_path) is None
    assert parting.first_weights(known, (), tmp_path) == ""
