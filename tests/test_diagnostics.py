import math

import pytest
import torch

from ijepa.training import health


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
    ("std", "rank", "words"),
    [(0.5, 30.0, "healthy"), (0.5, 9.0, "partly collapsed"), (0.5, 1.5, "collapsed"),
     (0.001, 30.0, "collapsed")],
)  # fmt: skip
def test_verdict_in_words(std: float, rank: float, words: str) -> None:
    first, last = {"rankme": 20.0}, {"feature_std": std, "rankme": rank}
    assert health.verdict(first, last, 128).startswith(words + ":")
