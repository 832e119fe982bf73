"""``results.json`` and its figures -> one self-contained HTML page and one Markdown page."""

import base64
import html
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ijepa.config import Config
from ijepa.reporting import style, words

_NEITHER = "no record here"


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Render ``index.html`` and ``report.md`` beside ``figures/``.

    Args:
        results: what ``results.json`` holds, and nothing else.
        folder: has ``figures/<name>.svg`` and ``.png`` of every figure named in the results.
    """
    environment = Environment(
        loader=PackageLoader("ijepa.reporting", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: bool(name) and "html" in str(name),
    )
    environment.filters |= {"md": markdown, "seconds": words.duration, "short": short}
    content = {
        "r": results,
        "title": f"I-JEPA on {results['run']['data']}",
        "columns": words.COLUMNS,
        "rows": [words.cells(row) for row in results["table"]],
        "chosen_columns": words.CHOSEN,
        "chosen": [words.chosen(row) for row in results["table"]],
        "marks": [
            row["verdict"] if row["encoder"] != "trained" else "" for row in results["table"]
        ],
        "spans": spans(results["table"]),
        "parameters": {f.name: flat(results["parameters"][f.name]) for f in fields(Config)},
        "sections": sections(results["figures"]),
        "spoken": words.spoken,
        "number": words.number,
        "embed": lambda figure: embed(figure, folder),
        "nothing": _NEITHER,
    }
    for template, name in (("page.html.j2", "index.html"), ("report.md.j2", "report.md")):
        text = environment.get_template(template).render(content)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def embed(figure: Mapping[str, Any], folder: Path) -> Markup:
    """A figure as a data URI: charts as SVG, which scales; pictures as PNG, which is smaller.

    A chart is never wider than its words can bear; one that is wide can be scrolled on a phone.
    """
    kind, mime = ("png", "image/png") if figure["picture"] else ("svg", "image/svg+xml")
    path = folder / "figures" / figure["name"]
    with Image.open(f"{path}.png") as drawn:
        inches = drawn.width / style.DPI
    limit = "" if figure["picture"] else f' style="max-width: {inches * 6.8:.1f}rem"'
    wide = ' class="wide"' if inches > 6.5 else ""
    data = base64.b64encode(Path(f"{path}.{kind}").read_bytes()).decode()
    alt = html.escape(figure["alt"])
    return Markup(f'<img{wide}{limit} src="data:{mime};base64,{data}" alt="{alt}">')


def sections(figures: list[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The figures of each section of the page."""
    return {name: list(found) for name, found in groupby(figures, lambda f: str(f["section"]))}


def spans(table: list[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """For each row, over how many its task and its probe reach; 0 where an earlier row's does."""
    task = _runs([row["task"] for row in table])
    probe = _runs([(row["task"], row["probe"]) for row in table])
    return list(zip(task, probe, strict=True))


def _runs(values: list[Any]) -> list[int]:
    found: list[int] = []
    for _, group in groupby(values):
        size = len(list(group))
        found += [size] + [0] * (size - 1)
    return found


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A section of the parameters as (key, value) pairs, with dotted keys."""
    return list(_flat(tree, prefix))


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, tree if isinstance(tree, str) else json.dumps(tree)


def markdown(text: Any) -> str:
    """Text for a cell of a Markdown table."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def short(text: str | None, length: int = 12) -> str:
    """The start of a hash, or what stands for one that is missing."""
    return text[:length] if text else _NEITHER
