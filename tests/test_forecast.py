"""How long runs may take: from the cell's other seeds, or else by the images that are seen."""

from typing import Any

import pytest

from ijepa.study import forecast, lock
from ijepa.study.experiment import Scale
from ijepa.study.plan import Run

SCALE = Scale("tiny", "", 1, 2.0, {})
TREE = {"train": {"epochs": 2}, "data": {"train_images": 100, "train_fraction": 0.5}}


def run(variant: str, seed: int, point: str | None = None, **changes: Any) -> Run:
    cell = f"{variant}@{point}" if point else variant
    key = f"{cell}/{seed}"
    return Run(key, variant, point, seed, changes, key, "", "")


def timed(**seconds: float) -> dict[str, Any]:
    return {
        "results": {key.replace("_", "/"): {"status": "done"} for key in seconds},
        "provenance": {
            key.replace("_", "/"): {
                "seconds": {"prepare": 900.0, "pretrain": s - 1, "evaluate": 1.0}
            }
            for key, s in seconds.items()
        },
    }


def known(monkeypatch: pytest.MonkeyPatch, **locks: Any) -> None:
    monkeypatch.setattr(lock, "read", lambda name, scale: locks[name])


def test_a_cell_takes_what_its_other_seeds_took(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, one=timed(a_0=10, a_1=14, a_2=90, b_0=1000))
    runs = [run(variant, seed) for variant in "ab" for seed in range(5)]
    todo = [r for r in runs if r.key in ("a/3", "a/4", "b/1")]
    assert forecast.seconds(todo, {"one": runs}, SCALE, TREE) == 14 + 14 + 1000
    assert forecast.seconds([], {"one": runs}, SCALE, TREE) == 0


@pytest.mark.parametrize(
    ("changes", "times"),
    [({}, 1), ({"train.epochs": 6}, 3), ({"data.train_images": 700}, 7),
     ({"data.train_fraction": 1.0}, 2), ({"train.epochs": 4, "data.train_fraction": 0.25}, 1)],
)  # fmt: skip
def test_a_new_cell_takes_as_long_for_an_image(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], times: float
) -> None:
    known(monkeypatch, one=timed(a_0=50))
    runs = [run("a", 0), run("b", 0, "far", **changes)]
    assert forecast.seconds(runs[1:], {"one": runs}, SCALE, TREE) == pytest.approx(50 * times)


def test_where_none_was_timed_the_scale_says_it_and_a_shared_run_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = timed(c_0=5)
    failed["results"]["c/0"]["status"] = "failed"
    known(monkeypatch, one=timed(a_0=50), two=failed, three=timed())
    tables = {"one": [run("a", 0), run("a", 1)], "two": [run("c", 0), run("a", 1)],
              "three": [run("d", 0, **{"data.train_images": None})]}  # fmt: skip
    todo = [run("a", 1), run("c", 0), run("d", 0)]
    assert forecast.seconds(todo, tables, SCALE, TREE) == 50 + 120 + 120
