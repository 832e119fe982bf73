"""The numbers of an experiment at a scale, as typed records: rows, means, differences, verdicts.

``Study`` is the content of ``results.json``, and all that a page is made from. There are no words
here; ``ijepa.study.summary`` computes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ijepa.study.claims import Claim
from ijepa.study.decision import FAILS, HOLDS, Design, Test, Verdict
from ijepa.study.reach import Reach
from ijepa.study.statistics import Comparison, Spread

BASELINES = ("random_init", "pixels")  # encoders that nothing trained


@dataclass(frozen=True, slots=True)
class Row:
    """One accuracy of one run, in percent."""

    variant: str
    point: str | None
    seed: int
    metric: str  # task.probe.trained: on test images; task.probe.held_out: of training images
    encoder: str  # trained, or one of BASELINES
    value: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What pretraining took; None where the lock file is older, or nothing reports it."""

    flops: float | None  # counted, a result: equal runs have equal numbers
    flops_per_image: float | None
    flops_useful: float | None  # those that are not for padding
    flops_useful_per_image: float | None
    device_seconds: float | None  # this and what follows: measured, of this very run
    energy_joules: float | None
    peak_memory_gib: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the plan: what the lock file has of it; None where it has nothing."""

    key: str
    variant: str
    point: str | None
    seed: int
    status: str  # done, failed or missing
    reason: str | None
    standing: str | None  # today, vouched or older: the code that it is of; None: nobody asked
    patches: int | None  # of an image, if experiment or scale set all that they come from
    cost: Cost
    context_ratio: float | None
    images: int | None
    parameters: int | None
    health: str | None
    collapsed: bool | None
    rankme: float | None
    signature: str | None
    code: str | None
    data: str | None
    encoder: str | None  # SHA-256 of its file
    name: str | None
    commit: str | None
    baseline: str | None
    machine: str | None
    ids: Mapping[str, int | str | None]  # stage -> id of the record
    seconds: Mapping[str, float | None]  # stage -> wall time
    total: float | None  # seconds of all stages
    numerics: Mapping[str, Any] | None = None  # of pretraining: device, threads, torch, ...

    @property
    def done(self) -> bool:
        """Whether it has the accuracy that the experiment asks for."""
        return self.status == "done"


@dataclass(frozen=True, slots=True)
class Cell:
    """A variant at a point: means over its runs that are done."""

    variant: str
    point: str | None
    paper: float | None  # published, percent
    gap: float | None  # of the published number to the best published one
    spread: Spread  # of all runs, collapsed ones too
    healthy: Spread  # of those that did not collapse
    difference: Comparison | None  # to the reference at the point; None: it is the reference
    learned: Spread  # to the random initialisation of each run
    also: Mapping[str, Spread]  # of the further metrics, over the runs that have them
    random_init: float | None
    pixels: float | None
    knn: float | None
    context_ratio: float | None
    images: float | None
    parameters: float | None
    cost: Cost
    pretrain_seconds: float | None
    seconds: float | None
    health: tuple[str | None, ...]
    collapsed: tuple[int, ...]  # seeds whose representation collapsed


@dataclass(frozen=True, slots=True)
class Pair:
    """A claimed pair at a point; its compute is the mean over the runs of both."""

    better: str
    worse: str
    point: str | None
    exploratory: bool  # it was added after the experiment was registered
    comparison: Comparison
    untrained: Spread  # the difference between their random initialisations, paired by seed
    gained: Spread  # by how much more the trained ones differ, in the seeds that have both
    test: Test
    compute: float | None

    @property
    def apart_untrained(self) -> bool:
        """Whether the variants' random initialisations are told apart, by the 95 % interval.

        Two that start alike may still differ in a seed whose runs are of two kinds of machine.
        """
        low, high = self.untrained.low, self.untrained.high
        return low is not None and high is not None and not low <= 0 <= high

    @property
    def inborn(self) -> bool:
        """Whether a difference that is told is not shown to exceed that of the untrained encoders.

        A wider encoder, or one that sees more pixels, is probed better before it has learned.
        """
        if self.test.decision not in (HOLDS, FAILS) or not self.apart_untrained:
            return False
        low, high = self.gained.low or 0.0, self.gained.high or 0.0
        return low <= 0 if self.test.decision == HOLDS else high >= 0


@dataclass(frozen=True, slots=True)
class Trials:
    """What the recipes of the variants were chosen from."""

    experiment: str  # whose runs are the trials
    metric: str
    seeds: tuple[int, ...]
    runs: Mapping[str, int]  # variant -> trials of its objective that are done


@dataclass(frozen=True, slots=True)
class Baseline:
    """An encoder that nothing trained, by the reference's probe at a point."""

    point: str | None
    encoder: str
    variant: str  # whose runs it is from
    shared: bool  # whether all variants have the same numbers
    spread: Spread
    also: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant as the experiment has it, with the keys that it sets at the scale."""

    name: str
    label: str
    set: Mapping[str, Any]
    points: Mapping[str, Mapping[str, Any]]  # point -> keys that it sets there alone


@dataclass(frozen=True, slots=True)
class Point:
    """A point as the experiment has it, with the keys that it sets at the scale."""

    name: str
    label: str
    x: float | None
    equal_compute: str | None
    set: Mapping[str, Any]
    data: Mapping[str, Any]  # keys of the data that its runs learn from, whoever sets them


@dataclass(frozen=True, slots=True)
class Setting:
    """A dotted key that all runs share and the paper's scale sets otherwise; None: default."""

    key: str
    here: Any
    paper: Any


@dataclass(frozen=True, slots=True)
class Code:
    """Variants whose results are of one version of the code, as far as their records tell."""

    commits: tuple[str, ...]  # that ran them
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """How many results are of one kind of machine; other kinds may give other bits."""

    numerics: Mapping[str, Any]  # in what it differs from the others
    results: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is not as it was registered before the first run: exploratory."""

    key: str  # known, replaced, margin, pair, variant, or what a design has once, such as metric
    name: str  # of the point, the pair or the variant; else empty
    registered: Any  # None: added later
    today: Any  # None: left out later


@dataclass(frozen=True, slots=True)
class Study:
    """An experiment at a scale with everything that its runs say."""

    name: str
    title: str
    question: str
    table: int | None
    source: str
    metric: str
    also: tuple[str, ...]
    factor: tuple[str, ...]
    claim: Claim
    scale: str
    about: str  # of the scale
    preset: str | None  # of the scale
    data: tuple[str, ...]  # data sets, where they are not the scale's own
    trials: Trials | None
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]
    points: tuple[Point, ...]
    rows: tuple[Row, ...]
    runs: tuple[Run, ...]
    cells: tuple[Cell, ...]
    pairs: tuple[Pair, ...]  # the registered ones first
    reach: float | None  # percent: the accuracy of `reached`
    reached: tuple[Reach, ...]  # what it takes to get there; empty unless all runs count FLOPs
    compute: str | None  # what a pair's compute is: flops_useful, flops, patches or images
    baselines: tuple[Baseline, ...]
    strays: tuple[str, ...]  # results of no run of the plan
    design: Design  # the registered one: looks and error
    verdict: Verdict  # by the registered design; its `deciding` is an index of `pairs`
    at_points: tuple[Verdict, ...]  # of the pairs at each point, which share the error
    codes: tuple[Code, ...]  # more than one: the table mixes versions of the code
    machines: tuple[Machine, ...]  # more than one: the table's results are of several kinds
    across: tuple[int, ...]  # seeds whose runs at a point are of more than one kind
    registered: str | None  # SHA-256 of the registered design; None: the first run came before
    exploratory: tuple[Change, ...]
    encoders: tuple[str | None, ...]  # evaluate.encoder of the runs; None: of params.yaml

    @property
    def as_registered(self) -> bool:
        """Whether all of it was registered before the first run and is unchanged since."""
        return self.registered is not None and not self.exploratory

    @property
    def places(self) -> tuple[str | None, ...]:
        """Names of the points; one that is None where there are no points."""
        return tuple(point.name for point in self.points) or (None,)

    def label(self, variant: str) -> str:
        """A variant as the table calls it."""
        return next(v.label for v in self.variants if v.name == variant)

    def at(self, point: str | None) -> list[Cell]:
        """The cells of a point."""
        return [cell for cell in self.cells if cell.point == point]

    def runs_of(self, cell: Cell) -> list[Run]:
        """All runs behind a cell, those that failed or are missing too."""
        return [r for r in self.runs if (r.variant, r.point) == (cell.variant, cell.point)]

    def value(self, run: Run) -> float | None:
        """The accuracy of a run that the experiment asks for."""
        for row in self.rows:
            same = (row.variant, row.point, row.seed) == (run.variant, run.point, run.seed)
            if same and (row.metric, row.encoder) == (self.metric, "trained"):
                return row.value
        return None
