"""Which experiments there are, and what is known of each: ``ijepa ablate --list``."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ijepa.study import lock, vouch
from ijepa.study.experiment import Experiment, cells, load, names

WIDTH = 100  # columns of a line


@dataclass(frozen=True, slots=True)
class Known:
    """The results of an experiment at a scale, by its lock file.

    Attributes:
        seeds: that were run.
        runs: that ended well, variants by seeds.
        older: those of them that are of older code, not vouched for: they would run again.
        failed: runs that came to nothing.
        missing: cells of these seeds that have no result.
    """

    seeds: int
    runs: int
    older: int
    failed: int
    missing: int


@dataclass(frozen=True, slots=True)
class Entry:
    """An experiment: its file's name, its title, the paper's table, scale -> what is known."""

    name: str
    title: str
    table: int | None
    known: Mapping[str, Known]


def entries() -> list[Entry]:
    """Every experiment, by name.

    Raises:
        ValueError: an experiment's file or a lock file is wrong.
    """
    there = lock.listing()
    listed = []
    for name in names():
        experiment = load(name)
        scales = [scale for locked, scale in there if locked == name]
        known = {scale: _known(experiment, scale) for scale in scales}
        listed.append(Entry(name, experiment.title, experiment.table, known))
    return listed


def _known(experiment: Experiment, scale: str) -> Known:
    content = lock.read(experiment.name, scale)
    stands = vouch.standing(experiment.name, scale)
    keys = {f"{cell}/{seed}" for cell, _, _ in cells(experiment) for seed in content["seeds"]}
    ended = Counter((result["status"], stands[key]) for key, result in content["results"].items())
    done = sum(count for (status, _), count in ended.items() if status == "done")
    return Known(
        len(content["seeds"]), done, ended["done", "older"], ended.total() - done,
        len(keys - content["results"].keys()),
    )  # fmt: skip


def table(listed: Sequence[Entry]) -> str:
    """The experiments as lines of a terminal, ``WIDTH`` wide at most; a long title is cut."""
    rows = [("experiment", "table", "known", "title")]
    for one in listed:
        known = (
            "; ".join(_words(scale, results) for scale, results in one.known.items()) or "nothing"
        )
        rows.append((one.name, str(one.table or "–"), known, one.title))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = max(WIDTH - sum(widths[:3]) - 6, 20)
    lines = []
    for name, number, known, title in rows:
        short = textwrap.shorten(title, left, placeholder=" …")
        lines.append(f"{name:<{widths[0]}}  {number:>{widths[1]}}  {known:<{widths[2]}}  {short}")
    return "\n".join(lines)


def _words(scale: str, known: Known) -> str:
    """``laptop 6 seeds``, and what is not as it should be."""
    words = f"{scale} {known.seeds} seed{'' if known.seeds == 1 else 's'}"
    if known.older:
        words += ", older" if known.older == known.runs else f", {known.older} older"
    words += f", {known.failed} failed" if known.failed else ""
    return words + (f", {known.missing} missing" if known.missing else "")
