"""Changes of ``params.yaml`` by dotted key (``mask.target_scale``), and the named sets of them.

A preset is a file of ``experiments/presets``: ``about:`` and dotted keys. Nothing heavy is
imported; whether the values are right, and fit together, is for ``ijepa.config.parse``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ijepa.config import PARAMS
from ijepa.runtime import errors, files

FOLDER = Path("experiments/presets")
read = files.read_yaml


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of everything in ``tree`` that is no section."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = f"{prefix}{key}"
        found |= leaves(value, f"{dotted}.") if isinstance(value, dict) else {dotted: value}
    return found


def check(changes: Iterable[Any], where: str, known: Iterable[str]) -> None:
    """Refuse a dotted key that ``params.yaml``, whose keys are ``known``, does not have.

    Raises:
        ValueError: one line that names ``where``, the key and the closest one there is.
    """
    known = set(known)
    for key in changes:
        if key not in known:
            hint = errors.closest(key, known)
            raise ValueError(f"{where}: {key}: {PARAMS} has no such key{hint}")


def apply(tree: dict[str, Any], changes: Mapping[str, Any], where: str) -> None:
    """Change ``tree``, the content of ``params.yaml``, in place.

    Raises:
        ValueError: it has no such key.
    """
    check(changes, where, leaves(tree))
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = tree
        for part in sections:
            section = section[part]
        section[last] = value


def load(name: str, folder: Path = FOLDER) -> tuple[str, dict[str, Any]]:
    """What a preset is about, and its dotted keys, each of which ``params.yaml`` has.

    Raises:
        ValueError: there is no such preset, or it has a key that does not exist.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ValueError(f"{folder}: {name!r} is not one of {known}")
    changes = read(path)
    about = str(changes.pop("about", ""))
    check(changes, str(path), leaves(read(PARAMS)))
    return about, changes
