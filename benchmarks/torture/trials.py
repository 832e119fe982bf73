"""Trials: drawn from (seed, kind, number), kept one a line, counted in a table."""

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# From good to bad. ``unclear``: it ended with a failure as it should, but with a traceback, or
# without the name of the file. ``void``: the script spoiled the trial, which proves nothing.
VERDICTS = ("survived", "no effect", "unclear", "lost", "void")
BAD = ("unclear", "lost")


@dataclass(frozen=True)
class Outcome:
    """What a trial showed.

    Attributes:
        row: of the table.
        verdict: one of ``VERDICTS``.
        hits: kills that met a living process, bytes or files that were damaged, ...
        note: what was done and seen, so that it can be repeated by hand.
    """

    row: str
    verdict: str
    hits: int
    note: str


@dataclass(frozen=True)
class Trial(Outcome):
    """An outcome with its place in the series."""

    kind: str
    number: int
    seconds: float


Make = Callable[[random.Random], Outcome]


def generator(seed: int, kind: str, number: int) -> random.Random:
    """All that is random in a trial comes from here, whatever ran before it."""
    return random.Random(f"{seed}/{kind}/{number}")


def read(path: Path) -> list[Trial]:
    """The trials that are done; a line that a kill cut off is none."""
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Trial(**json.loads(line)) for line in lines]


def run(
    kinds: Mapping[str, Make], wanted: Mapping[str, int], seed: int, path: Path, until: float
) -> None:
    """Go on with the trials, each kind in proportion to what is wanted of it, until time is up.

    Args:
        kinds: kind -> makes a trial.
        wanted: kind -> number of trials.
        seed: of all of them.
        path: the file that a trial is appended to when it is done.
        until: as ``time.monotonic`` counts.
    """
    done = dict.fromkeys(kinds, 0)
    for trial in read(path):
        if trial.kind in done:
            done[trial.kind] += 1
    text = path.read_bytes() if path.is_file() else b""
    path.write_bytes(text[: text.rfind(b"\n") + 1])
    while time.monotonic() < until:
        left = [kind for kind in kinds if done[kind] < wanted[kind]]
        if not left:
            return
        kind = min(left, key=lambda kind: done[kind] / wanted[kind])
        start = time.monotonic()
        try:
            outcome = kinds[kind](generator(seed, kind, done[kind]))
        except Exception as error:  # of this script: shown, and no proof of anything
            outcome = Outcome(kind, "void", 0, f"{type(error).__name__}: {error}")
        assert outcome.verdict in VERDICTS, outcome
        seconds = round(time.monotonic() - start, 3)
        trial = Trial(**asdict(outcome), kind=kind, number=done[kind], seconds=seconds)
        with path.open("a") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
        done[kind] += 1
        if outcome.verdict in (*BAD, "void"):
            print(f"{kind} {trial.number}: {outcome.verdict}: {outcome.note}", flush=True)


def bound(bad: int, trials: int) -> str:
    """Upper end of the share of bad trials, 95 %: the rule of three, or Wilson's."""
    if not trials:
        return ""
    if not bad:
        return f"{min(1.0, 3 / trials):.1%}"
    z, share = 1.96, bad / trials
    middle = share + z**2 / (2 * trials)
    width = z * ((share * (1 - share) + z**2 / (4 * trials)) / trials) ** 0.5
    return f"{(middle + width) / (1 + z**2 / trials):.1%}"


def table(trials: Sequence[Trial]) -> str:
    """Rows and kinds with their counts, in Markdown."""
    head = ["kind", "trials", "hits", *VERDICTS, "bad at most (95 %)", "seconds"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    rows = sorted({(t.kind, t.row) for t in trials})
    for kind in sorted({t.kind for t in trials}):
        own = [row for row in rows if row[0] == kind]
        if len(own) > 1:
            lines.append(_line(f"**{kind}**", [t for t in trials if t.kind == kind]))
        lines += [_line(row, [t for t in trials if (t.kind, t.row) == (kind, row)])
                  for _, row in own]  # fmt: skip
    return "\n".join([*lines, _line("**all**", trials)])


def _line(name: str, trials: Sequence[Trial]) -> str:
    counts = {verdict: sum(t.verdict == verdict for t in trials) for verdict in VERDICTS}
    bad = sum(counts[verdict] for verdict in BAD)
    cells = [
        name, len(trials), sum(t.hits for t in trials), *counts.values(),
        bound(bad, len(trials) - counts["void"]), f"{sum(t.seconds for t in trials):.0f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"
