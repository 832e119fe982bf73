"""Fields of the config's dataclasses: what they take, and how YAML's values become theirs."""

import math
import types
import typing
from collections.abc import Callable
from dataclasses import field
from typing import Any


def _allowed(text: str, check: Callable[[Any], bool]) -> Any:
    return field(metadata={"allowed": text, "check": check})


def integer(low: int, high: int | None = None) -> Any:
    """A field that takes whole numbers from ``low`` to ``high``, both included."""
    text = f"a whole number >= {low}" if high is None else f"a whole number from {low} to {high}"
    return _allowed(text, lambda v: low <= v and (high is None or v <= high))


def real(low: float, high: float = math.inf, *, above: bool = False) -> Any:
    """A field that takes numbers in [low, high], or in (low, high] with ``above``."""
    text = (
        f"a number in {'(' if above else '['}{low:g}, {high:g}{')' if high == math.inf else ']'}"
    )
    return _allowed(
        text, lambda v: (v > low if above else v >= low) and v <= high and math.isfinite(v)
    )


def reals(low: float, *, above: bool = False) -> Any:
    """A field that takes a list of numbers >= low, or > low with ``above``; one or more."""
    return _allowed(
        f"numbers {'>' if above else '>='} {low:g}, at least one",
        lambda v: bool(v) and all((x > low if above else x >= low) and x < math.inf for x in v),
    )


def interval(low: float, high: float = math.inf) -> Any:
    """A field that takes ``[a, b]``, low < a <= b <= high; the scalar ``a`` is ``[a, a]``."""
    return _allowed(
        f"a number, or [low, high], within ({low:g}, {high:g}{')' if high == math.inf else ']'}",
        lambda v: low < v[0] <= v[1] <= high and math.isfinite(v[1]),
    )


def pair(low: float, high: float = math.inf) -> Any:
    """A field that takes ``[first, last]``, each in [low, high]; scalar ``a`` is ``[a, a]``."""
    return _allowed(
        f"a number, or [first, last], within [{low:g}, {high:g}{')' if high == math.inf else ']'}",
        lambda v: all(low <= x <= high and math.isfinite(x) for x in v),
    )


def choice(*names: str) -> Any:
    """A field that takes one of the names."""
    return _allowed(f"one of {', '.join(names)}", lambda v: v in names)


def maybe(inner: Any) -> Any:
    """A field that takes null, or what ``inner``, another field, takes."""
    check = inner.metadata["check"]
    return _allowed(f"null or {inner.metadata['allowed']}", lambda v: v is None or check(v))


def text() -> Any:
    """A field that takes any text that is not empty."""
    return _allowed("a text that is not empty", bool)


WRONG = object()  # what convert returns for a value of another type


def convert(kind: Any, raw: Any) -> Any:
    """``raw`` as ``kind``; int -> float and scalar -> (a, a), so equal science is one identity."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        found = (convert(arg, raw) for arg in args)
        return next((v for v in found if v is not WRONG), WRONG)
    if origin is tuple:
        items = raw if isinstance(raw, list | tuple) else [raw] * (1 if ... in args else len(args))
        inner = [args[0]] * len(items) if ... in args else list(args)
        made = [convert(k, v) for k, v in zip(inner, items, strict=False)]
        wrong = len(inner) != len(items) or any(v is WRONG for v in made)
        return WRONG if wrong else tuple(made)
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if kind is types.NoneType:
        return None if raw is None else WRONG
    return raw if type(raw) is kind else WRONG


def describe(kind: Any) -> str:
    """A type in a user's words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if kind in words:
        return words[kind]
    if typing.get_origin(kind) is types.UnionType:
        return " or ".join(describe(arg) for arg in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        args = typing.get_args(kind)
        return (
            f"a list of {'' if ... in args else f'{len(args)} '}values, each {describe(args[0])}"
        )
    return "null" if kind is types.NoneType else str(kind)
