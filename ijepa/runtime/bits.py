"""Answers to many questions, right or wrong, as a short text: eight to a byte, in base64."""

import base64

import numpy as np
from numpy.typing import NDArray


def pack(right: NDArray[np.bool_]) -> str:
    """Bits as text: their number, and base64 of them, eight to a byte."""
    return f"{len(right)}:{base64.b64encode(np.packbits(right).tobytes()).decode()}"


def unpack(text: str) -> NDArray[np.bool_]:
    """The bits that ``pack`` made a text of."""
    count, _, packed = text.partition(":")
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed), np.uint8), count=int(count))
    return bits.astype(np.bool_)
