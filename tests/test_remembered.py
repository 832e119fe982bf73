from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ijepa import remembered
from ijepa.probes import Result


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    path = tmp_path / "probe.py"
    path.write_text("x = 1")
    return path


def test_a_result_is_computed_once_and_read_back_exactly(code: Path) -> None:
    rng, calls = np.random.default_rng(0), []

    def compute() -> Mapping[str, Result]:
        calls.append(1)
        grid = tuple({"lr": 0.1 / 3, "held_out": float(h)} for h in rng.random(3))
        return {"class": Result(rng.integers(0, 9, 50), 1 / 3, {"features": "last"}, grid)}

    first = remembered.result(["a", 1], code, compute)["class"]
    again = remembered.result(["a", 1], code, compute)["class"]
    assert len(calls) == 1
    assert (first.predictions == again.predictions).all()
    assert again.predictions.dtype == np.int64
    assert (first.held_out, first.selected, first.grid) == (
        again.held_out, again.selected, again.grid
    )  # fmt: skip
    remembered.result(["a", 2], code, compute)  # another seed
    code.write_text("x = 2")  # another probe
    remembered.result(["a", 1], code, compute)
    assert len(calls) == 3
