"""Exported folders: timm, transformers and this project read them, and see the same features."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import ROOT, TINY, params, tiny
from ruamel.yaml import YAML
from safetensors import safe_open
from safetensors.torch import save_file
from test_encoders import close, hf_folder, hf_layers, images, meta_file, normalised, timm_spec
from torch import Tensor

from ijepa import backbones, cli
from ijepa.backbones import IMAGENET
from ijepa.backbones._export import FORMATS, export
from ijepa.config import Config
from ijepa.model import vit
from ijepa.runtime.files import sha256


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"DEVICE": "cpu", "PRECISION": "fp32", "THREADS": "1"}.items():
        monkeypatch.setenv(f"IJEPA_{name}", value)
    YAML(typ="safe", pure=True).dump(params(**TINY), Path("params.yaml"))
    Path("out").mkdir()
    made = vit.create(16, tiny().model, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():  # biases and norms at their start would hide a swap
            parameter.add_(0.1 * torch.randn(parameter.shape))
    about = {"data": "d4ta", "signature": "s1gn", "network": "context"}
    vit.save(made, Path("out/encoder.safetensors"), about)


SPEC = "out/encoder.safetensors"
SPECS = {"timm": "timm:local-dir:made", "hf": "huggingface:made",
         "safetensors": "made/encoder.safetensors"}  # fmt: skip


def features(spec: str, config: Config) -> list[Tensor]:
    backbone = backbones.load(spec, config)
    return backbone.layers(images(backbone.image_size), 2)


@pytest.mark.parametrize("form", FORMATS)
def test_there_and_back(form: str) -> None:
    files = export(SPEC, form, Path("made"), tiny())
    assert "README.md" in {file.name for file in files}
    close(features(SPECS[form], tiny()), features(SPEC, tiny()))


def test_timm_loads_it_itself() -> None:
    export(SPEC, "timm", Path("made"), tiny())
    model = timm.create_model("local-dir:made", pretrained=True).eval()
    about = model.pretrained_cfg
    pixels = normalised(images(16), about["mean"], about["std"])
    with torch.no_grad():
        close([model.forward_features(pixels)], features(SPEC, tiny())[-1:])
        pooled = features(SPEC, tiny())[-1].mean(1)
        torch.testing.assert_close(model(pixels), pooled, rtol=0, atol=5e-6)
    assert model.blocks[0].attn.num_heads == tiny().model.heads
    assert about["input_size"] == (3, 16, 16) or about["input_size"] == [3, 16, 16]


def test_transformers_loads_it_itself() -> None:
    transformers = pytest.importorskip("transformers")
    export(SPEC, "hf", Path("made"), tiny())
    model, info = transformers.IJepaModel.from_pretrained("made", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.config.layer_norm_eps == 1e-6
    close(features(SPEC, tiny()), hf_layers(model.eval(), normalised(images(16))))
    processor = json.loads(Path("made/preprocessor_config.json").read_text())
    assert processor["size"] == {"height": 16, "width": 16}
    assert processor["image_mean"] == [0.485, 0.456, 0.406]
    with safe_open("made/model.safetensors", "pt") as file:
        assert "encoder.layer.0.attention.attention.query.weight" in file.keys()  # noqa: SIM118
        assert file.metadata()["format"] == "pt"  # transformers 4 wants to be told


@pytest.mark.parametrize("form", FORMATS)
def test_it_says_where_it_comes_from(form: str) -> None:
    export(SPEC, form, Path("made"), tiny())
    (weights,) = Path("made").glob("*.safetensors")
    with safe_open(weights, "pt") as file:
        about = file.metadata()
    if form == "safetensors":
        about = json.loads(about["ijepa"])
    expected = {"data": "d4ta", "signature": "s1gn", "network": "context", "export_format": form,
                "source": sha256(Path(SPEC))}  # fmt: skip
    assert expected.items() <= about.items()
    card = Path("made/README.md").read_text()
    for name, value in expected.items():
        assert f"| {name} | {value} |" in card
    assert "FOLDER" in card


@pytest.mark.parametrize("form", FORMATS)
def test_the_example_of_its_card_gives_its_features(form: str) -> None:
    pytest.importorskip("transformers" if form == "hf" else "timm")
    export(SPEC, form, Path("made"), tiny())
    example = Path("made/README.md").read_text().split("```")[1].removeprefix("python\n")
    names: dict[str, Any] = {"images": normalised(images(16), *IMAGENET)}
    with torch.no_grad():
        exec(example.replace("FOLDER", "made"), names)
    pooled = features(SPEC, tiny())[-1].mean(1)
    torch.testing.assert_close(names["features"], pooled, rtol=0, atol=5e-6)


@pytest.mark.parametrize("form", FORMATS)
def test_equal_encoders_are_equal_files(form: str) -> None:
    """safetensors writes metadata in an order that changes: seven keys would show it."""
    made = [{f.name: f.read_bytes() for f in export(SPEC, form, Path(f"made{n}"), tiny())}
            for n in range(4)]  # fmt: skip
    assert made[0] == made[1] == made[2] == made[3]


def test_an_encoder_from_elsewhere_is_exported_too(tmp_path: Path) -> None:
    spec = meta_file(tmp_path / "vit.pth.tar")
    for form, found in SPECS.items():
        folder = Path(form)
        export(spec, form, folder, tiny())
        close(features(found.replace("made", form), tiny()), features(spec, tiny()))
    assert vit.metadata(Path("safetensors/encoder.safetensors"))["network"] == "target"
    assert str(tmp_path) not in Path("hf/README.md").read_text()


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    odd = hf_folder(tmp_path / "odd", eps=0.1)
    for form in ("timm", "safetensors"):
        with pytest.raises(ValueError, match=r"LayerNorm eps 0\.1; --format"):
            export(odd, form, Path("made"), tiny())
    export(odd, "hf", Path("again"), tiny())
    close(features("huggingface:again", tiny()), features(odd, tiny()))
    spec = hf_folder(tmp_path / "grey")
    about = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    Path("grey/preprocessor_config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="not normalised as ours are"):
        export(spec, "safetensors", Path("made"), tiny())
    assert not Path("made").exists()
    export(spec, "timm", Path("made"), tiny())
    close(features("timm:local-dir:made", tiny()), features(spec, tiny()))


def test_only_encoders_of_our_kind_are_exported() -> None:
    for spec in ("pixels", timm_spec()):
        with pytest.raises(ValueError, match="has another form than I-JEPA's; only that"):
            export(spec, "hf", Path("made"), tiny())
    assert not Path("made").exists()


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", "--format", "timm", "made"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == ["made/README.md", "made/config.json", "made/model.safetensors"]

    def refused(*args: str) -> str:
        assert cli.main(["export", "--format", "hf", *args]) == 2
        begun, err = capsys.readouterr().err.splitlines()
        assert begun.startswith("exporting ")
        assert err.startswith("error: ")
        return err

    before = {path: path.read_bytes() for path in Path("made").iterdir()}
    assert "made: exists and is no empty folder" in refused("made")
    assert "params.yaml: exists and is no empty folder" in refused("params.yaml")
    assert {path: path.read_bytes() for path in Path("made").iterdir()} == before
    assert "nowhere.safetensors: no such file" in refused("--encoder", "nowhere.safetensors", "x")
    save_file({"a": torch.zeros(1)}, "other.safetensors")
    assert "holds no ijepa encoder" in refused("--encoder", "other.safetensors", "x")
    Path("x").mkdir()
    assert cli.main(["export", "--format", "hf", "x"]) == 0


def test_the_entry_point_of_torch_hub() -> None:
    model: Any = torch.hub.load(str(ROOT), "ijepa", path=SPEC, source="local")
    with torch.no_grad():
        close([model(normalised(images(16)))], features(SPEC, tiny())[-1:])
