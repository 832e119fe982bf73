"""How many trials the recipe of each variant was chosen from: counted, never typed."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ijepa.study import experiment
from ijepa.study.experiment import Experiment, Scale, Variant


def count(
    chosen: Experiment, recipes: Experiment, locked: Mapping[str, Any], scale: Scale, default: str
) -> dict[str, Any]:
    """The trials behind each variant of an experiment that is ``tuned``.

    Args:
        chosen: the experiment.
        recipes: the one whose runs are the trials.
        locked: content of the trials' lock file at the scale.
        scale: of both.
        default: ``objective.name`` where nothing sets it.

    Returns:
        ``experiment``, ``metric`` and ``seeds`` of the trials, and ``runs``: variant -> number of
        runs that are done and have its objective.
    """

    def objective(of: Experiment, variant: Variant) -> str:
        name = experiment.changes(of, scale, variant, None, 0).get("objective.name", default)
        return str(name)

    tried = Counter(
        objective(recipes, recipes.variants[result["variant"]])
        for result in locked["results"].values()
        if result["status"] == "done" and result["variant"] in recipes.variants
    )
    return {
        "experiment": recipes.name,
        "metric": recipes.metric,
        "seeds": list(locked["seeds"]),
        "runs": {v.name: tried[objective(chosen, v)] for v in chosen.variants.values()},
    }
