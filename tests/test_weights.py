"""A file of weights says by itself whether it is what was written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ijepa import backbones
from ijepa.backbones import _export
from ijepa.model import vit
from ijepa.runtime import weights

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor([1, 2])}


def test_tensors_and_metadata_come_back_and_equal_ones_are_equal_bytes(tmp_path: Path) -> None:
    about = {f"key{number}": "ü" * number for number in range(9)}
    for name in ("1", "2"):
        weights.save(TENSORS, tmp_path / name, about)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    (tmp_path / "3").touch()
    assert (tmp_path / "1").stat().st_mode == (tmp_path / "3").stat().st_mode
    loaded = load_file(tmp_path / "1")
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())
    read = weights.metadata(tmp_path / "1")
    assert len(read.pop(weights.KEY)) == 64
    assert read == about


@pytest.mark.parametrize("layout", ["encoder", "timm", "hf", "safetensors"])
def test_no_flipped_bit_is_loaded(
    tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the header's length, the header, the checksum, its key, or the tensors; nor a cut."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "encoder.safetensors"
    vit.save(vit.create(16, tiny().model, 0), path, {"data": "d4ta", "network": "target"})
    spec = "encoder.safetensors"
    if layout != "encoder":
        written = _export.export(spec, layout, tmp_path / "made", tiny())
        (path,) = (file for file in written if file.suffix == ".safetensors")
        spec = {"timm": "timm:local-dir:made", "hf": "huggingface:made"}.get(
            layout, "made/encoder.safetensors"
        )
    backbones.load(spec, tiny())
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    head = 8 + int.from_bytes(whole[:8], "little")
    key = whole.index(weights.KEY.encode())
    places = [*range(4), *range(key, key + len(weights.KEY) + 67)]
    places += [*rng.choice(head, 100), *rng.integers(head, len(whole), 30)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"damaged") as error:
            backbones.load(spec, tiny())
        assert path.name in str(error.value)
        assert "\n" not in str(error.value)
    for cut in (whole[:-1], whole[: len(whole) // 2], whole[:5], b""):
        path.write_bytes(cut)
        with pytest.raises(ValueError, match=rf"{path.name}: .*damaged"):
            backbones.load(spec, tiny())


def test_an_encoder_of_before_is_read_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    vit.save(vit.create(16, tiny().model, 0), new, {"network": "context"})
    with safe_open(new, framework="pt") as file:
        save_file(load_file(new), old, {"ijepa": file.metadata()["ijepa"]})
    assert json.loads(weights.metadata(old)["ijepa"])["network"] == "context"
    assert vit.metadata(old) == vit.metadata(new)
    for one, other in zip(vit.load(old).parameters(), vit.load(new).parameters(), strict=True):
        assert torch.equal(one, other)
    assert capsys.readouterr().out.count("without a checksum: not checked") == 1
