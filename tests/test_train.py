"""The loop: exact resume, what a checkpoint must hold, and what stops a run."""

import hashlib
import json
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny
from torch import nn

from ijepa import schedule
from ijepa.model import vit
from ijepa.objectives import ijepa as ijepa_objective
from ijepa.runtime import errors, weights
from ijepa.store.read import Store
from ijepa.training import checkpoint, loop
from ijepa.training.batches import Batches
from ijepa.views import normalise

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Train a tiny run in a folder of its own; returns the hash of all it writes."""
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "0")  # after every step
    monkeypatch.delenv("IJEPA_MICRO_BATCH", raising=False)

    def start(home: str = "home", **change: Any) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("IJEPA_HOME", str(tmp_path / home))
        loop.train(tiny(**change), store, CPU, "fp32", 0, 1)
        digest = hashlib.sha256()
        for name in ("encoder.safetensors", "history.csv", "pretrain.json"):
            digest.update((tmp_path / "out" / name).read_bytes())
        return digest.hexdigest()

    return start


class Killed(BaseException):
    """Stands for kill -9: nothing of ours handles it."""


def kill_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    real, count = checkpoint.save, 0

    def save(path: Path, step: int, state: dict[str, Any]) -> None:
        nonlocal count
        real(path, step, state)
        count += 1
        if count == saves:
            raise Killed

    monkeypatch.setattr(checkpoint, "save", save)


def test_killed_twice_equals_uninterrupted(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run("straight")
    for saves in (7, 9):
        with monkeypatch.context() as patch:
            kill_after(patch, saves)
            with pytest.raises(Killed):
                run("killed")
    assert run("killed") == straight
    assert run("killed") == straight, "a finished run is only written again"
    assert run("other", seed=1) != straight


def test_a_row_whose_steps_were_interrupted_is_of_all_of_them(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after step 7, when the row of steps 6 to 10 is open."""
    monkeypatch.setattr(loop, "row_steps", lambda steps: [1, 5, 10, 12])
    straight = run("straight", **{"train.epochs": 1.5})
    with monkeypatch.context() as patch:
        kill_after(patch, 7)
        with pytest.raises(Killed):
            run("killed", **{"train.epochs": 1.5})
    assert run("killed", **{"train.epochs": 1.5}) == straight


@pytest.mark.slow
@pytest.mark.parametrize("left_out", ["optimizer", "ema", "schedule", "sampler", "window"])
def test_nothing_can_be_left_out_of_a_checkpoint(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, left_out: str
) -> None:
    """The negative control of the test above."""
    change = {"train.epochs": 2, "objective.ema": [0.5, 1.0]}
    monkeypatch.setattr(loop, "row_steps", lambda steps: [1, 5, 10, 15, 16])  # step 7: open window
    straight = run("straight", **change)
    with monkeypatch.context() as patch:
        kill_after(patch, 7)
        with pytest.raises(Killed):
            run("killed", **change)
    real = checkpoint.load

    def load(path: Path, device: torch.device) -> dict[str, Any] | None:
        state = real(path, device)
        assert state is not None
        if left_out == "optimizer":
            state["optimizer"]["state"] = {}
        elif left_out == "ema":
            for name in state["objective"]:
                if name.startswith("teacher.encoder."):
                    online = name.replace("teacher.encoder.", "context_encoder.")
                    state["objective"][name] = state["objective"][online]
        elif left_out == "schedule":
            state["progress"]["step"] = 0
        elif left_out == "sampler":
            state["progress"]["images"] = 0
        else:
            state["window"] = {}
        return state

    monkeypatch.setattr(checkpoint, "load", load)
    if left_out == "schedule":  # its last step never comes, nor the last reading of health
        with pytest.raises(KeyError, match="rankme"):
            run("killed", **change)
        return
    assert run("killed", **change) != straight


def test_nan_stops_before_it_is_saved(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, count = ijepa_objective.Objective.forward, 0

    def forward(self: Any, *args: Any) -> torch.Tensor:
        nonlocal count
        count += 1
        return real(self, *args) * (float("nan") if count == 3 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(ijepa_objective.Objective, "forward", forward)
        with pytest.raises(errors.Failure, match="NaN or infinity at step 3 "):
            run()
    (folder,) = (tmp_path / "home" / "checkpoints").iterdir()
    state = checkpoint.load(folder, CPU)
    assert state is not None
    assert state["progress"]["step"] == 2
    assert all(t.isfinite().all() for t in state["objective"].values())


def test_a_stop_request_saves_and_says_so(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run("straight")
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "1000")
    real, count = loop.gradients, 0

    def gradients(*args: Any) -> tuple[torch.Tensor, float]:
        nonlocal count
        count += 1
        if count == 5:
            signal.raise_signal(signal.SIGTERM)
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "gradients", gradients)
        with pytest.raises(errors.Failure, match="saved step 6") as caught:
            run("stopped")
    assert caught.value.status == 143
    assert run("stopped") == straight


def test_micro_batches_are_hardware(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def first_loss() -> float:
        lines = (tmp_path / "out" / "history.csv").read_text().splitlines()
        return float(dict(zip(lines[0].split(","), lines[1].split(","), strict=True))["loss"])

    run("whole", **{"train.epochs": 0.25, "train.warmup_epochs": 0})
    whole = first_loss()
    monkeypatch.setenv("IJEPA_MICRO_BATCH", "3")  # 3 + 3 + 2 images
    run("micro", **{"train.epochs": 0.25, "train.warmup_epochs": 0})
    assert first_loss() == pytest.approx(whole, rel=1e-6)


def test_a_row_holds_the_rates_its_step_was_taken_with(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step k is taken with the schedule's rates at k - 1, and the teacher follows it at k."""
    change = {"train.weight_decay": [0.04, 0.4], "train.warmup_epochs": 1, "objective.ema": [0, 1]}
    config, steps, taken = tiny(**change), 24, []

    class Spied(torch.optim.AdamW):
        def step(self, *args: Any) -> None:  # type: ignore[override]
            decays, free = self.param_groups
            assert decays["lr"] == free["lr"]
            assert free["weight_decay"] == 0
            taken.append((decays["lr"], decays["weight_decay"]))
            super().step(*args)

    monkeypatch.setattr(torch.optim, "AdamW", Spied)
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "1000")
    run(**change)
    rows = history()
    assert len(rows) == len(taken) == steps
    for k, value in enumerate(rows, 1):
        lr = schedule.learning_rate(config.train, k - 1, steps)
        decay = schedule.weight_decay(config.train, k - 1, steps)
        assert (value["step"], value["images"]) == (k, 8 * k)
        assert (value["lr"], value["weight_decay"]) == taken[k - 1] == (lr, decay)
        assert value["ema"] == pytest.approx(k / steps)


@pytest.mark.parametrize(("name", "most", "micro"), [
    ("ijepa", None, None), ("ijepa", None, 3), ("ijepa", 2.0, None), ("ibot", None, 3),
])  # fmt: skip
def test_a_step_is_taken_on_its_own_batchs_gradient(
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    name: str,
    most: float | None,
    micro: int | None,
) -> None:
    """Nothing of the batch before, each image counts alike, and no longer than is allowed."""
    # the weights stand still; iBOT's centres and temperatures do not, so of it one step
    change = {"objective.name": name, "train.epochs": 0.125 if name == "ibot" else 0.375}
    change |= {"train.warmup_epochs": 0, "train.clip_norm": most}
    config = tiny(**change)
    taken: list[torch.Tensor] = []

    class Still(torch.optim.AdamW):
        def step(self, *args: Any) -> None:  # type: ignore[override]
            assert self.param_groups[0]["betas"] == (0.9, 0.95) == tuple(config.train.betas)
            taken.append(flat(p.grad for g in self.param_groups for p in g["params"]))

    monkeypatch.setattr(torch.optim, "AdamW", Still)
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "1000")
    if micro:
        monkeypatch.setenv("IJEPA_MICRO_BATCH", str(micro))
    run(**change)
    for row, found in zip(history(), taken, strict=True):
        objective = loop.create_objective(config, CPU)
        batch = Batches(store.splits["train"], config)[int(row["images"]) - 8]
        loss = objective(*map(normalise, batch.views), *batch.masks)
        loss.backward()
        groups = Still(loop.create_optimizer(objective, config).param_groups).param_groups
        expected = flat(p.grad for g in groups for p in g["params"])
        length = expected.norm()
        assert most is None or length > most
        expected *= min(1.0, (most or length) / length)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(length))
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
        shares = [mask.context_valid.float().sum() / (8 * 16) for mask in batch.masks]
        assert row["context_ratio"] == pytest.approx(float(sum(shares)) / len(shares))


def flat(gradients: Any) -> torch.Tensor:
    return torch.cat([gradient.flatten().clone() for gradient in gradients])


def history() -> list[dict[str, float]]:
    names, *rows = [line.split(",") for line in Path("out/history.csv").read_text().splitlines()]
    cells = (zip(names, row, strict=True) for row in rows)
    return [{name: float(cell) for name, cell in row if cell} for row in cells]


def test_a_row_is_the_mean_of_its_steps(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "1000")
    run("each", **{"train.epochs": 1.5})
    steps = history()
    monkeypatch.setattr(loop, "row_steps", lambda steps: [1, 5, 10, 12])
    run("five", **{"train.epochs": 1.5})
    first, *rows = history()
    assert [row["step"] for row in (first, *rows)] == [1, 5, 10, 12]
    assert first == steps[0]
    for row, window in zip(rows, (steps[1:5], steps[5:10], steps[10:]), strict=True):
        for name in ("loss", "context_ratio"):
            assert row[name] == pytest.approx(sum(step[name] for step in window) / len(window))
        for name in ("lr", "ema"):
            assert row[name] == window[-1][name], "of the row's own step"


def test_health_and_the_encoder_written_are_of_the_network_that_is_evaluated(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target encoder of momentum 1 stands still, the context encoder learns."""
    monkeypatch.setenv("IJEPA_CHECKPOINT_SECONDS", "1000")
    run(**{"objective.ema": [1, 1], "train.epochs": 1})
    rows = history()
    read = [row for row in rows if "rankme" in row]
    assert [row["step"] for row in read] == [1, 8], "the two ends of eight rows"
    assert len({(row["feature_std"], row["rankme"]) for row in read}) == 1
    start = vit.create(16, tiny().model, 0).state_dict()
    target, context = (
        vit.load(Path(f"out/{name}.safetensors")).state_dict()
        for name in ("encoder", "context_encoder")
    )
    assert all(torch.equal(target[name], weight) for name, weight in start.items())
    assert not torch.equal(context["norm.weight"], start["norm.weight"])
    metrics = json.loads(Path("out/pretrain.json").read_text())
    for name in ("flops", "flops_useful"):
        assert metrics[name] == rows[-1][name] == metrics[f"{name}_per_image"] * 64
    assert {name: metrics[name] for name in ("feature_std", "rankme")} == {
        name: rows[-1][name] for name in ("feature_std", "rankme")
    }


class Alone(nn.Module):
    """Stands for DistributedDataParallel: the module itself."""

    def __new__(cls, module: nn.Module, **_: Any) -> Any:
        return module


def test_a_run_of_two_processes_logs_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store
) -> None:
    """Rank 0 with another that says the same: its share's loss and context, twice its FLOPs."""
    change = {"train.epochs": 0.25, "train.warmup_epochs": 0}
    monkeypatch.setattr(loop.dist, "all_reduce", lambda numbers: numbers.mul_(2))
    monkeypatch.setattr(loop.dist, "barrier", lambda: None)
    monkeypatch.setattr(loop, "DistributedDataParallel", Alone)
    monkeypatch.setattr(loop, "energy", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "two"))
    config = tiny(**change)
    loop.train(config, store, CPU, "fp32", 0, 2)
    first, objective = history()[0], loop.create_objective(config, CPU)
    share = Batches(store.splits["train"], config, 0, 2)[0]
    given = [*map(normalise, share.views), *share.masks]
    assert len(given[0]) == 4
    assert first["loss"] == pytest.approx(objective(*given).item(), rel=1e-5)
    (mask,) = share.masks
    assert first["context_ratio"] == pytest.approx(mask.context_valid.sum().item() / (4 * 16))
    assert first["flops"] == 2 * objective.flops(*given)
    assert first["flops_useful"] == 2 * objective.flops(*given, padding=False) < first["flops"]


def test_biases_and_norms_do_not_decay() -> None:
    objective = loop.create_objective(tiny(), CPU)
    decays, free = loop.create_optimizer(objective, tiny()).param_groups
    assert decays["decays"]
    assert not free["decays"]
    names = {id(p): name for name, p in objective.named_parameters()}
    assert all(
        name.endswith("bias") or "norm" in name for name in (names[id(p)] for p in free["params"])
    )
    assert all(names[id(p)].endswith(("weight", "mask_token")) for p in decays["params"])
    count = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    assert sum(p.numel() for g in (decays, free) for p in g["params"]) == count


@pytest.mark.parametrize(("most", "expected"), [(None, 5.0), (10.0, 5.0), (1.0, 1.0)])
def test_the_gradient_is_scaled_to_the_largest_norm_allowed(
    most: float | None, expected: float
) -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[3.0, -4.0]])
    assert loop.clip(layer, most).item() == 5.0
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6, -0.8]]) * expected)


@pytest.mark.parametrize("refuses", ["a file in place of out", "a full disk"])
def test_outputs_that_cannot_be_written_are_one_line_and_nothing_is_lost(
    run: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    undisturbed = run("elsewhere")
    shutil.rmtree(tmp_path / "out")
    real = weights.save_file
    if refuses == "a full disk":

        def save_file(*arguments: Any) -> None:
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
            try:
                real(*arguments)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        monkeypatch.setattr(weights, "save_file", save_file)
        reason = r"out/encoder\.safetensors: File too large; the last step is saved"
    else:
        (tmp_path / "out").touch()
        reason = "out: File exists; the last step is saved"
    with pytest.raises(errors.Failure, match=f"^{reason}"):
        run()
    monkeypatch.setattr(weights, "save_file", real)
    if (tmp_path / "out").is_file():
        (tmp_path / "out").unlink()
    assert run() == undisturbed
