"""``results.json`` and its figures -> the HTML pages, each self-contained, and Markdown."""

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
from ijepa.pages import style
from ijepa.pages.run import paper, words

_NEITHER = "no record here"


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Render ``index.html``, ``report.md`` and a page for each table of the paper.

    Args:
        results: what ``results.json`` holds, and nothing else.
        folder: has ``figures/<name>.svg`` and ``.png`` of every figure named in the results.
    """
    environment = _environment()
    content = {
        "r": results,
        "title": f"{results['run']['objective']} on {results['run']['data']}",
        "columns": words.COLUMNS,
        "rows": [words.cells(row) for row in results["table"]],
        "chosen_columns": words.CHOSEN,
        "chosen": [words.chosen(row) for row in results["table"]],
        "tasks": by_task(results["table"]),
        "parameters": {f.name: flat(results["parameters"][f.name]) for f in fields(Config)},
        "cost_columns": words.COST,
        "cost": words.cost(results["cost"], results["provenance"]["cost"]),
        "sections": sections(results["figures"]),
        "embed": lambda figure: embed(figure, folder),
        "columns_of": paper.columns,
    }
    pages = {"index.html": "page.html.j2", "report.md": "report.md.j2"}
    pages |= {f"{table['name']}.html": "table.html.j2" for table in results["paper"]}
    tables = {f"{table['name']}.html": table for table in results["paper"]}
    for name, template in pages.items():
        text = environment.get_template(template).render(content, table=tables.get(name))
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ijepa.pages.run", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: bool(name) and "html" in str(name),
    )
    environment.filters |= {
        "md": markdown,
        "seconds": words.duration,
        "short": short,
        "spoken": words.spoken,
        "number": words.number,
        "plus_minus": words.plus_minus,
    }
    page = PackageLoader("ijepa.pages.run", ".").get_source(environment, "page.html.j2")[0]
    style = page.partition("<style>")[2].partition("</style>")[0].strip()
    environment.globals |= {
        "nothing": _NEITHER,
        "style": style,  # one style for all pages
        "interval": words.interval,
        "last": paper.last,
    }
    return environment


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


def by_task(table: list[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines of the results table of each task; a probe's first line says how many it has."""
    return [
        [
            {
                "row": row,
                "cells": words.cells(row),
                "chosen": words.chosen(row),
                "span": len(rows) if place == 0 else 0,
                "mark": row["verdict"] if row["encoder"] != "trained" else "",
            }
            for rows in _groups(found, "probe")
            for place, row in enumerate(rows)
        ]
        for found in _groups(table, "task")
    ]


def _groups(rows: list[Mapping[str, Any]], key: str) -> list[list[Mapping[str, Any]]]:
    return [list(found) for _, found in groupby(rows, lambda row: row[key])]


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
