"""Results as typed records: dataclasses to JSON and back; and the digest of JSON values."""

import dataclasses
import hashlib
import json
import math
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def plain(tree: Any) -> Any:
    """JSON values without NaN, floats to six significant digits: rounding noise is no result."""
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {f.name: plain(getattr(tree, f.name)) for f in dataclasses.fields(tree)}
    if isinstance(tree, Mapping):
        return {str(key): plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    if isinstance(tree, float):
        return float(f"{tree:.6g}") if math.isfinite(tree) else None
    return tree


def digest(tree: Any) -> str:
    """SHA-256 of JSON values, whatever the order of a mapping's keys."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def restore(kind: type[T], tree: Mapping[str, Any]) -> T:
    """A dataclass from what ``plain`` made of it.

    Fields may be dataclasses, tuples of them, mappings from strings to them, or optional. One with
    a default is newer than files that lack it.

    Raises:
        ValueError: the tree has other keys than the dataclass.
    """
    restored: T = _restore(kind, tree)
    return restored


def _has_default(field: "dataclasses.Field[Any]") -> bool:
    defaults = field.default, field.default_factory
    return any(default is not dataclasses.MISSING for default in defaults)


def _restore(kind: Any, tree: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        newer = {f.name for f in dataclasses.fields(kind) if _has_default(f)}
        other = (tree.keys() ^ hints.keys()) - (newer - tree.keys())
        if other:
            names = ", ".join(sorted(other))
            raise ValueError(f"{kind.__name__}: not of this version; it differs in {names}")
        return kind(**{n: _restore(hints[n], value) for n, value in tree.items()})
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if tree is None or any(isinstance(tree, arg) for arg in args if isinstance(arg, type)):
            return tree
        return _restore(next(arg for arg in args if arg is not type(None)), tree)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _restore(args[1], value) for key, value in tree.items()}
    if origin is tuple:
        kinds = args if Ellipsis not in args else args[:1] * len(tree)
        return tuple(_restore(part, value) for part, value in zip(kinds, tree, strict=True))
    return tree
