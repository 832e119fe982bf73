"""The one maker of tables: cells with a value, what is shown of it, and where it leads."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from markupsafe import Markup, escape

from ijepa.pages.text import NOTHING, markdown


@dataclass(frozen=True, slots=True)
class Cell:
    """One entry of a table."""

    shown: str  # what a reader sees; lines are parted by a newline
    value: float | int | str | None = None  # all of it: in CSV, and over a shortened hash
    href: str | None = None  # where it leads, in HTML
    mark: str | None = None  # class in HTML: better, worse, undecided, soft, strong
    code: bool = False  # set as code
    drawing: Markup = Markup()  # noqa: RUF009  # stands under it in HTML

    @property
    def empty(self) -> bool:
        """Whether it says nothing."""
        return self.shown in ("", NOTHING)

    @property
    def full(self) -> float | int | str:
        """Its value, or what is shown where there is no more than that."""
        return self.value if self.value is not None else "" if self.empty else self.shown


@dataclass(frozen=True, slots=True)
class Row:
    """Cells, one a column; of the kind ``group`` a heading alone."""

    entries: Sequence[Cell | str]  # strings are cells without anything but text
    kind: str = ""  # class in HTML: "", reference, baseline, group, lost
    notes: Sequence[str] = ()  # stand under the first cell; what is wrong with the row
    body: str = ""  # id of the rows that belong together and follow each other; "" for none

    @property
    def cells(self) -> list[Cell]:
        """Its entries, all as cells."""
        return [Cell(entry) if isinstance(entry, str) else entry for entry in self.entries]

    def only(self, kept: Iterable[int]) -> "Row":
        """The row with some of its columns."""
        return replace(self, entries=[self.entries[i] for i in kept])


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns."""

    columns: Sequence[str]
    rows: Sequence[Row]  # of as many cells
    text: Sequence[str] = ()  # columns of words, which stand left; numbers stand right
    kind: str = "results"  # class in HTML

    def __post_init__(self) -> None:
        for row in self.rows:
            assert row.kind == "group" or len(row.entries) == len(self.columns), row

    def __bool__(self) -> bool:
        return bool(self.rows)

    def lean(self) -> "Table":
        """Without the columns that say nothing in any row; nothing but the first: no rows."""
        columns = zip(*(row.cells for row in self.rows if row.kind != "group"), strict=True)
        kept = [i for i, cells in enumerate(columns) if not all(cell.empty for cell in cells)]
        return self._only(kept) if len(kept) > 1 else replace(self, rows=())

    def without(self, *names: str) -> "Table":
        """Without the columns of these heads."""
        return self._only([i for i, name in enumerate(self.columns) if name not in names])

    def _only(self, kept: Sequence[int]) -> "Table":
        columns = [self.columns[i] for i in kept]
        rows = [row if row.kind == "group" else row.only(kept) for row in self.rows]
        return replace(self, columns=columns, rows=rows)

    def _left(self, column: int) -> bool:
        return column == 0 or self.columns[column] in self.text

    def html(self) -> Markup:
        """The table in a box that scrolls when it is too wide."""
        named = enumerate(self.columns)
        heads = [Markup("<th{}>{}</th>").format(self._class(i), name) for i, name in named]
        parts = [Markup('<div class="scroll"><table class="{}">').format(self.kind)]
        parts.append(Markup("<thead><tr>{}</tr></thead>").format(Markup("").join(heads)))
        for body, rows in groupby(self.rows, lambda row: row.body):
            parts.append(Markup('<tbody id="{}">').format(body) if body else Markup("<tbody>"))
            parts += [self._row(row) for row in rows]
            parts.append(Markup("</tbody>"))
        return Markup("\n").join([*parts, Markup("</table></div>")])

    def _class(self, column: int, mark: str | None = None) -> Markup:
        names = [*([] if self._left(column) else ["n"]), *([mark] if mark else [])]
        return Markup(' class="{}"').format(" ".join(names)) if names else Markup("")

    def _head(self, column: int) -> Markup:
        """A board is no table on a phone: there each cell says what it is."""
        named = Markup(' data-head="{}"').format(self.columns[column])
        return named if self.kind == "board" else Markup()

    def _row(self, row: Row) -> Markup:
        width = len(self.columns)
        if row.kind == "group":
            heading = Markup('<tr class="group"><th colspan="{}" scope="rowgroup">{}</th></tr>')
            return heading.format(width, _inside(row.cells[0]))
        cells = [
            Markup("<td{}{}>{}</td>").format(
                self._class(i, cell.mark), self._head(i), _inside(cell)
            )
            for i, cell in enumerate(row.cells)
        ]
        line = Markup('<tr class="{}">{}</tr>').format(row.kind, Markup("").join(cells))
        if row.notes:
            note = Markup('\n<tr class="notes"><td colspan="{}">{}</td></tr>')
            line += note.format(width, "; ".join(row.notes))
        return line

    def markdown(self, linked: bool = False) -> str:
        """The table for a Markdown file; notes follow the first cell, links lead where asked."""

        def shown(cell: Cell) -> str:
            text = markdown(cell.shown.replace("\n", ", "))
            return f"[{text}]({cell.href})" if linked and cell.href else text

        lines = [_bars(map(markdown, self.columns))]
        marks = ("---" if self._left(i) else "---:" for i in range(len(self.columns)))
        lines.append(f"|{'|'.join(marks)}|")
        for row in self.rows:
            first, *rest = (shown(cell) for cell in row.cells)
            if row.kind in ("group", "reference"):
                first = f"**{first}**"
            if row.kind == "group":
                rest = [""] * (len(self.columns) - 1)
            lines.append(_bars(["; ".join([first, *map(markdown, row.notes)]), *rest]))
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        """The values in full under the heads, of words the words; no headings of groups."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        rows = (row for row in self.rows if row.kind != "group")
        writer.writerows([cell.full for cell in row.cells] for row in rows)
        return file.getvalue()

    def latex(self, caption: str, label: str) -> str:
        """The table for a document that uses booktabs."""
        body = []
        grouped = any(row.kind == "group" for row in self.rows)
        for row in self.rows:
            first, *rest = (tex(cell.shown) for cell in row.cells)
            if row.kind == "group":
                width = len(self.columns)
                body += [r"\midrule", rf"\multicolumn{{{width}}}{{l}}{{\emph{{{first}}}}} \\"]
                continue
            first = rf"\textbf{{{first}}}" if row.kind == "reference" else first
            body.append(" & ".join([first, *rest]) + r" \\")
        align = "".join("l" if self._left(i) else "r" for i in range(len(self.columns)))
        lines = [
            r"% needs \usepackage{booktabs}", r"\begin{table}", r"\centering\small",
            rf"\caption{{{tex(caption)}}}",
            rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{align}}}",
            r"\toprule",
            " & ".join(map(tex, self.columns)) + r" \\",
            *([] if grouped else [r"\midrule"]),
            *body, r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
        return "\n".join(lines) + "\n"


def _bars(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _inside(cell: Cell) -> Markup:
    text = Markup("<br>").join(escape(line) for line in cell.shown.split("\n"))
    if cell.code and not cell.empty:
        whole = cell.value not in (None, cell.shown)
        title = Markup(' title="{}"').format(cell.value) if whole else Markup("")
        text = Markup("<code{}>{}</code>").format(title, text)
    if cell.href and not cell.empty:
        text = Markup('<a class="trace" href="{}">{}</a>').format(cell.href, text)
    return text + cell.drawing


_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{c: f"{{{c}}}" for c in "[*"},  # after a line's end they would be its options
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "†": r"$\dagger$",
    "▲": r"$\uparrow$", "▼": r"$\downarrow$", "◇": r"$\diamond$", "≈": r"$\approx$",
    "✕": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$",
    "–": "--", "—": "---", "“": "``", "”": "''", "’": "'", "…": r"\dots{}", "→": r"$\to$",
}  # fmt: skip


def tex(text: str) -> str:
    """Text for LaTeX: what it would take for a command, or cannot set, is replaced."""
    out = []
    for character in text:
        if character in _TEX:
            out.append(_TEX[character])
        elif character.isascii() or (character.isalpha() and character < "\u0180"):
            out.append(character)
        else:
            near = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
            out.append(tex(near) if near else " " if character.isspace() else "?")
    return "".join(out)
