"""The tables of a study."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ijepa.pages import marks, text, verdict
from ijepa.pages.table import Cell, Row, Table
from ijepa.study import numbers, recorded
from ijepa.study.decision import UNDECIDED
from ijepa.study.numbers import Study
from ijepa.study.plan import STAGES
from ijepa.study.statistics import Share, Spread

WITH = ", ± 95\u00a0%"  # in the head of a column of numbers with their interval's half width
AGAIN = "to run it again"
INTERVAL = "95\u00a0% interval (points)"
UNTRAINED = "their random inits (points)"
LEARNED = "minus its random init (points), 95\u00a0% interval"


def accuracies(study: Study) -> Table:
    """The table of the report: the paper's numbers, ours, and differences; no test is in it."""
    columns = [
        "variant", "paper (%)", "minus best published (points)", f"here (%){WITH}", "sd (points)",
        "n", f"healthy runs (%){WITH}", "minus reference (points, + is better)", INTERVAL,
        LEARNED, *(f"{verdict.metric(m, study.metric)} (%){WITH}" for m in study.also),
    ]  # fmt: skip
    rows: list[Row] = []
    for point in study.places:
        rows += _heading(study, point)
        rows += [_variant(study, cell) for cell in study.at(point)]
        rows += [_baseline(study, b) for b in study.baselines if b.point == point]
    return Table(columns, rows).lean()


def _heading(study: Study, point: str | None) -> list[Row]:
    return [] if point is None else [Row([verdict.place(study, point)], "group")]


def _variant(study: Study, cell: numbers.Cell) -> Row:
    spread, apart = cell.spread, cell.difference
    mark = f" {verdict.COLLAPSED}" if cell.collapsed else ""
    cells: list[Cell | str] = [
        study.label(cell.variant),
        text.number(cell.paper),
        "best" if cell.gap == 0 else text.points(cell.gap),
        Cell(_plus_minus(spread) + mark, spread.mean, f"#{anchor(cell)}"),
        text.number(spread.std),
        f"{spread.n}†" if spread.n == 1 else str(spread.n),
        _plus_minus(cell.healthy) if cell.collapsed else "",
        *(_difference(apart.spread) if apart else ("reference", "")),
        verdict.difference(cell.learned, "") if cell.learned.n else "",
        *(_beside(spread, cell.also[m]) for m in study.also),
    ]
    return Row(cells, "" if apart else "reference", notes(study, cell))


def _difference(of: Spread) -> tuple[str, str]:
    """Its mean and interval."""
    return text.points(of.mean), text.interval(of.low, of.high, signed=True)


def _plus_minus(spread: Spread) -> str:
    return text.plus_minus(spread.mean, spread.low, spread.high)


def _beside(spread: Spread, other: Spread) -> str:
    """A further metric of a variant or a baseline; its data set may lack the task."""
    return "no task" if spread.n and not other.n else _plus_minus(other)


def anchor(cell: numbers.Cell) -> str:
    """The id of a variant's rows in the table of runs."""
    at = f"-{cell.point}" if cell.point is not None else ""
    return f"runs-{cell.variant}{at}"


def notes(study: Study, cell: numbers.Cell) -> list[str]:
    """Why a row has less than it should: each failed or missing run with its reason."""
    runs = study.runs_of(cell)
    texts = [f"seed {r.seed} failed: {r.reason}" for r in runs if r.status == "failed"]
    lost = [str(r.seed) for r in runs if r.status == "missing"]
    if lost:
        texts.append(f"seed{'s' if len(lost) > 1 else ''} {', '.join(lost)} missing")
    if cell.collapsed:
        texts.append(
            f"{verdict.COLLAPSED} collapsed: seed{'s' if len(cell.collapsed) > 1 else ''}"
            f" {', '.join(map(str, cell.collapsed))}"
        )
    return texts


def _baseline(study: Study, baseline: numbers.Baseline) -> Row:
    whose = "" if baseline.shared else f" ({study.label(baseline.variant)})"
    name, spread = text.spoken(baseline.encoder) + whose, baseline.spread
    values = [_plus_minus(spread), text.number(spread.std), str(spread.n)]
    # a held-out accuracy is known of the trained encoder alone
    held_out = [m for m in study.also if m.endswith(".held_out")]
    more = ["" if m in held_out else _beside(spread, baseline.also[m]) for m in study.also]
    return Row([name, "", "", *values, "", "", "", "", *more], "baseline")


def pairs(study: Study) -> Table:
    """What the claim says of each pair, and what the runs say: the one table with p values.

    p values are over all looks reached, after Holm's correction over the pairs for each question.
    """
    columns = [
        "better over worse", "paper (points)", "here (points, + is as claimed)", INTERVAL, "over",
        "n", UNTRAINED, "more than untrained (points)", "margin (points)", "p ▲", "p ▼", "p ≈",
        "the pair is", "wins a new seed", "sign-flip p", "seeds for 80\u00a0% power",
    ]  # fmt: skip
    papers = {(cell.variant, cell.point): cell.paper for cell in study.cells}
    rows = []
    for pair in study.pairs:
        better, worse = papers[pair.better, pair.point], papers[pair.worse, pair.point]
        of, test = pair.comparison, pair.test
        printed = None if better is None or worse is None else better - worse
        mean, limits = _difference(of.spread)
        mark = f" {verdict.COLLAPSED}" if of.collapsed else ""
        p = test.adjusted
        ps = [p.above, p.below, p.same] if p else [None] * 3
        rows.append(Row([
            verdict.pair(study, pair), text.points(printed), mean + mark, limits, of.over,
            str(of.spread.n), *_untrained(pair), f"{test.margin:g}",
            *map(text.probability, ps),
            Cell(verdict.PAIRS[test.decision], mark=verdict.CLASSES[test.decision]),
            _share(of.wins), text.probability(of.flips),
            verdict.seeds_of(test.needed) if test.needed and test.decision == UNDECIDED else "",
        ], notes=["exploratory: added after the first run"] * pair.exploratory))  # fmt: skip
    return Table(columns, rows, text=("over", "the pair is")).lean()


def _untrained(pair: numbers.Pair) -> list[str]:
    """The pair before training, and what came to it; empty where the two start alike."""
    both = (pair.untrained, pair.gained)
    return [verdict.difference(one, "") if pair.apart_untrained else "" for one in both]


def _share(of: Share | None) -> str:
    """``0.83 [0.44, 0.97]``: a probability with its 95 % interval."""
    if of is None:
        return text.NOTHING
    return f"{of.mean:.2f} [{of.low:.2f}, {of.high:.2f}]"


def beside(study: Study) -> Table:
    """What else differs between the variants: baselines, kNN, masks, size, health, time."""
    trials = study.trials.runs if study.trials else {}
    said = any(cell.cost.flops for cell in study.cells)  # images seen: by the table of costs
    columns: dict[str, Callable[[numbers.Cell], str]] = {
        "random init (%)": lambda cell: text.number(cell.random_init),
        "raw pixels (%)": lambda cell: text.number(cell.pixels),
        "kNN (%)": lambda cell: text.number(cell.knn),
        "realised context": lambda cell: text.number(cell.context_ratio, 3),
        "images seen": lambda cell: "" if said else text.count(cell.images),
        "encoder parameters": lambda cell: text.count(cell.parameters),
        "pretraining": lambda cell: text.duration(cell.pretrain_seconds),
        "whole run": lambda cell: text.duration(cell.seconds),
        "health": verdict.health,
        "trials": lambda cell: str(trials.get(cell.variant, "")),
    }
    return _by_point(study, columns)


def costs(study: Study) -> Table:
    """What pretraining took: counted and measured; empty where the lock file has neither."""
    reference, count = study.claim.reference, marks.operations(study.cells)
    whole = {c.point: getattr(c.cost, count) for c in study.cells if c.variant == reference}

    def times(cell: numbers.Cell) -> str:
        flops, base = getattr(cell.cost, count), whole.get(cell.point)
        return text.NOTHING if not flops or not base else f"{flops / base:.2f} ×"

    def with_unit(value: float | None, size: float, unit: str) -> str:
        return text.NOTHING if value is None else f"{value / size:.2f} {unit}"

    columns: dict[str, Callable[[numbers.Cell], str]] = {
        "useful FLOPs an image": lambda cell: text.scaled(
            cell.cost.flops_useful_per_image, "FLOP"
        ),
        "with padding, an image": lambda cell: text.scaled(cell.cost.flops_per_image, "FLOP"),
        "useful FLOPs in all": lambda cell: text.scaled(cell.cost.flops_useful, "FLOP"),
        "with padding, in all": lambda cell: text.scaled(cell.cost.flops, "FLOP"),
        "relative to the reference": times,
        "images seen": lambda cell: text.count(cell.images),
        "device time": lambda cell: text.duration(cell.cost.device_seconds),
        "energy": lambda cell: with_unit(cell.cost.energy_joules, 3600, "Wh"),
        "peak memory": lambda cell: with_unit(cell.cost.peak_memory_gib, 1, "GiB"),
    }
    known = any(cell.cost.flops or cell.cost.device_seconds for cell in study.cells)
    return _by_point(study, columns if known else {})


def reached(study: Study) -> Table:
    """What it takes to reach an accuracy, where the experiment asks for it."""
    columns = ["variant", "seeds", "there at the smallest budget", "not reached",
               "useful FLOPs to get there", "relative to the reference",
               "95\u00a0% interval"]  # fmt: skip
    rows = []
    for one in study.reached:
        ratio, limits = one.ratio, text.NOTHING
        if ratio and ratio.low is not None and ratio.high is not None:
            limits = f"[{10**ratio.low:.2f}, {10**ratio.high:.2f}]"
        times = f"{10**ratio.mean:.2f} ×" if ratio and ratio.mean is not None else text.NOTHING
        is_reference = one.variant == study.claim.reference
        rows.append(Row([
            study.label(one.variant), str(len(one.seeds)), str(one.before), str(one.never),
            text.scaled(one.flops, "FLOP"),
            *(("reference", "") if is_reference else (times, limits)),
        ], "reference" if is_reference else ""))  # fmt: skip
    return Table(columns, rows)


def _by_point(study: Study, columns: Mapping[str, Callable[[numbers.Cell], str]]) -> Table:
    """A row for each variant under its point."""
    rows = []
    for point in study.places:
        rows += _heading(study, point)
        for cell in study.at(point):
            cells = [study.label(cell.variant), *(shown(cell) for shown in columns.values())]
            rows.append(Row(cells, "" if cell.difference else "reference"))
    return Table(["variant", *columns], rows).lean()


def runs(study: Study) -> Table:
    """Every run of the plan with what identifies it, and what runs it again in a fresh clone.

    The commit is the baseline, which a clone has; that of the DVC experiment on it is a detail.
    """
    hashes = ("signature", "code", "data", "encoder")
    columns = ["variant", "seed", "here (%)", "state", AGAIN, "commit", "experiment",
               ", ".join(STAGES), *hashes, "standing", "time", "machine"]  # fmt: skip
    rows = []
    for cell in study.cells:
        for run in study.runs_of(cell):
            lost = Cell(f"{run.status}: {run.reason}", mark="wrap")
            ids = "\n".join(str(run.ids[stage] or text.NOTHING) for stage in STAGES)
            commit, *identity = (
                Cell(text.short(value), value, code=True)
                for value in (getattr(run, name) for name in ("baseline", *hashes))
            )
            again = Cell(f"ijepa reproduce {study.name}.{study.scale} {run.key}", code=True)
            own = f"{run.name}\n{text.short(run.commit)}" if run.name else text.NOTHING
            experiment = Cell(own, run.commit, code=True)
            state = verdict.alarm(run.health or "done") if run.done else lost
            cells = [
                verdict.row(study, cell), str(run.seed), text.number(study.value(run), 2),
                state, again if run.done else text.NOTHING,
                commit, experiment, Cell(ids, code=True), *identity, run.standing or "",
                text.duration(run.total), _machine(run),
            ]  # fmt: skip
            rows.append(Row(cells, "" if run.done else "lost", body=anchor(cell)))
    table = Table(columns, rows, text=columns, kind="runs")
    return table if any(run.standing for run in study.runs) else table.without("standing")


def _machine(run: numbers.Run) -> Cell:
    """What its bits depend on beside code and data, as far as it is on record; three to a line."""
    words = recorded.numerics_in_words(run.numerics) or run.machine or text.NOTHING
    parts = words.split(", ")
    lines = [", ".join(parts[start : start + 3]) for start in range(0, len(parts), 3)]
    return Cell("\n".join(lines), words, code=True)


def settings(study: Study) -> Table:
    """Keys that all variants share, here and at the paper's scale."""

    def shown(value: Any) -> str:
        given = value if isinstance(value, str) else json.dumps(value)
        return "default" if value is None else given

    rows = [Row([s.key, shown(s.here), shown(s.paper)]) for s in study.settings]
    return Table(["key", "here", "at the paper's scale"], rows, kind="")


def sheet(study: Study) -> Table:
    """A row for each variant and point, numbers in full: for CSV."""
    rows: list[Mapping[str, Any]] = []
    for cell in study.cells:
        difference = asdict(cell.difference) if cell.difference else {}
        paired = difference.get("spread", {})
        also = [(m, k, getattr(cell.also[m], k)) for m in study.also for k in ("n", "mean", "std")]
        rows.append(
            {
                "point": cell.point, "variant": cell.variant, "label": study.label(cell.variant),
                "paper": cell.paper, **asdict(cell.spread),
                "paired_seeds": paired.get("n"), "difference": paired.get("mean"),
                "difference_low": paired.get("low"), "difference_high": paired.get("high"),
                "healthy_mean": cell.healthy.mean, "collapsed": len(cell.collapsed),
                **{k: getattr(cell, k) for k in (
                    "random_init", "pixels", "knn", "context_ratio", "pretrain_seconds",
                    "seconds")},
                **asdict(cell.cost), **{f"{metric}.{k}": value for metric, k, value in also},
                "notes": "; ".join(notes(study, cell)),
            }
        )  # fmt: skip
    return Table(list(rows[0]), [Row([Cell("", v) for v in row.values()]) for row in rows])
