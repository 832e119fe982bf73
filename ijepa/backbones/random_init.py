"""The encoder of ``params.yaml`` before any training: ``random_init``, or ``random_init:SEED``."""

from ijepa.backbones import Backbone
from ijepa.backbones.ijepa import created
from ijepa.config import Config


def load(place: str, part: str, config: Config) -> Backbone:
    """The encoder that a run with ``config``'s model starts from.

    Raises:
        ValueError: the seed is not a whole number.
    """
    if part or not (place.isdecimal() or not place):
        raise ValueError(f"encoder 'random_init:{place}': {place or part!r} is not a seed")
    seed = int(place) if place else config.seeds.init
    return created(config.data.image_size, config.model, seed, kind="random_init")
