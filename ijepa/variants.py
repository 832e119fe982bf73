"""Find a variant by its name, and the code that a run of variants can reach.

The file ``ijepa/<family>/<name>.py`` is the variant: its name is the value in ``params.yaml``, so
a new variant is one file and no list has to be edited. A file whose name begins with an underscore
is a family's own helper. ``load`` imports a variant; ``declared`` has what it says of itself, the
keys of its options and what it refuses, without the libraries that the rest of it needs.

What a number depends on is computed here and nowhere else: ``closure`` follows the imports of an
entry point, ``code`` hashes what it finds; checkpoints, caches, stages and lock files use it.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import io
import pkgutil
import sys
import tokenize
from collections.abc import Mapping
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]

# What a closure leaves out. The recorder is told of results and hands none back: with a broken one
# a run's bytes are the same (tests/test_tracking_journal.py). The pre-flight refuses or lets pass,
# and touches nothing that a run depends on (tests/test_preflight.py).
_TOLD = ("ijepa.tracking.", "ijepa.preflight.")


def names(family: str) -> list[str]:
    """The variants of a family, such as ``masks``, sorted."""
    modules = pkgutil.iter_modules(_folders(f"ijepa.{family}"))
    return sorted(module.name for module in modules if not module.name.startswith("_"))


def load(family: str, name: str) -> ModuleType:
    """Import ``ijepa/<family>/<name>.py``.

    Raises:
        ValueError: no such variant; the message lists the ones there are.
    """
    _refuse_unknown(family, name)
    return importlib.import_module(f"ijepa.{family}.{name}")


def declared(family: str, name: str, what: str) -> Any:
    """What a variant's file binds to a name at its top, such as ``Options``; None without one.

    To check params.yaml takes the options of all variants, and to import them would load torch,
    timm and pyarrow: 5 CPU seconds for some ranges. Here only those statements of a file are
    executed that the name needs; what they import is imported. So the options stay in their
    variant's one file, and its imports where one looks for them.

    Raises:
        ValueError: no such variant; the message lists the ones there are.
    """
    _refuse_unknown(family, name)
    return _declared(f"ijepa.{family}.{name}", what)


def _refuse_unknown(family: str, name: str) -> None:
    if name not in names(family):
        raise ValueError(f"{name!r} is not one of {', '.join(names(family))}")


def _folders(package: str) -> list[str]:
    """Where Python looks for a package's modules; nothing is imported but what it lies in."""
    spec = importlib.util.find_spec(package)
    assert spec is not None, package
    assert spec.submodule_search_locations is not None, package
    return spec.submodule_search_locations


@functools.cache
def _declared(module: str, name: str) -> Any:
    """``declared`` of a module of a family. What is the family's own is read in the same way."""
    family = ".".join(module.split(".")[:2])
    spec = importlib.util.find_spec(family)
    if module != family:
        spec = PathFinder.find_spec(module, _folders(family))
    assert spec is not None, module
    assert spec.origin is not None, module
    values: dict[str, Any] = {"__name__": module, "__file__": spec.origin}
    statements = []
    for statement in _needed(ast.parse(Path(spec.origin).read_text()), name):
        if isinstance(statement, ast.ImportFrom) and f"{statement.module}.".startswith(
            f"{family}."
        ):
            alias = statement.names[0]
            value = _declared(str(statement.module), alias.name)
            if value is not None:
                values[alias.asname or alias.name] = value
                continue
        statements.append(statement)
    exec(compile(ast.Module(statements, type_ignores=[]), spec.origin, "exec"), values)
    return values.get(name)


def _needed(tree: ast.Module, name: str) -> list[ast.stmt]:
    """The statements at the top of a module that bind a name, and all that these use, in order.

    An import of several names is one of each.
    """
    statements: list[ast.stmt] = []
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            statements += [ast.copy_location(ast.Import([a]), statement) for a in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            module, aliases = statement.module, statement.names
            statements += [
                ast.copy_location(ast.ImportFrom(module, [a], 0), statement) for a in aliases
            ]
        else:
            statements.append(statement)
    bound = [_bound(statement) for statement in statements]
    needed, wanted = set[int](), {name}
    while wanted:
        new = {i for i, names in enumerate(bound) if names & wanted} - needed
        needed |= new
        inside = (node for i in new for node in ast.walk(statements[i]))
        wanted = {node.id for node in inside if isinstance(node, ast.Name)}
    return [statements[i] for i in sorted(needed)]


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module gives a value, maybe a few more."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            names.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


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
        if module not in seen and not f"{module}.".startswith(_TOLD):
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
        distributions = _distributions().get(name, [])
        return metadata.version(distributions[0]) if distributions else ""


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    """Top-level module -> the distributions that have it; a third of a second to find."""
    return metadata.packages_distributions()


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
