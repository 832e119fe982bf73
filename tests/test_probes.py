from typing import Any

import numpy as np
import pytest
import torch
from conftest import joined, tiny
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ijepa import schedule, variants
from ijepa.config import Config
from ijepa.evaluation import probing, scores
from ijepa.probes import (
    Candidates,
    Features,
    Result,
    choose,
    cosine_decay,
    cross_validate,
    knn,
    linear,
)

Array = NDArray[Any]
SIZES = (1500, 500, 2000)


def problem(
    seed: int, width: int, classes: int, spread: float = 3.0
) -> tuple[list[Array], list[Array]]:
    """Noisy classes in correlated features: axes' scales span ``spread`` powers of ten."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width))
    mix = rng.normal(size=(width, width)) * np.logspace(0, -spread, width)[:, None]
    inputs, labels = [], []
    for count in SIZES:
        y = rng.integers(0, classes, count)
        inputs.append((centres[y] * 0.5 + rng.normal(size=(count, width))) @ mix + 2)
        labels.append(y)
    return inputs, labels


def splits(inputs: list[Array], labels: list[Array]) -> list[Features]:
    return [
        Features({"last": x.astype(np.float32)}, {"class": y})
        for x, y in zip(inputs, labels, strict=True)
    ]


def options(**changed: Any) -> linear.Options:
    values = {"norm": ("batch",), "lr": (0.1,), "weight_decay": (1e-3,)}
    values |= {"epochs": 30, "batch_size": 128}
    return linear.Options(**{**values, **changed})


def fit(parts: list[Features], opts: linear.Options, seed: int = 0) -> Result:
    return linear.fit_score(*joined(*parts[:2]), parts[2], opts, seed, "cpu")["class"]


def accuracy(result: Result, part: Features) -> float:
    return float((result.predictions == part.labels["class"]).mean())


@pytest.mark.parametrize(("norm", "decay"), [("batch", 1e-3), ("batch", 1e-2), ("none", 1e-3)])
def test_linear_reaches_the_optimum_of_logistic_regression(norm: str, decay: float) -> None:
    inputs, labels = problem(0, 40, 5)
    parts = splits(inputs, labels)
    result = fit(parts, options(norm=(norm,), weight_decay=(decay,)))
    every, truth = (np.concatenate(arrays[:2]) for arrays in (inputs, labels))  # after the refit
    mean, std = every.mean(0), every.std(0)
    if norm == "none":
        std = np.sqrt((std**2).mean())
    # the same loss: sklearn's C is 1 / (images * weight decay)
    model = LogisticRegression(C=1 / (len(every) * decay), max_iter=2000, tol=1e-8)
    model.fit((every - mean) / std, truth)
    expected = model.predict((inputs[2] - mean) / std)
    assert (result.predictions == expected).mean() > 0.99
    assert abs(accuracy(result, parts[2]) - (expected == labels[2]).mean()) < 0.003
    assert accuracy(result, parts[2]) > 0.5  # chance 0.2


def test_linear_on_more_features_than_images_is_what_all_axes_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the axes along which images differ are computed."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, 50, generator=draw, dtype=torch.float64)
    inputs -= inputs.mean(0)
    labels = {"class": torch.arange(20) % 3}
    options = linear.Options(norm=("batch",), lr=(0.1,), weight_decay=(0.01,), epochs=20,
                             batch_size=8)  # fmt: skip
    candidates = [{"lr": 0.1, "weight_decay": decay} for decay in (0.0, 0.01)]

    def every(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        variance, axes = torch.linalg.eigh(inputs.T @ inputs / len(inputs))
        return variance, axes

    assert [len(part) for part in linear._principal(inputs)] == [20, 50]
    few = linear._train(inputs, labels, candidates, options, 0)["class"]
    monkeypatch.setattr(linear, "_principal", every)
    full = linear._train(inputs, labels, candidates, options, 0)["class"]
    assert few[0].abs().max() > 0.1
    for one, other in zip(few, full, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_the_first_of_the_best_on_held_out_images_wins() -> None:
    held_out = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [-1, -1, -1, -1]])
    names = tuple({"features": str(number)} for number in range(4))
    result = choose(names, held_out, np.array([0, 1, 1, 0]), held_out[:, :2])
    assert result.selection.tolist() == [0.5, 0.75, 0.75, 0.0]
    assert (result.winner, result.selected["features"]) == (1, "1")
    assert result.predictions.tolist() == [0, 1]


def test_the_maximum_over_candidates_is_never_below_the_selected_one() -> None:
    parts = splits(*problem(11, 10, 4))
    result = fit(parts, options(norm=("batch", "none"), lr=(0.01, 0.1, 1e6), epochs=2))
    cell = scores._cell(result, parts[2].labels["class"])
    shares = [row["test"] for row in cell["grid"]]
    assert cell["max_over_candidates"] == max(shares) >= cell["accuracy"]
    assert cell["accuracy"] == shares[result.winner]
    assert min(shares) == 0.0  # the rate that diverges is not right by chance


def test_linear_heads_do_not_influence_each_other() -> None:
    parts = splits(*problem(1, 10, 3))
    alone = fit(parts, options(lr=(0.1,)))
    # the second learning rate diverges; it must lose, and not disturb the first
    together = fit(parts, options(lr=(0.1, 1e6)))
    assert together.selected["lr"] == 0.1
    assert together.selection[1] == 0.0
    assert (together.predictions == alone.predictions).all()


def test_linear_tasks_do_not_influence_each_other() -> None:
    parts = splits(*problem(2, 10, 3))
    alone = fit(parts, options())
    rng = np.random.default_rng(0)
    both = [
        Features(p.choices, {"noise": rng.integers(0, 7, len(p.labels["class"])), **p.labels})
        for p in parts
    ]
    results = linear.fit_score(*joined(*both[:2]), both[2], options(), 0, "cpu")
    assert (results["class"].predictions == alone.predictions).mean() > 0.999  # order of sums
    noise = (results["noise"].predictions == both[2].labels["noise"]).mean()
    assert abs(noise - 1 / 7) < 0.05


def test_linear_selects_on_held_out_and_never_on_test() -> None:
    parts = splits(*problem(3, 10, 4))
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(n, 10)).astype(np.float32) for n in SIZES]
    good = [p.choices["last"] for p in parts]
    # on test the two choices have changed places: who looks at test takes the other one
    swapped = [(noise[0], good[0]), (noise[1], good[1]), (good[2], noise[2])]
    features = [
        Features({"last": a, "last4": b}, p.labels)
        for (a, b), p in zip(swapped, parts, strict=True)
    ]
    labelled, grid = joined(*features[:2]), options(lr=(0.03, 0.1))
    result = linear.fit_score(*labelled, features[2], grid, 0, "cpu")["class"]
    assert result.selected["features"] == "last4"
    assert len(result.candidates) == 4
    assert result.selection[result.winner] == max(result.selection)
    assert accuracy(result, parts[2]) < 0.4 < max(result.selection)
    # what is predicted does not depend on the test labels
    blind = Features(features[2].choices, {"class": np.zeros(SIZES[2], np.int64)})
    again = linear.fit_score(*labelled, blind, grid, 0, "cpu")
    assert (again["class"].predictions == result.predictions).all()


def test_linear_standardises_with_train_statistics_alone() -> None:
    """A shifted test set must be misread: its own mean would put it back."""
    parts = splits(*problem(4, 10, 3, spread=0.0))
    moved = Features({"last": parts[2].choices["last"] + 50}, parts[2].labels)
    straight, shifted = fit(parts, options()), fit([parts[0], parts[1], moved], options())
    assert accuracy(straight, parts[2]) > 0.7
    assert len(np.unique(shifted.predictions)) == 1
    # but the scale and offset of a feature mean nothing when all splits share them
    scaled = [Features({"last": 1000 * p.choices["last"] - 7}, p.labels) for p in parts]
    assert (fit(scaled, options()).predictions == straight.predictions).mean() > 0.995


def test_linear_is_a_function_of_the_seed() -> None:
    parts = splits(*problem(5, 10, 4))
    short = options(epochs=1, lr=(1.0,))
    first, again, other = fit(parts, short), fit(parts, short), fit(parts, short, seed=1)
    assert (first.predictions == again.predictions).all()
    assert (first.predictions != other.predictions).any()


def test_linear_survives_constant_features_half_precision_and_one_class() -> None:
    parts = [
        Features(
            {"last": np.pad(p.choices["last"], ((0, 0), (0, 3))).astype(np.float16)}, p.labels
        )
        for p in splits(*problem(6, 8, 3))
    ]
    assert accuracy(fit(parts, options()), parts[2]) > 0.5
    single = [
        Features(p.choices, {"class": np.zeros(len(p.labels["class"]), np.int64)}) for p in parts
    ]
    assert accuracy(fit(single, options(epochs=1)), single[2]) == 1.0


@pytest.mark.parametrize("k", [1, 7])
def test_knn_equals_sklearn(k: int) -> None:
    inputs, labels = problem(7, 12, 6, spread=1.0)
    parts = splits([x - 2 for x in inputs], labels)
    every, folds = joined(*parts[:2])
    result = knn.fit_score(every, folds, parts[2], knn.Options(k=k, temperature=0.07), 0, "cpu")[
        "class"
    ]
    model = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(every.choices["last"].astype(np.float64), every.labels["class"])
    expected = model.predict(parts[2].choices["last"].astype(np.float64))
    assert (result.predictions == expected).all()
    assert accuracy(result, parts[2]) > 0.3  # chance 0.17
    model.fit(parts[0].choices["last"].astype(np.float64), labels[0])
    assert result.selection[0] == pytest.approx(
        model.score(parts[1].choices["last"].astype(np.float64), labels[1]), abs=0.003
    )


def test_knn_chooses_the_features_of_each_task() -> None:
    rng = np.random.default_rng(8)
    centres = rng.normal(size=(2, 4, 16))
    parts = []
    for n in (400, 100, 200):
        y = {"a": rng.integers(0, 4, n), "b": rng.integers(0, 4, n)}
        choices = {
            name: centres[i][y[task]] + 0.3 * rng.normal(size=(n, 16))
            for i, (name, task) in enumerate((("last", "a"), ("last4", "b")))
        }
        parts.append(Features(choices, y))
    results = knn.fit_score(
        *joined(*parts[:2]), parts[2], knn.Options(k=5, temperature=0.07), 0, "cpu"
    )
    assert list(results) == ["a", "b"]
    assert (results["a"].selected["features"], results["b"].selected["features"]) == (
        "last",
        "last4",
    )
    for task, result in results.items():
        assert (result.predictions == parts[2].labels[task]).mean() > 0.95


def test_knn_weights_neighbours_by_similarity() -> None:
    """One near neighbour against two far ones: a low temperature follows the near one."""
    train = Features(
        {"last": np.array([[1, 0.1], [1, 1], [1, 1.0]])}, {"class": np.array([0, 1, 1])}
    )
    query = Features({"last": np.array([[1.0, 0.0]])}, {"class": np.array([0])})
    for temperature, expected in ((0.01, 0), (1e-5, 0), (10.0, 1)):
        options = knn.Options(k=3, temperature=temperature)
        assert knn.predict(train, query, options, "cpu")[1]["class"].tolist() == [[expected]]


def test_knn_needs_as_many_images_as_neighbours() -> None:
    parts = splits(*problem(9, 4, 2))
    with pytest.raises(ValueError, match=r"evaluate.knn.k: 1501 is more than the 1500"):
        knn.fit_score(
            *joined(*parts[:2]), parts[2], knn.Options(k=1501, temperature=0.1), 0, "cpu"
        )


POOLED = [name for name in variants.names("probes") if probing.needs(name) == "pooled"]


@pytest.mark.parametrize("name", POOLED)
def test_every_probe_keeps_the_contract(name: str) -> None:
    config: Config = tiny(**{"evaluate.probes": [name]})
    probe = variants.load("probes", name)
    parts = splits(*problem(10, 6, 3))
    before = {task: y.copy() for task, y in parts[2].labels.items()}
    state = torch.random.get_rng_state()
    results = probe.fit_score(
        *joined(*parts[:2]), parts[2], config.evaluate.options[name], 3, "cpu"
    )
    assert torch.equal(state, torch.random.get_rng_state()), "a probe must not touch global state"
    assert list(results) == ["class"]
    result = results["class"]
    assert result.predictions.shape == (SIZES[2],)
    assert result.predictions.dtype == np.int64
    assert set(np.unique(result.predictions)) <= {0, 1, 2}
    assert result.selected["features"] == "last"
    assert result.selection[result.winner] == max(result.selection)
    assert result.test.shape == (len(result.candidates), SIZES[2])
    assert result.held_out.shape == (len(result.candidates), len(result.held_out_labels))
    assert all((parts[2].labels[task] == y).all() for task, y in before.items())


@pytest.mark.parametrize("name", POOLED)
def test_no_probe_looks_at_a_test_label(name: str) -> None:
    config: Config = tiny(**{"evaluate.probes": [name]})
    probe, chosen = variants.load("probes", name), config.evaluate.options[name]
    rng = np.random.default_rng(0)
    parts = [
        Features({"last": x, "last4": rng.normal(size=x.shape)}, {"class": y})
        for x, y in zip(*problem(12, 6, 3), strict=True)
    ]
    blind = Features(parts[2].choices, {"class": rng.permutation(parts[2].labels["class"])})
    found, again = (
        probe.fit_score(*joined(*parts[:2]), test, chosen, 3, "cpu")["class"]
        for test in (parts[2], blind)
    )
    assert again.winner == found.winner
    for field in ("held_out", "held_out_labels", "test"):
        assert np.array_equal(getattr(again, field), getattr(found, field)), field


def test_every_epoch_of_the_linear_probe_has_an_order_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, real = [], torch.randperm

    def randperm(count: int, generator: torch.Generator) -> torch.Tensor:
        drawn.append(real(count, generator=generator))
        return drawn[-1]

    monkeypatch.setattr(torch, "randperm", randperm)
    fit(splits(*problem(13, 4, 2)), options(epochs=4))
    assert [len(order) for order in drawn] == [SIZES[0]] * 4 + [sum(SIZES[:2])] * 4
    assert len({tuple(order.tolist()) for order in drawn}) == 8


@pytest.mark.parametrize(
    ("key", "value"),
    [("norm", ["layer"]), ("lr", []), ("lr", [0.0]), ("weight_decay", [-1.0]), ("epochs", 0)],
)
def test_linear_options_are_checked(key: str, value: Any) -> None:
    good = {"norm": ["batch"], "lr": [0.1], "weight_decay": [0.0], "epochs": 1, "batch_size": 8}
    with pytest.raises(ValueError, match=rf"evaluate.linear.{key}: .* is not"):
        tiny(**{"evaluate.linear": {**good, key: value}})


def test_a_rate_falls_to_nothing_along_half_a_cosine() -> None:
    assert [cosine_decay(step, 4) for step in (0, 2, 4)] == pytest.approx([1, 0.5, 0])
    falling = [schedule.cosine((1, 0), step / 7) for step in range(8)]
    assert [cosine_decay(step, 7) for step in range(8)] == pytest.approx(falling, abs=1e-15)


def test_every_fold_is_predicted_by_fits_that_have_not_seen_it_and_the_last_fit_has_all() -> None:
    """A candidate that knows its images by heart says 1 of one it has seen, and 0 of another."""
    fits: list[set[int]] = []

    def predict(train: Features, others: Features) -> Candidates:
        fits.append(set(train.choices["id"].tolist()))
        seen = np.isin(others.choices["id"], train.choices["id"]).astype(np.int64)
        return ({"features": "id"}, {"features": "other"}), {"class": np.stack([seen, 1 - seen])}

    images = np.arange(100, 110)
    train = Features({"id": images}, {"class": np.arange(10) % 2})
    folds = [np.array([1, 4]), np.array([0, 7, 9])]
    result = cross_validate(predict, train, folds, train)["class"]
    everything = set(images.tolist())
    assert fits == [everything - {101, 104}, everything - {100, 107, 109}, everything]
    assert result.held_out.tolist() == [[0] * 5, [1] * 5]
    assert result.held_out_labels.tolist() == [1, 0, 0, 1, 1]
    assert result.test.tolist() == [[1] * 10, [0] * 10]
    # all folds together choose: each alone would have a tie, or the other candidate
    assert (result.winner, result.selection.tolist()) == (1, [0.4, 0.6])


def test_folds_choose_by_each_image_once_and_not_fold_by_fold() -> None:
    """3 of 3 and 1 of 7 right is less than 0 of 3 and 6 of 7, though not in the mean of folds."""
    right = [np.array([[1] * 3, [0] * 3]), np.array([[1] + [0] * 6, [1] * 6 + [0]])]
    answers = iter([*right, np.zeros((2, 1), np.int64)])

    def predict(train: Features, others: Features) -> Candidates:
        return ({"features": "a"}, {"features": "b"}), {"class": next(answers)}

    train = Features({}, {"class": np.ones(10, np.int64)})
    result = cross_validate(predict, train, [np.arange(3), np.arange(3, 10)], train)["class"]
    assert result.selection.tolist() == pytest.approx([0.4, 0.6])
    assert result.winner == 1
