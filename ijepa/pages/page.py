"""Templates -> files: the one environment of all pages."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ijepa.pages import text


def write(path: Path, template: str, **content: Any) -> Path:
    """Render a template of ``ijepa/pages/templates`` as a file; returns its path."""
    environment = _environment(inert=template.endswith(".md.j2"))
    save(path, environment.get_template(template).render(content))
    return path


def paragraphs(template: str, inert: bool = False, **content: Any) -> list[tuple[str, str]]:
    """Title and text of each part of a template of plain text whose titles begin with ``## ``.

    One text serves HTML and Markdown. Lines are joined; a part without text is left out. With
    ``inert`` it is Markdown alone, and nothing that it is given is a tag or a link in it.
    """
    whole = _environment(inert).get_template(template).render(content)
    parts = (part.partition("\n") for part in whole.split("## ")[1:])
    texts = [(title.strip(), re.sub(r"[ \n]+", " ", body).strip()) for title, _, body in parts]
    return [(title, body) for title, body in texts if body]


def save(path: Path, content: str) -> None:
    """Write text with the same bytes on every system."""
    path.write_text(content, encoding="utf-8", newline="\n")


def _environment(inert: bool) -> Environment:
    """Templates; HTML is escaped, and with ``inert`` all that a template of Markdown is given."""
    environment = Environment(
        loader=PackageLoader("ijepa.pages", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: bool(name) and "html" in str(name),
        finalize=text.inert if inert else None,
    )
    environment.tests["tuned"] = text.tuned
    environment.filters |= {
        "md": text.markdown, "short": text.short,
        "number": text.number, "spoken": text.spoken, "count": text.count, "listed": text.listed,
        "dataset": text.dataset, "epochs": text.epochs,
    }  # fmt: skip
    return environment
