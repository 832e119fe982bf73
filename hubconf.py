"""The entry point of ``torch.hub``, from a checkout: nothing is downloaded."""

from pathlib import Path

from ijepa.model import vit

dependencies = ["torch", "timm", "safetensors"]


def ijepa(path: str) -> vit.Encoder:
    """An encoder that this project trained, in evaluation mode on the CPU.

    Args:
        path: a safetensors file of ``dvc repro`` or ``ijepa export --format safetensors``:
            ``torch.hub.load(".", "ijepa", path="out/encoder.safetensors", source="local")``.

    Returns:
        A module from normalised images (B, 3, H, W) to patch tokens (B, N, D).
    """
    return vit.load(Path(path))
