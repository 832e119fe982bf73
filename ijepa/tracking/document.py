"""What MongoDB has of a run: the document that Omniboard lists, and the series that it draws.

The columns of Omniboard's list stand in the document, as ``info.last`` and ``info.headline``. Its
own metric columns join every series of every run for each look at the list, which takes minutes of
a server without MongoDB's optimiser.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import bson

FORM = b"2"  # another one whenever this file makes another document: then runs are sent again
DOCUMENT = 15_000_000  # bytes; MongoDB refuses 16 MiB
INTEGER = 2**63  # the first whole number that MongoDB has no type for
# Numbers rather than series, and what a run costs: Omniboard ticks every series that there is, and
# FLOPs flatten a loss. They are in ``info.last``; the journal and out/history.csv have them whole.
_UNCHARTED = re.compile(
    r"eval\..*|(.*\.)?(images|skipped|seconds|flops|flops_useful|images_per_second|eta|memory_gib"
    r"|waiting)"
)


def charted(series: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The series of a run that are drawn against steps, as documents of the database's."""
    return {
        name: {
            "steps": points["steps"],
            "values": points["values"],
            "timestamps": [_time(when) for when in points["timestamps"]],
        }
        for name, points in series.items()
        if not _UNCHARTED.fullmatch(name)
    }


def series_id(uuid: str, name: str) -> bson.ObjectId:
    """The id of a run's series: the same at every sync."""
    return bson.ObjectId(sha256(f"{uuid}/{name}".encode()).digest()[:12])


def last(series: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Name of a series -> its last value; dots become ``_``, as everywhere in the document."""
    return {name: points["values"][-1] for name, points in series.items() if points["values"]}


def headline(
    config: Mapping[str, Any], result: float | None, series: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """The accuracy that an evaluation is known by, and the baselines of the same task and probe.

    Returns:
        ``of``, the task and the probe; the accuracy of each encoder in percent. Only
        ``trained`` where the journal does not say of which task the result is, since two have the
        same. Nothing of the other stages, whose result is another quantity.
    """
    if config.get("stage") != "evaluate" or result is None:
        return {}
    probes = ((config.get("params") or {}).get("evaluate") or {}).get("probes") or [""]
    values = last(series)
    tasks = [
        name.split(".")[1]
        for name, value in values.items()
        if re.fullmatch(rf"eval\.[^.]+\.{re.escape(probes[0])}\.trained", name) and value == result
    ]
    if len(tasks) != 1:
        return {"trained": result}
    stem = f"eval.{tasks[0]}.{probes[0]}."
    encoders = {n.removeprefix(stem): v for n, v in values.items() if n.startswith(stem)}
    return {"of": f"{tasks[0]} {probes[0]}", **encoders}


def build(
    run: Mapping[str, Any], config: Mapping[str, Any], info: Mapping[str, Any], output: str,
    series: Mapping[str, dict[str, Any]] | None,
) -> dict[str, Any]:  # fmt: skip
    """The document of a run; what refers to other collections is the caller's to fill in.

    Args:
        run: ``run.json`` of the journal.
        config: ``config.json``.
        info: ``info.json``.
        output: what the run printed.
        series: ``metrics.json``; None where it is damaged.
    """
    result = run.get("result")
    shown = {name: _short(value) for name, value in last(series or {}).items()}
    told = {"last": shown, "headline": headline(config, result, series or {})}
    document = {
        **run,
        "format": "MongoObserver-0.7.0",
        "config": config,
        "info": {**info, **{name: value for name, value in told.items() if value}},
        "captured_out": output,
        **{key: _time(run.get(key)) for key in ("start_time", "heartbeat", "stop_time")},
    }
    if config.get("stage") in ("prepare", "pretrain"):  # images, RankMe: a column is one quantity
        document["result"] = None
    plain: dict[str, Any] = _plain(document)
    return plain


def _short(value: Any) -> Any:
    """A number as a narrow column can show it; counts stay whole."""
    cut = isinstance(value, float) and not value.is_integer()
    return float(f"{value:.5g}") if cut else value


def fitting(document: dict[str, Any]) -> dict[str, Any]:
    """The document, made small enough for MongoDB by shortening what can be long."""
    for key, short in (("captured_out", 100_000), ("fail_trace", 0), ("info", 0)):
        if len(bson.encode(document)) <= DOCUMENT:
            break
        if key == "captured_out":
            document[key] = document[key][-short:]
        elif key in document:
            document[key] = "too large for MongoDB: see the journal"
    return document


def _plain(value: Any) -> Any:
    """``value`` with keys and numbers that MongoDB has: no dots or $ in names, 64-bit integers.

    Keys that would become one stay apart: the later gets a number.
    """
    if isinstance(value, dict):
        plain: dict[str, Any] = {}
        for key, inside in value.items():
            name = wanted = str(key).replace(".", "_").replace("$", "_")
            number = 1
            while name in plain or (name != str(key) and name in value):
                number += 1
                name = f"{wanted}_{number}"
            plain[name] = _plain(inside)
        return plain
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, int) and not -INTEGER <= value < INTEGER else value


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
