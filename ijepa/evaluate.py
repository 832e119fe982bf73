"""Stage 3: what a frozen encoder's features know, beside a random encoder and the pixels.

For every label of every data set and every probe: accuracy on the report split with an interval
over its images, for the trained encoder, the same encoder before training, and raw pixels, all
under one protocol. Held-out folds of the training images choose among features and settings, then
a probe is fitted to all of them. ``ijepa evaluate --encoder ...`` does the same for an encoder
from elsewhere.
"""

import sys
from pathlib import Path

from ijepa import config as configs
from ijepa.evaluation import scores
from ijepa.evaluation.probing import Job
from ijepa.evaluation.run import evaluate
from ijepa.model import vit
from ijepa.runtime import environment, errors
from ijepa.store import read as store
from ijepa.tracking import journal

WEIGHTS = {  # what pretraining writes, by evaluate.encoder
    "target": Path("out/encoder.safetensors"),
    "context": Path("out/context_encoder.safetensors"),
}
METRICS = Path("out/metrics.json")
FOLDER = Path("out/evaluation")


def main() -> None:
    """Evaluate the trained encoder on ``data/prepared`` and on what it is transferred to.

    Raises:
        ValueError: a parameter, a data set or the encoder cannot be used.
    """
    config, data = configs.load(), store.open_store()
    weights = WEIGHTS[config.evaluate.encoder]
    about = vit.metadata(weights)
    tree = configs.as_tree(config)
    if (about["image_size"], about["model"]) != (config.data.image_size, tree["model"]):
        raise ValueError(f"{weights}: is not of params.yaml's model; `dvc repro pretrain`")
    job = Job(config, str(weights), store.PREPARED)
    files = [FOLDER / name for name in ("evaluation.json", "predictions.npz")]
    journal.record(
        "evaluate",
        config,
        lambda run: _stage(job, run),
        data=data.hash,
        outs=[METRICS, *files],
    )


def _stage(job: Job, run: journal.Run) -> float:
    """Evaluate and log; returns the headline: first probe, first task, in percent."""
    run.info(numerics=environment.numerics())
    evaluation = evaluate(job, FOLDER, METRICS, run.interactive)
    metrics = scores.headline(evaluation)
    for task, by_probe in metrics.items():
        for name, by_encoder in by_probe.items():
            for name_of_encoder, accuracy in by_encoder.items():
                run.log(f"eval.{task}.{name}.{name_of_encoder}", accuracy, 0)
    first = next(iter(metrics.values()))
    return first[job.config.evaluate.probes[0]]["trained"]


if __name__ == "__main__":
    sys.exit(errors.run(main))
