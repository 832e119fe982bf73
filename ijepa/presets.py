"""Changes of ``params.yaml`` by dotted key (``mask.target_scale``), and the named sets of them.

A preset is a file of ``experiments/presets``: ``about:`` and dotted keys. Nothing heavy is
imported; whether the values are right, and fit together, is for ``ijepa.config.parse``.
"""

import copy
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from ijepa import config, strict

FOLDER = Path("experiments/presets")


def read(path: Path) -> dict[str, Any]:
    """A YAML 1.2 file that holds a mapping.

    Raises:
        ValueError: one line: no such file, not YAML, a key written twice, not a mapping.
    """
    try:
        tree = copy.deepcopy(_parse(path.read_text()))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; run from the repository's root") from None
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "(.*?)" with', str(error.problem))
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise ValueError(f"{path}: {key[1] if key else '?'}: written twice{where}") from None
    except YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}  # comments alone
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: {tree!r} is not a mapping")
    return tree


@functools.cache
def _parse(text: str) -> Any:
    """A file is read again and again, by every table that names its preset: 20 ms each time."""
    return YAML(typ="safe", pure=True).load(text)


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
            hint = strict.closest(key, known | declared)
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
    changes = read(path)
    about = str(changes.pop("about", ""))
    check(changes, str(path), leaves(read(config.PARAMS)))
    return about, changes
