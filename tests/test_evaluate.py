import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TINY, params, tiny
from PIL import Image
from ruamel.yaml import YAML

from ijepa import evaluate, variants
from ijepa.backbones import ENCODERS
from ijepa.evaluation import labelling, probing, run, scores
from ijepa.evaluation.intervals import paired_difference, wilson
from ijepa.evaluation.probing import Job
from ijepa.model import vit
from ijepa.probes import Result, choose
from ijepa.runtime import environment, errors
from ijepa.store import cache
from ijepa.store.read import Store, open_store


class Run:
    """What the journal hands to a stage."""

    interactive = False

    def __init__(self) -> None:
        self.points: dict[str, float] = {}

    def log(self, name: str, value: float, step: int) -> None:
        assert step == 0
        self.points[name] = value

    def info(self, **values: Any) -> None:
        """Beside the numbers: nothing of it is a result."""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    for name, value in {"DEVICE": "cpu", "THREADS": "1", "MONGO_URL": "off"}.items():
        monkeypatch.setenv(f"IJEPA_{name}", value)
    Path("out").mkdir()
    vit.save(vit.create(16, tiny().model, 99), Path("out/encoder.safetensors"), {})
    return tmp_path


def job(store_path: Path, **dotted: Any) -> Job:
    probes = {"evaluate.probes": ["linear", "knn"]}
    return Job(tiny(**{**probes, **dotted}), "out/encoder.safetensors", store_path)


def outputs() -> dict[str, bytes]:
    names = ("evaluation.json", "predictions.npz")
    paths = [evaluate.METRICS, *(evaluate.FOLDER / name for name in names)]
    return {path.name: path.read_bytes() for path in paths}


def test_stage_writes_what_the_report_reads(
    workspace: Path, store: Store, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run()
    returned = evaluate._stage(job(store_path), run)  # type: ignore[arg-type]
    made = json.loads((evaluate.FOLDER / "evaluation.json").read_text())
    assert made["split"] == "test"
    assert made["n"] == {"train": 64, "held_out": 6, "test": 32}
    assert made["encoders"] == list(ENCODERS)
    assert made["encoder"] == "target encoder of out/encoder.safetensors"
    task = made["tasks"]["class"]
    assert task["classes"] == ["left", "right"]
    assert task["chance"] == 50.0
    metrics = json.loads(evaluate.METRICS.read_text())
    predictions = np.load(evaluate.FOLDER / "predictions.npz")
    truth = predictions["class/labels"]
    assert (truth == store.splits["test"].labels["class"]).all()
    for probe in ("linear", "knn"):
        for name, cell in task[probe].items():
            every = predictions[f"class/{probe}/{name}/test"]
            right = int((every[cell["winner"]] == truth).sum())
            low, high = wilson(right, 32)
            assert cell["accuracy"] == pytest.approx(100 * right / 32)
            assert (cell["low"], cell["high"]) == pytest.approx((100 * low, 100 * high), abs=1e-3)
            assert metrics["class"][probe][name] == pytest.approx(cell["accuracy"], abs=0.005)
            assert run.points[f"eval.class.{probe}.{name}"] == metrics["class"][probe][name]
            assert cell["selected"]["features"] in ("last", "last2", "pixels")
            best = (every == truth).mean(1).max()
            assert cell["max_over_candidates"] == pytest.approx(100 * best)
        key, winner = f"class/{probe}/trained", task[probe]["trained"]["winner"]
        right = predictions[f"{key}/held_out"][winner] == predictions[f"{key}/held_out_labels"]
        assert metrics["class"][probe].keys() == {*ENCODERS, "held_out"}
        assert metrics["class"][probe]["held_out"] == pytest.approx(100 * right.mean(), abs=0.005)
        assert f"eval.class.{probe}.held_out" in run.points
    # the brighter half is plain in the pixels
    assert metrics["class"]["linear"]["pixels"] > 90
    assert returned == metrics["class"]["linear"]["trained"]
    printed = capsys.readouterr().out
    assert "class, linear" in printed
    assert f"{task['knn']['pixels']['accuracy']:.1f} ± " in printed


def test_differences_are_paired() -> None:
    truth = np.array([0, 0, 1, 1, 1])

    def result(predictions: list[int]) -> Result:
        none = np.zeros((1, 1), np.int64)
        return choose(({"features": "last"},), none, none[0], np.array([predictions]))

    trained, baseline = result([0, 0, 1, 1, 0]), result([0, 1, 0, 0, 1])
    found = scores.difference(trained, baseline, truth)
    low, high = paired_difference(3, 1, 5)
    assert found["difference"] == 40.0
    assert (found["low"], found["high"]) == pytest.approx((100 * low, 100 * high), abs=1e-3)


def test_a_baseline_is_subtracted_from_the_first_and_chance_is_the_commonest_class() -> None:
    """8, 6 and 3 of 10 images are right, and 7 of them are of one class."""
    truth = np.array([0] * 7 + [1] * 2 + [2])
    settings, held_out = ({"features": "last"},), np.zeros((1, 1), np.int64)
    results = {
        ("knn", name): {"class": choose(settings, held_out, held_out[0],
                                        np.where(np.arange(10) < right, truth, 9)[None])}
        for name, right in (("trained", 8), ("random", 6), ("pixels", 3))
    }  # fmt: skip
    outcome = scores.Outcome(
        "", "test", {"test": 10}, {"class": ("a", "b", "c")}, {"class": truth}, results
    )
    about = {"probes": ["knn"], "encoders": ["trained", "random", "pixels"]}
    task = scores.summarise(about, [outcome])["tasks"]["class"]
    assert task["chance"] == 70.0
    assert {name: cell["accuracy"] for name, cell in task["knn"].items()} == {
        "trained": 80.0, "random": 60.0, "pixels": 30.0,
    }  # fmt: skip
    differences = task["differences"]["knn"]
    assert {name: row["difference"] for name, row in differences.items()} == {
        "random": 20.0, "pixels": 50.0,
    }  # fmt: skip
    assert differences["pixels"]["low"] > 0, "an interval of the same sign"


def test_equal_inputs_give_equal_bytes(workspace: Path, store_path: Path) -> None:
    evaluate._stage(job(store_path), Run())  # type: ignore[arg-type]
    first = outputs()
    for path in (environment.home() / "features", environment.home() / "probes"):
        shutil.rmtree(path)
    evaluate._stage(job(store_path), Run())  # type: ignore[arg-type]
    assert outputs() == first
    vit.save(vit.create(16, tiny().model, 98), Path("out/encoder.safetensors"), {})
    evaluate._stage(job(store_path), Run())  # type: ignore[arg-type]
    assert outputs()["evaluation.json"] != first["evaluation.json"]


def numbers(tree: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the numbers of a JSON tree are."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield from numbers(value, (*keys, key))
        elif isinstance(value, float):
            yield (*keys, key)


def test_verify_recomputes_every_number(workspace: Path, store_path: Path) -> None:
    evaluate._stage(job(store_path), Run())  # type: ignore[arg-type]
    assert scores.verify(evaluate.FOLDER, evaluate.METRICS) == []
    path = evaluate.FOLDER / "evaluation.json"
    text = path.read_text()
    places = [k for k in numbers(json.loads(text)) if k[-1] not in ("lr", "weight_decay")]
    assert len(places) > 100
    for keys in places[::7]:
        where = tree = json.loads(text)
        for key in keys[:-1]:
            where = where[key]
        where[keys[-1]] += 0.01
        path.write_text(json.dumps(tree))
        file, line = scores.verify(evaluate.FOLDER, Path("none"))
        assert file.startswith("out/evaluation/evaluation.json: damaged: its SHA-256 is not that")
        assert all(str(key) in line for key in keys), (keys, line)
    path.write_text(text)
    metrics = json.loads(evaluate.METRICS.read_text())
    metrics["class"]["knn"]["trained"] += 1
    metrics["class"]["linear"]["held_out"] -= 1
    evaluate.METRICS.write_text(json.dumps(metrics))
    file, first, second = scores.verify(evaluate.FOLDER, evaluate.METRICS)
    assert file.startswith("out/evaluation/../metrics.json: damaged")
    assert first.startswith("metrics.json: class: knn: trained: ")
    assert second.startswith("metrics.json: class: linear: held_out: ")
    (evaluate.FOLDER / "predictions.npz").unlink()
    with pytest.raises(ValueError, match=r"predictions.npz: no such file"):
        scores.verify(evaluate.FOLDER, evaluate.METRICS)


def test_verify_names_the_file_that_a_flipped_bit_or_a_cut_is_in(
    workspace: Path, store_path: Path
) -> None:
    """Whatever is read of it: a zip that is none, JSON that is none, a key that is missing."""
    evaluate._stage(job(store_path), Run())  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    names = ("evaluation/evaluation.json", "evaluation/predictions.npz", "metrics.json")
    for path in (Path("out", name) for name in names):
        whole = path.read_bytes()
        for bit in rng.choice(len(whole) * 8, 40, replace=False).tolist():
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            lines = scores.verify(evaluate.FOLDER, evaluate.METRICS)
            assert f"{path.name}: damaged: its SHA-256" in lines[0]
        for cut in (whole[: len(whole) // 2], b""):
            path.write_bytes(cut)
            (line,) = scores.verify(evaluate.FOLDER, evaluate.METRICS)
            assert f"{path.name}: damaged" in line
        path.write_bytes(whole)
    sums = evaluate.FOLDER / "SHA256SUMS"
    whole = sums.read_bytes()
    for place in rng.choice(len(whole), 40, replace=False).tolist():
        sums.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "SHA256SUMS" in scores.verify(evaluate.FOLDER, evaluate.METRICS)[0]
    sums.unlink()  # of an older version: the numbers alone
    assert scores.verify(evaluate.FOLDER, evaluate.METRICS) == []
    (evaluate.FOLDER / "predictions.npz").write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match=r"predictions\.npz: damaged: "):
        scores.verify(evaluate.FOLDER, evaluate.METRICS)


def test_every_probe_sees_the_same_split_and_test_alone_is_reported(
    workspace: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    selecting: list[list[int]] = []

    class Probe:
        NEEDS = "pooled"

        @staticmethod
        def fit_score(
            train: Any, folds: Any, test: Any, options: Any, seed: int, device: str
        ) -> Mapping[str, Result]:
            seen.append([len(part.labels["class"]) for part in (train, test)])
            assert [len(part.images) for part in (train, test)] == seen[-1]
            assert all(len(a) == 64 for a in train.choices.values())
            selecting.append(np.concatenate(folds).tolist())
            truth = test.labels["class"][None]
            held = train.labels["class"][folds[0]]
            return {"class": choose(({"features": "last"},), held[None], held, truth)}

    real, wanted = variants.load, job(store_path)
    monkeypatch.setattr(
        variants, "load", lambda family, name: Probe if family == "probes" else real(family, name)
    )
    (found,) = probing.outcomes(wanted, print)
    assert seen == [[64, 32]] * 6
    assert len(selecting[0]) == 6
    assert selecting == [selecting[0]] * 6
    assert set(found.results) == {(p, e) for p in ("linear", "knn") for e in ENCODERS}


def test_a_result_is_not_computed_twice(workspace: Path, store_path: Path) -> None:
    (first,) = probing.outcomes(job(store_path), print)
    stamps = {p: p.stat().st_mtime_ns for p in (environment.home() / "probes").iterdir()}
    assert len(stamps) == 6
    (again,) = probing.outcomes(job(store_path), print)
    one, other = (o.results["linear", "trained"]["class"].test for o in (first, again))
    assert (one == other).all()
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    # a changed probe fits that probe again and extracts nothing
    before = len(list((environment.home() / "features").iterdir()))
    changed = {"k": 5, "temperature": 0.07}
    probing.outcomes(job(store_path, **{"evaluate.knn": changed}), print)
    assert len(list((environment.home() / "probes").iterdir())) == 9
    assert len(list((environment.home() / "features").iterdir())) == before


@pytest.mark.parametrize(
    ("share", "folds", "count", "sizes"),
    [(0.1, 1, 64, [6]), (0.01, 1, 3, [1]), (0.5, 1, 2, [1]), (0.5, 2, 2, [1, 1]),
     (0.2, 5, 64, [13, 13, 12, 13, 13]), (0.2, 2, 64, [13, 13]), (0.01, 3, 10, [1, 1, 1]),
     (1 / 3, 3, 7, [2, 3, 2])],
)  # fmt: skip
def test_folds_are_disjoint_of_equal_share_and_leave_something_to_fit(
    share: float, folds: int, count: int, sizes: list[int]
) -> None:
    used, rows = labelling.split(0, 1.0, share, folds, count)
    assert used.tolist() == list(range(count))
    assert [len(fold) for fold in rows] == sizes
    assert max(sizes) < count
    assert all((np.diff(fold) > 0).all() for fold in rows)
    selecting = np.concatenate(rows)
    assert len(set(selecting)) == len(selecting)
    assert set(selecting) <= set(range(count))
    again = labelling.split(0, 1.0, share, folds, count)[1]
    assert all((a == b).all() for a, b in zip(rows, again, strict=True))
    # one fold more cuts another part out, and moves none
    if folds > 1:
        fewer = labelling.split(0, 1.0, share, folds - 1, count)[1]
        assert all((a == b).all() for a, b in zip(fewer, rows, strict=False))


def test_the_split_follows_its_seed() -> None:
    first, other = (labelling.split(seed, 1.0, 0.1, 1, 1000)[1][0] for seed in (0, 1))
    assert len(set(first) & set(other)) < 30  # 10 expected
    with pytest.raises(ValueError, match="1 of 1 training images"):
        labelling.split(0, 1.0, 0.1, 1, 1)
    with pytest.raises(ValueError, match=r"4 of 4 training images .* at least 5"):
        labelling.split(0, 1.0, 0.2, 5, 4)


def test_a_fraction_of_the_labels_is_used_and_grows_by_adding() -> None:
    small, large = (set(labelling.split(0, f, 0.2, 1, 1000)[0]) for f in (0.01, 0.1))
    assert (len(small), len(large)) == (10, 100)
    assert small < large
    with pytest.raises(ValueError, match=r"1 of 100 training images with .*train_fraction 0\.01"):
        labelling.split(0, 0.01, 0.1, 1, 100)


def test_probes_get_the_features_of_the_images_that_were_chosen(
    workspace: Path, store: Store, store_path: Path
) -> None:
    """The brighter half is plain in the pixels: shuffled rows would score near chance."""
    half = {"evaluate.train_fraction": 0.5, "evaluate.held_out": 0.2}
    (found,) = probing.outcomes(job(store_path, **half), print)
    assert found.counts == {"train": 32, "held_out": 6, "test": 32}
    right = found.results["linear", "pixels"]["class"].predictions == found.labels["class"]
    assert right.mean() > 0.9


def test_folds_extract_nothing_again_and_a_token_stays_with_its_image(
    workspace: Path, store_path: Path
) -> None:
    """The brighter half is plain in the patches too: tokens of other rows would be near chance."""
    attentive = {"lr": [0.03], "weight_decay": [0.01], "epochs": 20, "batch_size": 8, "heads": 2}
    probes = {"evaluate.probes": ["attentive", "knn"], "evaluate.attentive": attentive,
              "evaluate.train_fraction": 0.75, "evaluate.held_out": 0.25}  # fmt: skip
    for folds in (1, 4):
        (found,) = probing.outcomes(job(store_path, **probes, **{"evaluate.folds": folds}), print)
        assert found.counts == {"train": 48, "held_out": 12 * folds, "test": 32}
        for encoder in ("trained", "random_init"):
            result = found.results["attentive", encoder]["class"]
            assert result.held_out.shape == (1, 12 * folds)
            assert result.selection[0] > 0.8
            assert (result.predictions == found.labels["class"]).mean() > 0.8
    files = list((environment.home() / "features").iterdir())
    assert len(files) == 2 * 2 + 2 * 3, "tokens and pooled features of two splits"


def run_stage(store_path: Path, **dotted: Any) -> int:
    """The whole stage: parameters, journal and console are the real ones."""
    YAML(typ="safe", pure=True).dump(params(**{**TINY, **dotted}), Path("params.yaml"))
    if not Path("data").is_dir():
        Path("data").mkdir()
        Path("data/prepared").symlink_to(store_path)
    return errors.run(evaluate.main)


def test_missing_or_foreign_encoder_is_one_line(
    workspace: Path, store_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(store_path, **{"model.width": 32}) == 2
    assert "out/encoder.safetensors: is not of params.yaml's model" in capfd.readouterr().err
    assert run_stage(store_path, **{"evaluate.encoder": "context"}) == 2
    assert "error: out/context_encoder.safetensors: no such file" in capfd.readouterr().err
    Path("out/encoder.safetensors").write_text("{}")
    assert run_stage(store_path) == 2
    assert "out/encoder.safetensors: not safetensors, or damaged" in capfd.readouterr().err
    Path("out/encoder.safetensors").unlink()
    assert run_stage(store_path) == 2
    assert "error: out/encoder.safetensors: no such file" in capfd.readouterr().err


def test_transfer_probes_another_data_set_under_its_own_name(
    workspace: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 20)):
        for number in range(count):
            image = rng.integers(0, 128, (24, 20, 3), dtype=np.uint8)
            image[:, :, number % 2] += 100
            path = Path("raw/colours", split, ("red", "green")[number % 2], f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    monkeypatch.setenv("IJEPA_DATA_ROOT", "raw")
    knn = {"evaluate.knn": {"k": 5, "temperature": 0.07}}
    transfer = {"evaluate.transfer": [{"name": "folder", "path": "colours"}]} | knn
    made = run.evaluate(job(store_path, **transfer), evaluate.FOLDER, evaluate.METRICS)
    task = made["tasks"]["folder/class"]
    assert list(made["tasks"]) == ["class", "folder/class"]
    assert task["classes"] == ["green", "red"]
    assert (task["data"], task["n"]["test"], made["n"]["test"]) == ("folder", 20, 32)
    assert task["linear"]["pixels"]["accuracy"] == 100.0
    alone = run.evaluate(job(store_path, **knn), evaluate.FOLDER, evaluate.METRICS)
    assert made["tasks"]["class"] == alone["tasks"]["class"]
    assert len(list((environment.home() / "datasets").iterdir())) == 1


def test_transfer_to_parquet_measures_the_labels_it_names(
    workspace: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_DATA_ROOT", "raw")
    images = []
    for number in range(30):
        file = io.BytesIO()
        Image.new("RGB", (20, 24), ("red", "lime", "blue")[number % 3]).save(file, "PNG")
        images.append(file.getvalue())
    names = ["cat", "dog", "emu"]
    columns = {"fine": [names[n % 3] for n in range(30)], "coarse": [n % 2 for n in range(30)]}
    Path("raw/x").mkdir(parents=True)
    for split in ("train", "validation"):
        pq.write_table(pa.table({"img": images, **columns}), f"raw/x/{split}-0.parquet")
    entry = {"name": "parquet", "path": "x", "label_columns": ["fine"], "image_column": "img"}

    def measure(**change: Any) -> dict[str, Any]:
        knn = {"evaluate.probes": ["knn"], "evaluate.knn": {"k": 5, "temperature": 0.07}}
        wanted = job(store_path, **knn, **{"evaluate.transfer": [entry | change]})
        return run.evaluate(wanted, evaluate.FOLDER, evaluate.METRICS)

    made = measure()
    assert list(made["tasks"]) == ["class", "parquet/fine"]
    task = made["tasks"]["parquet/fine"]
    assert (task["classes"], task["split"], task["chance"]) == (names, "val", 33.3333)
    assert task["knn"]["pixels"]["accuracy"] == 100.0
    assert list(measure(label_columns=["fine", "coarse"])["tasks"])[1:] == [
        "parquet/fine",
        "parquet/coarse",
    ]
    for change, message in (
        ({"path": "y"}, r"evaluate\.transfer\[0\]\.path: y: no such folder in IJEPA_DATA_ROOT"),
        ({"label_columns": ["f"]}, r"evaluate\.transfer\[0\]\.label_columns: f: not in x/train-0"),
        ({"image_column": "coarse"}, r"evaluate\.transfer\[0\]\.image_column: coarse: int64 in"),
    ):
        with pytest.raises(ValueError, match=f"^{message}") as error:
            measure(**change)
        assert "\n" not in str(error.value)


def test_a_transferred_set_is_prepared_once_whatever_the_views_size(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_DATA_ROOT", "raw")
    for split in ("train", "val"):
        Path(f"raw/in/{split}/cat").mkdir(parents=True)
        Image.new("RGB", (20, 24)).save(f"raw/in/{split}/cat/0.png")
    folder = {"data.name": "folder", "data.path": "in"}
    first = cache.prepared(tiny(**folder).data)
    for change in ({"data.image_size": 32}, {"data.train_fraction": 0.1}):
        assert cache.prepared(tiny(**folder, **change).data) == first
    assert cache.prepared(tiny(**folder, **{"data.bad_images": "skip"}).data) != first
    with pytest.raises(ValueError, match=r"data\.duplicates: refuse: 1 image of val in train"):
        cache.prepared(tiny(**folder, **{"data.duplicates": "refuse"}).data)


def test_raw_files_that_changed_are_prepared_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_DATA_ROOT", "raw")
    for split in ("train", "val"):
        Path(f"raw/in/{split}/cat").mkdir(parents=True)
        Image.new("RGB", (20, 24)).save(f"raw/in/{split}/cat/0.png")
    data = tiny(**{"data.name": "folder", "data.path": "in"}).data
    first = cache.prepared(data)
    Image.new("RGB", (20, 24), (9, 9, 9)).save("raw/in/val/cat/0.png")
    second = cache.prepared(data)
    assert open_store(first).hash != open_store(second).hash
    assert cache.prepared(data) == second


@pytest.mark.slow
def test_several_processes_give_the_numbers_of_one(
    workspace: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real torchrun with gloo."""
    run.evaluate(job(store_path), evaluate.FOLDER, evaluate.METRICS)
    alone = outputs()
    features = {p.name: p.read_bytes() for p in (environment.home() / "features").iterdir()}
    for processes in (2, 3):
        monkeypatch.setenv("IJEPA_HOME", str(workspace / f"home{processes}"))
        monkeypatch.setenv("IJEPA_PROCESSES", str(processes))
        run.evaluate(job(store_path), evaluate.FOLDER, evaluate.METRICS)
        assert outputs() == alone
        again = (environment.home() / "features").iterdir()
        assert {p.name: p.read_bytes() for p in again} == features


def test_a_damaged_set_of_the_cache_is_prepared_again(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its index says so; a damaged image is named where it is read, with what to do."""
    monkeypatch.setenv("IJEPA_DATA_ROOT", "raw")
    for split in ("train", "val"):
        Path(f"raw/in/{split}/cat").mkdir(parents=True)
        Image.new("RGB", (120, 124)).save(f"raw/in/{split}/cat/0.png")
    data = tiny(**{"data.name": "folder", "data.path": "in"}).data
    place = cache.prepared(data)
    for name in ("manifest.json", "SHA256SUMS", "train/index.bin", "val/labels.npy"):
        whole = (place / name).read_bytes()
        (place / name).chmod(0o644)
        (place / name).write_bytes(whole[:9] + bytes([whole[9] ^ 1]) + whole[10:])
        capsys.readouterr()
        assert cache.prepared(data) == place
        first, second, *_ = capsys.readouterr().out.splitlines()
        assert first.endswith(": prepared again")
        assert f"{place}/" in first
        assert second == f"preparing folder in {place}"
        assert (place / name).read_bytes() == whole
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    image = place / "train/images-00000.bin"
    image.chmod(0o644)
    image.write_bytes(bytes(image.stat().st_size))
    images = open_store(cache.prepared(data)).splits["train"]
    with pytest.raises(ValueError, match=f"bin: damaged: image 0 of train; remove {place}: it is"):
        images[0]
