"""Find a variant by its name: the file ``ijepa/<family>/<name>.py`` is the variant.

The name in ``params.yaml`` is the file's name, which is also what ``dvc.yaml`` depends on, so a
new variant is one file and no list has to be edited.
"""

import importlib
import pkgutil
from types import ModuleType


def names(family: str) -> list[str]:
    """The variants of a family (``datasets``, ``masks``, ``objectives`` or ``probes``), sorted."""
    package = importlib.import_module(f"ijepa.{family}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(family: str, name: str) -> ModuleType:
    """Import ``ijepa/<family>/<name>.py``.

    Raises:
        ValueError: no such variant; the message lists the ones there are.
    """
    if name not in names(family):
        raise ValueError(f"{name!r} is not one of {', '.join(names(family))}")
    return importlib.import_module(f"ijepa.{family}.{name}")
