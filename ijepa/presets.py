"""Changes of ``params.yaml`` by dotted key (``mask.target_scale``), and the named sets of them.

A preset is a file of ``experiments/presets``: ``about:`` and dotted keys. Nothing heavy is
imported; whether the values are right, and fit together, is for ``ijepa.config.parse``.
"""

import copy
import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from ijepa.config import PARAMS

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
    """Refuse a dotted key that ``params.yaml``, whose keys are ``known``, does not have.

    Raises:
        ValueError: one line that names ``where``, the key and the closest one there is.
    """
    known = set(known)
    for key in changes:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
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
