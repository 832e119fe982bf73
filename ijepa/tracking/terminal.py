"""Runs of the journal as text, for a terminal."""

import dataclasses
from pathlib import Path

from ijepa.tracking import runs
from ijepa.tracking.runs import Record

UNITS = {"prepare": " images", "pretrain": " RankMe", "evaluate": " %", "report": " %"}


def _result(record: Record) -> str:
    """A stage's result with what it is: accuracies and counts stand in one column."""
    if record.result is None:
        return ""
    return f"{record.result:.6g}{UNITS.get(record.stage, '')}"


def table(records: list[Record]) -> str:
    """The runs as lines of text, for a terminal."""
    rows = [
        {
            "id": str(r.id),
            "stage": r.stage,
            "status": r.status,
            "start (UTC)": r.start[:19].replace("T", " "),
            "seconds": "" if r.seconds is None else f"{r.seconds:.0f}",
            "seed": str(r.seed),
            "result": _result(r),
            "signature": r.signature[:8],
            "commit": r.commit[:8] + ("+" if r.dirty else ""),
            "experiment": r.experiment,
        }
        for r in records
    ]
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show(run_id: int, home: Path | None = None) -> tuple[str, list[str]]:
    """One run as text: what it is, what it wrote, and the end of what it printed.

    Returns:
        The text, and a line for each of its files that is damaged.

    Raises:
        ValueError: the journal has no such run, or cannot tell what it is.
    """
    record = runs.one(run_id, home)
    folder = record.folder
    lines = [f"{f.name:<10} {getattr(record, f.name)}" for f in dataclasses.fields(record)
             if f.name not in ("cost", "versions", "outs")]  # fmt: skip
    lines += [f"{'cost':<10} {name} {value}" for name, value in (record.cost or {}).items()]
    lines += [f"{'out':<10} {out['path']}  sha256 {out['sha256']}" for out in record.outs]
    lines += [f"{'version':<10} {name} {version}" for name, version in record.versions.items()]
    damaged: list[str] = []
    try:
        for name, points in runs.series(folder).items():
            last = f"last {points['values'][-1]:.6g} at step {points['steps'][-1]}"
            lines.append(f"{'metric':<10} {name}: {points['logged']} points, {last}")
    except (ValueError, LookupError, TypeError) as error:
        damaged.append(str(error))
    trace = (runs.entry(folder) or {}).get("fail_trace") or []
    output = folder / "cout.txt"
    try:
        runs.check(folder, ["cout.txt"])
    except ValueError as error:
        damaged.append(str(error))
    printed = output.read_text(errors="replace").splitlines()[-20:] if output.is_file() else []
    return "\n".join([*lines, "", *printed, *"".join(trace).splitlines()]), damaged
