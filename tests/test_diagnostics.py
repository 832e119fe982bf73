import math

import numpy as np
import pytest
import torch

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
    ("seen", "images", "readings"),
    [
        (960, 16, 2),  # scale smoke: the least that says anything
        (1_600, 16, 2), (4_992, 49, 2), (20_000, 200, 2), (25_600, 256, 2),
        (140_000, 256, 10),
        (10**7, 256, 101),  # a reading in every row
    ],
)  # fmt: skip
def test_health_is_read_at_both_ends_and_as_often_as_two_percent_of_the_images_pay_for(
    seen: int, images: int, readings: int
) -> None:
    steps = max(1, seen // 32)
    rows = progress.row_steps(min(steps, 10_000))
    count, read = health.plan(rows, seen)
    assert (count, len(read)) == (images, readings)
    assert seen < 1_600 or count * len(read) <= 0.02 * seen
    assert {rows[0], rows[-1]} <= read <= set(rows)
    gaps = np.diff([rows.index(step) for step in sorted(read)])
    assert gaps.max() - gaps.min() <= 1, "evenly"


def test_a_run_of_one_step_has_one_row_and_one_reading() -> None:
    assert health.plan(progress.row_steps(1), 8) == (16, {1})


@pytest.mark.parametrize(
    ("std", "rank", "words"),
    [(0.5, 30.0, "healthy"), (0.5, 9.0, "partly collapsed"), (0.5, 1.5, "collapsed"),
     (0.001, 30.0, "collapsed")],
)  # fmt: skip
def test_verdict_in_words(std: float, rank: float, words: str) -> None:
    first, last = {"rankme": 20.0}, {"feature_std": std, "rankme": rank}
    assert health.verdict(first, last, 128).startswith(words + ":")
