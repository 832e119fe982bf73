"""How the numbers were made and what they cannot say, in words, for the report's reader."""

from collections.abc import Mapping, Sequence
from typing import Any

from ijepa import variants
from ijepa.config import Config
from ijepa.pages.run.words import spoken


def paragraphs(
    settings: Config, evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Titled paragraphs: the model, the probes, the intervals, and what the numbers cannot say."""
    return [
        {"title": "What was trained", "text": _model(settings)},
        {"title": "How it was measured", "text": _measured(settings, evaluation)},
        {"title": "What the intervals are", "text": _intervals(evaluation)},
        {"title": "What the numbers cannot say", "text": _limits(settings, rows)},
    ]


def objective(settings: Config) -> Any:
    """The file of the run's objective: ``TITLE`` and ``ABOUT``."""
    return variants.load("objectives", settings.objective.name)


def _model(settings: Config) -> str:
    model, train, learned = settings.model, settings.train, objective(settings)
    return (
        f"{learned.TITLE}: a Vision Transformer of {model.depth} blocks and width {model.width} on"
        f" {model.patch_size} × {model.patch_size} patches of {settings.data.image_size} ×"
        f" {settings.data.image_size} images, learned without labels from the data set"
        f" “{settings.data.name}” for {train.epochs:g} epochs in batches of {train.batch_size}:"
        f" {learned.ABOUT}"
    )


def _measured(settings: Config, evaluation: Mapping[str, Any]) -> str:
    n, split = evaluation.get("n", {}), evaluation.get("split", "test")
    counts = {name: f"{value:,}" for name, value in n.items()}
    grids = [
        f"{spoken(probe)} {len(cell['grid'])}"
        for found in list(evaluation["tasks"].values())[:1]
        for probe, cells in found.items()
        if isinstance(cells, Mapping) and isinstance(cell := cells.get("trained"), Mapping)
        if cell.get("grid")
    ]
    chosen = f" (candidates: {', '.join(grids)})" if grids else ""
    last, side = settings.evaluate.last_layers, evaluation.get("pixels_side")
    shrunk = (
        f" (averaged down to {side} × {side})" if side and side < settings.data.image_size else ""
    )
    encoder = evaluation.get("encoder")
    whose = f"The encoder that was probed is the {encoder}. " if encoder else ""
    return whose + (
        f"Probes learn from {counts.get('train', 'the')} training images. Their settings{chosen}"
        " and the features they read (the mean over patches of the last block, or of the last"
        f" {last} blocks side by side) are chosen on {counts.get('held_out', 'other')} held-out"
        f" training images. The {counts.get('test', '')} images of the {split} split take no part"
        " in the choice; once it is made, every candidate predicts them. A probe that is named"
        " with a share of the labels fits on that share alone. The baselines go through the same"
        " protocol: the same"
        f" encoder at its random initialisation, with this run's seed, and raw pixels{shrunk}; a"
        " probe that needs the network or its patches has no pixels."
        f" Chance is the share of the most frequent class in the {split} split. The paper reports"
        " the maximum over its probes; by that convention each row also gives “max over"
        f" candidates”. It is chosen on the {split} images themselves, so it is optimistic, and no"
        " comparison here uses it."
    )


def _intervals(evaluation: Mapping[str, Any]) -> str:
    split = evaluation.get("split", "test")
    return (
        f"All intervals are item-level: 95 % intervals over the images of the {split} split, how"
        " far the number could move with other images of the same kind. A difference is taken"
        " image by image (paired), so its interval is narrower than two separate intervals"
        " suggest. “Better” and “worse” mean that the interval of the difference excludes zero;"
        " “undecided” that it does not."
    )


def _limits(settings: Config, rows: Sequence[Mapping[str, Any]]) -> str:
    compared = sum(row["encoder"] != "trained" for row in rows)
    return (
        f"This is one training run, with seed {settings.seed}. The intervals do not hold the"
        " spread between seeds, so two runs must not be ranked by them: that takes several seeds"
        f" of each (ijepa ablate). The {compared} comparisons are not corrected for their"
        " number; about one in twenty intervals misses. Nothing here is comparable with the"
        " paper's ImageNet numbers, which took far larger models, images and budgets; the pages"
        " of the paper's tables show both, and rank neither."
    )
