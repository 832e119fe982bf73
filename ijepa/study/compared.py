"""A run that was repeated beside its record: files, where they part, and why that may be."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ijepa.runtime import environment, files
from ijepa.study import outcome, parting, recorded
from ijepa.study.recorded import DATA, Recorded
from ijepa.tracking import provenance, runs

SHOWN = 16  # digits of a digest in the table
PROCESSORS = "docs/reproduce.md, Another processor"
_WORDS = {"name": "processor"}


@dataclass(frozen=True, slots=True)
class Row:
    """A file of the table; None: it is not there."""

    file: str
    before: str
    after: str | None

    @property
    def same(self) -> bool:
        """Whether it has the bytes on record."""
        return self.before == self.after


def compare(record: Recorded, path: Path) -> list[Row]:
    """Every file on record beside the clone's."""
    digest = files.sha256 if record.digest == "sha256" else md5
    return [
        Row(name, before, digest(path / name) if (path / name).exists() else None)
        for name, before in record.files.items()
    ]


def md5(path: Path) -> str:
    """DVC's digest of a file, or of a folder: that of the list of its files, and ``.dir``."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    inside = sorted(f.relative_to(path).as_posix() for f in path.rglob("*") if f.is_file())
    listed = [{"md5": md5(path / name), "relpath": name} for name in inside]
    return f"{hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest()}.dir"


def table(record: Recorded, rows: Sequence[Row]) -> str:
    """The files with the beginnings of their digests, recorded and here."""
    name = {"sha256": "SHA-256", "md5": "MD5"}[record.digest]
    cells = [("file", f"recorded {name}", "here", "same")]
    for row in rows:
        after = (row.after or "no such file")[:SHOWN]
        cells.append((row.file, row.before[:SHOWN], after, "yes" if row.same else "NO"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def why(
    record: Recorded, path: Path, rows: Sequence[Row], variables: Mapping[str, str]
) -> Iterator[str]:
    """Where they part, what is otherwise on this machine, and how far the numbers are apart."""
    apart = {row.file for row in rows if not row.same}
    if DATA in apart or "data/prepared" in apart:
        yield "they part at the data, so nothing was trained"
    if weights := _weights(record, variables):
        yield f"they part at {weights}"
    if outcome.HISTORY in apart:
        yield f"they part at {_step(record, path) or 'a digit that the record does not have'}"
    for encoder in sorted(name for name in apart if name.endswith(".safetensors")):
        before = recorded.at_hand(record, encoder)
        if before and (path / encoder).is_file():
            yield f"{encoder}: {parting.first_tensor(before, path / encoder)}"
    known, now = record.numerics, here(record, variables)
    other = {k: f"{_WORDS.get(k, k)} {v} recorded, {now[k]} here"
             for k, v in (known or {}).items() if k in now and now[k] != v}  # fmt: skip
    nothing = "nothing that is on record" if known else "it is not on record"
    yield f"otherwise on this machine: {'; '.join(other.values()) or nothing}"
    if "name" in other:
        yield f"another processor may give other bits; what that does to numbers: {PROCESSORS}"
    for file, before in record.numbers.items():
        if (path / file).is_file():
            for key, old, new in parting.numbers(before, files.read_json(path / file)):
                numeric = isinstance(old, int | float) and isinstance(new, int | float)
                distance = f", {new - old:+.3g}" if numeric else ""
                yield f"{file} {key}: {old} recorded, {new} here{distance}"


def _weights(record: Recorded, variables: Mapping[str, str]) -> str:
    """The first step after which weights differ, by the trails."""
    if record.trail is None:
        return ""
    home = Path(variables["IJEPA_HOME"])  # the clone's
    folders = [file.parent for file in home.glob(f"runs/*/{runs.TRAIL}")]
    return parting.first_weights(record.trail, record.places, folders[0]) if folders else ""


def _step(record: Recorded, path: Path) -> str:
    before = record.history
    if before is None and (file := recorded.at_hand(record, outcome.HISTORY)):
        before = parting.history(file)
    if before is None:
        return (
            "some step: the recorded history is not at hand; `ijepa runs import FILE` brings it,"
            " where the run's journal was published"
        )
    return parting.first_step(before, parting.history(path / outcome.HISTORY))


def here(record: Recorded, variables: Mapping[str, str]) -> dict[str, Any]:
    """What the bits depend on in this machine, as the clone is told to compute."""
    told = {"threads": record.threads.get("pretrain", (record.numerics or {}).get("threads"))}
    for name in ("device", "precision"):
        told[name] = variables.get(f"IJEPA_{name.upper()}")
    told["processes"] = (
        int(variables["IJEPA_PROCESSES"]) if "IJEPA_PROCESSES" in variables else None
    )
    return {**environment.numerics(), **{k: v for k, v in told.items() if v is not None},
            **provenance.software()}  # fmt: skip
