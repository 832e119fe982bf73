"""What a run leaves in ``out/`` at its end."""

from pathlib import Path
from typing import Any

from ijepa import config as configs
from ijepa.config import Config
from ijepa.model import vit
from ijepa.runtime import files
from ijepa.runtime.errors import Failure
from ijepa.store.read import Store
from ijepa.training.health import told, verdict
from ijepa.training.progress import Progress

OUT = Path("out")
NAMES = ("encoder.safetensors", "context_encoder.safetensors", "history.csv", "pretrain.json")


def write_outputs(
    config: Config,
    store: Store,
    objective: Any,
    progress: Progress,
    history: list[dict[str, float]],
    read: int,
) -> None:
    """The encoder, the metrics and the history; no clock in them, equal runs are equal bytes.

    ``read`` is the number of images of a health reading.

    Raises:
        Failure: the disk refused; the checkpoint of the last step is there.
    """
    try:
        OUT.mkdir(exist_ok=True)
        _write(config, store, objective, progress, history, read)
    except OSError as error:
        raise Failure(
            f"{error.filename}: {error.strerror}; the last step is saved: make room, and the same"
            " command goes on from there"
        ) from None


def _write(
    config: Config,
    store: Store,
    objective: Any,
    progress: Progress,
    history: list[dict[str, float]],
    read: int,
) -> None:
    meters = history[0], history[-1], min(config.model.width, read)
    words = verdict(*meters)
    identity = {"data": store.hash, "signature": configs.signature(config)}
    context = getattr(objective, "context_encoder", objective.encoder)
    networks = {"encoder": objective.encoder, "context_encoder": context}
    for name, network in networks.items():  # the same one where no other network follows it
        role = "context" if network is context else "target"
        vit.save(network, OUT / f"{name}.safetensors", identity | {"network": role})
    files.write_csv(OUT / "history.csv", history)
    last, ratios = history[-1], [row["context_ratio"] for row in history]
    metrics = {
        name: last[name] for name in ("step", "images", "loss", "feature_std", "rankme")
    } | {
        "context_ratio": sum(ratios) / len(ratios),
        "health": words,
        "collapsed": words.startswith("collapsed"),
        "parameters": sum(p.numel() for p in objective.encoder.parameters()),
        "flops": progress.flops,
        "flops_per_image": progress.flops / progress.images,
        "flops_useful": progress.flops_useful,
        "flops_useful_per_image": progress.flops_useful / progress.images,
    }
    files.write_json(OUT / "pretrain.json", metrics)
    files.write_sums(OUT, NAMES)
    print(told(*meters), flush=True)
