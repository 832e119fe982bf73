import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ijepa.evaluation import cache
from ijepa.probes import Draw, Result, choose


def test_a_result_is_computed_once_and_read_back_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    rng, calls = np.random.default_rng(0), []

    def compute() -> Mapping[str, Result]:
        calls.append(1)
        candidates = tuple({"features": "last", "lr": 0.1 / k} for k in (1, 3, 7))
        held_out, test = rng.integers(0, 3, (3, 9)), rng.integers(0, 3, (3, 50))
        curve = (Draw(5, 0, rng.integers(0, 3, 50)), Draw(5, 1, rng.integers(0, 3, 50)))
        truth = rng.integers(0, 3, 9)
        return {task: choose(candidates, held_out, truth, test, curve) for task in ("a", "b")}

    first = cache.result(["a", 1], "knn", compute)
    again = cache.result(["a", 1], "knn", compute)
    assert len(calls) == 1
    assert list(again) == ["a", "b"]
    for name in ("held_out", "held_out_labels", "test"):
        for task in first:
            one, other = getattr(first[task], name), getattr(again[task], name)
            assert one.dtype == other.dtype == np.int64
            assert (one == other).all()
    assert (first["b"].candidates, first["b"].winner) == (again["b"].candidates, again["b"].winner)
    assert [(d.labels, d.draw) for d in again["a"].curve] == [(5, 0), (5, 1)]
    assert (again["a"].curve[1].predictions == first["a"].curve[1].predictions).all()
    cache.result(["a", 2], "knn", compute)  # another seed
    cache.result(["a", 1], "linear", compute)  # another probe
    monkeypatch.setenv("IJEPA_THREADS", "3")  # other sums
    cache.result(["a", 1], "knn", compute)
    assert len(calls) == 4


def test_a_damaged_result_is_named_and_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    truth, calls, rng = np.array([0, 1]), [], np.random.default_rng(0)

    def compute() -> Mapping[str, Result]:
        calls.append(1)
        return {"a": choose(({"lr": 0.1},), truth[None], truth, np.array([[2, 0, 1]]))}

    cache.result([1], "knn", compute)
    (path,) = (tmp_path / "home" / "probes").iterdir()
    whole = path.read_bytes()
    for number, bit in enumerate(rng.choice(len(whole) * 8, 40, replace=False).tolist()):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data if number else b"")
        os.utime(path, ns=(number, number))  # damage while the clock stood still is not looked for
        assert cache.result([1], "knn", compute)["a"].test.tolist() == [[2, 0, 1]]
        assert capsys.readouterr().out == f"{path}: damaged: computed again\n"
        assert len(calls) == number + 2
