"""``ijepa exp``: DVC's experiments in a terminal's width: what each changed and what it reaches.

``dvc exp show`` has a column for every key, metric and file, 200 and more. What it knows is read
here, and each evaluation's intervals where DVC's cache has them.
"""

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ijepa import workspace
from ijepa.config import PARAMS
from ijepa.pages import text

METRICS, EVALUATION = "out/metrics.json", "out/evaluation/evaluation.json"
_BASELINES = ("random_init", "pixels")
_LEAST = 80  # columns of a terminal
_NAME = 28  # columns of a name, at most
_SHOWN = 4  # changes of an experiment; a run of a table has thirty


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment, or the commit that it started from, as DVC knows it.

    Attributes:
        name: of the experiment, or of the commit.
        commit: its hash.
        state: why there are no numbers, such as ``queued``; else "".
        metrics: the content of ``out/metrics.json``, task -> probe -> encoder -> percent.
        changes: ``key value (was value)``, beside the commit that it started from; and whether
            that commit's numbers are of other code.
    """

    name: str
    commit: str
    state: str
    metrics: Mapping[str, Any]
    changes: tuple[str, ...]


def show(task: str | None, probe: str | None, every: bool) -> str:
    """The table of HEAD's experiments, or of every commit's.

    Raises:
        ValueError: DVC cannot tell, or no run has such a task or probe; one line.
    """
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *(["-A"] if every else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"ended with {done.returncode}"
        raise ValueError(f"dvc exp show: {said}")
    listed = rows(json.loads(done.stdout))
    width = max(shutil.get_terminal_size((100, 24)).columns, _LEAST)
    remark = workspace.remark()
    shown = table(listed, *headline(listed, task, probe), width, evaluation)
    return "\n".join([*([textwrap.fill(remark, width)] if remark else []), shown])


def rows(shown: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Of what ``dvc exp show --json`` prints: every commit, then its experiments.

    Not the working copy: after a run that failed its parameters are new and its numbers are not.
    """
    listed = []
    for entry in shown:
        if entry["rev"] == "workspace":
            continue
        listed.append(_row(entry, entry.get("name") or entry["rev"][:7], entry))
        for experiment in entry.get("experiments") or ():
            state = (experiment.get("executor") or {}).get("state") or ""
            first = experiment["revs"][0]
            name = experiment.get("name") or first["rev"][:7]
            listed.append(_row(first, name, entry, state.lower()))
    return listed


def _row(entry: Mapping[str, Any], name: str, start: Mapping[str, Any], state: str = "") -> Row:
    data = entry.get("data") or {}
    metrics = ((data.get("metrics") or {}).get(METRICS) or {}).get("data") or {}
    if state in ("", "success"):
        state = "" if metrics else "no numbers"
    else:
        metrics = {}  # DVC shows the commit's, which such an experiment has not replaced
    changes = workspace.differences(_params(start), _params(entry)) if data else []
    if metrics and None not in (codes := (_code(start), _code(entry))) and codes[0] != codes[1]:
        changes.insert(0, "other code than the commit's numbers are of")
    return Row(name, entry["rev"], state, metrics, tuple(changes))


def _params(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    data = entry.get("data") or {}
    params: Mapping[str, Any] = (data.get("params") or {}).get(str(PARAMS), {}).get("data") or {}
    return params


def _code(entry: Mapping[str, Any]) -> str | None:
    """The hash of ``ijepa`` that the numbers are of, from ``dvc.lock``."""
    data = entry.get("data") or {}
    code: str | None = ((data.get("deps") or {}).get("ijepa") or {}).get("hash")
    return code


def headline(listed: Sequence[Row], task: str | None, probe: str | None) -> tuple[str, str]:
    """The task and the probe to show: as asked, else class and linear, else the first there is.

    Raises:
        ValueError: no run has them.
    """
    tasks = sorted({name for row in listed for name in row.metrics})
    task = task or _preferred("class", tasks)
    probes = sorted({name for row in listed for name in row.metrics.get(task, {})})
    probe = probe or _preferred("linear", probes)
    for option, name, known in (("--task", task, tasks), ("--probe", probe, probes)):
        if name not in known and tasks:
            raise ValueError(f"{option}: {name!r} is not one of {', '.join(known)}")
    return task, probe


def _preferred(name: str, names: Sequence[str]) -> str:
    return name if name in names or not names else names[0]


def evaluation(commit: str) -> Mapping[str, Any]:
    """``evaluation.json`` of a commit; empty where no cache has it."""
    import dvc.api  # a second, which `ijepa --help` need not wait
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    try:
        read: Mapping[str, Any] = json.loads(dvc.api.read(EVALUATION, rev=commit))
    except (DvcException, DataIndexError, OSError, ValueError):
        return {}
    return read


def table(
    listed: Sequence[Row], task: str, probe: str, width: int, evaluated: Any = evaluation
) -> str:
    """Rows as lines of at most ``width`` columns; changes go on below.

    Args:
        listed: see ``rows``.
        task: of the metrics.
        probe: of the task.
        width: of the terminal; 80 or more.
        evaluated: commit -> the content of its ``evaluation.json``; see ``evaluation``.
    """
    heads = ("experiment", "trained", *(text.spoken(name) for name in _BASELINES))
    cells = [heads, *(_cells(row, task, probe, evaluated) for row in listed)]
    changes = [("changed",), *(row.changes for row in listed)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    indent = sum(widths) + 2 * len(widths)
    lines = [
        f"{text.spoken(task)}, {text.spoken(probe)}: percent of the test images,"
        " ± half a 95 % interval over them, not over seeds"
    ]
    for row, changed in zip(cells, changes, strict=True):
        left = [cell.ljust(w) if i == 0 else cell.rjust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        words = list(_wrapped(changed, width - indent)) or [""]
        lines.append(f"{'  '.join(left)}  {words[0]}".rstrip())
        lines += [f"{'':{indent}}{word}" for word in words[1:]]
    return "\n".join([*textwrap.wrap(lines[0], width), *lines[1:]])


def _cells(row: Row, task: str, probe: str, evaluated: Any) -> tuple[str, ...]:
    name = row.name if len(row.name) <= _NAME else f"{row.name[: _NAME - 1]}…"
    numbers = row.metrics.get(task, {}).get(probe)
    if numbers is None:
        return name, row.state or text.NOTHING, *("" for _ in _BASELINES)
    cell = evaluated(row.commit).get("tasks", {}).get(task, {}).get(probe, {}).get("trained", {})
    accuracy = numbers.get("trained")
    same = None not in (accuracy, cell.get("accuracy")) and abs(cell["accuracy"] - accuracy) < 0.01
    low, high = (cell.get("low"), cell.get("high")) if same else (None, None)
    others = (text.number(numbers.get(baseline)) for baseline in _BASELINES)
    return name, text.plus_minus(accuracy, low, high), *others


def _wrapped(changes: Sequence[str], width: int) -> Iterator[str]:
    more = len(changes) - _SHOWN
    for change in [*changes[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]:
        yield from textwrap.wrap(change, width)
