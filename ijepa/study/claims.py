"""What an experiment claims: ``claim`` of its file, every form of it turned into pairs."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ijepa import strict
from ijepa.study.sequential import ERROR, LOOKS

FIRST = 6  # paired seeds: with fewer one odd seed makes or breaks a t test


@dataclass(frozen=True, slots=True)
class Claim:
    """What the experiment tests. Without a pair it claims nothing: it explores."""

    text: str
    by: str  # paper, or us
    pairs: tuple[tuple[str, str], ...]  # variants: the better one, the worse one
    margin: float  # points: the smallest difference that matters, for "no difference"
    reference: str  # the variant that the others are compared with
    points: tuple[str, ...] = ()  # where it is claimed; empty: at every point
    looks: tuple[int, ...] = LOOKS  # numbers of paired seeds at which there is a verdict
    error: float = ERROR  # that a verdict is false, over all looks


def parse(tree: Mapping[Any, Any], where: str, known: list[str], points: list[str]) -> Claim:
    """Read a claim about the ``known`` variants, at all or some of the ``points``.

    Its form is one of ``best`` (over each other variant), ``order`` (each over the next),
    ``pairs``, and ``reference``: nothing is claimed, and the others are compared with it. What is
    claimed has a ``margin``, and may set ``looks``, ``error`` and ``points``.

    Raises:
        ValueError: one line that names ``where``, key, value and what is allowed.
    """
    forms = {"best": str, "order": tuple[str, ...], "pairs": tuple[tuple[str, str], ...],
             "reference": str}  # fmt: skip
    optional = {"by": str, "margin": float, "looks": tuple[int, ...], "error": float,
                "points": tuple[str, ...], **forms}  # fmt: skip
    left_out: dict[str, Any] = {
        "by": "us", "margin": 0.0, "looks": LOOKS, "error": ERROR, "points": ()
    }  # fmt: skip
    got = left_out | strict.take(tree, where, {"text": str}, optional)
    strict.one_of(got["by"], f"{where}.by", ("paper", "us"))
    for name in got["points"]:
        strict.one_of(name, f"{where}.points", points)
    design = _design(got, where)
    given = [form for form in forms if form in got]
    if len(given) != 1:
        raise ValueError(f"{where}: {', '.join(given) or 'none'}: give one of {', '.join(forms)}")
    (form,) = given
    if form in ("best", "reference"):
        strict.one_of(got[form], f"{where}.{form}", known)
    if form == "reference":
        return Claim(got["text"], got["by"], (), got["margin"], got["reference"], **design)
    check_margin(got["margin"], f"{where}.margin")
    if form == "best":
        pairs = tuple((got["best"], other) for other in known if other != got["best"])
    else:
        pairs = tuple(itertools.pairwise(got["order"])) if form == "order" else got["pairs"]
    for name in itertools.chain(*pairs):
        strict.one_of(name, f"{where}.{form}", known)
    if len({frozenset(p) for p in pairs if p[0] != p[1]}) != len(pairs) or not pairs:
        raise ValueError(f"{where}.{form}: {tree[form]!r}: two variants at least, no pair twice")
    return Claim(got["text"], got["by"], pairs, got["margin"], pairs[0][0], **design)


def check_margin(margin: float, where: str) -> None:
    """Raises ValueError: ``where`` has no difference that would matter."""
    if margin <= 0:
        raise ValueError(
            f"{where}: {margin:g} is not a number > 0: the smallest difference that matters"
        )


def _design(got: Mapping[str, Any], where: str) -> dict[str, Any]:
    looks, error = got["looks"], got["error"]
    if not looks or looks[0] < FIRST or any(a >= b for a, b in itertools.pairwise(looks)):
        allowed = f"numbers of seeds, ascending, from {FIRST} on"
        raise ValueError(f"{where}.looks: {list(looks)} is not {allowed}")
    if not 0 < error < 0.5:
        raise ValueError(f"{where}.error: {error:g} is not a number above 0 and below 0.5")
    return {"points": got["points"], "looks": looks, "error": error}
