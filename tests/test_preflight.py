"""What would fail after training is said before it, and by the rules of what would fail."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, params, tiny
from PIL import Image
from ruamel.yaml import YAML

from ijepa import config as configs
from ijepa import preflight, pretrain, variants
from ijepa.datasets import Item, Source, Split
from ijepa.evaluation import labelling, probing, scores
from ijepa.evaluation.probing import Job
from ijepa.model import vit
from ijepa.runtime import files
from ijepa.store.read import Store, open_store
from ijepa.store.write import write_store
from ijepa.study import rows
from ijepa.training import batches

FEW = {
    "evaluate.probes": ["few_shot"],
    "evaluate.few_shot": {"shots": [1, 5, 20], "draws": 2, "l2": 0.1},
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IJEPA_MONGO_URL", "off")
    monkeypatch.setenv("IJEPA_DEVICE", "cpu")


def packed(*counts: int, folder: str = "data/prepared") -> Store:
    """A store whose class i has so many training images, and 4 test images."""
    rng = np.random.default_rng(0)

    def split(sizes: tuple[int, ...]) -> Split:
        items = [
            Item(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8), {"class": label}, "made")
            for label, size in enumerate(sizes)
            for _ in range(size)
        ]
        return Split(len(items), lambda: iter(items))

    splits = {"train": split(counts), "test": split((4,) * len(counts))}
    source = Source(splits, {"class": tuple("abcdef"[: len(counts)])}, {"name": "made"})
    write_store(source, Path(folder))
    return open_store(Path(folder))


def written(**change: Any) -> configs.Config:
    with Path("params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params(**{**TINY, **change}), file)
    return configs.load()


@pytest.mark.parametrize(("counts", "change", "message"), [
    ((30, 30), {"train.batch_size": 61},
     r"train.batch_size: 61 is more than the 60 training images \(data.train_fraction 1 of 60\)"),
    ((30, 30), {"train.batch_size": 8, "data.train_fraction": 0.1},
     r"train.batch_size: 8 is more than the 6 training images \(data.train_fraction 0.1 of 60\)"),
    ((30, 2), {**FEW, "evaluate.few_shot": {"shots": [5, 20], "draws": 1, "l2": 0.1}},
     "evaluate.few_shot.shots: 5 is more than the 2 training images of the smallest class"),
    ((15, 15), {"evaluate.probes": ["knn"], "evaluate.knn": {"k": 28, "temperature": 0.1}},
     "evaluate.knn.k: 28 is more than the 27 images that vote"),
    ((30, 30), {"evaluate.probes": ["knn"], "evaluate.train_fraction": 0.1},
     "evaluate.knn.k: 20 is more than the 5 images that vote"),
    ((30,), {"evaluate.probes": ["logistic"]},
     "evaluate.logistic.fraction: 0.01 labels 1 of 30 images"),
    ((30, 30), {"evaluate.probes": ["attentive"], "evaluate.attentive": {
        "lr": [0.1], "weight_decay": [0.0], "epochs": 1, "batch_size": 8, "heads": 3}},
     "evaluate.attentive.heads: 3 does not divide the encoder's width 16"),
    ((30, 30), {"evaluate.probes": ["finetune"]},
     "evaluate.finetune.fraction: 0.01 labels 2 of 60 images of task class; a fold"),
    ((30, 30), {"evaluate.train_fraction": 0.01}, "1 of 60 training images"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_training_in_one_line(
    counts: tuple[int, ...], change: dict[str, Any], message: str
) -> None:
    store = packed(*counts)
    config = written(**change)
    with pytest.raises(ValueError, match=f"^params.yaml: .*{message}") as error:
        pretrain.main()
    assert "\n" not in str(error.value)
    assert not Path("home").exists(), "nothing is recorded or begun"
    if "train.batch_size" not in change and "evaluate.attentive" not in change:
        vit.save(vit.create(16, config.model, 0), Path("encoder.safetensors"), {})
        with pytest.raises(ValueError, match=message):  # and so it does where it would be met
            probing.outcomes(Job(config, "encoder.safetensors", Path("data/prepared")), print)
    assert len(store.splits["train"]) == sum(counts)


def test_nothing_that_a_run_depends_on_is_touched() -> None:
    """So its code is no part of what a number depends on (``variants._TOLD``)."""
    store = packed(30, 7)
    config = written(**{**FEW, "train.batch_size": 8})

    def seen() -> Any:
        files = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
        _, numbers, *place = np.random.get_state()  # noqa: NPY002
        torch_state = torch.get_rng_state().tolist(), torch.get_num_threads()
        return (
            files, dict(os.environ), random.getstate(), numbers.tolist(), place, torch_state,
            configs.as_tree(config), store.hash, store.manifest,
        )  # fmt: skip

    before = seen()
    assert preflight.training(config, store), "there is something to say"
    assert preflight.first(config) is not None
    assert seen() == before


def raw_of(stage: str) -> Any:
    preflight.main()
    return files.read_json(configs.INPUTS / f"{stage}.json").get("raw")


def test_raw_files_that_were_exchanged_are_seen_by_the_stages_that_read_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC compares the files of ``config``; the raw ones lie outside of its repository."""
    root = tmp_path / "raw"
    monkeypatch.setenv("IJEPA_DATA_ROOT", str(root))
    monkeypatch.setattr("ijepa.workspace.remark", lambda: None)
    for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        place = root / "set" / split / name / "1.png"
        place.parent.mkdir(parents=True)
        Image.fromarray(np.full((16, 16, 3), len(name), np.uint8)).save(place)
    written(**{"data.name": "folder", "data.path": "set"})
    (first,) = raw_of("prepare")
    assert (first["files"], first["bytes"]) == (4, 4 * place.stat().st_size)
    assert raw_of("prepare") == [first]
    monkeypatch.setenv("IJEPA_STORAGE", "in_place")
    assert raw_of("prepare") == [{**first, "storage": "in_place"}]
    monkeypatch.delenv("IJEPA_STORAGE")
    assert raw_of("prepare") == [first]
    assert [raw_of(stage) for stage in ("pretrain", "evaluate", "report")] == [None] * 3

    stat = place.stat()
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (second,) = raw_of("prepare")
    assert second["sha256"] != first["sha256"], "of its content, though size and time are equal"
    content[-1] ^= 1
    place.write_bytes(content)
    assert raw_of("prepare") == [first]
    place.rename(place.with_name("2.png"))
    assert raw_of("prepare")[0]["sha256"] != first["sha256"], "images come in order of names"
    place.with_name("2.png").rename(place)
    assert raw_of("prepare") == [first]

    root.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert raw_of("prepare") == [first], "prepared data need no raw data: what was known stays"
    (note,) = capsys.readouterr().out.splitlines()
    assert note.startswith("note: data.path: set: no such folder")
    written(**{"data.name": "folder", "data.path": "set", "data.bad_images": "skip"})
    assert raw_of("prepare") is None, "not of other parameters"
    monkeypatch.setenv("IJEPA_DATA_ROOT", str(tmp_path / "elsewhere"))
    assert raw_of("prepare") == [first], "wherever they are"

    written(**{"data.name": "scenes", "evaluate.transfer": [{"name": "folder", "path": "set"}]})
    assert raw_of("prepare") is None, "scenes are drawn"
    assert raw_of("evaluate") == [{key: first[key] for key in ("files", "bytes", "sha256")}]


def test_of_many_raw_bytes_sizes_and_times_are_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(preflight, "_READ", 7)
    file = tmp_path / "one"
    file.write_bytes(b"12345678")
    before = preflight.stamp([file], tmp_path)
    other = file.with_name("two")
    other.touch()
    assert preflight.stamp([other, file], tmp_path) == preflight.stamp([tmp_path], tmp_path)
    assert preflight.stamp([file, other], tmp_path) == preflight.stamp([tmp_path], tmp_path)
    other.unlink()
    assert preflight.stamp([tmp_path], tmp_path) == before
    os.utime(file, ns=(1, 1))
    assert preflight.stamp([file], tmp_path)["sha256"] != before["sha256"]
    file.write_bytes(b"1234567")
    few = preflight.stamp([file], tmp_path)
    os.utime(file, ns=(1, 1))
    assert preflight.stamp([file], tmp_path) == few


def test_shots_that_cannot_be_drawn_are_named_and_the_rest_is_measured() -> None:
    packed(30, 7)
    config = written(**FEW)
    note = (
        "evaluate.few_shot.shots: 20 left out of task class: its smallest class has 7 training"
        " images; its headline is 5-shot"
    )
    assert preflight.counts(config, open_store()) == [note]
    vit.save(vit.create(16, config.model, 0), Path("encoder.safetensors"), {})
    said: list[str] = []
    results = probing.outcomes(
        Job(config, "encoder.safetensors", Path("data/prepared")), said.append
    )
    assert f"note: {note}" in said
    about = {"encoders": ["trained", "random_init", "pixels"], "probes": ["few_shot"]}
    summary = scores.summarise(about, results)
    cell = scores.headline(summary)["class"]["few_shot"]
    assert (cell["shots"], cell["shots_asked"]) == (5, 20)
    assert [
        point["labels"] for point in summary["tasks"]["class"]["few_shot"]["trained"]["curve"]
    ] == [1, 5]
    whole = written(**{**FEW, "evaluate.few_shot": {"shots": [1, 5], "draws": 2, "l2": 0.1}})
    assert preflight.counts(whole, open_store()) == []
    again = scores.headline(
        scores.summarise(
            about,
            probing.outcomes(Job(whole, "encoder.safetensors", Path("data/prepared")), print),
        )
    )
    assert again["class"]["few_shot"] == {
        k: v for k, v in cell.items() if not k.startswith("shots")
    }


def test_the_first_stage_knows_the_counts_only_of_data_prepared_as_params_say(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = written(**FEW)
    preflight.main()
    assert capsys.readouterr().out == "", "nothing is prepared yet"
    packed(30, 7)
    preflight.main()
    assert "note: evaluate.few_shot.shots: 20 left out" in capsys.readouterr().out
    written(**{**FEW, "data.render_seed": 1})
    preflight.main()
    assert capsys.readouterr().out == "", "what is prepared is another set"
    preflight.main()
    assert "20 left out" in capsys.readouterr().out
    shutil.rmtree("data/prepared")
    preflight.main()
    assert config.evaluate.probes == ("few_shot",)


def test_a_batch_may_hold_every_image_once() -> None:
    preflight.batch(tiny(**{"train.batch_size": 60}), 60)
    with pytest.raises(ValueError, match=r"train.batch_size: 60 is more than the 59"):
        preflight.batch(tiny(**{"train.batch_size": 60}), 59)


@pytest.mark.parametrize(("fraction", "images"), [(0.5, 61), (0.5, 63), (0.001, 60), (0.37, 59)])
def test_a_batch_may_hold_what_training_takes_and_no_more(fraction: float, images: int) -> None:
    size = len(batches.training_subset(0, fraction, images))
    changed = {"data.train_fraction": fraction, "train.batch_size": size}
    preflight.batch(tiny(**changed), images)
    with pytest.raises(ValueError, match=rf"more than the {size} training images"):
        preflight.batch(tiny(**{**changed, "train.batch_size": size + 1}), images)


@pytest.mark.parametrize(
    "content",
    [
        "seed: 0".encode("utf-16"),
        "# caf\xe9".encode("latin-1"),
        b"data: " + b"[" * 20_000,
        b"data: " + b"{a: " * 3_000,
        None,
    ],
    ids=["utf-16", "latin-1", "lists", "mappings", "directory"],
)
def test_what_are_no_parameters_is_one_line_that_names_the_file(content: bytes | None) -> None:
    path = Path("params.yaml")
    path.write_bytes(content) if content is not None else path.mkdir()
    with pytest.raises(ValueError, match=r"^params.yaml: ") as error:
        preflight.main()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


def test_missing_data_of_a_transfer_is_said_first() -> None:
    written(**{"evaluate.transfer": [{"name": "folder", "path": "pets"}]})
    with pytest.raises(ValueError, match=r"^params.yaml: evaluate.transfer\[0\]: .*pets"):
        preflight.main()


@pytest.mark.parametrize("value", [[], ["knn", "knn"], [""]])
def test_probes_are_a_list_of_names(value: list[str]) -> None:
    with pytest.raises(ValueError, match=r"^params.yaml: evaluate.probes: "):
        tiny(**{"evaluate.probes": value})


def test_a_model_that_no_machine_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.width: 4000000 with model.depth 2: .* at least"):
        preflight.first(tiny(**{"model.width": 4_000_000}))


def test_the_state_is_at_least_what_the_encoder_and_its_optimiser_take() -> None:
    """A bound from below: what is refused could not have run."""
    config = tiny(**{"model.width": 64, "model.depth": 6})
    encoder = sum(p.numel() for p in vit.create(16, config.model, 0).parameters())
    assert 0.9 * 12 * encoder < preflight.state_bytes(config) < 12 * encoder


def test_a_disk_without_room_is_refused_and_a_narrow_one_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tiny()
    need = preflight.state_bytes(config)
    for free, notes in ((3 * need, 0), (3 * need - 1, 1), (need, 1)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert len(preflight.disk(config, tmp_path / "not/yet")) == notes
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=need - 1))
    with pytest.raises(ValueError, match=r"^IJEPA_HOME: .*not/yet: a checkpoint takes at least"):
        preflight.disk(config, tmp_path / "not/yet")


def test_every_probe_that_can_refuse_labels_says_so_without_torch() -> None:
    """``declared`` executes what a check needs and no more."""
    program = (
        "import sys; from ijepa import variants\n"
        "for probe in variants.names('probes'): variants.declared('probes', probe, 'check')\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
    with_check = {p for p in variants.names("probes") if variants.declared("probes", p, "check")}
    assert with_check == set(variants.names("probes")) - {"linear"}
    assert labelling.check(tiny(**{"evaluate.probes": ["linear"]}), packed(3, 3)) == []


def test_a_table_has_no_number_of_other_shots_than_its_plans() -> None:
    chosen: Any = SimpleNamespace(metric="class.few_shot.trained", also=())
    cell = {"trained": 50.0, "random_init": 40.0, "pixels": 30.0}
    asked = ("class.few_shot.trained", "trained", 50.0)
    assert asked in rows._accuracies(chosen, {"class": {"few_shot": cell}})
    fewer = {**cell, "shots": 5, "shots_asked": 20}
    assert not list(rows._accuracies(chosen, {"class": {"few_shot": fewer}}))
