"""Every probe on every encoder and data set: extract once, then fit.

With several processes (``launch.run`` of this module) each extracts its share of the batches and
fits its share of the probes into the caches, where the stage then finds all of it. One process
computes the same numbers.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from ijepa import backbones, features, seeds, variants
from ijepa import config as configs
from ijepa.backbones import Backbone
from ijepa.config import Config
from ijepa.evaluation import cache, labelling
from ijepa.evaluation.labelling import labelled
from ijepa.evaluation.scores import Outcome
from ijepa.features import Part
from ijepa.probes import Features, Result
from ijepa.runtime import environment, errors, launch
from ijepa.store import cache as copies
from ijepa.store.read import Store, open_store

_JOB = "IJEPA_EVALUATION"  # names the file that tells a child of several what to evaluate


@dataclass(frozen=True, slots=True)
class Job:
    """What is evaluated on what.

    Attributes:
        config: seeds, data, model and evaluate are used.
        encoder: spec of the encoder of interest, see ``encoders.load``.
        prepared: folder of the run's own data set.
    """

    config: Config
    encoder: str
    prepared: Path

    def backbones(self) -> dict[str, Backbone]:
        """The encoder of interest and its baselines."""
        return backbones.compared(self.encoder, self.config)

    def sets(self) -> list[tuple[str, Store]]:
        """The data sets: the run's own, and those it is transferred to."""
        prepared = [("", open_store(self.prepared))]
        for number, data in enumerate(self.config.evaluate.transfer):
            try:
                prepared.append((data.name, open_store(copies.prepared(data))))
            except ValueError as error:  # it speaks of the data section, which this is not
                key, text = f"evaluate.transfer[{number}]", str(error)
                raise ValueError(
                    f"{key}.{text[5:]}" if text.startswith("data.") else f"{key}: {text}"
                ) from None
        return prepared


def outcomes(job: Job, report: Callable[[str], None], progress: bool = False) -> list[Outcome]:
    """All results, from the caches as far as they are there.

    Args:
        job: what is evaluated.
        report: told each accuracy in words as it is known.
        progress: whether to show bars.

    Raises:
        ValueError: an encoder, a data set or a probe's option cannot be used.
    """
    hardware = environment.hardware()
    _same_bits(hardware)
    if hardware.processes > 1:
        job.sets()  # prepared by this process alone
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "job.json"
            tree = configs.as_tree(job.config)
            path.write_text(json.dumps([tree, job.encoder, str(job.prepared.resolve())]))
            end = launch.run("ijepa.evaluation.probing", hardware, {_JOB: str(path)}, lambda: None)
        if end.status:
            raise errors.Failure(f"the probes: {end}; their output is above", max(1, end.status))
    outcomes, backbones = [], job.backbones()
    for name, backbone in backbones.items():
        choices = backbone.choices(job.config.evaluate.last_layers).items()
        report(f"{name}: {backbone.name}; {', '.join(f'{c}: {n} features' for c, n in choices)}")
    for data, prepared in job.sets():
        used, folds = labelled(job.config, prepared)
        for note in labelling.check(job.config, prepared):
            report(f"note: {data}: {note}" if data else f"note: {note}")
        labels = prepared.splits[prepared.report_split].labels
        results: dict[tuple[str, str], Mapping[str, Result]] = {}
        for probe, name in pairs(job.config, backbones):
            results[probe, name] = fit(job, backbones[name], prepared, probe, progress)
            for task, result in results[probe, name].items():
                where = f"{data}/{task}" if data else task
                report(f"  {name}, {probe}, {where}: {100 * result.accuracy(labels[task]):.1f} %")
        counts = {
            "train": len(used),
            "held_out": sum(map(len, folds)),
            "test": len(prepared.splits[prepared.report_split]),
        }
        outcomes.append(
            Outcome(data, prepared.report_split, counts, prepared.tasks, labels, results)
        )
    return outcomes


def pairs(config: Config, backbones: Mapping[str, Backbone]) -> Iterator[tuple[str, str]]:
    """Every probe with every encoder that can give what it needs, encoder by encoder."""
    for name, backbone in backbones.items():
        for probe in config.evaluate.probes:
            if backbone.network is not None or needs(probe) == "pooled":
                yield probe, name


def needs(probe: str) -> str:
    """What a probe reads: pooled features, tokens or the network."""
    return str(variants.load("probes", probe).NEEDS)


def fit(
    job: Job, backbone: Backbone, data: Store, probe: str, progress: bool = False
) -> Mapping[str, Result]:
    """One probe on one encoder and data set, or what it gave before."""
    settings, device = job.config.evaluate, environment.hardware().device
    last, options = settings.last_layers, settings.options[probe]
    parts = views(job.config, backbone, data)
    folds, kind = labelled(job.config, data)[1], needs(probe)

    def compute() -> Mapping[str, Result]:
        train, test = (
            Features(
                features.pooled(backbone, last, part, progress) if kind == "pooled" else {},
                {t: y[part.rows] for t, y in data.splits[part.split].labels.items()},
                backbone,
                part,
            )
            for part in parts
        )
        module = variants.load("probes", probe)
        results: Mapping[str, Result] = module.fit_score(
            train, folds, test, options, job.config.seeds.probe, device
        )
        return results

    identity = [
        *(features.cache_file(kind, backbone, last, part).stem for part in parts),
        settings.train_fraction, settings.held_out, settings.folds, configs.as_tree(options),
        job.config.seeds.labels, job.config.seeds.probe,
    ]  # fmt: skip
    return cache.result(identity, probe, compute)


def views(config: Config, backbone: Backbone, data: Store) -> tuple[Part, Part]:
    """The images used of the training and of the reported split."""
    used, view, size = labelled(config, data)[0], config.evaluate.view, backbone.image_size
    every = np.arange(len(data.splits[data.report_split]))
    return (
        Part(data, "train", used, view, size),
        Part(data, data.report_split, every, view, size),
    )


def _same_bits(hardware: environment.Hardware) -> None:
    """Deterministic kernels on a GPU, as in training; a CPU's are."""
    if hardware.device == "cuda" and environment.number("IJEPA_DETERMINISTIC"):
        seeds.deterministic()


def main() -> int:
    """One process of several: extract with the others, then fit its own share of probes."""
    launch.die_with_parent()
    tree, encoder, prepared = json.loads(Path(os.environ[_JOB]).read_text())
    job = Job(configs.parse(tree, "params.yaml"), encoder, Path(prepared))
    hardware, place = environment.hardware(), launch.place()
    torch.set_num_threads(hardware.threads)
    _same_bits(hardware)
    if hardware.device == "cuda":
        torch.cuda.set_device(place.local)
    dist.init_process_group("nccl" if hardware.device == "cuda" else "gloo", **place.meeting())
    backbones, sets = job.backbones(), [data for _, data in job.sets()]
    for data in sets:
        for backbone in backbones.values():
            extract(job.config, backbone, data)
    dist.destroy_process_group()  # from here on everyone works alone
    work = [(data, pair) for data in sets for pair in pairs(job.config, backbones)]
    for data, (probe, name) in work[place.rank :: place.world]:
        fit(job, backbones[name], data, probe)
    return 0


def extract(config: Config, backbone: Backbone, data: Store) -> None:
    """All features that the probes will read, into the cache."""
    wanted = set(map(needs, config.evaluate.probes))
    for part in views(config, backbone, data):
        if "pooled" in wanted:
            features.pooled(backbone, config.evaluate.last_layers, part)
        if "tokens" in wanted and backbone.network is not None:
            features.tokens(backbone, part)


if __name__ == "__main__":
    sys.exit(errors.run(main))
