"""Durations in words."""

import re

import pytest

from ijepa.runtime.durations import about

UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "about 1 s"), (45, "about 45 s"), (89, "about 89 s"), (90, "about 1.5 min"),
        (720, "about 12 min"), (5399, "about 90 min"), (5400, "about 1.5 h"),
        (53798, "about 15 h"), (200000, "about 2.3 d"), (3e8, "about 3500 d"),
    ],
)  # fmt: skip
def test_a_duration_is_said_in_the_unit_that_a_person_would_take(
    seconds: float, words: str
) -> None:
    assert about(seconds) == words


def test_words_are_within_a_twentieth_of_the_seconds_and_never_go_back() -> None:
    before = 0.0
    for step in range(1, 400):
        seconds = 1.04**step
        match = re.fullmatch(r"about ([\d.]+) (s|min|h|d)", about(seconds))
        assert match
        said = float(match[1]) * UNITS[match[2]]
        assert abs(said / seconds - 1) <= 0.05
        assert said >= before
        before = said
