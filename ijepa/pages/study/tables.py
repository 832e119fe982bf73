"""The tables of an ablation as rows of text, which every page prints in its own way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ijepa.pages.run.words import NOTHING, duration, interval, number, spoken
from ijepa.pages.study import words
from ijepa.study.statistics import MOST, UNDECIDED

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """Cells of a table as text; ``notes`` stand under the first one.

    Attributes:
        cells: one a column; of a point, its heading alone.
        kind: "", "reference", "baseline" or "point".
        notes: what is wrong with the row's runs.
        mark: class of the cell of the pass band.
        link: id of the rows that the row's accuracy comes from.
    """

    cells: Sequence[str]
    kind: str = ""
    notes: Sequence[str] = ()
    mark: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under named columns; all but the first are numbers or short."""

    columns: Sequence[str]
    rows: Sequence[Row]


def accuracies(results: Tree) -> Table:
    """The table of the report: the paper's numbers, ours, differences, and what is claimed."""
    columns = ["variant", "paper (%)", "to its best", "here (%)", "n", "95 % interval",
               "minus reference", "95 % interval", "adjusted p", "pass band"]  # fmt: skip
    columns += [f"{words.metric(m, results['metric'])} (%)" for m in results["also"]]
    rows: list[Row] = []
    for point in [p["name"] for p in results["points"]] or [None]:
        if point is not None:
            rows.append(Row([words.place(results, point)], "point"))
        rows += [_variant(results, c) for c in results["cells"] if c["point"] == point]
        rows += [_baseline(results, b) for b in results["baselines"] if b["point"] == point]
    if results["also"]:  # the mean's interval makes room; the difference's says more
        drop = columns.index("95 % interval")
        rows = [row if row.kind == "point" else _without(row, drop) for row in rows]
        columns = columns[:drop] + columns[drop + 1 :]
    return _lean(Table(columns, rows))


def _without(row: Row, drop: int) -> Row:
    return replace(row, cells=[cell for i, cell in enumerate(row.cells) if i != drop])


def _variant(results: Tree, cell: Tree) -> Row:
    reference = cell["difference"] is None
    found = cell["difference"] or {}
    asked = [
        c for c in results["comparisons"]
        if c["worse"] == cell["variant"] and c["point"] == cell["point"]
    ]  # fmt: skip
    decisions = list(dict.fromkeys(c["decision"] for c in asked))
    return Row(
        [
            cell["label"],
            number(cell["paper"]),
            "best" if cell["gap"] == 0 else words.points(cell["gap"]),
            plus_minus(cell),
            f"{cell['n']}†" if cell["n"] == 1 else str(cell["n"]),
            interval(cell["low"], cell["high"]),
            "reference" if reference else words.points(found["mean"]),
            "" if reference else interval(found["low"], found["high"], signed=True),
            "" if reference else words.probability(found["adjusted"]),
            "; ".join(words.BANDS[decision] for decision in decisions),
            *(_beside(cell, metric) for metric in results["also"]),
        ],
        "reference" if reference else "",
        notes(results, cell),
        words.CLASSES[decisions[0]] if len(decisions) == 1 else "",
        anchor(cell),
    )


def _beside(found: Tree, metric: str) -> str:
    """A further metric of a variant or a baseline; its data set may lack the task."""
    other = found["also"][metric]
    if "encoder" in found and metric.endswith(".held_out"):
        return ""  # known of the trained encoder alone
    return "no task" if found["n"] and not other["n"] else plus_minus(other)


def anchor(cell: Tree) -> str:
    """The id of a variant's rows in the table of runs."""
    at = f"-{cell['point']}" if cell["point"] is not None else ""
    return f"runs-{cell['variant']}{at}"


def notes(results: Tree, cell: Tree) -> list[str]:
    """Why a row has less than it should: each failed or missing run with its reason."""
    mine = [
        r for r in results["runs"]
        if (r["variant"], r["point"]) == (cell["variant"], cell["point"])
    ]  # fmt: skip
    found = [f"seed {r['seed']} failed: {r['reason']}" for r in mine if r["status"] == "failed"]
    lost = [str(r["seed"]) for r in mine if r["status"] == "missing"]
    if lost:
        found.append(f"seed{'s' if len(lost) > 1 else ''} {', '.join(lost)} missing")
    if cell["collapsed"]:
        found.append(f"{cell['collapsed']} of {cell['n']} collapsed")
    if cell["codes"] > 1:
        found.append(f"runs of {cell['codes']} versions of the code")
    return found


def _baseline(results: Tree, found: Tree) -> Row:
    whose = "" if found["shared"] else f" ({words.label(results, found['variant'])})"
    name = spoken("raw pixels" if found["encoder"] == "pixels" else found["encoder"])
    numbers = [plus_minus(found), str(found["n"]), interval(found["low"], found["high"])]
    more = [_beside(found, metric) for metric in results["also"]]
    return Row([name + whose, "", "", *numbers, "", "", "", "", *more], "baseline")


def plus_minus(found: Tree) -> str:
    """``52.1 ± 1.4``: mean and standard deviation over seeds."""
    if found["std"] is None:
        return number(found["mean"])
    return f"{number(found['mean'])} ± {number(found['std'])}"


def _lean(table: Table) -> Table:
    """Without the columns that say nothing in any row."""
    full = [row for row in table.rows if row.kind != "point"]
    kept = [
        i for i in range(len(table.columns))
        if any(row.cells[i] not in ("", NOTHING) for row in full)
    ]  # fmt: skip
    rows = [
        row if row.kind == "point"
        else replace(row, cells=[row.cells[i] for i in kept])
        for row in table.rows
    ]  # fmt: skip
    return Table([table.columns[i] for i in kept], rows)


def pairs(results: Tree) -> Table:
    """What the claim says of each pair, and what was found."""
    columns = ["claimed better over worse", "paper", "here", "n", "95 % interval", "adjusted p",
               "asked for", "pass band", "seeds to decide"]  # fmt: skip
    papers = {(cell["variant"], cell["point"]): cell["paper"] for cell in results["cells"]}
    rows = []
    for found in results["comparisons"]:
        better, worse = (papers[found[side], found["point"]] for side in ("better", "worse"))
        gap = None if better is None or worse is None else better - worse
        rows.append(
            Row(
                [
                    words.pair(results, found),
                    words.points(gap),
                    words.points(found["mean"]),
                    str(found["n"]),
                    interval(found["low"], found["high"], signed=True),
                    words.probability(found["adjusted"]),
                    f"> {found['margin']:g}",
                    words.BANDS[found["decision"]],
                    _needed(found),
                ],
                mark=words.CLASSES[found["decision"]],
            )
        )
    return _lean(Table(columns, rows))


def _needed(found: Tree) -> str:
    if found["decision"] != UNDECIDED:
        return "decided"
    return NOTHING if found["n"] < 2 else f"{found['needed'] or f'more than {MOST:,}'}"


def beside(results: Tree) -> Table:
    """What else differs between the variants: baselines, kNN, masks, size, health, time."""
    columns = ["variant", "random init (%)", "raw pixels (%)", "kNN (%)", "realised context",
               "images seen", "encoder parameters", "pretraining", "whole run",
               "health", "trials"]  # fmt: skip
    trials = (results["trials"] or {}).get("runs", {})
    said = any(cell["flops"] for cell in results["cells"])  # images seen: by the table of costs
    rows = []
    for point in [p["name"] for p in results["points"]] or [None]:
        if point is not None:
            rows.append(Row([words.place(results, point)], "point"))
        for cell in results["cells"]:
            if cell["point"] == point:
                counts = [None if said else cell["images"], cell["parameters"]]
                rows.append(
                    Row(
                        [
                            cell["label"],
                            *(number(cell[k]) for k in ("random_init", "pixels", "knn")),
                            number(cell["context_ratio"], 3),
                            *(NOTHING if c is None else f"{c:,.0f}" for c in counts),
                            duration(cell["pretrain_seconds"]),
                            duration(cell["seconds"]),
                            _health(cell),
                            str(trials.get(cell["variant"], "")),
                        ],
                        "reference" if cell["difference"] is None else "",
                        link=anchor(cell),
                    )
                )
    return _lean(Table(columns, rows))


def costs(results: Tree) -> Table:
    """What pretraining took: counted and measured; empty where the lock file has neither."""
    columns = ["variant", "FLOPs an image", "FLOPs in all", "to the reference's", "images seen",
               "device time", "energy", "peak memory"]  # fmt: skip
    reference = results["claim"]["reference"]
    whole = {c["point"]: c["flops"] for c in results["cells"] if c["variant"] == reference}
    rows = []
    for point in [p["name"] for p in results["points"]] or [None]:
        if point is not None:
            rows.append(Row([words.place(results, point)], "point"))
        rows += [
            Row(
                [
                    cell["label"],
                    words.flops(cell["flops_per_image"]),
                    words.flops(cell["flops"]),
                    _times(cell["flops"], whole.get(point)),
                    NOTHING if cell["images"] is None else f"{cell['images']:,.0f}",
                    duration(cell["device_seconds"]),
                    _with_unit(cell["energy_joules"], 3600, "Wh"),
                    _with_unit(cell["peak_memory_gib"], 1, "GiB"),
                ],
                "reference" if cell["difference"] is None else "",
                link=anchor(cell),
            )
            for cell in results["cells"]
            if cell["point"] == point
        ]
    if not any(cell["flops"] or cell["device_seconds"] for cell in results["cells"]):
        return Table(columns[:1], [])
    return _lean(Table(columns, rows))


def _times(value: float | None, whole: float | None) -> str:
    return NOTHING if not value or not whole else f"{value / whole:.2f} ×"


def _with_unit(value: float | None, size: float, unit: str) -> str:
    return NOTHING if value is None else f"{value / size:.2f} {unit}"


def _health(cell: Tree) -> str:
    """The first word of each run's verdict if it is one, or else ``2 of 3 healthy``."""
    found = [str(text).partition(":")[0] for text in cell["health"] if text]
    names = list(dict.fromkeys(found))
    if len(names) < 2:
        return "".join(names) or NOTHING
    return f"{found.count('healthy')} of {len(found)} healthy"


def settings(results: Tree) -> Table:
    """Keys that all variants share, here and at the paper's scale."""

    def value(found: Any) -> str:
        return (
            "default" if found is None else found if isinstance(found, str) else json.dumps(found)
        )

    rows = [Row([s["key"], value(s["here"]), value(s["paper"])]) for s in results["settings"]]
    return Table(["key", "here", "at the paper's scale"], rows)
