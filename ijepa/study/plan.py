"""What an experiment asks for at a scale: one ``Run`` for each variant, point and seed.

A run is known by its signature (the hash of its resolved science) and by the hash of the code that
can change its numbers (``ijepa.variants``). Equal runs of different tables are one run.
"""

import copy
import itertools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.error import YAMLError

from ijepa import config as configs
from ijepa import presets, variants
from ijepa.runtime import files
from ijepa.runtime.records import digest
from ijepa.study.experiment import FOLDER, Experiment, Point, Scale, Variant, cells, changes

STAGES = ("prepare", "pretrain", "evaluate")  # what a run consists of; its report is the table's


@dataclass(frozen=True, slots=True)
class Run:
    """One cell of a table with one seed.

    Attributes:
        key: ``variant/seed`` or ``variant@point/seed``.
        variant: its name.
        point: its name, or None.
        seed: of everything random.
        changes: dotted keys over ``params.yaml`` at HEAD.
        signature: SHA-256 of the resolved science.
        data: SHA-256 of what the prepared data set is a function of.
        code: SHA-256 of the code of the run's stages.
    """

    key: str
    variant: str
    point: str | None
    seed: int
    changes: Mapping[str, Any]
    signature: str
    data: str
    code: str

    @property
    def name(self) -> str:
        """The name of its DVC experiment, and of its files."""
        return f"ijepa-{self.signature[:12]}-{self.code[:4]}"

    @property
    def identity(self) -> tuple[str, str]:
        """Signature and code: equal ones give equal results."""
        return self.signature, self.code


def resolve(experiment: Experiment, scale: Scale, tree: Mapping[str, Any]) -> list[Run]:
    """Every run of an experiment at a scale.

    Args:
        experiment: what varies.
        scale: how large; the first ``scale.seeds`` seeds run.
        tree: ``params.yaml``, see ``committed_params``.

    Raises:
        ValueError: a resolved configuration cannot be, or gives no number for a metric; names
            file, run and key.
    """
    runs, before = [], presets.leaves(tree)
    refuse_equals(experiment, scale, before)
    for cell, variant, point in cells(experiment):
        epochs = equal_compute(experiment, scale, variant, point, tree)
        for seed in experiment.seeds[: scale.seeds]:
            key = f"{cell}/{seed}"
            dotted = changes(experiment, scale, variant, point, seed) | epochs
            where = _where(experiment, scale, key)
            config = parsed(tree, dotted, where)
            refuse_unprobed(experiment, config, where)
            run = Run(
                key,
                variant.name,
                point.name if point else None,
                seed,
                {k: v for k, v in dotted.items() if k not in before or v != before[k]},
                configs.signature(config),
                digest(configs.parameters(config, "prepare")),
                code(config),
            )
            runs.append(run)
    return runs


def refuse_unprobed(experiment: Experiment, config: configs.Config, where: str) -> None:
    """A metric of a probe that a run does not fit would have no number, after all its hours.

    Whether it has the metric's task, its data say when they are prepared.

    Raises:
        ValueError: one line that names ``where``, the metric and the probes.
    """
    probes = config.evaluate.probes
    for key, metric in (("metric", experiment.metric), *(("also", m) for m in experiment.also)):
        if metric.split(".")[1] not in probes:
            raise ValueError(
                f"{where}: {key}: {metric!r} is of none of evaluate.probes: {', '.join(probes)}"
            )


def refuse_equals(
    experiment: Experiment, scale: Scale, params: Mapping[str, Any], folder: Path = FOLDER
) -> None:
    """Two variants, or points, of the same settings would be one run under two names.

    Not so of two points that differ in how long is trained: at equal compute each variant has
    epochs of its own, and the one that the others are held against is the same run at both.

    Args:
        experiment: what varies.
        scale: at which it is to run; at another, a user's own, its variants may well be equal.
        params: the dotted keys of ``params.yaml``.
        folder: where the experiment's file is, for the message.

    Raises:
        ValueError: one line that names the two.
    """
    settings = [
        (
            cell,
            (point and point.equal_compute, {**params, **changes(experiment, scale, v, point, 0)}),
        )
        for cell, v, point in cells(experiment)
    ]
    for (one, first), (other, second) in itertools.combinations(settings, 2):
        if first == second:
            raise ValueError(
                f"{folder / experiment.name}.yaml: variants: {one} and {other} are the"
                f" same settings at scale {scale.name}; each must differ"
            )


def equal_compute(
    experiment: Experiment, scale: Scale, variant: Variant, point: Point | None,
    tree: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """The epochs that a point of equal compute gives a variant, as dotted keys; else none.

    Raises:
        ValueError: a resolved configuration cannot be; names file, run and key.
    """
    if point is None or point.equal_compute in (None, variant.name):
        return {}
    from ijepa.study import budget  # torch: seconds that a mistake in a file need not wait

    seed = experiment.seeds[0]  # no seed costs more than another
    own, reference = (
        parsed(
            tree,
            changes(experiment, scale, of, point, seed),
            _where(experiment, scale, f"{of.name}@{point.name}/{seed}"),
        )
        for of in (variant, experiment.variants[point.equal_compute])
    )
    return budget.matched(own, reference)


def _where(experiment: Experiment, scale: Scale, key: str) -> str:
    return f"experiments/{experiment.name}.yaml at scale {scale.name}: {key}"


def parsed(tree: Mapping[str, Any], dotted: Mapping[str, Any], where: str) -> configs.Config:
    """The config of ``params.yaml``'s content with dotted keys changed.

    Raises:
        ValueError: one line that names ``where`` and the key.
    """
    changed = copy.deepcopy(dict(tree))
    presets.apply(changed, dotted, where)
    return configs.parse(changed, where)


def committed_params(commit: str = "HEAD") -> dict[str, Any]:
    """``params.yaml`` of a commit: what an experiment changes, whatever the working copy says.

    Raises:
        ValueError: the commit's is no YAML; one line.
    """
    text = git("show", f"{commit}:params.yaml")
    try:
        tree: dict[str, Any] = files.parse_yaml(text)
    except YAMLError as error:
        raise ValueError(
            f"params.yaml of {commit}: not YAML: {' '.join(str(error).split())}"
        ) from None
    return tree


def code(config: configs.Config) -> str:
    """SHA-256 of the code that a run's stages can reach (``ijepa.variants``)."""
    return variants.code(*(e for stage in STAGES for e in variants.entries(config, stage)))


def git(*arguments: str) -> str:
    """The output of a git command.

    Raises:
        ValueError: there is no git, or it refuses, as outside a repository.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(f"git {arguments[0]}: there is no git on this machine") from None
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[0]}")
    return done.stdout


def head() -> str | None:
    """The commit that the working tree's files are; None where they are no commit's.

    That is a tree that was changed, or a copy of the files, with a ``.git`` of another commit or
    without one.
    """
    there = Path(".git").exists() and shutil.which("git")
    return git("rev-parse", "HEAD").strip() if there and not _changed() else None


# What runs do not read: results, and what the baseline's own `dvc repro` writes.
_RESULTS = ("out", "dvc.lock", "reports", "experiments/*.lock.json*")


def refuse_dirty_tree() -> None:
    """Experiments run the code of a commit, so that a result can be traced to it.

    Raises:
        ValueError: something that is not a result differs from HEAD.
    """
    lines = _changed()
    if lines:
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        raise ValueError(
            f"{lines[0][3:]}{more}: not as in HEAD; commit (or remove) it first, since an"
            " experiment runs the committed code"
        )


def _changed() -> list[str]:
    return git(
        "status", "--porcelain", "--untracked-files=all", "--", ".",
        *(f":(exclude){path}" for path in _RESULTS),
    ).splitlines()  # fmt: skip


def unique(runs: Sequence[Run]) -> list[Run]:
    """The runs in order, without those that repeat an earlier one's science and code."""
    first: dict[tuple[str, str], Run] = {}
    for run in runs:
        first.setdefault(run.identity, run)
    return list(first.values())
