"""An encoder as a folder that timm, transformers or this project load: ``ijepa export``.

Every folder holds the weights, with where they come from in the file's metadata, the settings that
its reader needs, and a model card. Nothing of transformers is needed to write its layout.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ijepa import backbones
from ijepa.backbones import IMAGENET, Backbone, huggingface, meta
from ijepa.config import Config
from ijepa.model import vit
from ijepa.model.vit import Encoder
from ijepa.runtime import weights
from ijepa.runtime.files import write_json
from ijepa.tracking import provenance

# The architecture is spelled out: timm's names fix heads that are not the paper's
# (vit_base_patch16_gap_224 has 16). Every setting of this one is overridden.
ARCHITECTURE = "vit_base_patch16_224"

CARD = """\
---
library_name: {library}
tags: [image-feature-extraction]
---

# An encoder of images

A Vision Transformer without class token, in the form of I-JEPA's (arXiv 2301.08243), pretrained
without labels and exported by the project ijepa. Average the patch tokens for an image's features.

```python
{example}
```

| | |
|---|---|
{rows}

Images are RGB in [0, 1], normalised with mean {mean} and standard deviation {std}. The file holds
no classifier. What the features are worth, and against which baselines, is in the report of the
run that made them.
"""

EXAMPLES = {
    "timm": """\
import timm
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
features = model(images)  # patch tokens after the final norm, averaged""",
    "hf": """\
from transformers import IJepaModel
model = IJepaModel.from_pretrained("FOLDER").eval()
features = model(images).last_hidden_state.mean(1)""",
    "safetensors": """\
from pathlib import Path
from ijepa.model import vit
model = vit.load(Path("FOLDER/encoder.safetensors"))
features = model(images).mean(1)""",
}
FORMATS = tuple(EXAMPLES)


def export(spec: str, form: str, folder: Path, config: Config) -> list[Path]:
    """Write an encoder in somebody's layout.

    Args:
        spec: of the encoder, see ``ijepa.backbones.load``.
        form: one of ``FORMATS``.
        folder: where to; made if it is not there.
        config: for the kinds of encoder without a place.

    Returns:
        The files.

    Raises:
        ValueError: the folder is not empty, or the encoder cannot be opened or has no such form.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: exists and is no empty folder; nothing is overwritten")
    backbone = backbones.load(spec, config)
    network = backbone.network
    if not isinstance(network, Encoder):
        raise ValueError(
            f"{spec}: {backbone.name} has another form than I-JEPA's; only that is exported"
        )
    eps = network.norm.eps
    if form != "hf" and eps != 1e-6:
        raise ValueError(f"{spec}: LayerNorm eps {eps:g}; --format {form} has 1e-6 alone, hf any")
    if form == "hf" and network.model.layer_scale is not None:
        raise ValueError(f"{spec}: transformers' IJepaModel has no LayerScale; --format timm has")
    if form == "safetensors" and backbone.normalisation != IMAGENET:
        raise ValueError(f"{spec}: its images are not normalised as ours are; --format timm or hf")
    about = origin(spec, backbone) | {"export_format": form}
    folder.mkdir(parents=True, exist_ok=True)
    if form == "safetensors":
        vit.save(network, folder / "encoder.safetensors", about)
    elif form == "timm":
        weights.save(network.state_dict(), folder / "model.safetensors", about)
        write_json(folder / "config.json", timm_config(network, backbone))
    else:
        names = huggingface.layout(network.depth)
        tensors = huggingface.split(network.state_dict(), names)
        # transformers 4 reads no file that does not say whose tensors it holds
        weights.save(tensors, folder / "model.safetensors", about | {"format": "pt"})
        write_json(folder / "config.json", hf_config(network))
        write_json(folder / "preprocessor_config.json", hf_processor(backbone))
    (folder / "README.md").write_text(card(form, backbone, about))
    return sorted(folder.iterdir())


def origin(spec: str, backbone: Backbone) -> dict[str, str]:
    """Where an encoder comes from: network, source, and for ours data and signature.

    ``commit`` is of the code that exports. Neither a path nor a clock: equal encoders that equal
    code exports are equal files.
    """
    kind, place, part = backbones.parts(spec)
    facts = {"network": meta.NETWORKS.get(part, "not said")}
    if kind == "ijepa":
        facts = vit.metadata(Path(place))
        facts = {key: value for key, value in facts.items() if isinstance(value, str)}
    git = provenance.checkout()
    code = {"commit": git.commit + (" with changes" if git.dirty else "")}
    return facts | {"source": backbone.identity} | code


def timm_config(network: Encoder, backbone: Backbone) -> dict[str, Any]:
    """The config.json from which ``timm.create_model("local-dir:...")`` builds the network."""
    model, (mean, std) = network.model, backbone.normalisation
    return {
        "architecture": ARCHITECTURE,
        "num_classes": 0,
        "num_features": network.width,
        "global_pool": "avg",
        "model_args": {
            "img_size": network.image_size,
            "patch_size": model.patch_size,
            "embed_dim": model.width,
            "depth": model.depth,
            "num_heads": model.heads,
            "mlp_ratio": model.mlp_ratio,
            "init_values": model.layer_scale,
            "class_token": False,
            "global_pool": "avg",
            "fc_norm": False,  # the norm comes before the average
            "num_classes": 0,
        },
        "pretrained_cfg": {
            "input_size": [3, network.image_size, network.image_size],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 0.875,  # the evaluation view, see ijepa.views.centre
            "crop_mode": "center",
            "mean": mean,
            "std": std,
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def hf_config(network: Encoder) -> dict[str, Any]:
    """The config.json of transformers' IJepaModel."""
    return {
        "architectures": ["IJepaModel"],
        "model_type": "ijepa",
        "hidden_size": network.width,
        "num_hidden_layers": network.depth,
        "num_attention_heads": network.model.heads,
        "intermediate_size": network.blocks[0].mlp.fc1.out_features,  # type: ignore[union-attr]
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": network.norm.eps,  # transformers would assume 1e-12
        "image_size": network.image_size,
        "patch_size": network.model.patch_size,
        **huggingface.FIXED,
    }


def hf_processor(backbone: Backbone) -> dict[str, Any]:
    """The preprocessor_config.json: the whole image resized to the square, no crop."""
    mean, std = backbone.normalisation
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": backbone.image_size, "width": backbone.image_size},
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
    }


def card(form: str, backbone: Backbone, about: Mapping[str, str]) -> str:
    """The model card."""
    rows = {
        "width, layers": f"{backbone.width}, {backbone.depth}",
        "images": f"{backbone.image_size} × {backbone.image_size} pixels",
        **about,
    }
    mean, std = backbone.normalisation
    return CARD.format(
        library={"hf": "transformers"}.get(form, form),
        example=EXAMPLES[form],
        rows="\n".join(f"| {name} | {value} |" for name, value in rows.items()),
        mean=mean,
        std=std,
    )
