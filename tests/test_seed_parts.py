"""Each part of the randomness follows a seed of its own: it alters what is its, and no more."""

import dataclasses
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, params, tiny
from test_ibot import IBOT

from ijepa import backbones, config, seeds, variants
from ijepa.config import STAGES, Config, Seeds, parameters, signature
from ijepa.evaluation import labelling, probing
from ijepa.evaluation.probing import Job
from ijepa.model import vit
from ijepa.probes import Result, choose, linear
from ijepa.results import masks as drawn
from ijepa.results import representation
from ijepa.store.read import Store, open_store
from ijepa.training import batches, health, loop

OF = {  # what is observed, and the part that it follows
    "weights": "init", "baseline": "init", "encoder random_init": "init",
    "baseline of the report": "init",
    "order": "order", "crops": "order", "augmentations": "order", "subset": "order",
    "health images": "order",
    "masks": "mask", "second view's masks": "mask", "masks of the report": "mask",
    "labels used": "labels", "labels that select": "labels",
    "folds of a probe": "labels",
    "what a probe draws by": "probe",
}  # fmt: skip


class Probe:
    """One that predicts its seed and keeps its folds; what real ones make of them, others test."""

    NEEDS, Options = "pooled", linear.Options

    @staticmethod
    def fit_score(
        train: Any, folds: Any, test: Any, options: Any, seed: int, device: str
    ) -> dict[str, Result]:
        selecting = np.concatenate(folds)
        predicted = np.full((1, 1), seed)
        return {"class": choose(({"features": "pixels"},), selecting[None], selecting, predicted)}


def digest(thing: Any) -> str:
    return hashlib.sha256(pickle.dumps(thing)).hexdigest()


def tensors(module: torch.nn.Module) -> list[bytes]:
    return [value.numpy().tobytes() for value in module.state_dict().values()]


def pretraining(chosen: Config, store: Store) -> dict[str, Any]:
    """What a training draws. Its first batch is the whole epoch, so that images can be matched."""
    images = store.splits["train"]
    whole = batches.Batches(images, chosen)
    first = whole[0]
    row = np.argsort(first.samples)
    everything = np.zeros(len(images), np.int64), np.arange(len(images))
    half = dataclasses.replace(chosen.data, train_fraction=0.5)
    return {
        "weights": tensors(loop.create_objective(chosen, torch.device("cpu"))),
        "order": first.samples,
        "crops": batches.crops(chosen, *everything, 24, 24, (0.3, 1.0))[0],
        "augmentations": first.views[0][row].numpy(),
        "subset": batches.Batches(images, dataclasses.replace(chosen, data=half)).subset,
        "health images": health.fixed_images(images, chosen).numpy(),
        "masks": [part[row].numpy() for part in first.masks[0][:4]],
        "second view's masks": [part[row].numpy() for part in first.masks[1][:4]],
        "masks of the report": [part.numpy() for part in drawn.draw(chosen, 0, 8)[:4]],
    }


def evaluation(chosen: Config, store: Store, folder: Path, weights: Path) -> dict[str, Any]:
    """What an evaluation draws, of the pixels, which have no initial weights."""
    job = Job(chosen, "pixels", folder)
    evaluate = dataclasses.replace(chosen.evaluate, train_fraction=0.5)
    used, folds = labelling.labelled(dataclasses.replace(chosen, evaluate=evaluate), store)
    probed = probing.fit(job, job.backbones()["trained"], store, "linear")["class"]
    look = representation.look(chosen, store, weights, 2)
    return {
        "baseline": backbones.compared(str(weights), chosen)["random_init"].identity,
        "encoder random_init": backbones.load("random_init", chosen).identity,
        "baseline of the report": look.maps["random_init"],
        "labels used": used,
        "labels that select": folds,
        # through the cache, whose name for them must differ too
        "what a probe draws by": probed.test,
        "folds of a probe": probed.held_out,
    }


def observed(store_path: Path, weights: Path, **dotted: Any) -> dict[str, str]:
    """The digest of each observation of a run; evaluation's are of the same encoder."""
    chosen = tiny(**{
        **IBOT, "train.batch_size": 64, "train.epochs": 1, "train.warmup_epochs": 0,
        "train.color_jitter": 0.4, "evaluate.probes": ["linear"], **dotted,
    })  # fmt: skip
    store = open_store(store_path)
    things = pretraining(chosen, store) | evaluation(chosen, store, store_path, weights)
    return {name: digest(thing) for name, thing in things.items()}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")
    monkeypatch.setattr(health, "_IMAGES", 8)  # of 64: a choice
    real = variants.load
    fake = {("probes", "linear"): Probe}
    monkeypatch.setattr(variants, "load", lambda *asked: fake.get(asked) or real(*asked))
    vit.save(vit.create(16, tiny().model, 99), Path("encoder.safetensors"), {})
    return Path("encoder.safetensors")


def test_a_part_alters_what_follows_it_and_no_more(store_path: Path, weights: Path) -> None:
    before = observed(store_path, weights)
    assert before == observed(store_path, weights)
    assert before.keys() == OF.keys()
    for part in seeds.PARTS:
        after = observed(store_path, weights, **{f"seeds.{part}": 1})
        altered = {name for name, value in after.items() if value != before[name]}
        assert altered == {name for name, follows in OF.items() if follows == part}, part


def test_the_seed_alters_every_part_that_is_not_fixed(store_path: Path, weights: Path) -> None:
    before, after = observed(store_path, weights), observed(store_path, weights, seed=1)
    assert not [name for name in OF if before[name] == after[name]]
    fixed = {f"seeds.{part}": 0 for part in seeds.PARTS}
    assert observed(store_path, weights, seed=1, **fixed) == before


def test_the_parts_are_those_of_the_parameters_and_null_follows_the_seed() -> None:
    assert list(seeds.PARTS) == [f.name for f in dataclasses.fields(Seeds)]
    assert params()["seeds"] == dict.fromkeys(seeds.PARTS)
    one = tiny(**{"seed": 5, "seeds.mask": 2})
    assert dataclasses.asdict(one.seeds) == {**dict.fromkeys(seeds.PARTS, 5), "mask": 2}
    with pytest.raises(ValueError, match=r"seeds\.mask: 'a' is not null or a whole number from 0"):
        tiny(**{"seeds.mask": "a"})
    assert {f"seeds.{part}" for part in seeds.PARTS} <= config.keys()


def test_a_run_is_what_its_parts_are_and_not_how_they_came_about() -> None:
    fixed = {f"seeds.{part}": 0 for part in seeds.PARTS}
    assert signature(tiny(seed=3, **fixed)) == signature(tiny(seed=0))
    ones = [tiny(**{f"seeds.{part}": 1}) for part in seeds.PARTS]
    assert len({signature(c) for c in [tiny(), tiny(seed=1), *ones]}) == 2 + len(seeds.PARTS)


def test_a_stage_is_run_again_by_the_parts_that_it_reads() -> None:
    stale = {
        part: {
            s for s in STAGES
            if parameters(tiny(), s) != parameters(tiny(**{f"seeds.{part}": 1}), s)
        }
        for part in seeds.PARTS
    }  # fmt: skip
    assert stale == {
        "init": {"pretrain", "evaluate", "report"},  # evaluate has the baseline before training
        "order": {"pretrain", "report"},
        "mask": {"pretrain", "report"},
        "labels": {"evaluate", "report"},
        "probe": {"evaluate", "report"},
    }
    assert "seed" not in parameters(tiny(), "pretrain")


def test_no_science_reads_the_seed_itself() -> None:
    """It names a run to people; what a number depends on are the parts."""
    readers = [
        path.relative_to(ROOT / "ijepa").as_posix()
        for path in (ROOT / "ijepa").rglob("*.py")
        if any(f"{name}.seed," in path.read_text() or f"{name}.seed)" in path.read_text()
               for name in ("config", "settings"))
    ]  # fmt: skip
    assert readers == ["tracking/journal.py"]
