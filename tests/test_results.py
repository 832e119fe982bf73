"""The numbers of a run: what the stages' files hold, by hand, and what is missing or damaged."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluated_run
import numpy as np
import pytest
import torch

from ijepa import config as configs
from ijepa import evaluate, results, views
from ijepa.config import Config
from ijepa.datasets import Item, Source, Split
from ijepa.features import Part
from ijepa.masks import Keys
from ijepa.masks.multiblock import sample
from ijepa.model import vit
from ijepa.pages import run as pages
from ijepa.results import Results, accuracy, masks, provenance, representation
from ijepa.runtime import files
from ijepa.store.read import open_store
from ijepa.store.write import write_store
from ijepa.tracking import journal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    evaluated_run.make(folder)
    return folder


@pytest.fixture
def inside(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run to break, as the working directory."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    evaluated_run.enter(monkeypatch, folder)
    return folder


def gathered() -> Results:
    return results.gather(configs.load(), open_store(), None)


def evaluation() -> Any:
    return json.loads(results.EVALUATION.read_text())


def test_rows_are_the_evaluations(inside: Path) -> None:
    table, tasks = gathered().table, evaluation()["tasks"]
    assert len(table) == 5 * (3 * 3 + 2)
    assert table[0].task == "kind"  # the data set's first, not the alphabet's
    for row in table:
        cell = tasks[row.task][row.probe][row.encoder]
        assert (row.accuracy, row.low, row.high, row.held_out, row.max) == pytest.approx([
            cell[name] for name in ("accuracy", "low", "high", "held_out", "max_over_candidates")
        ])  # fmt: skip
        assert row.selected == cell["selected"]
        against = tasks[row.task]["differences"][row.probe].get(row.encoder, {})
        assert (row.difference, row.difference_low, row.difference_high) == (
            against.get("difference"), against.get("low"), against.get("high"),
        )  # fmt: skip


def test_the_headline_is_the_linear_probe_of_the_first_task(inside: Path) -> None:
    tree = gathered()
    assert tree.headline == ("kind", "linear")
    assert tree.accuracy == evaluation()["tasks"]["kind"]["linear"]["trained"]["accuracy"]


def test_curves_are_the_evaluations(inside: Path) -> None:
    curves, tasks = gathered().few_label, evaluation()["tasks"]
    assert len(curves) == 5 * 3
    for curve in curves:
        kept = tasks[curve.task][curve.probe][curve.encoder]["curve"]
        assert [dataclasses.asdict(p) | {"draws": list(p.draws)} for p in curve.points] == kept


def test_confusions_are_of_the_first_task_and_of_what_has_an_order(inside: Path) -> None:
    matrices, tasks = gathered().confusion, evaluation()["tasks"]
    assert [matrix.task for matrix in matrices] == ["kind", "count", "distance"]
    assert [matrix.distance is None for matrix in matrices] == [True, False, False]
    for matrix in matrices:
        labels = open_store().splits["test"].labels[matrix.task]
        assert np.sum(matrix.counts, axis=1).tolist() == np.bincount(labels).tolist()
        right = 100 * np.trace(np.array(matrix.counts)) / np.sum(matrix.counts)
        assert right == pytest.approx(tasks[matrix.task]["linear"]["trained"]["accuracy"], 1e-5)


def test_distance_of_classes_by_hand() -> None:
    far = accuracy.distance(np.array([[2, 1, 1], [0, 3, 0], [1, 0, 2]]))
    assert far.mean == pytest.approx((1 + 2 + 2) / 10)
    assert far.constant == pytest.approx((4 + 3) / 10)  # always the middle class
    assert far.near == pytest.approx(8 / 10)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 2, "better"), (-2, -0.1, "worse"), (-1, 1, "undecided"), (0, 1, "undecided"),
     (-1, 0, "undecided"), (None, 1, None)],
)  # fmt: skip
def test_a_difference_is_decided_by_its_interval(
    low: float | None, high: float | None, verdict: str | None
) -> None:
    assert accuracy.verdict(low, high) == verdict


def test_the_share_of_the_labels_is_of_all_there_are() -> None:
    """1 % of a fifth of the images are no 1 % of the labels."""
    cells = {"logistic": {"trained": {}}, "few_shot": {"trained": {}}}
    options = {
        "train_fraction": 0.2,
        "logistic": {"fraction": 0.01},
        "few_shot": {"shots": [1, 5]},
    }
    rows = accuracy.table({"tasks": {"t": cells}}, ["t"], options)
    assert [(r.probe, r.share, r.shots) for r in rows] == [
        ("few_shot", 0.2, 5), ("logistic", pytest.approx(0.002), None),
    ]  # fmt: skip


def test_what_is_written_is_read_again(inside: Path) -> None:
    tree = results.gather(configs.load(), open_store(), None)
    results.write(inside / "one.json", tree)
    again = results.read(inside / "one.json")
    results.write(inside / "two.json", again)
    assert (inside / "one.json").read_bytes() == (inside / "two.json").read_bytes()
    assert again.parameters == json.loads(json.dumps(configs.as_tree(configs.load())))
    assert again.parameters["train"]["crop_aspect"][1] == 4 / 3  # exact, noise and all
    assert again.table[0] == dataclasses.replace(
        tree.table[0], **{n: pytest.approx(getattr(tree.table[0], n), 1e-5) for n in ("high",)}
    )
    (inside / "one.json").write_text('{"run": {}}')
    with pytest.raises(ValueError, match="not of this version"):
        results.read(inside / "one.json")


def test_equal_images_are_those_of_the_manifest(inside: Path) -> None:
    data = open_store()
    assert results.gather(configs.load(), data, None).provenance.equal_images == {}
    counts = {"across": {"val in train": 0, "test in train": 3}, "classes": 2}
    leaky = dataclasses.replace(data, manifest=data.manifest | {"duplicates": counts})
    told = results.gather(configs.load(), leaky, None).provenance.equal_images
    assert told == {"test in train": 3, "in two classes": 2}


def test_learned_numbers_are_those_of_the_network(inside: Path) -> None:
    network = vit.load(results.ENCODERS["target"])
    assert gathered().run.weights == sum(p.numel() for p in network.parameters())


def test_what_was_evaluated_is_what_is_looked_at(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network that ``evaluate.encoder`` names, also where it is the only one here."""
    target = configs.load()
    probed = dataclasses.replace(target.evaluate, encoder="context")
    context = dataclasses.replace(target, evaluate=probed)
    assert results.ENCODERS == evaluate.WEIGHTS
    assert results.gather(context, None, None).missing[0] == "out/context_encoder.safetensors"
    vit.save(vit.create(16, target.model, 2), Path("out/context_encoder.safetensors"), {})
    files.write_sums(Path("out"), ["context_encoder.safetensors", "history.csv", "pretrain.json"])
    results.ENCODERS["target"].unlink()
    for chart in (*pages.CHARTS, pages.masks, pages.patches, pages.neighbours):
        monkeypatch.setattr(chart, "draw", lambda *_: None)
    monkeypatch.setattr(pages, "write", lambda *_: None)
    (inside / "r").mkdir()
    built = pages.build(context, inside / "r")
    seen = representation.look(context, open_store(), results.ENCODERS["context"])
    assert built.representation
    assert built.representation.explained["trained"] == pytest.approx(
        seen.numbers.explained["trained"], 1e-4
    )
    assert built.run.weights


@pytest.mark.parametrize("view", ["crop", "squash"])
def test_pictures_are_seen_as_the_evaluation_sees_them(inside: Path, view: str) -> None:
    """Wide images, of which a crop leaves the ends out: what is drawn has the view's pixels."""
    wide = np.random.default_rng(1).integers(0, 256, (9, 16, 40, 3), dtype=np.uint8)
    items = [Item(pixels, {"class": i % 2}, str(i)) for i, pixels in enumerate(wide)]
    split = Split(len(items), lambda: iter(items))
    made = Source({"train": split, "test": split}, {"class": ("a", "b")}, {"name": "made"})
    write_store(made, inside / "wide")
    data, settings = open_store(inside / "wide"), configs.load()
    settings = dataclasses.replace(
        settings, evaluate=dataclasses.replace(settings.evaluate, view=view)
    )
    seen = representation.look(settings, data, results.ENCODERS["target"], 3)
    part = Part(data, "test", np.arange(len(items)), view, 16)
    for index, image in [*zip(seen.numbers.ids, seen.images, strict=True), *seen.pictures.items()]:
        assert (image == part[index].permute(1, 2, 0).numpy()).all()
    shown = views.normalise(torch.stack([part[index] for index in seen.numbers.ids]))
    network = vit.load(results.ENCODERS["target"]).double()
    with torch.no_grad():
        maps, _ = representation.components(network(shown.double()).numpy(), network.grid)
    assert seen.maps["trained"] == pytest.approx(maps)


def test_what_is_missing_is_named(inside: Path) -> None:
    assert gathered().missing == ()
    names = ("history.csv", "pretrain.json", "encoder.safetensors", "evaluation/predictions.npz")
    for name in names:
        (inside / "out" / name).unlink()
    tree = results.gather(configs.load(), None, None)
    assert sorted(tree.missing) == sorted([*(f"out/{name}" for name in names), "data/prepared"])
    assert (tree.training, tree.history, tree.confusion, tree.run.weights) == (
        None,
        None,
        (),
        None,
    )


def test_what_is_not_a_number_is_none(inside: Path) -> None:
    tree = evaluation()
    broken = tree["tasks"]["kind"]
    broken["linear"]["trained"]["accuracy"] = float("nan")
    broken["linear"]["pixels"] = {}
    broken["differences"]["linear"]["pixels"]["low"] = float("nan")
    results.EVALUATION.write_text(json.dumps(tree))
    history = (inside / "out" / "history.csv").read_text().splitlines()
    cells = history[9].split(",")
    history[9] = ",".join([*cells[:2], "nan", *cells[3:-1], ""])
    (inside / "out" / "history.csv").write_text("\n".join(history))
    damaged = gathered()
    rows = damaged.of("kind", "linear")
    assert (damaged.accuracy, rows["pixels"].accuracy, rows["pixels"].verdict) == (
        None,
        None,
        None,
    )
    assert damaged.history
    assert (damaged.history["loss"][8], damaged.history["rankme"][8]) == (None, None)


def test_no_evaluation_is_one_line(inside: Path) -> None:
    results.EVALUATION.write_text(results.EVALUATION.read_text()[:100])
    with pytest.raises(ValueError, match=r"evaluation\.json: not JSON"):
        gathered()
    results.EVALUATION.unlink()
    with pytest.raises(ValueError, match=r"evaluation\.json: no such file; `dvc repro evaluate`"):
        gathered()


def test_fixed_images_depend_on_labels_alone() -> None:
    labels = np.array([2, 2, 0, 0, 0, 1, 2])
    assert representation.fixed(labels, 5).tolist() == [2, 5, 0, 3, 1]
    assert representation.fixed(labels, 99).tolist() == [2, 5, 0, 3, 1, 4, 6]


def test_neighbours_are_the_nearest_by_cosine() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 6)).astype(np.float32) + 100  # a mean far off says nothing
    vectors[7] = vectors.mean(0) + 3 * (vectors[3] - vectors.mean(0))  # one direction, longer
    queries = np.array([3, 11])
    nearest = representation.neighbours(vectors, queries, 5)
    assert nearest[0, 0] == 7
    centred = vectors.astype(np.float64) - vectors.mean(0)
    for query, listed in zip(queries, nearest, strict=True):
        by_hand = [
            (-a @ centred[query] / np.linalg.norm(a) / np.linalg.norm(centred[query]), i)
            for i, a in enumerate(centred)
            if i != query
        ]
        assert listed.tolist() == [i for _, i in sorted(by_hand)[:5]]


def test_components_share_a_basis_and_explain_what_they_show() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(4, 6, 3)) * [3.0, 2.0, 1.0]
    patches = (latent @ np.linalg.qr(rng.normal(size=(10, 3)))[0].T).astype(np.float32)
    patches[2, 5] = patches[0, 1]
    colours, explained = representation.components(patches, (2, 3))
    assert colours.shape == (4, 2, 3, 3)
    assert (colours[2, 1, 2] == colours[0, 0, 1]).all()
    assert sum(explained) == pytest.approx(1, abs=1e-6)
    assert explained == sorted(explained, reverse=True)
    grey, nothing = representation.components(np.ones((2, 6, 10), np.float32), (2, 3))
    assert (grey == 0).all()
    assert nothing == [0, 0, 0]


def test_shares_are_of_the_masks_that_are_drawn(make_config: Callable[..., Config]) -> None:
    settings = make_config()
    shares = masks.shares(settings, 64)
    keys = Keys(0, 0, np.zeros(64, np.int64), np.arange(64))
    drawn = sample(keys, (4, 4), settings.mask.options)
    assert shares.masks == sum(shares.context.counts) == 64
    assert shares.context.mean == pytest.approx(drawn.context_valid.sum(1).numpy().mean() / 16)
    assert sum(shares.target.counts) == 2 * 64
    assert shares.target.largest == drawn.targets_valid.sum(2).max() / 16


def maker(stage: str) -> provenance.Maker | None:
    return next(s.run for s in provenance.gather(None).stages if s.name == stage)


def test_provenance_is_the_run_that_made_these_bytes(inside: Path) -> None:
    outs = [Path(path) for path in provenance.OUTS["evaluate"]]
    journal.record("evaluate", configs.load(), lambda run: None, outs=outs)
    run = maker("evaluate")
    assert run
    assert (run.status, run.signature) == ("COMPLETED", configs.signature(configs.load()))
    assert maker("pretrain") is None
    outs[0].write_text(outs[0].read_text() + " ")
    assert maker("evaluate") is None


def test_the_cost_of_training_is_of_the_run_that_made_these_bytes(inside: Path) -> None:
    """Its clock is in the journal alone; what is counted is in the results."""
    outs = [Path(path) for path in provenance.OUTS["pretrain"]]
    cost = {"device_seconds": 90.0, "energy_joules": None, "energy_source": None,
            "peak_memory_gib": 0.5, "devices": 2, "device": "a | processor",
            "wall_seconds": 1100.0, "earlier_seconds": 1000.0}  # fmt: skip
    assert provenance.gather(None).cost is None
    journal.record("pretrain", configs.load(), lambda run: run.info(cost=cost), outs=outs)
    spent = provenance.gather(None).cost
    assert spent
    assert dataclasses.asdict(spent) == cost
    (maker,) = [one.run for one in provenance.gather(None).stages if one.name == "pretrain"]
    assert maker
    assert maker.seconds
    assert 1000 < maker.seconds < 1060, "with the processes before the one that finished"
    outs[1].write_text(outs[1].read_text() + " ")
    assert provenance.gather(None).cost is None
