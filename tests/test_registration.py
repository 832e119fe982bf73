"""What is registered decides, whatever the file says later; what changed is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ijepa.pages import origin
from ijepa.runtime.records import digest
from ijepa.study import (
    board,
    experiment,
    findings,
    lock,
    numbers,
    registration,
    sequential,
    summary,
)
from ijepa.study.decision import FAILS, HOLDS, NOTHING_CLAIMED, UNDECIDED, Design
from ijepa.study.plan import Run
from ijepa.study.statistics import Sample

Tree = dict[str, Any]
TABLE: Tree = {
    "title": "Made up", "question": "Which?", "metric": "class.linear.trained",
    "also": ["count.linear.trained"], "factor": ["objective.name"], "seeds": list(range(24)),
    "variants": {"a": {"set": {}}, "b": {"set": {"objective.name": "pixels"}},
                 "c": {"set": {"objective.name": "mae"}}},
    "points": {"p": {"set": {}}, "q": {"set": {"data.image_size": 32}, "margin": 3}},
    "claim": {"text": "A is best.", "by": "paper", "best": "a", "margin": 1},
}  # fmt: skip


class Folder:
    """Experiments, a scale, and a lock file with planted accuracies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "scales").mkdir()
        (path / "scales/laptop.yaml").write_text("about: Made up.\nseeds: 6\nminutes: 1\n")
        self.write(TABLE)

    def write(self, tree: Tree) -> None:
        (self.path / "made.yaml").write_text(json.dumps(tree))

    def changed(self, **claim: Any) -> None:
        self.write({**TABLE, "claim": {**TABLE["claim"], **claim}})

    def register(self, known: int = 0) -> None:
        chosen, scale = self.load()
        record = registration.record(chosen, scale, "c" * 40, known)
        lock.register("made", "laptop", record, self.path)

    def load(self) -> tuple[experiment.Experiment, experiment.Scale]:
        return experiment.load("made", self.path), experiment.load_scale("laptop", self.path)

    def run(self, means: dict[str, float], n: int = 6, counts: float = 40.0) -> None:
        """Every run gets the mean of its variant and noise of its seed."""
        content = lock.read("made", "laptop", self.path)
        content["seeds"] = list(range(n))
        for v, (variant, mean) in enumerate(means.items()):
            for point in ("p", "q"):
                for seed in range(n):
                    noise = np.random.default_rng([v, seed]).normal(0, 0.1)
                    metrics = {
                        "class": {"linear": {"trained": mean + noise}},
                        "count": {"linear": {"trained": counts - mean + noise}},
                    }
                    key = f"{variant}@{point}/{seed}"
                    content["results"][key] = {
                        "status": "done", "reason": None, "signature": key, "code": "c",
                        "variant": variant, "point": point, "seed": seed, "metrics": metrics,
                        "pretrain": {"collapsed": variant == "b" and seed in (1, 4)},
                    }  # fmt: skip
                    content["provenance"][key] = {"baseline": "b" * 40}
        lock.path("made", "laptop", self.path).write_text(json.dumps(content))

    def study(self) -> numbers.Study:
        return summary.read("made", "laptop", self.path)


BETTER = {"a": 52.0, "b": 50.0, "c": 51.0}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def changes(study: numbers.Study) -> set[tuple[str, str, Any, Any]]:
    def plain(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    return {(c.key, c.name, plain(c.registered), plain(c.today)) for c in study.exploratory}


def test_as_registered_nothing_is_exploratory(folder: Folder) -> None:
    folder.register()
    empty = folder.study()
    assert (empty.verdict.decision, empty.verdict.looks) == (UNDECIDED, ())
    assert lock.listing(folder.path) == [], "no page of nothing"
    folder.run(BETTER)
    assert lock.listing(folder.path) == [("made", "laptop")]
    study = folder.study()
    assert (study.verdict.decision, study.verdict.look) == (HOLDS, 6)
    assert study.exploratory == ()
    assert study.registered is not None
    assert [(p.better, p.worse, p.point, p.test.margin) for p in study.pairs] == [
        ("a", "b", "p", 1.0), ("a", "c", "p", 1.0), ("a", "b", "q", 3.0), ("a", "c", "q", 3.0),
    ]  # fmt: skip
    assert not any(pair.exploratory for pair in study.pairs)


def test_what_ran_before_it_was_registered_never_is(folder: Folder) -> None:
    folder.run(BETTER)
    assert not lock.unregistered("made", "laptop", folder.path)
    study = folder.study()
    assert (study.registered, study.exploratory) == (None, ())
    folder.register()
    assert folder.study().registered is None


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ({"margin": 2}, {("margin", f"a > {v} at p", 1.0, 2.0) for v in "bc"}),
        ({"looks": [6, 12]}, {("looks", "", (6, 12, 24), (6, 12))}),
        ({"error": 0.1}, {("error", "", 0.05, 0.1)}),
        ({"text": "The reverse."}, {("text", "", TABLE["claim"]["text"], "The reverse.")}),
        ({"by": "us"}, {("by", "", "paper", "us")}),
    ],
)
def test_a_changed_design_is_named_and_does_not_count(
    folder: Folder, claim: Tree, expected: set[Any]
) -> None:
    folder.register()
    folder.run(BETTER)
    before = folder.study()
    folder.changed(**claim)
    study = folder.study()
    assert changes(study) == expected
    assert (study.verdict, study.design) == (before.verdict, before.design)
    assert [p.test for p in study.pairs] == [p.test for p in before.pairs]


def test_a_claim_turned_round_after_the_runs_is_exploratory(folder: Folder) -> None:
    """The registered claim does not hold; that its reverse would is worth nothing."""
    folder.register()
    folder.run({"a": 50.0, "b": 52.0, "c": 51.0})
    before = folder.study().verdict
    assert before.decision == FAILS
    tree = {k: v for k, v in TABLE["claim"].items() if k != "best"}
    folder.write({**TABLE, "claim": {**tree, "pairs": [["b", "a"]]}})
    study = folder.study()
    assert study.verdict == before
    later = [pair for pair in study.pairs if pair.exploratory]
    assert [(p.better, p.worse, p.test.decision) for p in later] == [("b", "a", HOLDS)] * 2
    assert study.pairs[-2:] == tuple(later)
    names = {(key, name) for key, name, _, today in changes(study) if today is not None}
    assert names == {("pair", "b > a at p"), ("pair", "b > a at q")}


def test_a_claim_taken_from_the_paper_later_stays_on_the_board(folder: Folder) -> None:
    folder.changed(by="paper")
    folder.register()
    folder.run(BETTER)
    folder.changed(by="us")
    study = folder.study()
    (line,) = board.build([study]).lines
    assert not line.registered
    assert [(c.key, c.registered, c.today) for c in study.exploratory] == [("by", "paper", "us")]


def test_a_pair_left_out_later_leaves_the_claim_undecided(folder: Folder) -> None:
    folder.register()
    folder.run({"a": 52.0, "b": 50.0, "c": 53.0})
    assert folder.study().verdict.decision == FAILS
    variants = {k: v for k, v in TABLE["variants"].items() if k != "c"}
    folder.write({**TABLE, "variants": variants})
    study = folder.study()
    assert study.verdict.decision == UNDECIDED, "without c it would hold"
    assert [one.decision for one in study.at_points] == [UNDECIDED, UNDECIDED]
    assert ("pair", "a > c at p", 1.0, None) in changes(study)
    assert ("variant", "c@p") in {(key, name) for key, name, *_ in changes(study)}


def test_the_registered_metric_decides_and_todays_stands_beside(folder: Folder) -> None:
    folder.register()
    folder.run(BETTER)
    before = folder.study()
    folder.write({**TABLE, "metric": "count.linear.trained", "also": ["class.linear.trained"]})
    study = folder.study()
    assert study.verdict == before.verdict, "by count, a would be the worst"
    assert (study.metric, study.also) == ("class.linear.trained", ("count.linear.trained",))
    assert {key for key, *_ in changes(study)} == {"metric", "also"}


def test_other_seeds_an_accuracy_to_reach_and_equal_compute_are_named(folder: Folder) -> None:
    folder.register()
    points = {name: {**point, "equal_compute": "a"} for name, point in TABLE["points"].items()}
    folder.write({**TABLE, "seeds": [5, *range(5), *range(6, 24)], "reach": 60, "points": points})
    assert {key for key, *_ in changes(folder.study())} >= {"seeds", "reach", "equal_compute"}


def test_a_design_of_before_is_held_to_what_it_has(folder: Folder) -> None:
    chosen, scale = folder.load()
    frozen = registration.record(chosen, scale, None, 0)
    for key in ("text", "by", "equal_compute"):
        del frozen["design"][key]
    frozen["sha256"] = digest(frozen["design"])
    assert list(registration.changes(frozen, registration.design(chosen, scale))) == []


def test_other_settings_of_a_variant_are_named(folder: Folder) -> None:
    folder.register()
    changed = {**TABLE["variants"], "c": {"set": {"objective.name": "data2vec"}}}
    folder.write({**TABLE, "variants": changed})
    assert {(key, name) for key, name, *_ in changes(folder.study())} == {
        ("variant", "c@p"), ("variant", "c@q"),
    }  # fmt: skip


def test_results_known_before_are_said_and_an_edited_record_is_refused(folder: Folder) -> None:
    folder.register(known=4)
    assert changes(folder.study()) == {("known", "", 4, None)}
    path = lock.path("made", "laptop", folder.path)
    content = json.loads(path.read_text().replace('"error": 0.05', '"error": 0.2'))
    del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"made\.laptop\.lock\.json: registered: it was changed"):
        folder.study()


def test_results_that_others_replaced_are_counted(folder: Folder) -> None:
    """The same seeds by other code until they please: each of them was seen."""
    folder.register()
    folder.run(BETTER)
    content = lock.read("made", "laptop", folder.path)
    keys = ["a@p/0", "a@p/1", "b@q/0", "c@q/5"]
    runs = [Run(key, key[0], key[2], int(key[-1]), {}, key, "", "new") for key in keys]
    runs[3] = replace(runs[3], signature="other settings")  # its result goes

    def written(**accuracies: float) -> dict[str, Any]:
        results = {}
        for run in runs:
            before = content["results"].get(run.key)
            if before and run.signature == run.key:
                new = {**before, "code": "new", "provenance": {"baseline": "b" * 40}}
                if run.key in accuracies:
                    new["metrics"] = {"class": {"linear": {"trained": accuracies[run.key]}}}
                results[run.identity] = new
        lock.write("made", "laptop", runs, results, folder.path)
        return lock.read("made", "laptop", folder.path)["registered"]

    first = written()
    assert first["replaced"] == 1, "the same numbers of other code replace nothing"
    assert written(**{"a@p/0": 1.0, "b@q/0": 2.0})["replaced"] == 3
    assert changes(folder.study()) == {("replaced", "", 3, None)}
    assert not folder.study().as_registered


def test_seeds_count_in_the_registered_order(folder: Folder) -> None:
    folder.register()
    folder.run(BETTER, n=8)
    order = [7, 6, 5, 4, 3, 2, 1, 0, *range(8, 24)]
    folder.write({**TABLE, "seeds": order})
    study = folder.study()
    assert study.pairs[0].comparison.seeds == tuple(range(8))
    chosen, scale = folder.load()
    by = registration.plan(replace(chosen, seeds=(*order, 99)), scale,
                           lock.read("made", "laptop", folder.path)["registered"])  # fmt: skip
    assert by.seeds == (*range(24), 99)


def test_a_lock_file_keeps_what_was_registered(folder: Folder) -> None:
    folder.register()
    record = lock.read("made", "laptop", folder.path)["registered"]
    lock.write("made", "laptop", [], {}, folder.path)
    assert lock.read("made", "laptop", folder.path)["registered"] == record
    assert record["design"]["seeds"] == list(range(24))
    assert record["commit"] == "c" * 40


def test_collapsed_runs_are_kept_and_the_healthy_ones_stand_beside(folder: Folder) -> None:
    folder.run(BETTER)
    cell = next(c for c in folder.study().cells if (c.variant, c.point) == ("b", "p"))
    assert (cell.collapsed, cell.spread.n, cell.healthy.n) == ((1, 4), 6, 4)
    assert cell.spread.mean != cell.healthy.mean
    pair = folder.study().pairs[0]
    assert (pair.comparison.spread.n, pair.comparison.collapsed) == (6, (1, 4))
    other = next(c for c in folder.study().cells if c.variant == "c")
    assert (other.collapsed, other.healthy) == ((), other.spread)


@pytest.mark.parametrize(
    ("codes", "baselines", "expected"),
    [
        ("ccc", "bbb", [("a", "b", "c")]),
        ("xyz", "bbb", [("a", "b", "c")]),  # other objectives, one commit
        ("ccx", "bde", [("a", "b"), ("c",)]),  # equal code of two commits, and another one
        ("xyz", "bde", [("a",), ("b",), ("c",)]),
    ],
)
def test_variants_of_other_code_are_told_apart(
    folder: Folder, codes: str, baselines: str, expected: list[tuple[str, ...]]
) -> None:
    folder.run(BETTER)
    content = lock.read("made", "laptop", folder.path)
    for key, result in content["results"].items():
        which = "abc".index(result["variant"])
        result["code"] = codes[which]
        content["provenance"][key]["baseline"] = baselines[which]
    lock.path("made", "laptop", folder.path).write_text(json.dumps(content))
    assert [code.variants for code in folder.study().codes] == expected
    today = summary.read("made", "laptop", folder.path, dict.fromkeys(content["results"], "today"))
    assert len(today.codes) == 1, "all of it is what today's code gives"


def test_machines_of_other_kinds_are_told_apart_and_pairs_that_mix_them(folder: Folder) -> None:
    folder.run(BETTER)
    content = lock.read("made", "laptop", folder.path)
    here = {"name": "AMD EPYC", "threads": 1, "torch": "2.15.0"}

    def told(**others: Any) -> numbers.Study:
        """Some runs have other numerics than the rest."""
        for key, source in content["provenance"].items():
            source["numerics"] = others.get(key.replace("@", "_").replace("/", "_"), here)
        lock.path("made", "laptop", folder.path).write_text(json.dumps(content))
        return folder.study()

    assert (told().machines, told().across, origin.machines(told())) == ((), (), "")
    xeon, count = {**here, "name": "Xeon"}, len(content["results"])
    one = told(a_p_3=xeon)
    expected = (
        numbers.Machine({"name": "AMD EPYC"}, count - 1),
        numbers.Machine({"name": "Xeon"}, 1),
    )
    assert (one.machines, one.across) == (expected, (3,))
    assert f"AMD EPYC ({count - 1}); Xeon (1). Within seed 3 runs" in origin.machines(one)
    whole = told(**{f"{v}_{p}_4": xeon for v in "abc" for p in "pq"})
    assert ([m.results for m in whole.machines], whole.across) == ([count - 6, 6], ())
    assert "no paired difference is one of machines" in origin.machines(whole)
    apart = told(**{f"{v}_p_4": xeon for v in "abc"})
    assert apart.across == (), "pairs stay within a point"


def test_the_verdicts_at_points_share_the_error(folder: Folder) -> None:
    """What one claim of two points may be decided by is half of what a single claim may."""
    design = Design()
    unit = stats.zscore(np.random.default_rng(0).normal(size=6), ddof=1)
    levels = [sequential.nominal(0.05 / parts, design.looks) for parts in (1, 2)]
    values, pairs = {}, []
    for point, share in (("p", 0.9 * levels[0]), ("q", 0.9 * levels[1])):
        d = unit + stats.t.isf(share, 5) / 6**0.5
        values["a", point] = Sample(dict(enumerate(map(float, d))))
        values["b", point] = Sample(dict.fromkeys(range(6), 0.0))
        pairs.append(registration.Claimed("a", "b", point, 0.01))
    by = registration.Plan("class.linear.trained", design, tuple(range(24)), tuple(pairs), (),
                           "us", None, ())  # fmt: skip
    found = findings.judge(by, values, {}, folder.study().runs, ["p", "q"])
    assert found.verdict.decision == HOLDS, "all pairs of one claim: nothing is shared"
    assert [one.decision for one in found.at_points] == [UNDECIDED, HOLDS]
    assert [one.deciding for one in found.at_points] == [0, 1]


def test_a_claim_at_some_points_is_of_their_pairs_alone(folder: Folder) -> None:
    """Registered and judged there only; elsewhere nothing is claimed, and no error is shared."""
    design = Design()
    unit = stats.zscore(np.random.default_rng(0).normal(size=6), ddof=1)
    d = unit + stats.t.isf(0.9 * sequential.nominal(0.05, design.looks), 5) / 6**0.5
    values = {("a", "q"): Sample(dict(enumerate(map(float, d)))),
              ("b", "q"): Sample(dict.fromkeys(range(6), 0.0))}  # fmt: skip
    by = registration.Plan("class.linear.trained", design, tuple(range(24)),
                           (registration.Claimed("a", "b", "q", 0.01),), (), "us", None,
                           ())  # fmt: skip
    folder.changed(points=["q"])
    chosen, scale = folder.load()
    frozen = registration.design(chosen, scale)["pairs"]
    assert [pair[2] for pair in frozen] == ["q", "q"]
    told = findings.judge(by, values, {}, folder.study().runs, ["p", "q"])
    assert told.verdict.decision == HOLDS
    assert [one.decision for one in told.at_points] == [NOTHING_CLAIMED, HOLDS]


def test_a_pairs_compute_is_what_all_of_its_runs_have_counted(folder: Folder) -> None:
    """Useful FLOPs, or all of them; where one run has neither, patches, or images at the least."""
    folder.run(BETTER)
    runs = [replace(run, parameters=10, images=7) for run in folder.study().runs]
    pair = registration.Claimed("a", "b", "p", 1.0)
    by = registration.Plan("class.linear.trained", Design(), (0, 1, 2, 3, 4, 5), (pair,), (),
                           "us", None, ())  # fmt: skip
    values = {place: Sample({0: 1.0, 1: 2.0}) for place in (("a", "p"), ("b", "p"))}

    def judged(**counts: list[float | None]) -> tuple[str | None, float | None]:
        """The counts in turn are those of the runs of a, and of all others."""
        told = [
            replace(
                run,
                cost=replace(run.cost, **{k: v[run.variant != "a"] for k, v in counts.items()}),
            )
            for run in runs
        ]
        found = findings.judge(by, values, {}, told, ["p"])
        return found.compute, found.pairs[0].compute

    assert judged(flops_useful=[100.0, 300.0], flops=[1e3, 1e3]) == ("flops_useful", 200.0)
    assert judged(flops_useful=[100.0, None], flops=[1e3, 3e3]) == ("flops", 2e3)
    assert judged(flops_useful=[None, None], flops=[1e3, None]) == ("images", 70.0)
    runs = [replace(run, patches=3) for run in runs]
    assert judged(flops_useful=[None, None], flops=[None, None]) == ("patches", 6 * 3 * 70.0)
    pairs = (pair, registration.Claimed("b", "c", "p", 1.0))
    values["c", "p"] = values["b", "p"]
    older = [replace(run, images=7 if run.variant == "a" else None) for run in runs]
    found = findings.judge(replace(by, pairs=pairs), values, {}, older, ["p"])
    assert [one.compute for one in found.pairs] == [6 * 3 * 70.0, None]
    assert found.compute is None, "one pair has no place on the axis"
