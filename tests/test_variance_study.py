"""The parts of the seed: standard deviations, their intervals, and when they are drawn."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ijepa.config import PARAMS
from ijepa.pages.figures import variance as drawn
from ijepa.runtime import files
from ijepa.seeds import PARTS
from ijepa.study import experiment, plan, statistics, summary, variance
from ijepa.study.numbers import Study


def study(values: dict[str, list[float]]) -> Study:
    """The committed experiment's numbers, its cells having these accuracies."""
    chosen, scale = experiment.load("variance"), experiment.load_scale("smoke")
    locked = {"seeds": [], "results": {}, "provenance": {}}
    empty = summary.collect(chosen, locked, scale)
    cells = tuple(
        replace(cell, spread=statistics.spread(values.get(cell.variant, [])))
        for cell in empty.cells
    )
    return replace(empty, cells=cells)


VALUES = {
    "all": [40.0, 44.0, 42.0], "init": [40.0, 43.0, 46.0], "order": [40.0, 40.0, 44.0],
    "mask": [40.0, 41.0, 42.0], "labels": [40.0, 40.5, 41.0], "probe": [40.0, 40.0, 40.0],
}  # fmt: skip


@pytest.mark.parametrize(("n", "std"), [(2, 1.0), (6, 0.7), (12, 3.0)])
def test_the_interval_inverts_the_chi_square_test(n: int, std: float) -> None:
    low, high = variance.interval(std, n)
    for limit, tail in ((low, 0.975), (high, 0.025)):
        assert stats.chi2.cdf((n - 1) * (std / limit) ** 2, n - 1) == pytest.approx(tail)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    stds = rng.normal(0, 2, (4000, 6)).std(1, ddof=1)
    low, high = np.array([variance.interval(s, 6) for s in stds]).T
    assert ((low < 2) & (high > 2)).mean() == pytest.approx(0.95, abs=0.011)  # 3 sigma


def test_deviations_are_the_cells_and_the_parts_add_up_in_squares() -> None:
    numbers = study(VALUES)
    stds = {d.variant: d.std for d in variance.deviations(numbers)}
    assert stds == pytest.approx({k: np.std(v, ddof=1) for k, v in VALUES.items()})
    parts = [np.var(v, ddof=1) for k, v in VALUES.items() if k != "all"]
    assert variance.together(numbers, None) == pytest.approx(sum(parts) ** 0.5)
    missing = study({**VALUES, "mask": [40.0]})
    assert "mask" not in {d.variant for d in variance.deviations(missing)}
    assert variance.together(missing, None) is None


def test_it_is_drawn_where_variants_differ_in_seeds_alone() -> None:
    numbers = study(VALUES)
    assert drawn.needs(numbers)
    assert not drawn.needs(study({"all": [40.0]}))
    assert not drawn.needs(replace(numbers, factor=(*numbers.factor, "train.lr")))
    for deviation in variance.deviations(numbers):
        assert f"{deviation.std:.2f} [{deviation.low:.2f}," in drawn.words(numbers).alt


def test_each_variant_frees_one_part_and_all_are_one_run_at_the_seed_they_fix() -> None:
    chosen, scale = experiment.load("variance"), experiment.load_scale("laptop")
    tree = files.read_yaml(PARAMS)
    for variant in chosen.variants.values():
        for seed in (0, 3):
            dotted = experiment.changes(chosen, scale, variant, None, seed)
            parts = dataclasses.asdict(plan.parsed(tree, dotted, "x").seeds)
            free = PARTS if variant.name == "all" else [variant.name]
            assert parts == {**dict.fromkeys(PARTS, 0), **dict.fromkeys(free, seed)}
    runs = plan.resolve(chosen, replace(scale, seeds=2), tree)
    assert len({run.signature for run in runs if run.seed == 0}) == 1
    assert len({run.signature for run in runs}) == 1 + len(chosen.variants)
