"""The simulation of verdicts judges as the project does, and its table is the one committed."""

import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT

from ijepa.study import board, decision, sequential, statistics
from ijepa.study.decision import Contrast, Design
from ijepa.study.statistics import Sample, Tails


@pytest.fixture(scope="module")
def decisions() -> ModuleType:
    path = ROOT / "benchmarks/decisions.py"
    spec = importlib.util.spec_from_file_location("decisions", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["decisions"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("shift", [0.0, 0.7, -0.7])
def test_arrays_of_experiments_are_judged_like_single_ones(
    decisions: ModuleType, pairs: int, shift: float
) -> None:
    rng = np.random.default_rng([pairs, round(10 + 10 * shift)])
    d = decisions.differences(rng, decisions.normal, 25, [shift] * pairs)
    verdicts, seeds = decisions.verdicts(decisions.tails(d, 0.8))
    for one, verdict, n in zip(d, verdicts, seeds, strict=True):
        contrasts = [
            Contrast(Sample(dict(enumerate(map(float, x)))), Sample(dict.fromkeys(range(24), 0.0)),
                     0.8)
            for x in one
        ]  # fmt: skip
        described = [statistics.compare(c.better, c.worse, range(24)) for c in contrasts]
        _, real = decision.judge(contrasts, described, Design(), range(50))
        assert real.decision == [*decisions.KINDS, decision.UNDECIDED][verdict]
        assert (real.look or 24) == n


def test_a_board_of_arrays_is_the_boards(decisions: ModuleType) -> None:
    """Every decision is called false, so that a board is wrong where it decides anything."""
    rng = np.random.default_rng(1)
    claims = [(decisions.differences(rng, decisions.normal, 1, [s, s]), 0.8, (True,) * 3)
              for s in (0.0, 0.6, 0.9)]  # fmt: skip
    for some in (claims, claims[:1]):
        asked = []
        for d, margin, _ in some:
            above, below, same = decisions.tails(d, margin)[..., 0, :]
            least = above.max(-1).min(), below.min(-1).min(), same.max(-1).min()
            worth = [sequential.overall(float(p), (6, 12, 24)) for p in least]
            asked += [worth[0], min(1.0, 2 * worth[1]), worth[2]]
        adjusted = statistics.holm(asked)
        lines = [board.decide(Tails(*adjusted[i : i + 3])) for i in range(0, len(adjusted), 3)]
        decided = any(line != decision.UNDECIDED for line in lines)
        assert decisions.any_false_on_board(some)[0] == decided


def test_false_decisions_of_the_committed_table_are_rare(decisions: ModuleType) -> None:
    text = (ROOT / "benchmarks/results/decisions.md").read_text()
    false = text.split("## False decisions")[1].split("## Power")[0]
    rows = [line.split("|")[1:-1] for line in false.splitlines() if line.startswith("| ")][2:]
    assert {row[0].strip() for row in rows} == set(decisions.KINDS)
    assert {row[2].strip() for row in rows} == set(decisions.LAWS)
    assert max(float(cell) for row in rows for cell in row[4:]) <= 5.5
    corrected = text.split("## The board")[1].splitlines()
    shares = [float(line.split("|")[2]) for line in corrected if line[:3] in ("| e", "| o")]
    assert len(shares) == 4
    assert max(shares) <= 5.5
    images = text.split("## Images")[1].split("## The board")[0].splitlines()
    crossed = [line.split("|")[3:-1] for line in images if "seeds and images |" in line]
    assert max(float(cell) for row in crossed for cell in row) <= 5.5
