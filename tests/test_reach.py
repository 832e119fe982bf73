"""What it takes to reach an accuracy: right between the budgets, silent where it is not known."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from planted import Bench, Result

from ijepa.pages import study_tables
from ijepa.study import experiment, reach

BUDGETS = {"low": 1e12, "middle": 1e13, "high": 1e14}


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([40.0, 60.0, 80.0], 10**1.5),  # half way in the logarithm
        ([40.0, 50.0, 80.0], 100.0),
        ([40.0, 45.0, 50.0], 1000.0),
        ([40.0, 70.0, 30.0], 10 ** (4 / 3)),  # the first crossing, though it is lost again
        ([50.0, 40.0, 80.0], 0.0),
        ([40.0, 45.0, 49.9], math.inf),
    ],
)
def test_the_first_crossing_is_read_in_the_logarithm(
    accuracies: list[float], expected: float
) -> None:
    curve = list(zip([10.0, 100.0, 1000.0], accuracies, strict=True))
    assert reach.crossing(curve, 50.0) == pytest.approx(expected)


def bench(folder: Path, shift: float, lag: float = 0.0) -> Bench:
    """Accuracies that rise by 10 points a decade; every other variant is ``shift`` points ahead.

    A seed is ahead of the one before by a point, in all variants alike but for ``lag``.
    """

    def rise(results: dict[str, Result]) -> None:
        for result in results.values():
            flops, seed = BUDGETS[result["point"]], result["seed"]
            first = result["variant"] == "v0"
            value = 40 + 10 * math.log10(flops / 1e12) + seed
            value += 0 if first else shift + lag * seed
            result["metrics"]["class"]["linear"]["trained"] = value
            result["pretrain"]["flops_useful"] = flops

    made = Bench(folder)
    points = {name: {"set": {}, "x": flops} for name, flops in BUDGETS.items()}
    made.experiment(count=3, points=points, reach=50)
    made.lock("made", "laptop", lambda variant, point: 50.0, change=rise, n=4)
    return made


def test_a_variant_that_is_five_points_ahead_needs_half_a_decade_less(tmp_path: Path) -> None:
    first, *others = bench(tmp_path, 5.0).numbers().reached
    assert (first.variant, first.seeds, first.before, first.never) == ("v0", (0, 1, 2, 3), 0, 0)
    # 50 % at 1e13 of seed 0, and 0.1 of a decade before it for each further seed
    assert first.flops == pytest.approx(10 ** (13 - 0.15))
    assert first.ratio is None
    for one in others:
        assert one.flops == pytest.approx(10 ** (12.5 - 0.15))
        assert one.ratio is not None
        assert one.ratio.mean == pytest.approx(-0.5)
        assert one.ratio.std == pytest.approx(0, abs=1e-9)


def test_the_interval_is_that_of_the_paired_logarithms(tmp_path: Path) -> None:
    """Lags of 0, 0.1, 0.2, 0.3 points are 0 to 0.03 decades: t(3) = 3.182, sd 0.0129."""
    other = bench(tmp_path, 5.0, lag=-0.1).numbers().reached[1]
    assert other.ratio is not None
    assert other.ratio.low is not None
    assert other.ratio.mean == pytest.approx(-0.485)
    half = 3.18244630 * math.sqrt(5 / 3) * 0.01 / 2
    assert other.ratio.mean - other.ratio.low == pytest.approx(half, rel=1e-5)


@pytest.mark.parametrize(("shift", "before", "never"), [(9.0, 3, 0), (-11.0, 0, 1)])
def test_a_seed_without_a_crossing_is_counted_and_leaves_no_interval(
    tmp_path: Path, shift: float, before: int, never: int
) -> None:
    other = bench(tmp_path, shift).numbers().reached[1]
    assert (other.before, other.never, other.ratio) == (before, never, None)
    assert other.flops is not None, "of the seeds between the budgets"


def test_a_seed_that_lacks_a_budget_does_not_count(tmp_path: Path) -> None:
    made = bench(tmp_path, 5.0)
    path = tmp_path / "experiments/made.laptop.lock.json"
    content = json.loads(path.read_text())
    del content["results"]["v1@high/2"]
    path.write_text(json.dumps(content))
    first, other, last = made.numbers().reached
    assert [one.seeds for one in (first, other, last)] == [(0, 1, 2, 3), (0, 1, 3), (0, 1, 2, 3)]


def test_a_budget_that_nobody_has_run_yet_is_none(tmp_path: Path) -> None:
    """What was reached before it stands, and what was not counts as never reached."""
    made = bench(tmp_path, 5.0)
    path = tmp_path / "experiments/made.laptop.lock.json"
    content = json.loads(path.read_text())
    last = list(BUDGETS)[-1]
    for key in [key for key in content["results"] if f"@{last}/" in key]:
        del content["results"][key]
    path.write_text(json.dumps(content))
    first, other, _ = made.numbers().reached
    assert (first.seeds, first.never) == (other.seeds, other.never) == ((0, 1, 2, 3), 0)
    assert other.ratio is not None
    assert other.ratio.mean == pytest.approx(-0.5)


def test_the_page_has_the_ratio_and_its_interval(tmp_path: Path) -> None:
    table = study_tables.reached(bench(tmp_path, 5.0, lag=-0.1).build())
    row = table.rows[1].cells
    texts = [str(getattr(cell, "shown", cell)) for cell in row]
    assert texts[1:4] == ["4", "0", "0"]
    assert texts[5] == "0.33 ×"  # 10 ** -0.485
    assert texts[6] == "[0.31, 0.34]"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reach": 100}, "reach: 100 is not a percentage above 0 and below 100"),
        ({"reach": 0}, "reach: 0 is not a percentage above 0 and below 100"),
        ({"reach": 50, "points": {}}, "reach: two points at least are needed, which are budgets"),
        ({"reach": 50, "points": {"p": {"set": {}}}}, "reach: two points at least are needed"),
    ],
)
def test_what_cannot_be_reached_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    made = Bench(tmp_path)
    made.experiment(**{"points": {"p": {"set": {}}, "q": {"set": {}}}, **changed})
    with pytest.raises(ValueError, match=message):
        experiment.load("made", made.experiments)
