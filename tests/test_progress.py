"""What a run says in its log: columns that stay in place, words that the numbers bear."""

import re
from typing import Any

import numpy as np
import pytest

from ijepa.probes import Draw, Result
from ijepa.training.health import told, verdict
from ijepa.training.progress import line

ROW = {"step": 3, "lr": 1e-3, "weight_decay": 0.04, "context_ratio": 0.5}
CLOCK = {"images_per_second": 150.0, "eta": 720.0, "memory_gib": 0.9, "waiting": 0.0}


def test_whatever_the_loss_the_columns_after_it_stay_in_place() -> None:
    losses = (755.8, 100.0, 172.04, 78.7, 5.0, 0.0123456, 1.5e-6, 12345.0, 2.5e7)
    lines = [line({**ROW, "loss": loss}, 203, CLOCK) for loss in losses]
    assert len({text.index("  lr ") for text in lines}) == 1
    for loss, text in zip(losses, lines, strict=True):
        said = re.search(r"loss +(\S+)  lr", text)
        assert said
        assert float(said[1]) == pytest.approx(loss, rel=5e-4)
        assert len(re.sub(r"e.*|\D", "", said[1]).lstrip("0")) == 4, "four digits, zeros too"


def test_the_time_that_is_left_is_in_words() -> None:
    text = line({**ROW, "loss": 1.0}, 203, CLOCK)
    assert text.endswith("  about 12 min left")
    assert line({**ROW, "loss": 1.0}, 203, {**CLOCK, "waiting": 0.5}).endswith(
        "about 12 min left  waits for data 50%"
    )


@pytest.mark.parametrize(
    ("last", "alarm"),
    [
        ({"feature_std": 0.1, "rankme": 5.0}, False),
        ({"feature_std": 0.1, "rankme": 5.2}, False),
        ({"feature_std": 0.1, "rankme": 2.5}, True),
        ({"feature_std": 0.001, "rankme": 5.0}, True),
    ],
)
def test_no_network_is_called_healthy_and_numbers_stand_beside_their_start(
    last: dict[str, float], alarm: bool
) -> None:
    first = {"feature_std": 0.12, "rankme": 5.2}
    words = told(first, last, 64)
    assert "healthy" not in words
    assert ("collapsed" in words) == alarm
    assert (words == verdict(first, last, 64)) == alarm
    if not alarm:
        numbers = [float(number) for number in re.findall(r"\d+\.\d+", words)]
        assert numbers == [last["feature_std"], 0.12, last["rankme"], 5.2]


def result(**more: Any) -> Result:
    test, none = np.array([[0, 1, 1, 0], [1, 1, 1, 1]]), np.zeros((2, 0), np.int64)
    return Result(({}, {}), 1, none, none[0], test, **more)


def test_the_log_has_the_accuracy_of_the_table() -> None:
    """Few-shot: the mean over draws of the most labels, not the first draw."""
    truth = np.array([0, 1, 1, 1])
    assert result().accuracy(truth) == 0.75
    draws = [(1, 0, [0, 0, 0, 0]), (5, 0, [0, 1, 1, 1]), (5, 1, [0, 0, 0, 1])]
    curve = tuple(Draw(labels, draw, np.array(called)) for labels, draw, called in draws)
    assert result(curve=curve).accuracy(truth) == (1.0 + 0.5) / 2
