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


@pytest.mark.parametrize(
    ("std", "rank", "words"),
    [(0.5, 30.0, "healthy"), (0.5, 9.0, "partly collapsed"), (0.5, 1.5, "collapsed"),
     (0.001, 30.0, "collapsed")],
)  # fmt: skip
def test_verdict_in_words(std: float, rank: float, words: str) -> None:
    first, last = {"rankme": 20.0}, {"feature_std": std, "rankme": rank}
    assert health.verdict(first, last, 128).startswith(words + ":")
