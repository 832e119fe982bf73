"""The paper's Tables 1-5, and what this run has of the same kind: shown together, never ranked."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ijepa.config import Config
from ijepa.pages.run.words import few_labels

Row = Mapping[str, Any]
ORDERED = ("count", "distance")  # tasks whose classes have an order; the paper's are of Clevr


def published() -> list[dict[str, Any]]:
    """The paper's tables, from ``published.yaml``."""
    text = Path(__file__).with_name("published.yaml").read_text(encoding="utf-8")
    found: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(text)
    return found


def last(task: str) -> str:
    """What is asked, without the data set that it is asked of."""
    return task.rpartition("/")[2]


def tables(rows: Sequence[Row], settings: Config) -> list[dict[str, Any]]:
    """Every table with this run's rows (``ours``), and what it lacks and how to get it."""
    made = []
    for table in published():
        ours = [row for row in rows if _belongs(table["number"], row, rows[0]["task"])]
        lacks = _lacks(table, ours, rows, settings)
        made.append({**table, "name": f"table{table['number']}", "ours": ours, "lacks": lacks})
    return made


def _belongs(number: int, row: Row, first: str) -> bool:
    if number == 2:
        return bool(row["task"] == first and few_labels(row["probe"], row["options"]))
    if row["probe"] != "linear":
        return False
    transfer, ordered = row["data"] != "", last(row["task"]) in ORDERED
    kinds = {1: row["task"] == first, 3: transfer, 4: ordered, 5: transfer or ordered}
    return bool(kinds[number])


def _lacks(
    table: Mapping[str, Any], ours: Sequence[Row], rows: Sequence[Row], settings: Config
) -> list[dict[str, str]]:
    """What of a table this run did not measure, and the parameter that would."""
    number = table["number"]
    needed, what = ("logistic", "1 % labels") if number == 2 else ("linear", "Linear probe")
    probes = list(dict.fromkeys([*settings.evaluate.probes, needed]))
    if number in (1, 2) or all(row["probe"] != needed for row in rows):
        how = f"evaluate.probes=[{','.join(probes)}]"
        return [] if ours else [{"what": what, "how": how}]
    data = [d.name for d in settings.evaluate.transfer]
    found = []
    if number in (3, 5) and all(row["data"] == "" for row in ours):
        found.append({"what": "Transfer to another data set", "how": _transfer(data, "cifar10")})
    elif number in (3, 5):
        lost = [c["title"] for c in columns(table["columns"], ours) if not c["rows"]]
        lost = [title for title in lost if "/" not in title]  # Clevr's are said below
        if lost:
            how = _transfer(data, "folder, path: FOLDER")
            found.append({"what": ", ".join(lost), "how": how})
    if number in (4, 5):
        asked = {last(row["task"]) for row in ours}
        found += [
            {"what": f"The task “{task}”", "how": _transfer(data, "scenes")}
            for task in ORDERED
            if task not in asked
        ]
    return found


def _transfer(names: Sequence[str], more: str) -> str:
    entries = dict.fromkeys([*names, more])
    return f"evaluate.transfer=[{', '.join(f'{{name: {name}}}' for name in entries)}]"


def columns(titles: Sequence[str], ours: Sequence[Row]) -> list[dict[str, Any]]:
    """Our rows under the paper's columns; a task that the paper has not is a column of its own.

    Returns:
        For each column its ``title``, "" where it is ours alone, and ``rows``: encoder -> row,
        empty where nothing like it was measured.
    """
    tasks: dict[str, dict[str, Row]] = {}
    for row in ours:
        tasks.setdefault(row["task"], {})[row["encoder"]] = row
    made = []
    for title in titles:
        fits = [task for task, found in tasks.items() if _is(title, next(iter(found.values())))]
        made.append({"title": title, "rows": tasks.pop(fits[0]) if fits else {}})
    return made + [{"title": "", "rows": found} for found in tasks.values()]


def _is(title: str, row: Row) -> bool:
    """Whether a task is what a column of the paper asks, if of other images."""
    asked = {"Clevr/Count": "count", "Clevr/Dist": "distance"}.get(title)
    if asked:
        return last(row["task"]) == asked
    return re.sub(r"\W|_", "", row["data"].lower()) == title.lower()
