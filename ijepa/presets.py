"""Changes of ``params.yaml`` by dotted key (``mask.target_scale``), and the named sets of them.

A preset is a file of ``experiments/presets``: ``about:`` and dotted keys. Nothing heavy is
imported; whether the values are right, and fit together, is for ``ijepa.config.parse``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ijepa import config
from ijepa.runtime import errors, files

FOLDER = Path("experiments/presets")


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in ``tree`` that is no section."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        found |= leaves(value, f"{dotted}.") if isinstance(value, dict) else {dotted: value}
    return found


def check(changes: Iterable[Any], where: str, known: Iterable[str]) -> None:
    """Refuse a dotted key that neither ``params.yaml`` nor any variant's ``Options`` has.

    Args:
        changes: dotted keys.
        where: they stand.
        known: the keys of ``params.yaml``. The variants are asked, which takes the seconds of
            importing torch, only for a key that is not among these.

    Raises:
        ValueError: one line that names ``where``, the key and the closest one there is.
    """
    known = set(known)
    for key in changes:
        if key not in known and key not in (declared := config.keys()):
            hint = errors.closest(key, known | declared)
            raise ValueError(f"{where}: {key}: {config.PARAMS} has no such key{hint}")


def apply(tree: dict[str, Any], changes: Mapping[str, Any], where: str) -> None:
    """Change ``tree``, the content of ``params.yaml``, in place.

    Raises:
        ValueError: no such key.
    """
    check(changes, where, leaves(tree))
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = tree
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value


def dotted(tree: Mapping[Any, Any], where: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys of an experiment or a scale, checked as by ``check``; not ``seed``."""
    check(tree, where, known)
    if "seed" in tree:
        raise ValueError(f"{where}: seed: {tree['seed']!r}: only `seeds` sets it")
    return dict(tree)


def load(name: str, folder: Path = FOLDER) -> tuple[str, dict[str, Any]]:
    """What a preset is about, and its dotted keys.

    Raises:
        ValueError: there is no such preset, or it has a key that does not exist.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ValueError(f"{folder}: {name!r} is not one of {known}")
    changes = files.read_yaml(path)
    about = str(changes.pop("about", ""))
    check(changes, str(path), leaves(files.read_yaml(config.PARAMS)))
    return about, changes
