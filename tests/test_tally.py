"""Numbers of a step: of all ranks, read a step late, and a stop of all at one step."""

import math

import pytest
import torch

from ijepa.runtime import errors
from ijepa.training import tally
from ijepa.training.tally import Step, Tally

CPU = torch.device("cpu")
ONE = torch.ones(())


@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_steps_numbers_are_the_global_batchs_on_any_number_of_processes(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the ranks' mean losses, the sums of their patches and of their FLOPs."""
    losses = torch.tensor([1.0, 2.0, 4.0, 9.0]).view(world, -1)  # of four equal shares
    sent: list[torch.Tensor] = []

    def send() -> list[Tally]:
        tallies = [Tally(world, CPU) for _ in range(world)]
        for one, share in zip(tallies, losses, strict=True):
            one.add(1, share.mean(), ONE, 10.0 * len(share), (2**51 + 1) * len(share))
        return tallies

    monkeypatch.setattr(tally.dist, "all_reduce", lambda mine: sent.append(mine.clone()))
    send()
    assert len(sent) == (world if world > 1 else 0)
    monkeypatch.setattr(tally.dist, "all_reduce", lambda mine: mine.copy_(sum(sent)))
    for one in send():
        assert list(one.read(1, everything=True)) == [Step(4.0, 40.0, 2**53 + 4)]


def steps(one: Tally, now: int, everything: bool = False) -> list[float]:
    return [step.loss for step in one.read(now, everything)]


def test_a_step_is_read_once_and_late_unless_all_is_wanted() -> None:
    one = Tally(1, CPU)
    for number, everything, expected in (
        (1, False, []), (2, False, [1.0]), (3, True, [2.0, 3.0]), (4, False, []),
        (5, False, [4.0]), (6, True, [5.0, 6.0]),
    ):  # fmt: skip
        one.add(number, number * ONE, ONE, 0.0, 0)
        assert steps(one, number, everything) == expected


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (1.0, math.inf), (-math.inf, 1.0)])
def test_a_bad_number_is_refused_before_anything_later_is_read(loss: float, norm: float) -> None:
    one = Tally(1, CPU)
    one.add(7, torch.tensor(loss), torch.tensor(norm), 0.0, 0)
    assert steps(one, 7) == []
    one.add(8, ONE, ONE, 0.0, 0)
    with pytest.raises(errors.Failure, match="NaN or infinity at step 7"):
        steps(one, 8)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("early", [False, True])
def test_a_signal_to_one_rank_stops_all_after_the_same_step(
    who: int, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a rank that had to read a step at once for a checkpoint of its own."""
    other = torch.tensor([0.5, 0.5, 10.0, 7.0, 0.0], dtype=torch.float64)
    monkeypatch.setattr(tally.dist, "all_reduce", lambda mine: mine.add_(other))
    one = Tally(2, CPU)
    stopped = []
    for number in range(1, 5):
        if number == 2:
            one.request.pending, other[4] = who == 0, float(who == 1)
        one.add(number, ONE, ONE, 10.0, 5)
        for step in one.read(number, everything=early):
            assert step == Step(1.0, 20.0, 12)
        stopped.append(one.stopping(number))
    assert stopped == [False, False, True, True]
    assert not one.waiting, "what a checkpoint is to hold was read"
