"""What a figure is, and how a page shows the figures that its numbers allow.

A figure is a module of ``ijepa.pages.figures``: its file's name is the figure's, and everything of
it is in that file. A page imports those that it may have, in its order.
"""

import base64
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from markupsafe import Markup
from PIL import Image

from ijepa.pages import style

N = TypeVar("N", contravariant=True)


@dataclass(frozen=True, slots=True)
class Words:
    """What a figure says beside its picture."""

    title: str
    alt: str  # the numbers, for who cannot see them
    caption: str
    picture: bool = False  # made of images: shown as PNG, which is smaller; a chart's SVG scales


class Figure(Protocol[N]):
    """A module of ``ijepa.pages.figures``, for numbers of one kind (a run's, or a study's)."""

    __name__: str

    def needs(self, numbers: N, /) -> bool:
        """Whether the numbers have what it draws."""

    def words(self, numbers: N, /) -> Words:
        """Its title, alternative text and caption."""

    def draw(self, numbers: N, path: Path, /) -> None:
        """Save it as ``path`` with .svg and .png."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure as a page has it."""

    number: int
    name: str
    words: Words

    def html(self, folder: Path) -> Markup:
        """The figure with its caption; ``folder/figures`` has the drawing.

        A chart is never wider than its words can bear; one that is wide can be scrolled.
        """
        kind, mime = ("png", "image/png") if self.words.picture else ("svg", "image/svg+xml")
        path = folder / "figures" / self.name
        with Image.open(f"{path}.png") as drawn:
            inches = drawn.width / style.DPI
        limit = "" if self.words.picture else f' style="max-width: {inches * 6.8:.1f}rem"'
        wide = ' class="wide"' if inches > 6.5 else ""
        data = base64.b64encode(Path(f"{path}.{kind}").read_bytes()).decode()
        return Markup(
            '<figure id="{}">\n'
            '<div class="scroll"><img{}{} src="data:{};base64,{}" alt="{}"></div>\n'
            "<figcaption><b>Figure {}. {}.</b> {}</figcaption>\n</figure>"
        ).format(
            self.name, Markup(wide), Markup(limit), mime, data, self.words.alt, self.number,
            self.words.title, self.words.caption,
        )  # fmt: skip


def shown(figures: Sequence[Figure[N]], numbers: N, first: int = 1) -> list[Shown]:
    """The figures that the numbers allow, in order, numbered from the first."""
    allowed = enumerate((one for one in figures if one.needs(numbers)), first)
    return [Shown(place, name(figure), figure.words(numbers)) for place, figure in allowed]


def draw(figures: Sequence[Figure[N]], numbers: N, folder: Path) -> None:
    """Draw the figures that the numbers allow into an emptied folder."""
    shutil.rmtree(folder, ignore_errors=True)  # one that is not drawn again must not stay
    for figure in figures:
        if figure.needs(numbers):
            figure.draw(numbers, folder / name(figure))


def name(figure: Figure[N]) -> str:
    """A figure's name: that of its file."""
    return figure.__name__.rpartition(".")[2]
