"""The error of a mean over seeds and images: against bootstrap, formulas and simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ijepa.study import crossed


def table(
    rng: np.random.Generator, seeds: int, images: int, seed: float, image: float, rest: float = 1.0
) -> NDArray[np.float64]:
    """Seeds by images, with the standard deviations of each part."""
    return np.asarray(
        rng.normal(0, seed, (seeds, 1))
        + rng.normal(0, image, (1, images))
        + rng.normal(0, rest, (seeds, images))
    )


def test_by_hand() -> None:
    # rows' means 2, 4, three times; columns' 1.5, 3, 4.5; no rest: SS seeds 3 * 6, images 6 * 4.5
    values = np.array([[0.5, 2.0, 3.5], [2.5, 4.0, 5.5]] * 3)
    wide = crossed.error(values)
    assert wide.size**2 == pytest.approx((18 / 5 + 27 / 2 - 0) / 18)
    assert wide.freedom == pytest.approx(17.1**2 / (3.6**2 / 5 + 13.5**2 / 2))
    few = crossed.error(values[:2])
    assert few.size**2 == pytest.approx((6 / 1 + 9 / 2 - 0) / 6)
    assert few.freedom == 1
    assert 10.5**2 / (6**2 / 1 + 4.5**2 / 2) > 2, "what it would be"


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("seed", "image"), [(0.0, 0.0), (0.02, 0.0), (0.1, 0.5)])
def test_an_interval_of_few_seeds_has_the_truth_as_often_as_it_says(
    seeds: int, seed: float, image: float
) -> None:
    rng = np.random.default_rng(seeds)
    inside = []
    for _ in range(600):
        values = table(rng, seeds, 300, seed, image)
        wide = crossed.error(values)
        inside.append(abs(values.mean()) <= stats.t.isf(0.025, wide.freedom) * wide.size)
    assert np.mean(inside) > 0.95 - 3 * (0.05 * 0.95 / 600) ** 0.5


def test_without_images_of_their_own_it_is_the_t_test_over_seeds() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=(7, 1)), 50, axis=1)
    wide = crossed.error(values)
    assert wide.size == pytest.approx(values[:, 0].std(ddof=1) / 7**0.5)
    assert wide.freedom == pytest.approx(6)


def test_without_seeds_of_their_own_it_is_the_interval_over_images() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=(1, 400)), 6, axis=0)
    wide = crossed.error(values)
    assert wide.size == pytest.approx(values[0].std(ddof=1) / 20)
    assert wide.freedom == pytest.approx(399)


def test_it_is_never_less_than_seeds_or_images_alone() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        values = table(rng, 6, 40, 0.02, 0.02)
        seeds = values.mean(1).std(ddof=1) / 6**0.5
        images = values.mean(0).std(ddof=1) / 40**0.5
        assert crossed.error(values).size >= max(seeds, images) - 1e-12


def test_it_is_the_spread_of_means_over_new_seeds_and_images() -> None:
    rng = np.random.default_rng(3)
    tables = [table(rng, 12, 300, 0.3, 1.5) for _ in range(2000)]
    true = np.std([one.mean() for one in tables])
    estimated = np.sqrt(np.mean([crossed.error(one).size ** 2 for one in tables]))
    assert estimated == pytest.approx(true, rel=0.05)


def test_it_is_what_a_crossed_bootstrap_gives() -> None:
    """Seeds and images drawn again, both at once (the "pigeonhole" bootstrap, Owen 2007).

    Its variance has every part once more than it should: of the rest, too much.
    """
    rng = np.random.default_rng(4)
    values = table(rng, 24, 500, 0.3, 2.0)
    seeds, images = values.shape
    means = [
        values[np.ix_(rng.integers(0, seeds, seeds), rng.integers(0, images, images))].mean()
        for _ in range(3000)
    ]
    assert crossed.error(values).size == pytest.approx(np.std(means), rel=0.06)


def test_what_is_left_counts_once() -> None:
    """Of noise alone, both mean squares have it: their sum has it twice."""
    rng = np.random.default_rng(5)
    sizes = [crossed.error(table(rng, 12, 60, 0, 0)).size for _ in range(400)]
    assert 1.0 < np.mean(np.square(sizes)) * 12 * 60 < 1.4
