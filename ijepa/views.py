"""What an objective sees of an image: one view, or as many as it declares (``objectives/``)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """One random view of every image: a crop resized to a square.

    Attributes:
        size: side of the square in pixels.
        crop_scale: range of the crop's share of the image's area.
        masked: whether the view gets masks of its own.
    """

    size: int
    crop_scale: tuple[float, float]
    masked: bool
