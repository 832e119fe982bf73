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


@pytest.mark.parametrize("after", ["cosine", "constant"])
def test_warm_up_starts_at_its_start_and_ends_where_the_peak_is(after: str) -> None:
    """Ten steps of equal height from the first rate up; step 10 is the first with the full one."""
    change = {"train.epochs": 10, "train.lr_schedule": after}
    train = tiny(**change, **{"train.warmup_epochs": 1}).train
    rates = [schedule.learning_rate(train, step, 100) for step in range(101)]
    height = (train.lr - train.lr_start) / 10
    assert rates[:11] == pytest.approx([train.lr_start + height * k for k in range(11)])
    assert rates[10] == max(rates) == train.lr
    assert rates[100] == (train.lr if after == "constant" else train.lr_final)
    if after == "cosine":
        assert rates[55] == pytest.approx((train.lr + train.lr_final) / 2)
    none = tiny(**change, **{"train.warmup_epochs": 0}).train
    assert schedule.learning_rate(none, 0, 100) == train.lr


def test_weight_decay_linear_in_the_paper_cosine_as_released() -> None:
    change = {"train.weight_decay": [0.04, 0.4]}
    linear = tiny(**change).train
    cosine = tiny(**change, **{"train.weight_decay_schedule": "cosine"}).train
    assert schedule.weight_decay(linear, 25, 100) == pytest.approx(0.13)
    assert schedule.weight_decay(cosine, 25, 100) == pytest.approx(0.04 + 0.36 * 0.1464466)
    for train in (linear, cosine):
        assert schedule.weight_decay(train, 0, 100) == pytest.approx(0.04)
        assert schedule.weight_decay(train, 100, 100) == pytest.approx(0.4)
