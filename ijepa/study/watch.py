"""Watching the jobs of a plan: a line for each that ends, and an end when the time is up."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa.runtime import durations
from ijepa.study import job


class TimeIsUp(Exception):
    """The time that was given to the jobs is over; what has ended is kept."""


class Watch:
    """Prints a line for each job that ends, with what is left.

    Args:
        group: the jobs.
        titles: by the name of a job.
        until: when the time is up, as ``time.monotonic`` counts.
    """

    def __init__(
        self,
        group: Sequence[Mapping[str, Any]],
        titles: Mapping[str, str],
        until: float,
    ) -> None:
        self.group, self.titles, self.start, self.until = group, titles, time.time(), until
        self.seen = {spec["name"]: job.written(spec) for spec in group}
        self.ended: dict[str, Mapping[str, Any]] = {}

    def look(self) -> None:
        """Print what is new.

        Raises:
            TimeIsUp: it is.
        """
        for spec in self.group:
            name = spec["name"]
            if name not in self.ended and job.written(spec) != self.seen[name]:
                result = job.read(Path(spec["result"]))
                assert result is not None
                self.ended[name] = result
                self._line(spec, result)
        if time.monotonic() > self.until:
            ended = f"{len(self.ended)} of {len(self.group)}"
            raise TimeIsUp(f"the time is up: {ended} have ended, the others have saved")

    def _line(self, spec: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        ended, count = len(self.ended), len(self.group)
        seconds = (time.time() - self.start) / ended * (count - ended)
        left = f"; {count - ended} more, {durations.about(seconds)}"
        failed = f"FAILED: {result['reason']} ({spec['log']})"
        words = "done" if result["status"] == "done" else failed
        title = self.titles.get(spec["name"], spec["name"])
        print(f"[{ended}/{count}] {title}: {words}{left if seconds else ''}", flush=True)

    def failed(self) -> dict[str, str]:
        """Of the jobs that came to nothing: name -> why."""
        return {n: r["reason"] for n, r in self.ended.items() if r["status"] != "done"}
