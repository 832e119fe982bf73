"""What must hold on a GPU: ``pytest -m gpu``. All of it is skipped where torch sees none."""

import hashlib
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny
from test_pretrain import Stage
from torch import Tensor

from ijepa import config as configs
from ijepa import presets, seeds, variants
from ijepa.config import Config
from ijepa.masks import Keys, Masks
from ijepa.runtime import errors, files
from ijepa.store.read import Store
from ijepa.training import checkpoint, loop, meter
from ijepa.training.batches import Batches, views
from ijepa.training.gradients import forward_backward, gradients, micro_batch
from ijepa.training.tally import Tally
from ijepa.views import normalise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda")
OBJECTIVES = variants.names("objectives")
MASKS = {"mae": "random", "data2vec": "blockwise", "ibot": "blockwise"}


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    seeds.deterministic()
    yield
    torch.use_deterministic_algorithms(False)


def preset(name: str) -> Config:
    tree = files.read_yaml(configs.PARAMS)
    presets.apply(tree, presets.load(name)[1], name)
    return configs.parse(tree, name)


def drawn(config: Config, count: int) -> tuple[list[Tensor], list[Masks]]:
    """Views and masks of some images, on the CPU."""
    generator = torch.Generator().manual_seed(0)
    sample = variants.load("masks", config.mask.name).sample
    images, masks = [], []
    for number, view in enumerate(views(config)):
        shape = count, 3, view.size, view.size
        images.append(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator))
        if view.masked:
            keys = Keys(number, 0, np.zeros(count, np.int64), np.arange(count))
            masks.append(sample(keys, configs.grid(config), config.mask.options))
    return images, masks


def gradient(config: Config, device: torch.device, half: bool, count: int = 16) -> Tensor:
    """Loss and gradient of a batch from the start of a run, one vector on the CPU."""
    objective = loop.create_objective(config, device)
    images, masks = drawn(config, count)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        given = [normalise(view.to(device)) for view in images]
        loss = objective(*given, *(mask.to(device) for mask in masks))
    loss.backward()
    parts = [p.grad.flatten().cpu() for p in objective.parameters() if p.grad is not None]
    return torch.cat([loss.detach().cpu().view(1), *parts])


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_same_bits_twice(name: str) -> None:
    config = preset(f"recipe_{name}")
    one = gradient(config, GPU, half=True)
    assert torch.equal(one, gradient(config, GPU, half=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_full_precision_is_the_cpus(name: str) -> None:
    config = preset(f"recipe_{name}")
    error = distance(gradient(config, GPU, half=False), gradient(config, CPU, half=False))
    assert error < 1e-4


@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_precision_is_near_full(name: str) -> None:
    config = preset(f"recipe_{name}")
    error = distance(gradient(config, GPU, half=True), gradient(config, GPU, half=False))
    assert error < 0.05


def test_compiled_blocks_repeat_their_bits_and_are_near_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = preset("recipe_ijepa")
    eager = gradient(config, GPU, half=True)
    monkeypatch.setenv("IJEPA_COMPILE", "1")
    compiled = gradient(config, GPU, half=True)
    assert torch.equal(compiled, gradient(config, GPU, half=True))
    assert 0 < distance(compiled, eager) < 0.02


def test_a_context_is_encoded_alone_as_among_longer_ones() -> None:
    config = preset("recipe_ijepa")
    (images,), (masks,) = drawn(config, 8)
    objective = loop.create_objective(config, GPU)
    lengths = masks.context_valid.sum(1).tolist()
    assert len(set(lengths)) > 2
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        seen = normalise(images.to(GPU))
        there = masks.to(GPU)
        together = objective.context_encoder(seen, there.context, there.context_valid)
        for row, length in enumerate(lengths):
            alone = objective.context_encoder(
                seen[row : row + 1], there.context[row : row + 1, :length]
            )
            assert distance(together[row, :length].float(), alone[0].float()) < 0.02
            assert not together[row, length:].any()


@pytest.mark.parametrize("name", ["ijepa", "pixels", "mae"])
def test_a_step_waits_for_nothing(name: str, store: Store) -> None:
    """No copy and no question that makes Python wait, from the second step on."""
    config = tiny(**{"objective.name": name, "mask.name": MASKS.get(name, "multiblock")})
    objective = loop.create_objective(config, GPU)
    optimizer = loop.create_optimizer(objective, config)
    batches, tally = Batches(store.splits["train"], config), Tally(1, GPU)

    def step(number: int) -> None:
        batch = batches[8 * number]
        batch = batch._replace(
            views=tuple(view.pin_memory() for view in batch.views),
            masks=tuple(Masks(*(t.pin_memory() for t in mask[:4])) for mask in batch.masks),
        )
        loss, context = gradients(objective, batch, 1, 0, autocast)
        norm = loop.clip(objective, 1.0)
        optimizer.step()
        objective.update(0.5)
        tally.add(number, loss, norm, context, 1)

    def autocast() -> torch.autocast:
        return torch.autocast("cuda", torch.bfloat16)

    for number in range(3):
        step(number)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            step(3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    told = [w for w in said if "prototype" not in str(w.message)]
    waits = [f"{Path(w.filename).name}:{w.lineno}" for w in told]
    assert waits == []
    assert [number.loss > 0 for number in tally.read(4, everything=True)] == [True] * 4


@pytest.fixture
def run(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Train on the GPU and return the hash of what a run writes; runs of one name share a home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "0")

    def start(name: str, **changes: Any) -> str:
        monkeypatch.setenv("IJEPA_HOME", str(tmp_path / name))
        loop.train(tiny(**changes), store, GPU, "bf16", 0, 1)
        written = sorted((tmp_path / "out").iterdir())
        return hashlib.sha256(b"".join(path.read_bytes() for path in written)).hexdigest()

    return start


@pytest.mark.parametrize("name", OBJECTIVES)
def test_killed_and_stopped_equals_uninterrupted(
    name: str, run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"objective.name": name, "mask.name": MASKS.get(name, "multiblock")}
    straight = run("straight", **change)
    assert run("again", **change) == straight
    real, count = checkpoint.save, 0

    class Killed(BaseException):
        pass

    def save(path: Path, step: int, state: dict[str, Any]) -> None:
        nonlocal count
        real(path, step, state)
        count += 1
        if count == 5:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(Killed):
        run("killed", **change)
    monkeypatch.setattr(loop, "Tally", asked_at(3))
    with pytest.raises(errors.Failure, match="stopped by a signal"):
        run("killed", **change)
    monkeypatch.setattr(loop, "Tally", Tally)
    assert run("killed", **change) == straight


def asked_at(steps: int) -> Callable[..., Tally]:
    """A tally whose rank gets a signal after some steps."""

    def create(world: int, device: torch.device) -> Tally:
        tally = Tally(world, device)
        real, count = tally.add, 0

        def add(*numbers: Any) -> None:
            nonlocal count
            count += 1
            tally.request.pending = count > steps
            real(*numbers)

        tally.add = add  # type: ignore[method-assign]
        return tally

    return create


def test_micro_batches_are_halved_until_they_fit(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny()
    objective, batches = loop.create_objective(config, GPU), Batches(store.splits["train"], config)
    monkeypatch.setenv("IJEPA_MICRO_BATCH", "auto")
    tried = []

    def fits_three(*arguments: Any) -> Tensor:
        tried.append(arguments[3] - arguments[2])
        if tried[-1] > 3:
            raise torch.OutOfMemoryError
        return forward_backward(*arguments)

    monkeypatch.setattr("ijepa.training.gradients.forward_backward", fits_three)
    autocast = lambda: torch.autocast("cuda", torch.bfloat16)  # noqa: E731
    assert micro_batch(objective, batches, 1, autocast) == 2
    assert tried == [8, 4, 2]
    assert all(p.grad is None for p in objective.parameters())
    assert micro_batch(objective, batches, 4, autocast) == 2, "of a shard"


def test_a_checkpoint_is_the_state_when_it_was_asked_for(tmp_path: Path) -> None:
    """Though the GPU is behind, and the weights change as soon as Python goes on."""
    a = torch.randn(8192, 8192, device=GPU) / 91
    state = torch.zeros(64, 1 << 20, device=GPU)
    with checkpoint.writer(tmp_path) as writer:
        for step in (1, 2):
            for _ in range(20):
                a = a @ a  # a second of work
                a /= a.norm()
            state.fill_(step)
            writer.save(step, {"state": state})
            state.fill_(-1)
        writer.wait()
    for step in (2, 1):
        loaded = checkpoint.load(tmp_path, CPU)
        assert loaded is not None
        assert (loaded["state"] == step).all()
        shutil.rmtree(tmp_path / f"step-{step:09d}")


def test_energy_is_what_the_card_took() -> None:
    counter = meter.energy(GPU, 1)
    assert counter is not None
    a = torch.randn(4096, 4096, device=GPU)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    counter.joules()
    start.record()
    for _ in range(1000):
        a @ a
    end.record()
    torch.cuda.synchronize()
    watts = counter.joules() / start.elapsed_time(end) * 1e3
    assert 20 < watts < 2000


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_processes_write_the_bytes_of_one(tmp_path: Path, store_path: Path) -> None:
    stage = Stage(tmp_path, store_path)
    stage.write(**{"train.shards": 2})
    written = set()
    for processes in ("1", "2"):
        stage.finish(f"home{processes}", IJEPA_PROCESSES=processes)
        written.add(stage.hash())
    assert len(written) == 1
