"""Stage 3: what a frozen encoder's features know, beside a random encoder and the pixels.

For every label of the data set and every probe: accuracy on the report split with an interval over
its images, for the trained encoder, the encoder that the run started from, and raw pixels, all
under one protocol. A part of the training images is held out and chooses among features and
settings; the report split is predicted once.
"""

import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from numpy.typing import NDArray

from ijepa import (
    config,
    console,
    environment,
    features,
    remembered,
    seeds,
    statistics,
    store,
    variants,
)
from ijepa.config import Config
from ijepa.probes import Features, Result
from ijepa.results import write_json
from ijepa.store import Store
from ijepa.tracking import journal

WEIGHTS = Path("out/encoder.safetensors")
METRICS = Path("out/metrics.json")
EVALUATION = Path("out/evaluation/evaluation.json")
PREDICTIONS = Path("out/evaluation/predictions.npz")

# (probe, encoder) -> task -> result
Results = Mapping[tuple[str, str], Mapping[str, Result]]


def main() -> None:
    """Evaluate ``out/encoder.safetensors`` on ``data/prepared``.

    Raises:
        ValueError: a parameter, the data set or the encoder cannot be used.
    """
    run_config, data = config.load(), store.open_store()
    outs = (METRICS, EVALUATION, PREDICTIONS)
    journal.record(
        "evaluate",
        run_config,
        lambda run: _stage(run_config, data, run),
        data=data.hash,
        outs=outs,
    )


def _stage(run_config: Config, data: Store, run: journal.Run) -> float:
    """Probe, write the three files; returns the headline: first probe, first task, in percent."""
    torch.set_num_threads(environment.hardware().threads)
    settings = run_config.evaluate
    count = len(data.splits["train"])
    parts = held_out_split(run_config.seed, settings.held_out, settings.train_fraction, count)
    results = probe(run_config, data, parts, run.interactive)
    labels = data.splits[data.report_split].labels
    counts = {
        "train": len(parts[0]),
        "held_out": len(parts[1]),
        "test": len(next(iter(labels.values()))),
    }
    evaluation = summarise(run_config, data.tasks, data.report_split, counts, labels, results)
    metrics = headline(evaluation, run_config.evaluate.probes)
    EVALUATION.parent.mkdir(parents=True, exist_ok=True)
    write_json(EVALUATION, evaluation)
    write_json(METRICS, metrics)
    write_predictions(PREDICTIONS, labels, results)
    for task, by_probe in metrics.items():
        for name, by_encoder in by_probe.items():
            for encoder, accuracy in by_encoder.items():
                run.log(f"eval.{task}.{name}.{encoder}", accuracy, 0)
    print(table(evaluation, run_config.evaluate.probes))
    first = metrics[next(iter(data.tasks))]
    return first[run_config.evaluate.probes[0]]["trained"]


def held_out_split(
    seed: int, share: float, fraction: float, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of the ``count`` training images fit the probes, and which select.

    Args:
        seed: the run's.
        share: of the images used, how many select.
        fraction: of all images, how many are used; the paper's ablations use 0.01.
        count: training images.

    Returns:
        Two ascending, disjoint arrays of indices; at least one each.

    Raises:
        ValueError: fewer than two images.
    """
    used = round(fraction * count)
    if used < 2:
        raise ValueError(
            f"data/prepared: {used} of {count} training images with evaluate.train_fraction"
            f" {fraction:g}; a probe needs at least 2"
        )
    order = seeds.generator(seed, "held-out").permutation(count).astype(np.int64)[:used]
    held_out = min(used - 1, max(1, round(share * used)))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def probe(
    run_config: Config,
    data: Store,
    parts: tuple[NDArray[np.int64], NDArray[np.int64]],
    progress: bool = False,
) -> Results:
    """Every probe on every encoder; each encoder's features are extracted once.

    Args:
        run_config: seed, data, model and evaluate are used.
        data: the prepared data set.
        parts: training images that fit, and that select.
        progress: whether to show bars.

    Returns:
        (probe, encoder) -> task -> result.
    """
    size, device = run_config.data.image_size, environment.hardware().device
    results: dict[tuple[str, str], Mapping[str, Result]] = {}
    used = np.sort(np.concatenate(parts))
    for encoder in features.ENCODERS:
        source = features.frozen(encoder, run_config, WEIGHTS)
        print(
            f"{encoder}: {', '.join(f'{c} ({n})' for c, n in source.choices.items())}", flush=True
        )
        train = Features(
            features.extract(source, data, "train", size, progress, used),
            {task: labels[used] for task, labels in data.splits["train"].labels.items()},
        )
        test = Features(
            features.extract(source, data, data.report_split, size, progress),
            data.splits[data.report_split].labels,
        )
        fit, held_out = (train.take(np.searchsorted(used, part)) for part in parts)
        for name in run_config.evaluate.probes:
            module, options = variants.load("probes", name), run_config.evaluate.options[name]
            fit_score = functools.partial(
                module.fit_score, fit, held_out, test, options, run_config.seed, device
            )
            if encoder == "trained":
                results[name, encoder] = fit_score()
            else:
                identity = [
                    str(features.cache_file(source, data, "train", size, parts[0]).stem),
                    str(features.cache_file(source, data, "train", size, parts[1]).stem),
                    data.report_split, name, config.as_tree(options), run_config.seed, device,
                ]  # fmt: skip
                code = Path(str(module.__file__))
                results[name, encoder] = remembered.result(identity, code, fit_score)
            for task, result in results[name, encoder].items():
                right = float((result.predictions == test.labels[task]).mean())
                print(f"  {name}, {task}: {100 * right:.1f} %", flush=True)
    return results


def summarise(
    run_config: Config,
    tasks: Mapping[str, tuple[str, ...]],
    split: str,
    counts: Mapping[str, int],
    labels: Mapping[str, NDArray[np.int64]],
    results: Results,
) -> dict[str, Any]:
    """The content of ``evaluation.json``: percents with 95 % intervals."""
    probes = run_config.evaluate.probes
    made: dict[str, Any] = {}
    for task, classes in tasks.items():
        truth = labels[task]
        made[task] = {
            "classes": list(classes),
            "chance": _percent(np.bincount(truth).max() / len(truth)),
            **{
                name: {e: _accuracy(results[name, e][task], truth) for e in features.ENCODERS}
                for name in probes
            },
            "differences": {
                name: {
                    baseline: _difference(
                        results[name, "trained"][task], results[name, baseline][task], truth
                    )
                    for baseline in features.ENCODERS[1:]
                }
                for name in probes
            },
        }
    return {
        "split": split,
        "n": dict(counts),
        "encoders": list(features.ENCODERS),
        "precision": environment.hardware().precision,
        "pixels_side": min(run_config.data.image_size, features.PIXELS_SIDE),
        "tasks": made,
    }


def _percent(share: float) -> float:
    return round(100 * float(share), 4)


def _accuracy(result: Result, truth: NDArray[np.int64]) -> dict[str, Any]:
    right = int((result.predictions == truth).sum())
    low, high = statistics.wilson(right, len(truth))
    return {
        "accuracy": _percent(right / len(truth)),
        "low": _percent(low),
        "high": _percent(high),
        "held_out": _percent(result.held_out),
        "selected": dict(result.selected),
        "grid": [{**row, "held_out": _percent(float(row["held_out"]))} for row in result.grid],
    }


def _difference(trained: Result, baseline: Result, truth: NDArray[np.int64]) -> dict[str, float]:
    first, second = trained.predictions == truth, baseline.predictions == truth
    only = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = statistics.paired_difference(*only, len(truth))
    return {
        "difference": _percent((only[0] - only[1]) / len(truth)),
        "low": _percent(low),
        "high": _percent(high),
    }


def headline(
    evaluation: Mapping[str, Any], probes: tuple[str, ...]
) -> dict[str, dict[str, dict[str, float]]]:
    """The content of ``metrics.json``: task -> probe -> encoder -> accuracy in percent."""
    return {
        task: {
            name: {e: round(made[name][e]["accuracy"], 2) for e in evaluation["encoders"]}
            for name in probes
        }
        for task, made in evaluation["tasks"].items()
    }


def table(evaluation: Mapping[str, Any], probes: tuple[str, ...]) -> str:
    """The accuracies as lines of text, each with half its interval's width."""
    names = [e.replace("_", " ") for e in evaluation["encoders"]]
    lines = [
        f"accuracy on {evaluation['split']} in percent, with 95 % intervals over its"
        f" {evaluation['n']['test']} images",
        f"{'':24}" + "".join(f"{name:>16}" for name in (*names, "chance")),
    ]
    for task, made in evaluation["tasks"].items():
        for name in probes:
            cells = [
                f"{r['accuracy']:.1f} ± {(r['high'] - r['low']) / 2:.1f}"
                for r in made[name].values()
            ]
            row = "".join(f"{cell:>16}" for cell in (*cells, f"{made['chance']:.1f}"))
            lines.append(f"{f'{task}, {name}':24}{row}")
    return "\n".join(lines)


def write_predictions(
    path: Path, labels: Mapping[str, NDArray[np.int64]], results: Results
) -> None:
    """Labels and predictions as ``<task>/labels`` and ``<task>/<probe>/<encoder>``, readable by
    ``numpy.load``.

    Written member by member with a fixed date and mode, so that equal predictions are equal bytes.
    """
    arrays = {f"{task}/labels": truth for task, truth in labels.items()}
    for (name, encoder), by_task in results.items():
        arrays |= {f"{task}/{name}/{encoder}": r.predictions for task, r in by_task.items()}
    with ZipFile(path, "w") as archive:
        for key in sorted(arrays):
            with archive.open(ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, arrays[key].astype(np.int32), allow_pickle=False)


if __name__ == "__main__":
    sys.exit(console.run(main))
