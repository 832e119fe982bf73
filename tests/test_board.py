"""The board of the paper's claims: which are on it, and one error over all of them."""

from dataclasses import replace
from pathlib import Path

import pytest
from test_registration import BETTER, Folder

from ijepa.runtime.records import plain, restore
from ijepa.study import board, experiment, statistics, summary
from ijepa.study.board import Board
from ijepa.study.decision import FAILS, HOLDS, SAME, UNDECIDED
from ijepa.study.numbers import Study
from ijepa.study.statistics import Tails

CERTAIN = Tails(1e-6, 1.0, 1.0)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    folder = Folder(tmp_path)
    folder.register()
    folder.run(BETTER)
    return folder.study()


def with_p(study: Study, name: str, p: Tails | None) -> Study:
    return replace(study, name=name, verdict=replace(study.verdict, p=p))


def test_claims_of_the_paper_are_on_it_and_no_others(study: Study) -> None:
    ours = replace(study, name="ours", claim=replace(study.claim, by="us"))
    assert [line.name for line in board.build([ours, study]).lines] == ["made"]
    assert board.build([]).lines == ()
    laptop = [summary.read(name, "laptop") for name in experiment.names()]
    of_paper = [s.name for s in laptop if s.claim.by == "paper"]
    lines = board.build(laptop).lines
    assert sorted(line.name for line in lines) == sorted(of_paper)
    tables = [line.table or 99 for line in lines]
    assert tables == sorted(tables)


def test_a_line_has_the_pair_that_the_verdict_hangs_on(study: Study) -> None:
    (line,) = board.build([study]).lines
    assert line.pair == min(study.pairs, key=lambda p: p.comparison.spread.mean or 0)
    assert (line.better, line.worse) == ("a", "c")
    assert (line.pairs, line.seeds, line.alone, line.look) == (4, 6, HOLDS, 6)
    assert line.p == study.verdict.p
    assert line.registered
    assert not board.build([replace(study, registered=None)]).lines[0].registered


def test_three_questions_of_every_claim_are_one_family(study: Study) -> None:
    ps = [Tails(0.004, 0.9, 0.3), Tails(0.9, 0.01, 0.02), None]
    lines = board.build([with_p(study, f"s{i}", p) for i, p in enumerate(ps)]).lines
    one = [0.004, 0.9, 0.3, 0.9, 0.01, 0.02, 1.0, 1.0, 1.0]
    adjusted = statistics.holm(one)
    assert lines[0].adjusted == Tails(*adjusted[:3])
    assert lines[1].adjusted == Tails(*adjusted[3:6])
    assert lines[2].adjusted is None
    assert [line.decision for line in lines] == [HOLDS, UNDECIDED, UNDECIDED]  # 9 x .004, 8 x .01


def test_a_claim_without_a_run_counts_too(study: Study) -> None:
    decided = with_p(study, "decided", Tails(0.01, 1.0, 1.0))
    assert board.build([decided]).lines[0].decision == HOLDS
    empty = [with_p(study, f"e{i}", None) for i in range(5)]
    assert board.build([decided, *empty]).lines[0].decision == UNDECIDED


def test_an_exploratory_claim_neither_helps_nor_hurts_the_registered_ones(study: Study) -> None:
    """Its pairs may have been chosen by what was seen: its p value is none."""
    late = replace(with_p(study, "late", CERTAIN), registered=None)
    ps = {"one": 0.005, "two": 0.006}
    one, other = (with_p(study, name, Tails(p, 1.0, 1.0)) for name, p in ps.items())
    by_name = {line.name: line for line in board.build([late, one, other]).lines}
    silent = {line.name: line for line in
              board.build([with_p(study, "late", None), one, other]).lines}  # fmt: skip
    for name in ("one", "two"):
        assert by_name[name].adjusted == silent[name].adjusted
    assert by_name["one"].adjusted == Tails(pytest.approx(9 * 0.005), 1.0, 1.0)
    assert by_name["late"].adjusted == Tails(pytest.approx(9e-6), 1.0, 1.0)
    assert not by_name["late"].registered


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (Tails(0.01, 0.99, 0.3), HOLDS),
        (Tails(0.99, 0.01, 0.3), FAILS),
        (Tails(0.5, 0.4, 0.01), SAME),
        (Tails(0.01, 0.99, 0.01), HOLDS),  # by less than its margin
        (Tails(0.06, 0.07, 0.08), UNDECIDED),
        (None, UNDECIDED),
    ],
)
def test_what_is_decided_on_it(p: Tails | None, expected: str) -> None:
    assert board.decide(p) == expected


def test_one_board_is_of_one_scale_and_survives_a_file(study: Study) -> None:
    with pytest.raises(AssertionError, match="one scale"):
        board.build([study, replace(study, name="other", scale="gpu")])
    made = board.build([study, with_p(study, "other", CERTAIN)])
    assert plain(restore(Board, plain(made))) == plain(made)


def test_seeds_of_a_line_are_those_of_the_pair_that_has_fewest(study: Study) -> None:
    assert len(study.pairs) == 4
    few = replace(study.pairs[0].comparison, spread=replace(study.pairs[0].comparison.spread, n=3))
    pairs = (replace(study.pairs[0], comparison=few), *study.pairs[1:-1],
             replace(study.pairs[-1], exploratory=True))  # fmt: skip
    (line,) = board.build([replace(study, pairs=pairs)]).lines
    assert (line.seeds, line.pairs) == (3, 3)
