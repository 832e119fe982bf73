"""Logistic regression and the probes on few labels: minima, draws, labels that are not seen."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import joined, tiny
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ijepa.evaluation import run, scores
from ijepa.evaluation.probing import Job
from ijepa.model import vit
from ijepa.probes import Draw, Features, Result, _draws, _multinomial, choose, few_shot
from ijepa.probes import logistic as one_percent

Array = NDArray[Any]
SIZES = (900, 100, 1000)


def parts(
    seed: int = 0, width: int = 12, classes: int = 4, distance: float = 0.6
) -> list[Features]:
    """Noisy classes; the second choice of features is the first one and noise."""
    rng = np.random.default_rng(seed)
    centres = 0.6 * rng.normal(size=(classes, width))
    made = []
    for count in SIZES:
        y = rng.integers(0, classes, count)
        x = (centres[y] + rng.normal(size=(count, width))) * np.logspace(0, 1, width) + 3
        wide = np.concatenate([x, rng.normal(size=(count, width))], axis=1)
        choices = {"last": x.astype(np.float32), "last2": wide.astype(np.float32)}
        made.append(Features(choices, {"class": y}))
    return made


def one(data: list[Features], seed: int = 0, **changed: Any) -> Result:
    values: dict[str, Any] = {"fraction": 0.05, "l2": (0.01, 0.1, 1.0), "folds": 5}
    options = one_percent.Options(**{**values, **changed})
    return one_percent.fit_score(*joined(*data[:2]), data[2], options, seed, "cpu")["class"]


def few(data: list[Features], seed: int = 0, **changed: Any) -> Result:
    values: dict[str, Any] = {"shots": (1, 4, 16), "draws": 3, "l2": 0.1}
    options = few_shot.Options(**{**values, **changed})
    return few_shot.fit_score(*joined(*data[:2]), data[2], options, seed, "cpu")["class"]


def same(first: Result, other: Result) -> bool:
    arrays = ("held_out", "held_out_labels", "test")
    return first.winner == other.winner and all(
        np.array_equal(getattr(first, name), getattr(other, name)) for name in arrays
    )


def test_classifiers_that_share_their_images_predict_what_each_does_alone() -> None:
    rng = np.random.default_rng(0)
    x, tests = rng.normal(size=(80, 6)), rng.normal(size=(500, 6))
    standard = _multinomial.standard(x, "cpu")
    every = [
        _multinomial.fit(x[:count], rng.integers(0, classes, count), grid, standard)
        for count, classes, grid in ((20, 2, [0.1]), (80, 3, [1.0]), (50, 4, [0.01, 0.1]))
    ]
    for models, together in zip(every, _multinomial.predict(every, tests), strict=True):
        assert together.shape == (len(models.weight), 500)
        np.testing.assert_array_equal(together, models.predict(tests))


@pytest.mark.parametrize(("count", "width", "classes"), [(60, 90, 5), (200, 20, 3)])
def test_the_minimum_is_sklearns(count: int, width: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, count)
    x = rng.normal(size=(classes, width))[y] * 0.5 + rng.normal(size=(count, width))
    x *= np.logspace(-1, 2, width)
    tests = rng.normal(size=(1000, width)) * np.logspace(-1, 2, width)
    grid = [1e-3, 1e-1, 1e-2]
    models = _multinomial.fit(x, y, grid, _multinomial.standard(x, "cpu"))
    z = (x - x.mean(0)) / x.std(0)

    def objective(weight: Array, bias: Array, l2: float) -> float:
        logs = torch.from_numpy(z @ weight + bias).log_softmax(1).numpy()
        return float(-logs[np.arange(count), y].mean() + l2 / 2 * (weight**2).sum())

    predictions = models.predict(tests)
    for number, l2 in enumerate(grid):
        theirs = LogisticRegression(C=1 / (count * l2), max_iter=10_000, tol=1e-9).fit(z, y)
        expected = theirs.predict((tests - x.mean(0)) / x.std(0))
        assert (predictions[number] == expected).mean() > 0.99
        ours = objective(models.weight[number].numpy(), models.bias[number].numpy(), l2)
        lowest = objective(theirs.coef_.T, theirs.intercept_, l2)
        assert ours == pytest.approx(lowest, rel=1e-6)
        # and the three minima are not the same one
        assert objective(models.weight[number].numpy(), models.bias[number].numpy(), 5 * l2) > (
            1.01 * ours
        )


def test_classes_without_labels_are_not_predicted_and_one_class_is_no_error() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 5)).astype(np.float16)
    y = np.repeat([1, 4, 7], 10)
    models = _multinomial.fit(x, y, [0.1], _multinomial.standard(x, "cpu"))
    assert set(models.predict(x)[0]) == {1, 4, 7}
    alone = _multinomial.fit(x, np.full(30, 3), [0.1], _multinomial.standard(x, "cpu"))
    assert (alone.predict(x) == 3).all()


def test_standard_is_the_mean_and_deviation_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(2).normal(100, 3, (50, 4)).astype(np.float32)
    x[:, 2] = 0.1
    monkeypatch.setattr(_multinomial, "_ROWS", 7)
    mean, scale = _multinomial.standard(x, "cpu")
    assert mean.numpy() == pytest.approx(x.astype(np.float64).mean(0), rel=1e-12)
    expected = x.astype(np.float64).std(0)
    expected[2] = 1.0
    assert scale.numpy() == pytest.approx(expected, rel=1e-9)


def test_draws_are_nested_balanced_and_leave_no_class_out() -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice(5, 2000, p=[0.5, 0.3, 0.15, 0.049, 0.001])
    labels[0] = 4
    order = rng.permutation(2000)
    chosen = [_draws.fraction(labels, share, order) for share in (0.001, 0.01, 0.1, 1.0)]
    for small, large in pairwise(chosen):
        assert set(small) < set(large)
    assert len(chosen[-1]) == 2000
    for share, rows in zip((0.001, 0.01, 0.1), chosen, strict=False):
        wanted = np.maximum(1, np.rint(share * np.bincount(labels)))
        assert (np.bincount(labels[rows], minlength=5) == wanted).all()
    one_each, four = _draws.shots(labels, 1, order), _draws.shots(labels, 4, order)
    assert sorted(labels[one_each]) == [0, 1, 2, 3, 4]
    assert set(one_each) <= set(four)
    other = _draws.fraction(labels, 0.1, rng.permutation(2000))
    assert len(set(other) & set(chosen[2])) < 60  # 20 expected, of 200


def test_folds_share_out_every_class() -> None:
    labels = np.random.default_rng(4).integers(0, 3, 47)
    folds = _draws.folds(labels, 5)
    assert np.ptp(np.bincount(folds)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(folds[labels == label], minlength=5)) <= 1


def test_logistic_sees_no_label_and_no_feature_outside_the_fraction() -> None:
    data = parts()
    both = np.concatenate([p.labels["class"] for p in data[:2]])
    first = one(data)
    order = one_percent.seeds.generator(0, "logistic").permutation(len(both))
    inside = _draws.fraction(both, 0.05, order)
    assert len(inside) == len(first.held_out_labels) == pytest.approx(50, abs=2)
    assert (both[inside] == first.held_out_labels).all()
    # labels that come later in the order than the draw change places: the draw stays
    later = np.setdiff1d(np.arange(len(both)), _draws.fraction(both, 0.5, order))
    changed = both.copy()
    changed[later] = np.random.default_rng(0).permutation(both[later])
    assert (changed != both).sum() > 300
    blank = np.setdiff1d(np.arange(len(both)), inside)
    features = {c: np.concatenate([p.choices[c] for p in data[:2]]) for c in data[0].choices}
    for array in features.values():
        array[blank] = 1e4
    cut = slice(None, SIZES[0]), slice(SIZES[0], None)
    again = [Features({c: a[s] for c, a in features.items()}, {"class": changed[s]}) for s in cut]
    assert same(one([*again, data[2]]), first)
    # but those inside do count
    features["last"][inside] += np.random.default_rng(0).normal(size=(len(inside), 12)) * 30
    assert not same(one([*again, data[2]]), first)


@pytest.mark.parametrize("probe", [one, few])
def test_test_labels_are_not_seen(probe: Any) -> None:
    data = parts(1)
    blind = Features(data[2].choices, {"class": np.zeros(SIZES[2], np.int64)})
    first, again = probe(data), probe([data[0], data[1], blind])
    assert same(first, again)
    assert (first.predictions == data[2].labels["class"]).mean() > 0.5  # chance 0.25


def test_logistic_validates_with_classifiers_that_have_not_seen_the_image() -> None:
    """Noise with more features than images: who is tested on what it was fitted to is right."""
    rng = np.random.default_rng(5)
    data = [
        Features({"last": rng.normal(size=(n, 200))}, {"class": rng.integers(0, 2, n)})
        for n in SIZES
    ]
    result = one(data, fraction=0.1, l2=(1e-3,))
    assert len(result.held_out_labels) == pytest.approx(100, abs=1)
    assert abs(result.selection[0] - 0.5) < 0.16  # three standard deviations of 100 images
    with pytest.raises(ValueError, match=r"evaluate.logistic.fraction: 0\.001 labels 1 of 1000"):
        one([Features(p.choices, {"class": 0 * p.labels["class"]}) for p in data], fraction=0.001)


def test_logistic_selects_features_and_penalty_within_the_labelled_images() -> None:
    data = parts(2)
    result = one(data, l2=(0.1, 1000.0))
    assert [c["features"] for c in result.candidates] == ["last", "last", "last2", "last2"]
    assert [c["l2"] for c in result.candidates] == [1000.0, 0.1] * 2
    assert result.selected["l2"] == 0.1
    assert result.test.shape == (4, SIZES[2])
    more = one(data, fraction=0.5)
    truth = data[2].labels["class"]
    assert (more.predictions == truth).mean() > (result.predictions == truth).mean()
    assert same(one(data), one(data))
    assert not same(one(data), one(data, seed=1))


def test_few_shot_draws_a_curve_and_reports_its_first_draw() -> None:
    data, state = parts(3), torch.random.get_rng_state()
    result = few(data)
    assert torch.equal(state, torch.random.get_rng_state())
    keys = [(point.labels, point.draw) for point in result.curve]
    assert sorted(keys) == [(k, draw) for k in (1, 4, 16) for draw in range(3)]
    headline = result.curve[keys.index((16, 0))]
    assert (result.predictions == headline.predictions).all()
    assert result.candidates == ({"features": "last2", "shots": 16, "l2": 0.1},)
    # validated by those held out that the headline's classifier has not learned from
    every, (fold,) = joined(*data[:2])
    labels = every.labels["class"]
    order = few_shot.seeds.generator(0, "few-shot", 0).permutation(len(labels))
    drawn = _draws.shots(labels, 16, order)
    unseen = np.setdiff1d(fold, drawn)
    assert len(unseen) < len(fold)
    assert (result.held_out_labels == labels[unseen]).all()
    options = few_shot.Options(shots=(16,), draws=1, l2=0.1)
    with pytest.raises(ValueError, match=r"evaluate.few_shot.shots: 16 of each class .* are all"):
        few_shot.fit_score(every, [drawn[:5]], data[2], options, 0, "cpu")
    truth = data[2].labels["class"]
    means = [
        np.mean([(p.predictions == truth).mean() for p in result.curve if p.labels == k])
        for k in (1, 4, 16)
    ]
    assert means[0] + 0.05 < means[1] < means[2] - 0.02
    again, other = few(data), few(data, seed=1)
    for a, b in zip(result.curve, again.curve, strict=True):
        assert (a.predictions == b.predictions).all()
    assert any(
        (a.predictions != b.predictions).any()
        for a, b in zip(result.curve, other.curve, strict=True)
    )


def test_the_spread_of_a_curve_is_the_sample_deviation_of_its_draws() -> None:
    truth = np.zeros(10, np.int64)
    curve = tuple(
        Draw(labels, draw, (np.arange(10) >= right).astype(np.int64))
        for labels, draw, right in ((1, 0, 5), (1, 1, 7), (1, 2, 9), (4, 0, 8))
    )
    result = choose(({"features": "last"},), truth[None], truth, truth[None], curve)
    first, last = scores._curve(result, truth)
    assert (first["labels"], first["accuracy"], first["draws"]) == (1, 70.0, [50.0, 70.0, 90.0])
    assert first["std"] == pytest.approx(20.0)  # of the population it would be 16.3
    assert (last["accuracy"], last["std"]) == (80.0, None)


def test_few_shot_draws_do_not_depend_on_the_other_draws_or_shots() -> None:
    data = parts(4)
    many, alone = few(data), few(data, shots=(4,), draws=1)
    found = {(p.labels, p.draw): p.predictions for p in many.curve}
    assert (found[4, 0] == alone.predictions).all()
    assert (found[4, 0] != found[4, 1]).any()


def test_few_shot_knows_from_all_images_which_feature_spreads_most() -> None:
    """One of eight features tells two classes apart. In their own spread two images differ in all
    of them alike (0.53); in that of all images, which takes no label, in the one most (0.69)."""
    rng, data = np.random.default_rng(0), []
    for count in (200, 20, 400):
        y = rng.integers(0, 2, count)
        x = rng.normal(size=(count, 8))
        x[:, 0] += 8 * y - 4
        data.append(Features({"last": x}, {"class": y}))
    truth = data[2].labels["class"]
    curve = few(data, shots=(1,), draws=20).curve
    assert np.mean([(point.predictions == truth).mean() for point in curve]) > 0.62


def test_few_shot_leaves_out_the_shots_that_no_class_can_give() -> None:
    """The rest is what it is without them; a class too small for the least is refused."""
    data = parts(6)
    for part, left in ((data[0], 3), (data[1], 0)):
        labels = part.labels["class"]
        labels[np.flatnonzero(labels == 2)[left:]] = 1
    cut, whole = few(data, shots=(1, 3, 4, 20)), few(data, shots=(1, 3))
    assert same(cut, whole)
    assert [(d.labels, d.draw) for d in cut.curve] == [(d.labels, d.draw) for d in whole.curve]
    assert sorted({d.labels for d in cut.curve}) == [1, 3]
    assert whole.selected == {"features": "last2", "shots": 3, "l2": 0.1}
    assert cut.selected == {**whole.selected, "shots_asked": 20}
    with pytest.raises(
        ValueError, match=r"evaluate.few_shot.shots: 4 is more than the 3 training .* task class"
    ):
        few(data, shots=(4, 20))


@pytest.mark.parametrize(
    ("probe", "key", "value"),
    [("few_shot", "shots", [0]), ("few_shot", "shots", [5, 5]), ("few_shot", "l2", 0.0),
     ("logistic", "l2", [0.0]), ("logistic", "folds", 1), ("logistic", "fraction", 0.0)],
)  # fmt: skip
def test_options_are_checked(probe: str, key: str, value: Any) -> None:
    every: dict[str, dict[str, Any]] = {
        "few_shot": {"shots": [1], "draws": 1, "l2": 0.1},
        "logistic": {"fraction": 0.1, "l2": [0.1], "folds": 2},
    }
    wrong = {**every[probe], key: value}
    with pytest.raises(ValueError, match=rf"evaluate.{probe}.{key}: .* is not"):
        tiny(**{"evaluate.probes": [probe], f"evaluate.{probe}": wrong})


def test_the_stage_writes_curves_that_verify_computes_again(
    tmp_path: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    for name, value in {"DEVICE": "cpu", "THREADS": "1"}.items():
        monkeypatch.setenv(f"IJEPA_{name}", value)
    vit.save(vit.create(16, tiny().model, 0), Path("encoder.safetensors"), {})
    config = tiny(**{"evaluate.probes": ["few_shot", "logistic"], "evaluate.last_layers": 1})
    job, metrics = Job(config, "encoder.safetensors", store_path), Path("metrics.json")
    made = run.evaluate(job, Path("out"), metrics)["tasks"]["class"]
    curve = made["few_shot"]["pixels"]["curve"]
    assert [(p["labels"], len(p["draws"])) for p in curve] == [(1, 2), (5, 2)]
    assert made["few_shot"]["pixels"]["accuracy"] == curve[1]["draws"][0]
    assert made["logistic"]["pixels"]["selected"]["l2"] in config.evaluate.options["logistic"].l2
    assert scores.verify(Path("out"), metrics) == []
