"""What an experiment asks for at a scale: one ``Run`` for each variant, point and seed.

A run is known by its signature (the hash of its resolved science) and by the hash of the code that
can change its numbers (``ijepa.variants``). Equal runs of different tables are one run.
"""

import copy
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ijepa import presets, variants
from ijepa.runtime import files
from ijepa.study.experiment import (
    Experiment,
    Point,
    Scale,
    Variant,
    changes,
    refuse_equals,
)

if TYPE_CHECKING:
    from ijepa import config as configs

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


def resolve(experiment: Experiment, scale: Scale, tree: Mapping[str, Any]) -> list[Run]:
    """Every run of an experiment at a scale.

    Args:
        experiment: what varies.
        scale: how large; the first ``scale.seeds`` seeds run.
        tree: ``params.yaml``, see ``committed_params``.

    Raises:
        ValueError: a resolved configuration cannot be; names file, run and key.
    """
    from ijepa import config as configs  # torch: seconds that a mistake in a file need not wait

    found, before = [], presets.leaves(tree)
    refuse_equals(experiment, scale, before)
    for point in experiment.points.values() or [None]:
        for variant in experiment.variants.values():
            epochs = equal_compute(experiment, scale, variant, point, tree)
            for seed in experiment.seeds[: scale.seeds]:
                where = _where(experiment, scale, variant.name, point, seed)
                key = where.rpartition(" ")[2]
                dotted = changes(experiment, scale, variant, point, seed) | epochs
                config = configs.parse(applied(tree, dotted, where), where)
                found.append(
                    Run(
                        key,
                        variant.name,
                        point.name if point else None,
                        seed,
                        {k: v for k, v in dotted.items() if k not in before or v != before[k]},
                        configs.signature(config),
                        _prepared(configs.parameters(config, "prepare")),
                        code(config),
                    )
                )
    return found


def equal_compute(
    experiment: Experiment,
    scale: Scale,
    variant: Variant,
    point: Point | None,
    tree: Mapping[str, Any],
) -> dict[str, Any]:
    """The epochs that a point of equal compute gives a variant, as dotted keys; else none.

    Raises:
        ValueError: a resolved configuration cannot be; names file, run and key.
    """
    from ijepa import config as configs
    from ijepa.study import budget

    if point is None or point.equal_compute in (None, variant.name):
        return {}

    def config(of: Variant) -> configs.Config:
        seed = experiment.seeds[0]  # no seed costs more than another
        where = _where(experiment, scale, of.name, point, seed)
        return configs.parse(
            applied(tree, changes(experiment, scale, of, point, seed), where), where
        )

    return budget.matched(config(variant), config(experiment.variants[point.equal_compute]))


def _where(
    experiment: Experiment, scale: Scale, variant: str, point: Point | None, seed: int
) -> str:
    at = f"@{point.name}" if point else ""
    return f"experiments/{experiment.name}.yaml at scale {scale.name}: {variant}{at}/{seed}"


def applied(tree: Mapping[str, Any], dotted: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A copy of ``params.yaml``'s content with dotted keys changed."""
    changed = copy.deepcopy(dict(tree))
    presets.apply(changed, dotted, where)
    return changed


def _prepared(parameters: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()


def committed_params(commit: str = "HEAD") -> dict[str, Any]:
    """``params.yaml`` of a commit: what an experiment changes, whatever the working copy says."""
    tree: dict[str, Any] = files.parse_yaml(git("show", f"{commit}:params.yaml"))
    return tree


def code(config: "configs.Config") -> str:
    """SHA-256 of the code that a run's stages can reach (``ijepa.variants``)."""
    return variants.code(*(e for stage in STAGES for e in variants.entries(config, stage)))


def git(*arguments: str) -> str:
    """The output of a git command.

    Raises:
        ValueError: git refuses, as outside a repository.
    """
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[0]}")
    return done.stdout


# What runs do not read: results, and what the baseline's own `dvc repro` writes.
_RESULTS = ("out", "dvc.lock", "reports", "experiments/*.lock.json*")


def refuse_dirty_tree() -> None:
    """Experiments run the code of a commit, so that a result can be traced to it.

    Raises:
        ValueError: something that is not a result differs from HEAD.
    """
    lines = git(
        "status", "--porcelain", "--untracked-files=all", "--", ".",
        *(f":(exclude){path}" for path in _RESULTS),
    ).splitlines()  # fmt: skip
    if lines:
        more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
        raise ValueError(
            f"{lines[0][3:]}{more}: not as in HEAD; commit (or remove) it first, since an"
            " experiment runs the committed code"
        )


def unique(runs: Sequence[Run]) -> list[Run]:
    """The runs in order, without those that repeat an earlier one's science and code."""
    found: dict[tuple[str, str], Run] = {}
    for run in runs:
        found.setdefault((run.signature, run.code), run)
    return list(found.values())
