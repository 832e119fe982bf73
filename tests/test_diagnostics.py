import math

import numpy as np
import pytest
import torch
from conftest import tiny

from ijepa.training import health, progress


def test_rankme_of_known_spectra() -> None:
    assert health.rankme(torch.eye(16)) == pytest.approx(16, rel=1e-4)
    one = torch.outer(torch.arange(1.0, 17), torch.ones(16))
    assert health.rankme(one) == pytest.approx(1, abs=1e-3)
    assert math.isnan(health.rankme(one * float("inf")))
    half = torch.diag(torch.tensor([1.0] * 8 + [0.0] * 8))
    assert health.rankme(half) == pytest.approx(8, rel=1e-3)


def test_feature_std_is_over_images_of_the_mean_over_patches() -> None:
    """Features i·(1, 2, 0) of images i = 0, ..., 3, around which patches lie."""
    image = torch.arange(4.0)[:, None, None]
    tokens = image * torch.tensor([1.0, 2.0, 0.0]) + torch.tensor([-5.0, 5.0])[:, None]
    meters = health.health(lambda _: tokens, torch.zeros(4, 3, 8, 8, dtype=torch.uint8))  # type: ignore[arg-type]
    assert meters["feature_std"] == pytest.approx((5 / 3) ** 0.5)
    assert meters["rankme"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("seen", "count"),
    [
        (960, 2), (4_992, 2), (10_000, 2), (15_000, 3), (20_000, 4), (140_000, 28),
        (10**7, 101),  # in every row
    ],
)  # fmt: skip
def test_health_is_read_at_both_ends_and_as_often_as_two_percent_of_the_images_pay_for(
    seen: int, count: int
) -> None:
    rows = progress.row_steps(min(seen // 32, 10_000))
    read = health.readings(rows, seen)
    assert len(read) == count
    assert seen < 10_000 or 100 * len(read) <= 0.02 * seen
    assert {rows[0], rows[-1]} <= read <= set(rows)
    gaps = np.diff([rows.index(step) for step in sorted(read)])
    assert gaps.max() - gaps.min() <= 1, "evenly"


def test_a_run_of_one_step_has_one_row_and_one_reading() -> None:
    assert health.readings(progress.row_steps(1), 8) == {1}


def test_a_reading_is_of_a_hundred_training_images_of_the_runs_seed() -> None:
    """Of all where there are fewer."""
    images = [np.full((16, 16, 3), value, np.uint8) for value in range(250)]

    def chosen(count: int, seed: int) -> list[int]:
        read = health.fixed_images(images[:count], tiny(seed=seed))  # type: ignore[arg-type]
        return read[:, 0, 0, 0].tolist()

    assert len(set(chosen(250, 0))) == 100
    assert chosen(250, 0) == chosen(250, 0) != chosen(250, 1)
    assert chosen(64, 0) == list(range(64))


@pytest.mark.parametrize(
    ("std", "rank", "words"),
    [(0.5, 30.0, "healthy"), (0.5, 9.0, "partly collapsed"), (0.5, 1.5, "collapsed"),
     (0.001, 30.0, "collapsed")],
)  # fmt: skip
def test_verdict_in_words(std: float, rank: float, words: str) -> None:
    first, last = {"rankme": 20.0}, {"feature_std": std, "rankme": rank}
    assert health.verdict(first, last, 128).startswith(words + ":")
