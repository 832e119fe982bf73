"""Find a variant by its name, and the code that a run of variants can reach.

The file ``ijepa/<family>/<name>.py`` is the variant: its name is the value in ``params.yaml``, so
a new variant is one file and no list has to be edited. A file whose name begins with an underscore
is a family's own helper.

What a number depends on is computed here and nowhere else: ``closure`` follows the imports of an
entry point, ``code`` hashes what it finds; checkpoints, caches, stages and lock files use it.
"""

import ast
import functools
import hashlib
import importlib
import io
import pkgutil
import sys
import tokenize
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]

# The one part that a closure leaves out. It is told of results and hands none back: with a broken
# recorder a run's bytes are the same (tests/test_tracking_journal.py).
_TOLD = "ijepa.tracking"


def names(family: str) -> list[str]:
    """The variants of a family, such as ``masks``, sorted."""
    package = importlib.import_module(f"ijepa.{family}")
    modules = pkgutil.iter_modules(package.__path__)
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def load(family: str, name: str) -> ModuleType:
    """Import ``ijepa/<family>/<name>.py``.

    Raises:
        ValueError: no such variant; the message lists the ones there are.
    """
    if name not in names(family):
        raise ValueError(f"{name!r} is not one of {', '.join(names(family))}")
    return importlib.import_module(f"ijepa.{family}.{name}")


def entries(config: Any, stage: str) -> tuple[str, ...]:
    """Where the code of a stage of a run begins: its door, and what that loads by name.

    Args:
        config: an ``ijepa.config.Config``.
        stage: ``prepare``, ``pretrain``, ``evaluate`` or ``report``.
    """
    data, evaluate = f"datasets.{config.data.name}", config.evaluate
    learner = f"masks.{config.mask.name}", f"objectives.{config.objective.name}"
    frozen = "backbones.ijepa", "backbones.pixels"
    named = {
        "prepare": (data,),
        "pretrain": ("training.loop", *learner),
        "evaluate": (
            *frozen,
            *(f"probes.{name}" for name in evaluate.probes),
            *(f"datasets.{other.name}" for other in evaluate.transfer),
        ),
        "report": (*frozen, *learner),
    }
    return stage, *named[stage]


def code(*entries: str) -> str:
    """SHA-256 of all code that can alter what the entry points compute.

    Args:
        entries: modules of this package without its name (``training.loop``), and variants that
            they load by name (``masks.multiblock``).
    """
    digest = hashlib.sha256()
    for path, content in files(*entries).items():
        digest.update(f"{path}\0{content}\0".encode())
    return digest.hexdigest()


def files(*entries: str) -> dict[str, str]:
    """Path from the repository's root -> SHA-256 of the code there, for the entries' closure."""
    return {
        module.replace(".", "/"): hashlib.sha256(_statements(module).encode()).hexdigest()
        for module in closure(*entries)
        if _statements(module)
    }


def libraries(*entries: str) -> dict[str, str]:
    """Every installed distribution that the entries' closure imports, and its version."""
    names = {name for module in closure(*entries) for name in _imports(module)[1]}
    return {name: version for name in sorted(names) if (version := _version(name))}


def closure(*entries: str) -> list[str]:
    """The modules of this package that the entries can reach by imports, themselves included.

    An import inside a function counts, and the packages that a module lies in.
    """
    seen: set[str] = set()
    queue = [f"ijepa.{entry}" for entry in entries]
    while queue:
        module = queue.pop()
        if module not in seen and not f"{module}.".startswith(f"{_TOLD}."):
            seen.add(module)
            queue += [*_imports(module)[0], *filter(None, [module.rpartition(".")[0]])]
    return sorted(seen)


def _path(module: str) -> Path:
    base = ROOT / module.replace(".", "/")
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@functools.cache
def _imports(module: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a module imports: modules of this package, and top-level names of installed ones."""
    own: set[str] = set()
    others: set[str] = set()
    for node in ast.walk(ast.parse(_path(module).read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            assert node.module
            children = [f"{node.module}.{alias.name}" for alias in node.names]
            wanted = [node.module, *children] if node.module.startswith("ijepa") else [node.module]
        elif isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        else:
            continue
        for name in wanted:
            if name.split(".")[0] != "ijepa":
                others.add(name.split(".")[0])
            elif _path(name).is_file():
                own.add(name)
    return frozenset(own), frozenset(others - sys.stdlib_module_names)


@functools.cache
def _version(name: str) -> str:
    """Of the distribution that a top-level module belongs to; nothing where none says so."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(name, [])
        return metadata.version(distributions[0]) if distributions else ""


@functools.cache
def _statements(module: str) -> str:
    """A module's source without comments, docstrings and blank lines: words alter no number."""
    text = _path(module).read_text()
    lines, docstrings, inside = text.split("\n"), _docstrings(text), set[int]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        (first, start), (last, end) = token.start, token.end
        if token.type == tokenize.COMMENT or (first, start) in docstrings:
            for row in range(first - 1, last):
                left = lines[row][:start] if row == first - 1 else ""
                lines[row] = left + (lines[row][end:] if row == last - 1 else "")
        elif token.type != tokenize.NEWLINE:  # a text over several lines: its spaces are code
            inside |= {*range(first - 1, last - 1)}
    return "\n".join(
        line if row in inside else line.rstrip()
        for row, line in enumerate(lines)
        if row in inside or line.strip()
    )


def _docstrings(text: str) -> set[tuple[int, int]]:
    """Where the docstrings of a source begin: line, from 1, and column."""
    lines, places = text.split("\n"), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                before = lines[first.lineno - 1].encode()[: first.col_offset].decode()
                if isinstance(first.value.value, str):
                    places.add((first.lineno, len(before)))
    return places
