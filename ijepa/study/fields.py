"""Checks of what a YAML mapping holds; a mistake is one line: the place and what is allowed.

``where`` names the place: ``experiments/target_scale.yaml: variants.small``.
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from ijepa import presets
from ijepa.runtime.errors import closest
from ijepa.strict import WRONG, convert, describe


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
    for key in tree:
        if key not in kinds:
            hint = closest(key, kinds) or f"; known: {', '.join(kinds)}"
            raise ValueError(f"{where}: {key}: {tree[key]!r}: unknown key{hint}")
    made = {}
    for key, kind in kinds.items():
        wanted = "a mapping" if kind is dict else describe(kind)
        if key in tree:
            value = convert(kind, tree[key])
            scalar = isinstance(value, tuple) and not isinstance(tree[key], list)
            infinite = isinstance(value, float) and not math.isfinite(value)
            if value is WRONG or value == "" or scalar or infinite:
                raise ValueError(f"{where}: {key}: {tree[key]!r} is not {wanted}")
            made[key] = value
        elif key in needed:
            raise ValueError(f"{where}: {key}: missing; {wanted} is needed")
    return made


def one_of(name: Any, where: str, known: Collection[str]) -> None:
    """Refuse a name that is not known."""
    if name not in known:
        raise ValueError(
            f"{where}: {name!r} is not one of {', '.join(known)}{closest(name, known)}"
        )


def named(tree: Mapping[Any, Any], where: str) -> dict[str, dict[Any, Any]]:
    """A mapping from names to mappings."""
    for name, value in tree.items():
        check_name(name, where)
        if not isinstance(value, dict):
            raise ValueError(f"{where}.{name}: {value!r} is not a mapping")
    return dict(tree)


def check_name(name: Any, where: str) -> None:
    """Names of experiments, variants and points become parts of file names and of keys."""
    if not re.fullmatch("[a-z][a-z0-9_]*", str(name)):
        raise ValueError(f"{where}: {name}: is no name; a-z, 0-9 and _, a letter first")


def dotted(tree: Mapping[Any, Any], where: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that ``params.yaml``, which has the ``known`` ones, has; not ``seed``."""
    presets.check(tree, where, known)
    if "seed" in tree:
        raise ValueError(f"{where}: seed: {tree['seed']!r}: only `seeds` sets it")
    return dict(tree)
