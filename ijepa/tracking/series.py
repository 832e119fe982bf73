"""One metric of a run, thinned so that neither the database nor its charts become slow."""

from typing import Any

POINTS = 10_000


class Series:
    """One metric, thinned so that it never holds many more than ``limit`` points.

    Kept are the points whose index is a multiple of ``stride``, the smallest power of two for
    which they are at most ``limit``, and the last point.
    """

    def __init__(self, limit: int = POINTS) -> None:
        self._limit = limit
        self.count = 0
        self.stride = 1
        self._kept: list[tuple[int, float, str]] = []
        self._last: tuple[int, float, str] | None = None

    def add(self, step: int, value: float, when: str) -> None:
        """Log one point; ``when`` is an ISO time in UTC."""
        self._last = (step, value, when)
        if self.count % self.stride == 0:
            self._kept.append(self._last)
            if len(self._kept) > self._limit:
                self._kept = self._kept[::2]
                self.stride *= 2
        self.count += 1

    def tree(self) -> dict[str, Any]:
        """Steps, values and times of the points that are kept, and how many were logged."""
        points = list(self._kept)
        if self._last is not None and points[-1] is not self._last:
            points.append(self._last)
        steps, values, times = map(list, zip(*points, strict=True)) if points else ([], [], [])
        return {"steps": steps, "values": values, "timestamps": times, "logged": self.count}
