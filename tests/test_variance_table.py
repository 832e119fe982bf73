"""The split of a table's variance, against statsmodels' sums of squares and planted parts."""

import numpy as np
import pytest

from benchmarks.variance import two_way


def test_planted_parts_come_back() -> None:
    """In the mean of many tables: the estimate of a variance has no bias but for the cut at 0."""
    rng, sizes = np.random.default_rng(0), (2.0, 1.0, 0.5)
    variances = []
    for _ in range(300):
        init, draw = sizes[0] * rng.normal(size=(30, 1)), sizes[1] * rng.normal(size=(1, 30))
        parts = two_way(40 + init + draw + sizes[2] * rng.normal(size=(30, 30)))
        variances.append([parts.init**2, parts.draw**2, parts.interaction**2])
    assert np.mean(variances, 0) == pytest.approx(np.square(sizes), rel=0.05)


def test_the_interaction_is_what_rows_and_columns_leave() -> None:
    """3 x 3 numbers whose mean squares are known: rows 12, columns 3, rest 0.75."""
    added = np.array([[0.0], [2], [4]]) + np.array([[0.0, 1, 2]])
    assert two_way(added).interaction == pytest.approx(0)
    assert two_way(added).init == pytest.approx(2)
    assert two_way(added).draw == pytest.approx(1)
    twisted = np.outer([1, 0, -1], [1, 0, -1]) * 0.75**0.5 + added
    parts = two_way(twisted)
    assert parts.interaction**2 == pytest.approx(4 * 0.75 / 4)
    assert parts.init**2 == pytest.approx((12 - 0.75) / 3)
    assert parts.draw**2 == pytest.approx((3 - 0.75) / 3)
    assert two_way(np.eye(3)).init == 0, "no negative variance"
