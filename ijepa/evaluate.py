"""Stage 3: what a frozen encoder's features know, beside a random encoder and the pixels.

For every label of every data set and every probe: accuracy on the report split with an interval
over its images, for the trained encoder, the same encoder before training, and raw pixels, all
under one protocol. A part of the training images is held out and chooses among features and
settings. ``ijepa evaluate --encoder ...`` does the same for an encoder from elsewhere.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML

from ijepa import config as configs
from ijepa import console, encoder, environment, prepare, presets, probing, scores, store
from ijepa.encoders import pixels
from ijepa.probing import Job
from ijepa.results import write_json
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
    about = encoder.metadata(weights)
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
    evaluation = evaluate(job, FOLDER, METRICS, run.interactive)
    metrics = scores.headline(evaluation)
    for task, by_probe in metrics.items():
        for name, by_encoder in by_probe.items():
            for name_of_encoder, accuracy in by_encoder.items():
                run.log(f"eval.{task}.{name}.{name_of_encoder}", accuracy, 0)
    first = next(iter(metrics.values()))
    return first[job.config.evaluate.probes[0]]["trained"]


def evaluate(job: Job, folder: Path, metrics: Path, progress: bool = False) -> dict[str, Any]:
    """Probe and write ``evaluation.json``, ``predictions.npz`` and the metrics.

    Returns:
        The content of ``evaluation.json``.
    """
    torch.set_num_threads(environment.hardware().threads)
    found = probing.outcomes(job, lambda text: print(text, flush=True), progress)
    backbones = job.backbones()
    about = {
        "encoder": backbones["trained"].name,
        "encoders": list(backbones),
        "probes": list(job.config.evaluate.probes),
        "precision": environment.hardware().precision,
        "pixels_side": min(backbones["trained"].image_size, pixels.SIDE),
    }
    evaluation = scores.summarise(about, found)
    folder.mkdir(parents=True, exist_ok=True)
    scores.write_predictions(folder / "predictions.npz", found)
    write_json(folder / "evaluation.json", evaluation)
    write_json(metrics, scores.headline(evaluation))
    print(table(evaluation))
    return evaluation


def elsewhere(encoder: str, changes: Mapping[str, str], folder: Path | None) -> Path:
    """Evaluate any encoder, outside the pipeline, with ``params.yaml``'s probes.

    Args:
        encoder: its spec, see ``ijepa.encoders.load``.
        changes: dotted keys of ``params.yaml`` -> values as YAML text. The data set is
            ``data/prepared``; where one of the keys is of ``data``, it is prepared in the cache.
        folder: where to write; ``out/evaluations/<encoder>`` when None.

    Returns:
        The folder, with ``evaluation.json``, ``predictions.npz`` and ``metrics.json``.

    Raises:
        ValueError: an encoder, a key, a value or the data cannot be used; one line.
    """
    tree = presets.read(configs.PARAMS)
    values = {key: YAML(typ="safe", pure=True).load(text) for key, text in changes.items()}
    presets.apply(tree, values, "-S")
    config = configs.parse(tree, "-S" if changes else str(configs.PARAMS))
    own = any(key.startswith("data.") for key in changes)
    prepared = prepare.cached(config.data) if own else store.PREPARED
    folder = folder or Path("out/evaluations", re.sub(r"[^\w.-]+", "_", encoder))
    evaluate(Job(config, encoder, prepared), folder, folder / "metrics.json", sys.stdout.isatty())
    return folder


def table(evaluation: Mapping[str, Any]) -> str:
    """The accuracies as lines of text, each with half its interval's width."""
    names = [e.replace("_", " ") for e in evaluation["encoders"]]
    lines = [
        f"accuracy on {evaluation['split']} in percent, with 95 % intervals over its"
        f" {evaluation['n']['test']} images",
        f"{'':24}" + "".join(f"{name:>16}" for name in (*names, "chance")),
    ]
    for task, made in evaluation["tasks"].items():
        for name in evaluation["probes"]:
            cells = [_cell(made[name].get(e)) for e in evaluation["encoders"]]
            row = "".join(f"{cell:>16}" for cell in (*cells, f"{made['chance']:.1f}"))
            lines.append(f"{f'{task}, {name}':24}{row}")
    if any("curve" in r for t in evaluation["tasks"].values() for p in evaluation["probes"]
           for r in t[p].values()):  # fmt: skip
        lines.append("* mean and standard deviation over draws of the labelled images")
    return "\n".join(lines)


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:  # pixels have no network to train
        return "–"
    if "curve" in found:
        point = found["curve"][-1]  # of the most labels
        return f"{point['accuracy']:.1f} ± {point['std'] or 0:.1f} *"
    return f"{found['accuracy']:.1f} ± {(found['high'] - found['low']) / 2:.1f}"


def verify(folder: Path, metrics: Path) -> list[str]:
    """Recompute every number of an evaluation from its raw predictions.

    Args:
        folder: of ``evaluation.json`` and ``predictions.npz``.
        metrics: the metrics file; not compared where there is none.

    Returns:
        A line for every number that is not what the predictions give.

    Raises:
        ValueError: a file is missing, or they do not belong together.
    """
    for name in ("evaluation.json", "predictions.npz"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: no such file; `dvc repro evaluate` makes it")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    with np.load(folder / "predictions.npz") as arrays:
        again = scores.summarise(*scores.restore(evaluation, dict(arrays)))
    wrong = list(_differences("evaluation.json", evaluation, json.loads(json.dumps(again))))
    if metrics.is_file():
        found = json.loads(metrics.read_text())
        wrong += _differences("metrics.json", found, scores.headline(again))
    return wrong


def _differences(where: str, written: Any, computed: Any) -> list[str]:
    if isinstance(written, dict) and isinstance(computed, dict):
        keys = [*written, *(k for k in computed if k not in written)]
        pairs = [(k, written.get(k), computed.get(k)) for k in keys]
    elif (
        isinstance(written, list) and isinstance(computed, list) and len(written) == len(computed)
    ):
        pairs = [(n, a, b) for n, (a, b) in enumerate(zip(written, computed, strict=True))]
    else:
        same = written == computed
        return [] if same else [f"{where}: {written}, the predictions give {computed}"]
    return [line for key, a, b in pairs for line in _differences(f"{where}: {key}", a, b)]


if __name__ == "__main__":
    sys.exit(console.run(main))
