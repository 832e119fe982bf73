"""What an experiment claims: ``claim`` of its file, every form of it turned into pairs."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ijepa import strict


@dataclass(frozen=True, slots=True)
class Claim:
    """What the experiment tests. Without a pair it claims nothing: it explores."""

    text: str
    by: str  # paper, or us
    pairs: tuple[tuple[str, str], ...]  # variants: the better one, the worse one
    margin: float  # points by which the better one must be better
    reference: str  # the variant that the others are compared with


def parse(tree: Mapping[Any, Any], where: str, known: list[str]) -> Claim:
    """Read a claim about the ``known`` variants.

    Its form is one of ``best`` (over each other variant), ``order`` (each over the next),
    ``pairs``, and ``reference``: nothing is claimed, and the others are compared with it.

    Raises:
        ValueError: one line that names ``where``, key, value and what is allowed.
    """
    forms = {"best": str, "order": tuple[str, ...], "pairs": tuple[tuple[str, str], ...],
             "reference": str}  # fmt: skip
    optional = {"by": str, "margin": float, **forms}
    left_out: dict[str, Any] = {"by": "us", "margin": 0.0}
    got = left_out | strict.take(tree, where, {"text": str}, optional)
    strict.one_of(got["by"], f"{where}.by", ("paper", "us"))
    if got["margin"] < 0:
        raise ValueError(f"{where}.margin: {got['margin']:g} is not a number >= 0")
    given = [form for form in forms if form in got]
    if len(given) != 1:
        raise ValueError(f"{where}: {', '.join(given) or 'none'}: give one of {', '.join(forms)}")
    (form,) = given
    if form in ("best", "reference"):
        strict.one_of(got[form], f"{where}.{form}", known)
    if form == "reference":
        return Claim(got["text"], got["by"], (), got["margin"], got["reference"])
    if form == "best":
        pairs = tuple((got["best"], other) for other in known if other != got["best"])
    else:
        pairs = tuple(itertools.pairwise(got["order"])) if form == "order" else got["pairs"]
    for name in itertools.chain(*pairs):
        strict.one_of(name, f"{where}.{form}", known)
    if len({frozenset(p) for p in pairs if p[0] != p[1]}) != len(pairs) or not pairs:
        raise ValueError(f"{where}.{form}: {tree[form]!r}: two variants at least, no pair twice")
    return Claim(got["text"], got["by"], pairs, got["margin"], pairs[0][0])
