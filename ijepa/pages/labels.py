"""Names as figures write them: in the glyphs of the bundled font, short, no two alike.

A font of the machine's own would make other bytes on another machine, so a name with a character
that DejaVu Sans does not have is a number in figures. ``of_run`` and ``of_study`` give what is
drawn and the key to it; a page's words and tables have the full names.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
from matplotlib.font_manager import get_font

from ijepa.pages.table import Row, Table
from ijepa.pages.text import spoken
from ijepa.results import Results
from ijepa.study.numbers import Point, Study, Variant

CLASS, TASK, VARIANT, POINT = 24, 20, 56, 56  # characters at most; the last two are drawn in lines
_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
N = TypeVar("N", Variant, Point)


@cache
def glyphs() -> frozenset[int]:
    """Code points that the bundled font has, upright and bold."""
    folder = Path(mpl.get_data_path(), "fonts", "ttf")
    upright, bold = (get_font(folder / name).get_charmap().keys() for name in _FONTS)
    return frozenset(upright & bold)


def labels(names: Sequence[str], kind: str, longest: int) -> list[str]:
    """What a figure writes for each of these names.

    Args:
        names: all that stand in the figure, in their order.
        kind: what they name, as ``class``: the third that cannot be drawn is ``class 3``.
        longest: so many characters at most; a longer name is cut in its middle.

    Returns:
        A label a name: the name itself wherever it can be; no two are equal.
    """
    short = [_short(name, f"{kind} {place}", longest) for place, name in enumerate(names, 1)]
    kept = {name for name, label in zip(names, short, strict=True) if name == label}
    shown: list[str] = []
    for name, label in zip(names, short, strict=True):
        if name != label or name in shown:
            taken = kept.union(shown)
            label = next(text for text in _numbered(label, longest) if text not in taken)
        shown.append(label)
    return shown


def _short(name: str, number: str, longest: int) -> str:
    drawn = name.strip() and name.isprintable() and glyphs().issuperset(map(ord, name))
    drawn = drawn and not name.startswith("_")  # matplotlib leaves such out of a legend
    return _cut(name, longest) if drawn else number


def _cut(text: str, longest: int) -> str:
    """Both ends of a long text: names that differ often differ at their end."""
    if len(text) <= longest:
        return text
    start = (longest - 1) * 2 // 3
    return f"{text[:start].rstrip()}…{text[start + 1 - longest :].lstrip()}"


def _numbered(label: str, longest: int) -> Iterator[str]:
    """The label, then with a number behind it."""
    yield label
    for number in count(2):
        end = f" ({number})"
        yield _cut(label, longest - len(end)) + end


@dataclass(slots=True)
class _Key:
    """Finds labels, and remembers those that are not the name."""

    changed: list[tuple[str, str, str]] = field(default_factory=list)  # label, what it names, name

    def labels(
        self, names: Sequence[str], kind: str, longest: int, what: str | None = None
    ) -> list[str]:
        """As above; ``what`` says more than the kind."""
        shown = labels(names, kind, longest)
        pairs = zip(shown, names, strict=True)
        self.changed += [(label, what or kind, name) for label, name in pairs if label != name]
        return shown

    def tasks(self, names: Iterable[str]) -> dict[str, str]:
        """Task -> its name in figures; that of one that is shown as it is stays an identifier."""
        tasks = list(dict.fromkeys(names))
        said = [spoken(task) for task in tasks]
        shown = zip(tasks, said, self.labels(said, "task", TASK), strict=True)
        return {task: task if label == words else label for task, words, label in shown}

    def table(self) -> Table:
        """What a page shows; without rows where every name could be drawn."""
        rows = [Row([label, what, name]) for label, what, name in self.changed]
        return Table(["in the figures", "what", "name"], rows, text=("what", "name"))


def of_run(results: Results) -> tuple[Results, Table]:
    """A run's numbers under the names that figures show, and the key of those that changed."""
    key = _Key()
    task = key.tasks([*(row.task for row in results.table), *(m.task for m in results.confusion)])
    confusion = []
    for matrix in results.confusion:
        what = f"class (task: {spoken(matrix.task)})"
        classes = key.labels(matrix.classes, "class", CLASS, what)
        confusion.append(replace(matrix, task=task[matrix.task], classes=tuple(classes)))
    drawn = replace(
        results,
        table=tuple(replace(row, task=task[row.task]) for row in results.table),
        few_label=tuple(replace(curve, task=task[curve.task]) for curve in results.few_label),
        confusion=tuple(confusion),
    )
    return drawn, key.table()


def of_study(study: Study) -> tuple[Study, Table]:
    """A study's numbers under the names that figures show, and the key of those that changed."""
    key = _Key()
    variants = key.labels([variant.label for variant in study.variants], "variant", VARIANT)
    points = key.labels([point.label for point in study.points], "point", POINT)
    drawn = replace(
        study, variants=_named(study.variants, variants), points=_named(study.points, points)
    )
    return drawn, key.table()


def _named(members: Sequence[N], names: Sequence[str]) -> tuple[N, ...]:
    return tuple(replace(one, label=name) for one, name in zip(members, names, strict=True))
