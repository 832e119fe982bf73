"""How many trials the recipe of each variant was chosen from: counted, never typed."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ijepa.study import experiment
from ijepa.study.experiment import Experiment, Scale, Variant
from ijepa.study.numbers import Trials


def count(
    chosen: Experiment, recipes: Experiment, locked: Mapping[str, Any], scale: Scale, default: str
) -> Trials:
    """The trials behind each variant of an experiment that is ``tuned``.

    Args:
        chosen: the experiment.
        recipes: the one whose runs are the trials.
        locked: content of the trials' lock file at the scale.
        scale: of both.
        default: ``objective.name`` where nothing sets it.

    Returns:
        Of each variant the number of runs that are done and have its objective.
    """

    def objective(of: Experiment, variant: Variant) -> str:
        name = experiment.changes(of, scale, variant, None, 0).get("objective.name", default)
        return str(name)

    tried = Counter(
        objective(recipes, recipes.variants[result["variant"]])
        for result in locked["results"].values()
        if result["status"] == "done" and result["variant"] in recipes.variants
    )
    runs = {v.name: tried[objective(chosen, v)] for v in chosen.variants.values()}
    return Trials(recipes.name, recipes.metric, tuple(locked["seeds"]), runs)
