"""Encoders from elsewhere: the same features as their own libraries give, and strict files."""

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from conftest import TINY, params, tiny
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ijepa import backbones, cli
from ijepa.backbones import meta
from ijepa.backbones.ijepa import empty
from ijepa.backbones.timm import alike
from ijepa.evaluation import scores

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DEVICE": "cpu", "PRECISION": "fp32", "THREADS": "1", "MONGO_URL": "off",
        "HOME": str(tmp_path / "home"),
    }.items():  # fmt: skip
        monkeypatch.setenv(f"IJEPA_{name}", value)


def noisy(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    """Every weight is something: biases and norms at their start would hide a swap."""
    torch.manual_seed(seed)  # for the libraries' own initialisation
    module = make()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return module.eval()


def images(size: int, count: int = 2) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def normalised(raw: Tensor, mean: Any = MEAN, std: Any = STD) -> Tensor:
    centred: Tensor = raw / 255 - torch.tensor(mean)[:, None, None]
    return centred / torch.tensor(std)[:, None, None]


def close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert other.std() > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=5e-6)


def official(seed: int, width: int = 192, heads: int = 3) -> VisionTransformer:
    model: VisionTransformer = noisy(
        lambda: VisionTransformer(
            img_size=8, patch_size=4, embed_dim=width, depth=2, num_heads=heads, num_classes=0,
            class_token=False, global_pool="avg", fc_norm=False, mlp_ratio=2,
        ),
        seed,
    )  # fmt: skip
    return model


def meta_file(path: Path, width: int = 192, change: Callable[[dict[str, Any]], Any] = dict) -> str:
    """A checkpoint in Meta's layout, with what stands beside the networks."""
    networks = {"encoder": official(0, width), "target_encoder": official(1, width)}
    content: dict[str, Any] = {
        name: {f"module.{key}": value for key, value in network.state_dict().items()}
        for name, network in networks.items()
    }
    content |= {
        "predictor": {"module.mask_token": torch.zeros(1, 1, 4)},
        "opt": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
        "scaler": None, "epoch": 300, "loss": 0.1, "batch_size": 2, "world_size": 1, "lr": 0.001,
    }  # fmt: skip
    change(content["target_encoder"])
    torch.save(content, path)
    return f"meta:{path}#target_encoder"


@pytest.mark.parametrize(("part", "seed", "name"), [
    ("encoder", 0, "context encoder"), ("target_encoder", 1, "target encoder"),
])  # fmt: skip
def test_meta_gives_the_features_of_the_network_that_was_chosen(
    tmp_path: Path, part: str, seed: int, name: str
) -> None:
    path = tmp_path / "vit.pth.tar"
    meta_file(path)
    backbone = backbones.load(f"meta:{path}#{part}", tiny())
    expected = official(seed).forward_intermediates(
        normalised(images(8)), norm=True, output_fmt="NLC", intermediates_only=True
    )
    close(backbone.layers(images(8), 2), expected)
    close(backbone.layers(images(8), 1), expected[-1:])
    assert (backbone.image_size, backbone.width, backbone.depth) == (8, 192, 2)
    assert backbone.name == f"{name} of {path}"
    other = backbones.load(f"meta:{path}#{({'encoder', 'target_encoder'} - {part}).pop()}", tiny())
    assert backbone.identity != other.identity
    assert backbone.identity == backbones.load(f"meta:{path}#{part}", tiny()).identity


def test_a_random_encoder_follows_the_seed_and_has_the_same_shape(tmp_path: Path) -> None:
    for spec in (meta_file(tmp_path / "vit.pth.tar"), hf_folder(tmp_path / "hf"), timm_spec()):
        backbone = backbones.load(spec, tiny())
        assert backbone.fresh is not None
        before = torch.get_rng_state()
        first, again, other = (backbone.fresh(seed) for seed in (0, 0, 1))
        if spec.startswith("timm:"):  # the one that draws from torch's own generator
            assert torch.equal(torch.get_rng_state(), before)
        raw = images(backbone.image_size, 1)
        made = [b.layers(raw, 1)[0] for b in (first, again, other, backbone)]
        assert torch.equal(made[0], made[1])
        assert len({tuple(m.shape) for m in made}) == 1
        assert (made[0] - made[2]).abs().max() > 1e-3
        assert (made[0] - made[3]).abs().max() > 1e-3
        assert first.identity == again.identity
        assert len({b.identity for b in (first, other, backbone)}) == 3
        assert first.normalisation == backbone.normalisation


def test_meta_wants_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth.tar"
    meta_file(path)
    for part in ("", "#predictor"):
        message = f"meta:{path}#encoder or meta:{path}#target_encoder"
        with pytest.raises(ValueError, match=re.escape(message)):
            backbones.load(f"meta:{path}{part}", tiny())
    torch.save({"state_dict": {}, "epoch": 1}, path)
    with pytest.raises(ValueError, match=r"no 'encoder' in it, but state_dict, epoch$"):
        backbones.load(f"meta:{path}#encoder", tiny())


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("module.blocks.1.norm2.bias"), r"missing blocks\.1\.norm2\.bias$"),
    (lambda s: s.update({"module.cls_token": torch.zeros(1)}), r"extra cls_token$"),
    (lambda s: s.update({f"module.x{n}": 1 for n in range(5)}), "extra x0, x1, x2, 2 more$"),
    (lambda s: s.update({"module.norm.bias": torch.zeros(5)}),
     r"of another shape norm\.bias \(5, not 192\)$"),
    (lambda s: s.update({"module.norm.bias": torch.zeros(192, dtype=torch.int64)}),
     r"norm\.bias \(torch\.int64 192, not 192\)$"),
    (lambda s: s.update({"module.norm.bias": "x"}), r"norm\.bias \(str, not 192\)$"),
    (lambda s: s.pop("module.pos_embed"), "pos_embed: missing"),
    (lambda s: s.update({"module.pos_embed": torch.zeros(1, 5, 192)}), "5 patches of 4×4 make no"),
    (lambda s: s.update({"module.blocks.9.norm2.bias": torch.zeros(192)}),
     r"missing .*extra blocks\.9\.norm2\.bias"),
])  # fmt: skip
def test_meta_is_strict(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        backbones.load(meta_file(tmp_path / "vit.pth.tar", change=change), tiny())
    assert "\n" not in str(error.value)
    assert str(tmp_path / "vit.pth.tar") in str(error.value)


def test_meta_knows_the_heads_of_the_official_widths_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"width 24 is none of Meta's \(192, 384, 768, 1024, "):
        backbones.load(meta_file(tmp_path / "vit.pth.tar", 24), tiny())
    assert meta.HEADS == {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}


@pytest.mark.parametrize("hidden", [6144, *range(21, 60)])
def test_the_ratio_of_the_mlp_gives_its_width_back(hidden: int) -> None:
    """6144 of 1408 is ViT-g's 48 / 11; 7 * (hidden / 7) often lies just below hidden."""
    width = 1408 if hidden == 6144 else 28
    network = empty(4, 4, width, 1, 2, hidden)
    assert network.state_dict()["blocks.0.mlp.fc1.weight"].shape == (hidden, width)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("it-ran"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "vit.pth.tar"
    content = {"encoder": {"module.norm.bias": torch.zeros(1)}, "target_encoder": Code()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for spec in (f"meta:{path}#encoder", f"timm:test_vit#{path}"):
        with pytest.raises(ValueError, match=r"refused: it names \S+, and only tensors") as error:
            backbones.load(spec, tiny())
        assert "\n" not in str(error.value)
        assert "weights_only" not in str(error.value)
    assert not Path("it-ran").exists()
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(ValueError, match=r"vit\.pth\.tar: "):
        backbones.load(f"meta:{path}#encoder", tiny())
    assert not Path("it-ran").exists()
    pickle.loads(path.read_bytes())
    assert Path("it-ran").exists()  # so it would have


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "vit.pth.tar"
    with pytest.raises(ValueError, match=r"vit\.pth\.tar: no such file, and nothing is downl"):
        backbones.load(f"meta:{path}#encoder", tiny())
    meta_file(path)
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:3000], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"vit\.pth\.tar: no file of weights, or damaged"):
            backbones.load(f"meta:{path}#encoder", tiny())
    (tmp_path / "x.safetensors").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"x\.safetensors: not safetensors, or damaged"):
        backbones.load(f"timm:test_vit#{tmp_path / 'x.safetensors'}", tiny())


def hf_model(kind: str = "IJepaModel", eps: float = 1e-6) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.IJepaConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        image_size=8, patch_size=4, layer_norm_eps=eps,
    )  # fmt: skip
    return noisy(lambda: getattr(transformers, kind)(config))


def hf_folder(folder: Path, kind: str = "IJepaModel", eps: float = 1e-6) -> str:
    hf_model(kind, eps).save_pretrained(folder)
    return f"huggingface:{folder}"


def hf_layers(model: Any, pixels: Tensor) -> list[Tensor]:
    base = getattr(model, "ijepa", model)
    with torch.no_grad():
        found = base(pixels, output_hidden_states=True)
        return [base.layernorm(found.hidden_states[-2]), found.last_hidden_state]


@pytest.mark.parametrize("kind", ["IJepaModel", "IJepaForImageClassification"])
@pytest.mark.parametrize("names", ["4", "5", "sharded"])
@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_hugging_face_gives_transformers_own_features(
    tmp_path: Path, kind: str, names: str, eps: float
) -> None:
    """An eps of 0.1 shows in any image: one of 1e-12 would hide."""
    folder, model = tmp_path / "hf", hf_model(kind, eps)
    model.save_pretrained(folder, max_shard_size="4KB" if names == "sharded" else "1GB")
    shards = sorted(folder.glob("*.safetensors"))
    assert (len(shards) > 1) == (names == "sharded")
    written = [name for shard in shards for name in load_file(shard)]
    assert any("encoder.layer.0.attention.attention.query" in name for name in written)
    if names == "5":
        save_file(model.state_dict(), shards[0])
        assert any("layers.0.attention.q_proj" in name for name in load_file(shards[0]))
    backbone = backbones.load(f"huggingface:{folder}", tiny())
    close(backbone.layers(images(8), 2), hf_layers(model, normalised(images(8))))
    assert (backbone.image_size, backbone.width, backbone.depth) == (8, 16, 2)


def test_hugging_face_reads_the_normalisation_beside_the_weights(tmp_path: Path) -> None:
    spec, processor = hf_folder(tmp_path), tmp_path / "preprocessor_config.json"
    plain = backbones.load(spec, tiny())
    about = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.3, 0.2, 0.1]}
    processor.write_text(json.dumps(about))
    other = backbones.load(spec, tiny())
    assert other.normalisation == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    assert other.identity != plain.identity
    expected = hf_layers(hf_model(), normalised(images(8), *about.values()))
    close(other.layers(images(8), 2), expected)
    processor.write_text(json.dumps({"image_std": [0.3, 0, 0.1]}))
    with pytest.raises(ValueError, match=r"image_std: \[0\.3, 0, 0\.1\] is not one number for ea"):
        backbones.load(spec, tiny())


@pytest.mark.parametrize(("change", "message"), [
    ({"model_type": "vit"}, "model_type: 'vit' is not 'ijepa'"),
    ({"hidden_act": "relu"}, "hidden_act: 'relu' is not 'gelu'"),
    ({"num_attention_heads": 3}, "width 16, 3 heads"),
    ({"hidden_size": "16"}, "hidden_size: '16' is not a whole number > 0"),
    ({"layer_norm_eps": -1.0}, r"layer_norm_eps: -1\.0 is not a number in \(0, 1\)"),
    ({"num_hidden_layers": 3}, "missing encoder.layer.2.layernorm_before.weight"),
    ({"num_hidden_layers": 1}, "extra encoder.layer.1.attention.attention.key.bias"),
    ({"intermediate_size": 32}, r"of another shape \S+intermediate.dense.weight \(24×16, not 32×"),
])  # fmt: skip
def test_hugging_face_settings_are_checked(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    spec, path = hf_folder(tmp_path), tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message) as error:
        backbones.load(spec, tiny())
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_hugging_face_folders_are_strict(tmp_path: Path) -> None:
    spec, path = hf_folder(tmp_path), tmp_path / "model.safetensors"
    whole = load_file(path)
    save_file({k: v for k, v in whole.items() if k != "layernorm.bias"}, path)
    with pytest.raises(ValueError, match=r"missing layernorm\.bias$"):
        backbones.load(spec, tiny())
    save_file(whole | {"embeddings.cls_token": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"extra embeddings\.cls_token$"):
        backbones.load(spec, tiny())
    save_file(whole | {"classifier.bias": torch.zeros(1)}, path)
    backbones.load(spec, tiny())
    path.unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: no such file"):
        backbones.load(spec, tiny())
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"norm.bias": "../secret.safetensors"}}))
    with pytest.raises(ValueError, match=r"secret\.safetensors' is no safetensors file beside"):
        backbones.load(spec, tiny())
    with pytest.raises(ValueError, match=r"elsewhere/config\.json: no such file"):
        backbones.load("huggingface:elsewhere", tiny())


def timm_model(classes: int = 5) -> Any:
    return noisy(lambda: timm.create_model("test_vit", num_classes=classes))


def timm_spec(classes: int = 5, suffix: str = "safetensors") -> str:
    path = Path(f"weights.{suffix}").resolve()
    state = timm_model(classes).state_dict()
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    return f"timm:test_vit#{path}"


@pytest.mark.parametrize(("classes", "suffix"), [(5, "safetensors"), (0, "pth")])
def test_timm_gives_timms_own_patch_tokens(classes: int, suffix: str) -> None:
    backbone, model = backbones.load(timm_spec(classes, suffix), tiny()), timm_model(classes)
    about = model.pretrained_cfg
    size = about["input_size"][1]
    pixels = normalised(images(size, 1), about["mean"], about["std"])
    with torch.no_grad():
        expected = model.forward_intermediates(
            pixels, norm=True, output_fmt="NLC", intermediates_only=True
        )
        close(backbone.layers(images(size, 1), 3), expected[-3:])
        whole = model.forward_features(pixels)
    torch.testing.assert_close(backbone.layers(images(size, 1), 1)[0], whole[:, 1:])
    assert whole.shape[1] == (size // 16) ** 2 + 1  # the class token is what is dropped
    assert (backbone.image_size, backbone.width, backbone.depth) == (size, 64, len(expected))
    assert backbone.normalisation == (tuple(about["mean"]), tuple(about["std"]))


def test_timms_own_folder(tmp_path: Path) -> None:
    args = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = noisy(lambda: timm.create_model("test_vit", num_classes=3, **args))
    folder = tmp_path / "made"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    mean, std = [0.5, 0.4, 0.3], [0.3, 0.2, 0.1]
    about = {"input_size": [3, 32, 32], "mean": mean, "std": std, "classifier": "head"}
    settings = {"architecture": "test_vit", "num_classes": 3, "model_args": args}
    path = folder / "config.json"
    path.write_text(json.dumps(settings | {"pretrained_cfg": about}))
    backbone = backbones.load(f"timm:local-dir:{folder}", tiny())
    with torch.no_grad():
        expected = model.forward_features(normalised(images(32), mean, std))[:, 1:]
    close(backbone.layers(images(32), 1), [expected])
    assert backbone.normalisation == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    path.write_text(json.dumps(settings | {"pretrained_cfg": about, "model_args": {"wings": 2}}))
    with pytest.raises(ValueError, match=r"timm cannot build it .*wings"):
        backbones.load(f"timm:local-dir:{folder}", tiny())
    with pytest.raises(ValueError, match=r"needs config\.json and model\.safetensors or"):
        backbones.load(f"timm:local-dir:{tmp_path}", tiny())


@pytest.mark.parametrize(("spec", "message"), [
    ("timm:test_vit", "name a file of its weights, timm:test_vit#FILE; nothing is downloaded"),
    ("timm:test_vitt#x.pth", r"has no 'test_vitt'; did you mean .*test_vit"),
    ("timm:hf-hub:a/b#x.pth", "has no 'hf-hub:a/b'"),
    ("timm:test_vit.nothing#x.pth", "timm cannot build it"),
    ("timm:test_vit#x.pth", r"x\.pth: no such file, and nothing is downloaded"),
    ("nothing:x", "with KIND one of huggingface, ijepa, meta, pixels, random_init, timm"),
])  # fmt: skip
def test_specs_that_name_nothing_are_one_line(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        backbones.load(spec, tiny())
    assert "\n" not in str(error.value)


def test_timm_is_strict(tmp_path: Path) -> None:
    spec, path = timm_spec(), tmp_path / "weights.safetensors"
    whole = load_file(path)
    save_file({k: v for k, v in whole.items() if k != "cls_token"}, path)
    with pytest.raises(ValueError, match=r"weights\.safetensors: .* missing cls_token$"):
        backbones.load(spec, tiny())
    save_file(whole | {"headphones": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"extra headphones$"):
        backbones.load(spec, tiny())
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no weights by name, but list"):
        backbones.load(f"timm:test_vit#{tmp_path / 'list.pth'}", tiny())


def test_a_network_without_patch_tokens_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    with pytest.raises(ValueError, match="timm gives no patch tokens of this model"):
        backbones.load(f"timm:test_resnet#{path}", tiny())


def test_of_a_pyramid_only_the_last_stage_counts() -> None:
    assert alike([(1, 16, 8), (1, 4, 16), (1, 4, 16)]) == 2
    assert alike([(1, 4, 16)] * 3) == 3
    assert alike([(1, 4, 16), (1, 4, 8), (1, 4, 16)]) == 1


@pytest.mark.parametrize("text", ["[a", "{a: 1, a: 2}", "@x", "a: b: c", "\0", "2020-13-45"])
def test_a_change_that_is_no_yaml_is_one_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    YAML(typ="safe", pure=True).dump(params(**TINY), Path("params.yaml"))
    assert cli.main(["evaluate", "--encoder", "pixels", "-S", f"data.name={text}"]) == 2
    _, line = capsys.readouterr().err.splitlines()
    allowed = "is not YAML, such as cifar10, 0.2 or [linear, knn]"
    assert line == f"error: -S: data.name: {text!r} {allowed}"


def test_evaluation_of_an_encoder_from_elsewhere(
    tmp_path: Path, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The brighter half of an image is plain even to a random network with token means."""
    YAML(typ="safe", pure=True).dump(params(**TINY), Path("params.yaml"))
    Path("data").mkdir()
    shutil.copytree(store_path, "data/prepared")
    spec = meta_file(tmp_path / "vit.pth.tar")
    assert cli.main(["evaluate", "--encoder", spec, "--out", "found"]) == 0
    made = json.loads(Path("found/evaluation.json").read_text())
    assert made["encoder"] == f"target encoder of {tmp_path / 'vit.pth.tar'}"
    assert made["encoders"] == ["trained", "random_init", "pixels"]
    assert made["n"]["test"] == 32
    assert made["tasks"]["class"]["linear"]["trained"]["accuracy"] > 60
    assert scores.verify(Path("found"), Path("found/metrics.json")) == []
    capsys.readouterr()
    assert cli.main(["evaluate", "--encoder", spec.partition("#")[0]]) == 2
    begun, err = capsys.readouterr().err.splitlines()
    assert begun.startswith("evaluating ")
    assert err.startswith("error: encoder 'meta:")
