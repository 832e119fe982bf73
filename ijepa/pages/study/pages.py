"""``results.json`` and its figures -> HTML, Markdown, LaTeX and CSV; and the page over all."""

import csv
import io
import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ijepa.pages.run.pages import embed, markdown, short
from ijepa.pages.run.words import NOTHING, duration, number
from ijepa.pages.study import tables, words
from ijepa.study import costs

Tree = Mapping[str, Any]


def write(results: Tree, folder: Path) -> Path:
    """Write index.html, report.md, table.tex and table.csv; ``figures/`` is there.

    Args:
        results: what ``results.json`` holds, and nothing else.
        folder: of the report.
    """
    content = {
        "r": results,
        "accuracies": tables.accuracies(results),
        "pairs": tables.pairs(results),
        "beside": tables.beside(results),
        "costs": tables.costs(results),
        "claimed": words.claimed(results),
        "settings": tables.settings(results),
        "label": lambda name: words.label(results, name),
        "place": lambda name: words.place(results, name),
        "embed": lambda figure: embed(figure, folder),
        "decided": words.CLASSES[results["verdict"]["decision"]],
        "marks": words.MARKS,
    }
    pages = {"page.html.j2": "index.html", "report.md.j2": "report.md"}
    for template, name in pages.items():
        _save(folder / name, _environment().get_template(template).render(content))
    _save(folder / "table.tex", tex(results))
    _save(folder / "table.csv", sheet(results))
    return folder / "index.html"


def write_index(folder: Path, page: Path) -> Path:
    """Write the page over the reports in ``folder/ablations``; its links start in ``folder``.

    Reports at scale smoke are in it only where there are no others.
    """
    found = [
        {"at": path.parent.relative_to(folder).as_posix(), **json.loads(path.read_text())}
        for path in sorted((folder / "ablations").glob("*/results.json"))
    ]
    found.sort(key=lambda r: (r["table"] or 99, r["name"], r["scale"]["name"]))
    # smoke's numbers mean nothing, and its reports are nobody's to commit
    content = {
        "reports": [r for r in found if r["scale"]["name"] != "smoke"] or found,
        "counted": lambda r: words.counted(r["comparisons"] or r["cells"]),
        "classes": words.CLASSES,
        "marks": words.MARKS,
    }
    _save(page, _environment().get_template("index.html.j2").render(content))
    return page


def _environment() -> Environment:
    loader = PackageLoader("ijepa.pages.study", ".")
    environment = Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=lambda name: bool(name) and "html" in str(name),
    )
    # one style for all pages: that of the report of one run
    run = PackageLoader("ijepa.pages.run", ".").get_source(environment, "page.html.j2")[0]
    environment.globals["style"] = run.partition("<style>")[2].partition("</style>")[0].strip()
    environment.globals["nothing"] = NOTHING
    environment.filters |= {"md": markdown, "seconds": duration, "short": short, "number": number}
    return environment


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def sheet(results: Tree) -> str:
    """A CSV row for each variant and point, numbers in full."""
    names = ["point", "variant", "label", "paper", "n", "mean", "std", "low", "high"]
    more = ["random_init", "pixels", "knn", "context_ratio", "pretrain_seconds", "seconds",
            *(*costs.COUNTED, *costs.MEASURED)]  # fmt: skip
    also = [(metric, key) for metric in results["also"] for key in ("n", "mean", "std")]
    paired = {"n": "paired_seeds", "mean": "difference", "low": "difference_low",
              "high": "difference_high", "p": "p", "adjusted": "p_adjusted"}  # fmt: skip
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    header = [*names, *paired.values(), *more, *(f"{m}.{key}" for m, key in also)]
    writer.writerow([*header, "notes"])
    for cell in results["cells"]:
        found = cell["difference"] or {}
        writer.writerow(
            [cell[k] for k in names]
            + [found.get(k) for k in paired]
            + [cell[k] for k in more]
            + [cell["also"][metric][key] for metric, key in also]
            + ["; ".join(tables.notes(results, cell))]
        )
    return file.getvalue()


def tex(results: Tree) -> str:
    """The table of accuracies in LaTeX, for a document that uses booktabs."""
    table = tables.accuracies(results)
    # of two intervals the difference's stays: the other says little more than the deviation
    twice = list(table.columns).count("95 % interval") > 1
    doubled = list(table.columns).index("95 % interval") if twice else -1
    kept = [i for i in range(len(table.columns)) if i != doubled]
    body, lost = [], []
    for row in table.rows:
        if row.kind == "point":
            body.append(r"\midrule")
            body.append(rf"\multicolumn{{{len(kept)}}}{{l}}{{\emph{{{escape(row.cells[0])}}}}} \\")
            continue
        cells = [escape(row.cells[i]) for i in kept]
        if row.kind == "reference":
            cells[0] = rf"\textbf{{{cells[0]}}}"
        body.append(" & ".join(cells) + r" \\")
        lost += [f"{row.cells[0]}: {note}" for note in row.notes]
    caption = (
        f"{results['question']} {results['verdict']['sentence']} Mean and standard deviation over"
        " seeds, in percent; differences paired by seed with 95 % t intervals, p of paired t tests"
        " after Holm's correction."
    ) + (f" Not as planned: {'; '.join(lost)}." if lost else "")
    label = f"{results['name']}-{results['scale']['name']}".replace("_", "-")
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(kept) - 1)}}}",
        r"\toprule",
        " & ".join(escape(table.columns[i]) for i in kept) + r" \\",
        *([] if results["points"] else [r"\midrule"]),
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{c: f"{{{c}}}" for c in "[*"},  # after a line's end they would be its options
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "†": r"$\dagger$",
    "▲": r"$\uparrow$", "▼": r"$\downarrow$", "◇": r"$\diamond$", "≤": r"$\le$", "≥": r"$\ge$",
    "–": "--", "—": "---", "“": "``", "”": "''", "’": "'", "…": r"\dots{}", "→": r"$\to$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text for LaTeX: what it would take for a command, or cannot set, is replaced."""
    made = []
    for character in text:
        if character in _TEX:
            made.append(_TEX[character])
        elif character.isascii() or (character.isalpha() and character < "\u0180"):
            made.append(character)
        else:
            near = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
            made.append(escape(near) or "?")
    return "".join(made)
