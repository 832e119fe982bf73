"""Every number of one run, from the files that its stages left; no words.

``gather`` reads the working directory and ``Results`` is what a page shows: the content of
``results.json``. What is missing there is None or empty; only the evaluation must be there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ijepa.config import Config, as_tree, signature
from ijepa.results import accuracy, kept, masks, provenance, training
from ijepa.results.accuracy import Accuracy, Confusion, Curve
from ijepa.results.masks import Shares
from ijepa.results.provenance import Provenance
from ijepa.results.representation import Representation, Views
from ijepa.results.training import History, Training
from ijepa.runtime.files import check_sums, read_json, write_json
from ijepa.runtime.records import plain, restore
from ijepa.store.read import PREPARED, Store

OUT = Path("out")
EVALUATION = OUT / "evaluation" / "evaluation.json"
PREDICTIONS = OUT / "evaluation" / "predictions.npz"
ENCODERS = {  # what pretraining left, by evaluate.encoder: which of them was evaluated
    "target": OUT / "encoder.safetensors",
    "context": OUT / "context_encoder.safetensors",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run is."""

    signature: str  # of all its parameters
    split: str  # that is reported
    counts: dict[str, int]  # images to learn from (train), of these choose (held_out), reported
    candidates: dict[str, int]  # probe -> settings that were tried, on the first task
    pixels_side: int | None  # of the images that stand for raw pixels
    weights: int | None  # numbers of the encoder that are learned
    encoder: str | None  # which one was evaluated, as the evaluation says


@dataclass(frozen=True, slots=True)
class Results:
    """One run."""

    run: Facts
    parameters: dict[str, Any]  # ``params.yaml`` as it was resolved
    headline: tuple[str, str]  # the task and the probe of the one number that stands for the run
    table: tuple[Accuracy, ...]  # a row for every task, probe and encoder
    few_label: tuple[Curve, ...]  # accuracies against labelled images of each class
    confusion: tuple[Confusion, ...]  # of the headline's probe on the trained encoder
    training: Training | None  # what pretraining measured at its end
    history: History | None  # what it measured on the way
    masks: Shares  # how large contexts and targets are
    representation: Representation | None  # what the encoders make of fixed images
    provenance: Provenance  # the files' hashes and the runs that made them
    missing: tuple[str, ...]  # files that are not here
    right: dict[str, str] = field(default_factory=dict)  # ijepa.results.kept: which images are

    def of(self, task: str, probe: str) -> dict[str, Accuracy]:
        """The rows of a task and a probe, by encoder."""
        return {r.encoder: r for r in self.table if (r.task, r.probe) == (task, probe)}

    @property
    def start(self) -> dict[str, float]:
        """The first row of the history, after one step: the columns that have a number there."""
        first = {name: values[0] for name, values in (self.history or {}).items()}
        return {name: value for name, value in first.items() if value is not None}

    @property
    def accuracy(self) -> float | None:
        """The headline: percent of the images that the trained encoder's probe gets right."""
        row = self.of(*self.headline).get("trained")
        return row.accuracy if row else None


def check(settings: Config) -> None:
    """Compare what the stages left with the sums that they wrote.

    Args:
        settings: the run's parameters.

    Raises:
        ValueError: a file is damaged; one line that names it.
    """
    trained = (ENCODERS[settings.evaluate.encoder].name, "history.csv", "pretrain.json")
    for folder, stage, names in (
        (OUT, "pretrain", trained),
        (EVALUATION.parent, "evaluate", (EVALUATION.name, PREDICTIONS.name)),
    ):
        if here := [name for name in names if (folder / name).is_file()]:
            check_sums(folder, here, f"`dvc repro -f {stage}`")


def gather(settings: Config, data: Store | None, seen: Views | None) -> Results:
    """The results of the run in the working directory.

    Args:
        settings: the run's parameters.
        data: the prepared data set, where there is one.
        seen: what was looked at, where there are images and an encoder.

    Raises:
        ValueError: there is no evaluation, or a file cannot be read.
    """
    evaluation, pretrain = _json(EVALUATION), _json(OUT / "pretrain.json")
    if evaluation is None:
        raise ValueError(f"{EVALUATION}: no such file; `dvc repro evaluate` makes it")
    history, encoder = training.history(OUT / "history.csv"), ENCODERS[settings.evaluate.encoder]
    predicted = PREDICTIONS.is_file()
    here = {
        OUT / "pretrain.json": pretrain is not None, OUT / "history.csv": history is not None,
        encoder: encoder.is_file(), PREDICTIONS: predicted, PREPARED: data is not None,
    }  # fmt: skip
    parameters = as_tree(settings)
    tasks = _tasks(evaluation, data)
    rows = accuracy.table(evaluation, tasks, parameters["evaluate"])
    headline = (rows[0].task, rows[0].probe) if rows else ("", "")  # linear, where there is one
    return Results(
        run=_facts(settings, evaluation, tasks),
        parameters=parameters,
        headline=headline,
        table=rows,
        few_label=accuracy.curves(evaluation, rows),
        confusion=accuracy.confusions(evaluation, tasks, headline[1], PREDICTIONS)
        if predicted
        else (),
        training=training.summary(pretrain) if pretrain is not None else None,
        history=history,
        masks=masks.shares(settings),
        representation=seen.numbers if seen else None,
        provenance=provenance.gather(data),
        missing=tuple(str(path) for path, there in here.items() if not there),
        right=kept.right(evaluation, rows, PREDICTIONS) if predicted else {},
    )


def _tasks(evaluation: Mapping[str, Any], data: Store | None) -> list[str]:
    """The data set's order, whose first task is the headline; then those of other data sets."""
    known, measured = list(data.tasks if data else ()), list(evaluation["tasks"])
    return [t for t in known if t in measured] + [t for t in measured if t not in known]


def _facts(settings: Config, evaluation: Mapping[str, Any], tasks: list[str]) -> Facts:
    encoder = ENCODERS[settings.evaluate.encoder]
    first = evaluation["tasks"][tasks[0]] if tasks else {}
    trained = {
        probe: cells["trained"]
        for probe, cells in first.items()
        if isinstance(cells, Mapping) and isinstance(cells.get("trained"), Mapping)
    }
    return Facts(
        signature=signature(settings),
        split=evaluation.get("split", "test"),
        counts=evaluation.get("n", {}),
        candidates={p: len(cell["grid"]) for p, cell in trained.items() if cell.get("grid")},
        pixels_side=evaluation.get("pixels_side"),
        weights=_weights(encoder) if encoder.is_file() else None,
        encoder=evaluation.get("encoder"),
    )


def _json(path: Path) -> Any:
    return plain(read_json(path)) if path.is_file() else None


def _weights(path: Path) -> int:
    """How many numbers of an encoder are learned."""
    with safe_open(path, framework="np") as file:
        names = [name for name in file.keys() if name != "pos_embed"]  # noqa: SIM118  # no mapping
        return sum(int(math.prod(file.get_slice(name).get_shape())) for name in names)


def write(path: Path, results: Results) -> None:
    """Write ``results.json``: parameters exactly, of the rest without digits that are noise."""
    write_json(path, plain(results) | {"parameters": results.parameters})


def read(path: Path) -> Results:
    """What ``write`` wrote.

    Raises:
        ValueError: the file is damaged, or of another version.
    """
    return restore(Results, read_json(path))
