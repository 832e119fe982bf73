import pytest
from conftest import tiny

from ijepa import schedule


def test_the_papers_learning_rate() -> None:
    """Appendix A.1: linear from 1e-4 to 1e-3 over 15 epochs, then cosine to 1e-6; 300 epochs."""
    train = tiny(**{
        "train.epochs": 300, "train.warmup_epochs": 15, "train.lr_start": 1e-4,
        "train.lr": 1e-3, "train.lr_final": 1e-6,
    }).train  # fmt: skip
    at = {step: schedule.learning_rate(train, step, 3000) for step in (0, 75, 150, 1575, 3000)}
    assert at[0] == pytest.approx(1e-4)
    assert at[75] == pytest.approx(5.5e-4)
    assert at[150] == pytest.approx(1e-3)
    assert at[1575] == pytest.approx((1e-3 + 1e-6) / 2)
    assert at[3000] == pytest.approx(1e-6)


def test_constant_learning_rate_after_warm_up() -> None:
    train = tiny(**{"train.lr_schedule": "constant", "train.warmup_epochs": 1}).train
    assert schedule.learning_rate(train, 29, 30) == train.lr
    assert schedule.learning_rate(train, 1, 30) < train.lr


def test_weight_decay_linear_in_the_paper_cosine_as_released() -> None:
    change = {"train.weight_decay": [0.04, 0.4]}
    linear = tiny(**change).train
    cosine = tiny(**change, **{"train.weight_decay_schedule": "cosine"}).train
    assert schedule.weight_decay(linear, 25, 100) == pytest.approx(0.13)
    assert schedule.weight_decay(cosine, 25, 100) == pytest.approx(0.04 + 0.36 * 0.1464466)
    for train in (linear, cosine):
        assert schedule.weight_decay(train, 0, 100) == pytest.approx(0.04)
        assert schedule.weight_decay(train, 100, 100) == pytest.approx(0.4)
