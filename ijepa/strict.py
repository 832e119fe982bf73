"""What a key takes, and how YAML's values become its value; a mistake is one line.

The config's dataclasses say it by their fields (``integer``, ``real``, ...); ``take`` reads the
mappings of experiment files. ``where`` names the place: ``experiments/mine.yaml: variants.small``.
"""

import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, TypeVar

from ijepa.runtime.errors import closest

Class = TypeVar("Class", bound=type)
_CLASSES: dict[tuple[str, str], Any] = {}


def once(cls: Class) -> Class:
    """The class that the source of its module made first, however often that is executed.

    ``variants.declared`` has the ``Options`` of a module that may be imported later: then they are
    one class, and their values are equal, go by ``isinstance`` and are found by pickle.
    """
    known: Class = _CLASSES.setdefault((cls.__module__, cls.__qualname__), cls)
    return known


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


def texts() -> Any:
    """A field that takes a list of different texts, at least one."""
    return _allowed(
        "a list of different names, at least one", lambda v: bool(v) and len(set(v)) == len(v)
    )


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
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a text",
        dict: "a mapping",
        list: "a list",
    }
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


def value(
    kind: Any, raw: Any, place: str, allowed: str = "", check: Callable[[Any], bool] = bool
) -> Any:
    """``raw`` as ``kind``.

    Args:
        kind: a type, as ``convert`` takes it.
        raw: YAML's value.
        place: file and key.
        allowed: what ``check`` lets pass, in words; the type's, without.
        check: of the converted value; with ``allowed`` alone.

    Raises:
        ValueError: another type, or refused; one line.
    """
    converted = convert(kind, raw)
    if converted is WRONG or (allowed and not check(converted)):
        hint = _quoted(kind, raw, place, check if allowed else lambda _: True)
        raise ValueError(f"{place}: {raw!r} is not {allowed or describe(kind)}{hint}")
    return converted


def _quoted(kind: Any, raw: Any, place: str, check: Callable[[Any], bool]) -> str:
    """How YAML and DVC are told that ``2024`` is a text: `-S data.path=2024` writes a number."""
    items = raw if isinstance(raw, list) else [raw]
    if not any(isinstance(item, int | float) for item in items):
        return ""
    texts = [item if isinstance(item, str) else json.dumps(item) for item in items]
    intended = convert(kind, texts if isinstance(raw, list) else texts[0])
    if intended is WRONG or not check(intended):
        return ""
    written = json.dumps(texts if isinstance(raw, list) else texts[0], ensure_ascii=False)
    file, _, key = place.rpartition(": ")
    return "; as a text: " + (f"-S '{key}={written}'" if file == "params.yaml" else written)


def take(
    tree: Mapping[Any, Any],
    where: str,
    needed: Mapping[str, Any],
    optional: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The values of the known keys, each as its type; texts are not empty, numbers finite.

    Raises:
        ValueError: an unknown or missing key, or a value of another type.
    """
    kinds = {**needed, **(optional or {})}
    refuse_unknown(tree, f"{where}: ", kinds)
    values = {}
    for key, kind in kinds.items():
        if key in tree:
            values[key] = value(kind, tree[key], f"{where}: {key}", describe(kind),
                                functools.partial(_plain, tree[key]))  # fmt: skip
        elif key in needed:
            raise ValueError(f"{where}: {key}: missing; {describe(kind)} is needed")
    return values


def _plain(raw: Any, converted: Any) -> bool:
    """Whether a value is not empty and finite, and a list where it is to be one."""
    if isinstance(converted, tuple):
        return isinstance(raw, list)
    return converted != "" and not (isinstance(converted, float) and not math.isfinite(converted))


def refuse_unknown(tree: Mapping[Any, Any], place: str, known: Collection[str]) -> None:
    """Refuse a key that is not known; ``place`` goes before it."""
    for key in tree:
        if key not in known:
            hint = closest(key, known) or f"; known: {', '.join(known)}"
            raise ValueError(f"{place}{key}: {tree[key]!r}: unknown key{hint}")


def one_of(name: Any, where: str, known: Collection[str]) -> None:
    """Refuse a name that is not known."""
    if name not in known:
        raise ValueError(
            f"{where}: {name!r} is not one of {', '.join(known)}{closest(name, known)}"
        )


def named(tree: Mapping[Any, Any], where: str) -> dict[str, dict[Any, Any]]:
    """A mapping from names to mappings."""
    for name, content in tree.items():
        check_name(name, where)
        if not isinstance(content, dict):
            raise ValueError(f"{where}.{name}: {content!r} is not a mapping")
    return dict(tree)


def check_name(name: Any, where: str) -> None:
    """Names of experiments, variants and points become parts of file names and of keys."""
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        raise ValueError(f"{where}: {name}: is no name; a-z, 0-9 and _, a letter first")
