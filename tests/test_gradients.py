"""The gradient of a batch: whole, or in shards that are added along one tree."""

import functools

import pytest
import torch
from conftest import tiny

from ijepa import config as configs
from ijepa.store.read import Store
from ijepa.training import gradients as module
from ijepa.training import loop
from ijepa.training.batches import Batches
from ijepa.training.gradients import Sums, bounds, gradients, tree

CPU = torch.device("cpu")
AUTOCAST = functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=False)


def numbers(count: int) -> list[Sums]:
    """Of very different sizes, so that each order of addition rounds to another sum."""
    draw = torch.Generator().manual_seed(0)
    return [
        [torch.randn(50, generator=draw) * 10.0 ** (3 * (i % 4)), torch.randn((), generator=draw)]
        for i in range(count)
    ]


def same(one: Sums, other: Sums) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_tree_adds_neighbours_first() -> None:
    a, b, c, d = numbers(4)
    by_hand = [(p + q) + (r + s) for p, q, r, s in zip(a, b, c, d, strict=True)]
    assert same(tree([a, b, c, d]), by_hand)
    assert not same(tree([a, c, b, d]), by_hand), "an order can be told"


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_a_processs_shards_are_a_branch_of_the_tree(processes: int) -> None:
    """So adding the processes' sums by the same tree goes on where each has stopped."""
    shards, own = numbers(8), 8 // processes
    branches = [tree(shards[rank * own :][:own]) for rank in range(processes)]
    assert same(tree(branches), tree(shards))


def test_shards_are_all_images_once() -> None:
    assert list(bounds(8, 4)) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert list(bounds(8, 1)) == [(0, 8)]


@pytest.mark.parametrize("name", ["ijepa", "mae", "ibot"])
def test_the_gradient_of_shards_is_that_of_the_batch(name: str, store: Store) -> None:
    """And the loss, and what is summed beside it."""
    config = tiny(**{"objective.name": name})
    batch = Batches(store.splits["train"], config)[0]
    results = []
    for shards in (1, 2, 8):
        objective = loop.create_objective(config, CPU)
        loss, context = gradients(objective, batch, shards, 0, AUTOCAST)
        sums = [] if getattr(objective, "sums", None) is None else [objective.sums]
        grads = [p.grad for p in objective.parameters() if p.grad is not None]
        results.append([torch.tensor([loss, context]), *grads, *sums])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("shards", "processes"), [(3, 1), (16, 1), (4, 8), (2, 4)])
def test_shards_that_cannot_be_are_refused(shards: int, processes: int) -> None:
    with pytest.raises(ValueError, match=r"train\.(shards|batch_size)"):
        configs.check_processes(tiny(**{"train.shards": shards}), processes)


def test_processes_without_shards_add_what_a_module_sums(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients are torch's to average; iBOT's centres are of the global batch all the same."""
    config = tiny(**{"objective.name": "ibot"})
    batch = Batches(store.splits["train"], config)[0]
    alone = loop.create_objective(config, CPU)
    gradients(alone, batch, 1, 0, AUTOCAST)
    monkeypatch.setattr(module.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(module.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(module.dist, "all_reduce", lambda sums: sums.mul_(2))  # two alike
    one_of_two = loop.create_objective(config, CPU)
    gradients(one_of_two, batch, 1, 0, AUTOCAST)
    assert torch.equal(one_of_two.sums, 2 * alone.sums)
