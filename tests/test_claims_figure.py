"""All claims in one frame: each pair where its FLOPs and its difference are, a panel a table."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from planted import Bench, Result

from ijepa.pages import readme, style
from ijepa.pages.figures import claims
from ijepa.study.numbers import Study

FLOPS = {"low": 1e12, "high": 1e14}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two variants; the second is ahead by 5 points at the first budget and behind at the last."""
    folder = tmp_path_factory.mktemp("claims")

    def change(results: dict[str, Result]) -> None:
        for result in results.values():
            second = result["variant"] != "v0"
            gain = {"low": -5.0, "high": 8.0}[result["point"]] if second else 0.0
            noise = 0.1 * (result["seed"] ** 2) * second
            result["metrics"]["class"]["linear"]["trained"] = 50 + gain + noise
            result["pretrain"]["flops_useful"] = FLOPS[result["point"]] * (2 if second else 1)

    bench = Bench(folder)
    points = {name: {"set": {}, "x": flops} for name, flops in FLOPS.items()}
    bench.experiment(count=2, points=points)
    bench.lock("made", "laptop", lambda variant, point: 50.0, change=change, n=6)
    return bench.numbers()


def test_a_mark_is_where_its_flops_and_its_difference_are(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[tuple[float, float]] = []
    plot = Axes.plot

    def seen(axes: Axes, *args: object, **how: object) -> object:
        if how.get("ms"):
            marks.append(args[:2])  # type: ignore[arg-type]
        return plot(axes, *args, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "plot", seen)
    claims.draw([study], tmp_path / "claims")
    expected = [(1.5 * FLOPS[str(p.point)], p.comparison.spread.mean) for p in study.pairs]
    assert sorted(marks) == [pytest.approx(one) for one in sorted(expected, key=lambda m: m[0])]
    said = claims.words([study]).alt
    for pair in study.pairs:
        assert f"{pair.comparison.spread.mean:+.1f}".replace("-", "−") in said


def test_as_many_data_sets_as_there_are_have_a_colour_each(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many: eight were a KeyError, and colours that repeat say nothing."""
    keys = list[Line2D]()
    legend = Figure.legend

    def seen(figure: Figure, *, handles: list[Line2D], **how: object) -> object:
        keys.extend(handles)
        return legend(figure, handles=handles, **how)

    monkeypatch.setattr(Figure, "legend", seen)
    names = [f"set {n:02}" for n in range(20)]
    claims.draw([replace(study, name=name, data=(name,)) for name in names], tmp_path / "claims")
    shown = {str(key.get_label()): str(key.get_color()) for key in keys}
    assert len({shown[name] for name in names}) == len(names)
    assert [shown[name] for name in names[:2]] == [style.BLUE.lower(), style.ORANGE.lower()]


def test_studies_of_one_table_share_a_panel(study: Study, tmp_path: Path) -> None:
    def axes(*studies: Study) -> int:
        claims.draw(studies, tmp_path / "claims")
        return len(re.findall(r'id="axes_\d+"', (tmp_path / "claims.svg").read_text()))

    six, seven = replace(study, table=6), replace(study, table=7)
    assert axes(six, replace(six, name="other")) == 1
    assert axes(six, seven) == 2
    none = replace(study, table=None)
    assert axes(none, replace(none, name="other")) == 2, "two of our own are two claims"


@pytest.mark.parametrize("margin", [1.0, 3.0])
def test_a_shaded_margin_is_that_of_its_pair(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, margin: float
) -> None:
    """Studies of one table may have other margins: no band goes through all of them then."""
    shaded: list[tuple[float, float]] = []
    monkeypatch.setattr(Axes, "axhspan", lambda _, low, high, **how: shaded.append((low, high)))
    monkeypatch.setattr(
        Axes, "fill_between", lambda _, around, low, high, **how: shaded.append((low, high))
    )
    pairs = tuple(replace(p, test=replace(p.test, margin=margin)) for p in study.pairs)
    claims.draw([replace(study, table=6), replace(study, table=6, name="other", pairs=pairs)],
                tmp_path / "claims")  # fmt: skip
    one = study.pairs[0].test.margin
    each = [one] if margin == one else [one, one, margin, margin]
    assert shaded == [(-value, value) for value in each]


def test_what_has_no_flops_or_no_interval_is_not_drawn(study: Study) -> None:
    assert claims.needs([study])
    assert not claims.needs([])
    assert not claims.needs([replace(study, compute="images")])
    assert not claims.needs([replace(study, pairs=())])
    late = tuple(replace(pair, exploratory=True) for pair in study.pairs)
    assert not claims.needs([replace(study, pairs=late)])


def test_readme_tells_a_pair_at_its_first_and_last_budget(study: Study) -> None:
    ((first, last),) = readme.ends(study)
    assert (first.point, last.point) == ("low", "high")
    assert readme.ends(replace(study, points=study.points[:1], pairs=study.pairs[:1])) == []
