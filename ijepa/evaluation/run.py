"""Probe an encoder and its baselines, and write every number with the predictions behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ijepa.backbones import pixels
from ijepa.evaluation import probing, scores
from ijepa.evaluation.probing import Job
from ijepa.runtime import environment
from ijepa.runtime.files import write_json, write_sums


def evaluate(job: Job, folder: Path, metrics: Path, progress: bool = False) -> dict[str, Any]:
    """Probe and write ``evaluation.json``, ``predictions.npz``, the metrics, and their sums.

    Returns:
        The content of ``evaluation.json``.
    """
    torch.set_num_threads(environment.hardware().threads)
    outcomes = probing.outcomes(job, lambda text: print(text, flush=True), progress)
    backbones = job.backbones()
    about = {
        "encoder": backbones["trained"].name,
        "encoders": list(backbones),
        "probes": list(job.config.evaluate.probes),
        "precision": environment.hardware().precision,
        "pixels_side": min(backbones["trained"].image_size, pixels.SIDE),
    }
    evaluation = scores.summarise(about, outcomes)
    folder.mkdir(parents=True, exist_ok=True)
    scores.write_predictions(folder / "predictions.npz", outcomes)
    write_json(folder / "evaluation.json", evaluation)
    write_json(metrics, scores.headline(evaluation))
    write_sums(folder, scores.files_of(folder, metrics))
    print(table(evaluation))
    return evaluation


def table(evaluation: Mapping[str, Any]) -> str:
    """The accuracies as lines of text, each with half its interval's width."""
    names = [e.replace("_", " ") for e in evaluation["encoders"]]
    lines = [
        f"accuracy on {evaluation['split']} in percent, with 95 % intervals over its"
        f" {evaluation['n']['test']} images",
        f"{'':24}" + "".join(f"{name:>16}" for name in (*names, "chance")),
    ]
    for task, summary in evaluation["tasks"].items():
        for name in evaluation["probes"]:
            cells = [_cell(summary[name].get(e)) for e in evaluation["encoders"]]
            row = "".join(f"{cell:>16}" for cell in (*cells, f"{summary['chance']:.1f}"))
            lines.append(f"{f'{task}, {name}':24}{row}")
    if any("curve" in r for t in evaluation["tasks"].values() for p in evaluation["probes"]
           for r in t[p].values()):  # fmt: skip
        lines.append("* mean and standard deviation over draws of the labelled images")
    return "\n".join(lines)


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:  # pixels have no network to train
        return "–"
    if "curve" in cell:
        point = cell["curve"][-1]  # of the most labels
        return f"{point['accuracy']:.1f} ± {point['std'] or 0:.1f} *"
    return f"{cell['accuracy']:.1f} ± {(cell['high'] - cell['low']) / 2:.1f}"
