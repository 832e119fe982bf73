"""How a number is written, on every page alike.

``±`` is one thing everywhere: half the width of a 95 % interval. A standard deviation has a column
of its own, ``sd``.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ijepa import variants

NAMES = {
    "random_init": "random init",
    "pixels": "raw pixels",
    "knn": "kNN",
    "logistic": "logistic regression",
    "few_shot": "few-shot",
    "finetune": "fine-tuning",
}
NOTHING = "n/a"
_SHORT = 10  # digits of a hash that a page shows
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def spoken(name: str) -> str:
    """An identifier as a reader says it."""
    return NAMES.get(name, name.replace("_", " "))


def tuned(probe: str) -> bool:
    """Whether a probe trains the encoder itself: its accuracies are of no frozen one."""
    return bool(variants.declared("probes", probe, "NEEDS") == "network")


def method(probe: str, share: float, shots: int | None) -> str:
    """A probe as a reader says it, with the share of the labels, or the shots, it was given."""
    if shots:
        return f"{shots}-shot, first draw"  # of the most; the curve has them all
    return f"{100 * share:g} % labels, {spoken(probe)}" if share < 1 else spoken(probe)


def dataset(data: Mapping[str, Any]) -> str:
    """A run's data set as a reader calls it: a reader of files is no name, its folder's is one.

    Args:
        data: ``data`` of the parameters.
    """
    named = data["name"] not in ("folder", "parquet") or not data.get("path")
    return str(data["name"] if named else PurePosixPath(data["path"]).name or data["path"])


def epochs(count: float) -> str:
    """``1 epoch``, ``0.5 epochs``."""
    return f"{count:g} epoch" + ("" if count == 1 else "s")


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """A number, or what stands for one that is missing."""
    if value is None:
        return NOTHING
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def points(value: float | None) -> str:
    """A difference in points; one just beside zero does not look like zero."""
    return number(value, 2 if value is not None and 0 < abs(value) < 0.05 else 1, signed=True)


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """An interval, or what stands for one that is missing."""
    if low is None or high is None:
        return NOTHING
    # a limit just beside zero decides a verdict: it must not look like zero
    digits = 2 if signed and min(abs(low), abs(high)) < 0.05 else 1
    return f"[{number(low, digits, signed)}, {number(high, digits, signed)}]"


def plus_minus(value: float | None, low: float | None, high: float | None) -> str:
    """``52.1 ± 1.4``: a number and half the width of its 95 % interval, if there is one."""
    if low is None or high is None:
        return number(value)
    return f"{number(value)} ± {number((high - low) / 2)}"


def probability(p: float | None) -> str:
    """A p value as tables print it."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def scaled(value: float | None, unit: str) -> str:
    """A quantity with three digits and the unit's prefix: 1.53e12 FLOP is 1.53 TFLOP."""
    if value is None:
        return NOTHING
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}\u00a0{_PREFIXES[power]}{unit}"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return NOTHING if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def listed(numbers: Sequence[int]) -> str:
    """Whole numbers in words: four or more that follow each other as "0 to 23"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(
        f"{span[0]} to {span[-1]}" if len(span) > 3 else ", ".join(map(str, span))
        for span in spans
    )


def short(text: str | None) -> str:
    """The start of a hash, or what stands for one that is missing."""
    return text[:_SHORT] if text else NOTHING


def inert(text: Any) -> str:
    """Text for a Markdown page, in which no name is a tag, a link or an image; idempotent.

    A character reference is never part of a tag or a link.
    """
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", str(text))
    text = re.sub(r"\](?=[(\[])", "&#93;", text)
    return re.sub(r"(?m)^( *)\[(?=[^\[\]]*\]:)", r"\1&#91;", text)  # a link's definition


def markdown(text: Any) -> str:
    """Text for a cell of a Markdown table."""
    return inert(str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " "))
