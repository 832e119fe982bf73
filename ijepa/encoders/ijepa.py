"""An encoder that this project trained: ``ijepa:out/encoder.safetensors``.

The paper evaluates the target encoder (Appendix A.1); ``out/context_encoder.safetensors`` is the
network that it follows. The file says which of the two it holds, and so does the report.
"""

import hashlib
from pathlib import Path

import torch

from ijepa import encoder as encoders
from ijepa import environment
from ijepa.config import Config, Model
from ijepa.encoders import Backbone


def load(place: str, part: str, config: Config) -> Backbone:
    """Open a safetensors file that pretraining or ``ijepa export`` wrote.

    Raises:
        ValueError: no such file, not an encoder of ours, or a part is named: it has one network.
    """
    del config
    if part:
        raise ValueError(f"{place}#{part}: holds one encoder; leave #{part} out")
    network, path = encoders.load(Path(place)), Path(place)
    name = f"{encoders.metadata(path).get('network', 'target')} encoder of {place}"
    return of(network, name, hashlib.sha256(path.read_bytes()).hexdigest())


def of(network: encoders.Encoder, name: str, identity: str) -> Backbone:
    """An ``Encoder`` on the device in force, as a backbone."""
    encoders.place(network, torch.device(environment.hardware().device))
    size, model = network.image_size, network.model
    return Backbone(
        name=name,
        identity=identity,
        image_size=size,
        width=network.width,
        depth=network.depth,
        network=network.eval(),
        fresh=lambda seed: created(size, model, seed),
    )


def created(image_size: int, model: Model, seed: int) -> Backbone:
    """The encoder that a run with this seed starts from."""
    identity = f"random_init {seed} {image_size} {model}"
    return of(encoders.create(image_size, model, seed), f"random init, seed {seed}", identity)
