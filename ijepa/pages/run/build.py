"""Draw every figure of a run and gather what they show: the work of the report stage."""

import json
import shutil
from pathlib import Path
from typing import Any

from ijepa.config import Config
from ijepa.pages.run import charts, collect, figures, pages, protocol, views, words
from ijepa.pages.run.words import number, spoken
from ijepa.runtime.files import write_json
from ijepa.store.read import PREPARED, Store, open_store

MASKS, VIEWS = 6, 8  # images in the gallery of masks, and in the panels of the representation


def build(settings: Config, folder: Path) -> dict[str, Any]:
    """Write ``results.json``, ``figures/``, the pages and ``report.md``.

    Args:
        settings: the run's parameters.
        folder: where to; files that are there are overwritten.

    Returns:
        The content of ``results.json``.

    Raises:
        ValueError: there is no evaluation, or a result is damaged.
    """
    data = open_store() if (PREPARED / "manifest.json").is_file() else None
    results = collect.collect(settings, data)
    drawn = folder / "figures"
    shutil.rmtree(drawn, ignore_errors=True)  # a figure that is not drawn again must not stay
    found = _of_results(results, drawn)
    found += _of_training(results, drawn)
    found += _of_masks(settings, results, drawn)
    if data and collect.ENCODER.is_file():
        found += _of_representation(settings, data, results, drawn)
    results["figures"] = [{"number": place, **figure} for place, figure in enumerate(found, 1)]
    exact = {"parameters": results["parameters"]}  # of the rest, digits that are noise are cut
    write_json(folder / "results.json", collect.plain(results) | exact)
    final: dict[str, Any] = json.loads((folder / "results.json").read_text())
    pages.write(final, folder)  # from what a reader has, and nothing else
    return final


def _figure(
    section: str, name: str, title: str, alt: str, caption: str, picture: bool = False
) -> dict[str, Any]:
    return {
        "section": section,
        "name": name,
        "title": title,
        "alt": alt,
        "caption": caption,
        "picture": picture,
    }


def _of_results(results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    if not results["table"]:
        return []
    charts.accuracy(results["table"], folder / "accuracy")
    values = "; ".join(
        f"{spoken(row['task'])} by {row['method']} from {spoken(row['encoder'])}"
        f" {number(row['accuracy'])} %"
        for row in results["table"]
    )
    found = [
        _figure(
            "results", "accuracy", "Accuracy of the probes",
            f"Bar charts of accuracy. {values}.",
            f"Error bars are item-level: 95 % intervals over {results['run']['split']} images, not"
            " over training seeds. The dashed line is chance: the share of the most frequent"
            " class. Numbers: the table above.",
        )
    ]  # fmt: skip
    return found + _of_few_labels(results, folder) + _of_confusions(results, folder)


def _of_few_labels(results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    lines = results["few_label"]
    if not lines:
        return []
    charts.few_label(lines, folder / "few_label")
    values = "; ".join(
        f"{spoken(line['task'])} from {spoken(line['encoder'])}: "
        + ", ".join(f"{number(p['accuracy'])} % with {p['labels']}" for p in line["points"])
        for line in lines
    )
    draws = max(len(point["draws"]) for line in lines for point in line["points"])
    probes = ", ".join(dict.fromkeys(spoken(line["probe"]) for line in lines))
    return [
        _figure(
            "results", "few_label", "Accuracy from few labels",
            f"Curves of accuracy against the labelled images of each class. {values}.",
            f"Probe: {probes}. Points are means, error bars one standard deviation, over up to"
            f" {draws} random draws of the labelled training images; one encoder, one training"
            " seed. The dashed line is chance. Encoders stand a little apart so that no error bar"
            " hides another. Numbers: results.json, few_label.",
        )
    ]  # fmt: skip


def _of_confusions(results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    found = results["confusion"]
    if not found:
        return []
    for part in found:
        part["reading"] = words.confusion(part)
    charts.confusion(found, folder / "confusion")
    probe = spoken(found[0]["probe"])
    readings = " ".join(f"{spoken(part['task'])}: {part['reading']}." for part in found)
    ordered = any(part["distance"] for part in found)
    return [
        _figure(
            "results", "confusion", f"What the {probe} probe takes for what",
            f"Confusion matrices. {readings}",
            f"The {probe} probe on the trained encoder. Each row is a true class and sums to"
            " 100 %; the diagonal is right."
            + (
                " The classes of count and distance have an order: “off by” is the mean number of"
                " classes between the predicted and the true one, beside the least that a constant"
                " answer can reach."
                if ordered
                else ""
            )
            + " Counts: results.json, confusion.",
        )
    ]  # fmt: skip


def _of_training(results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    history = results["history"]
    if not history:
        return []
    charts.curves(history, folder / "training")
    ends = ", ".join(
        f"{title.lower()} from {_short(history[name][0])} to {_short(history[name][-1])}"
        for name, (title, _) in charts.CURVES.items()
        if history.get(name)
    )
    return [
        _figure(
            "training", "training", "Loss, health and schedules",
            f"Curves against the images seen: {ends}.",
            "Loss and context are means since the row before, with a running mean (dark) over 4"
            " % of the rows; all else is the value at that moment. Feature spread and effective"
            " rank are those of the evaluated encoder's mean patch feature on fixed training"
            " images: both near zero would be a collapse. A lower loss alone does not mean"
            " better features. One run: there are no error bars. A red cross is a value that is"
            " not a number. Numbers: results.json, history.",
        )
    ]  # fmt: skip


def _short(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def _of_masks(settings: Config, results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    learned = protocol.objective(settings)
    real = figures.mask_gallery(settings, folder / "masks", MASKS)
    shares = results["masks"] = figures.mask_shares(settings)
    charts.realised(shares, folder / "context")
    what = (
        "The first images of pretraining's first batch, cropped as it saw them"
        if real
        else "There is no data set here, so grey stands for images"
    )
    context, target = shares["context"], shares["target"]
    band = ", the green band mask.target_scale" if shares["target_scale"] else ""
    return [
        _figure(
            "masks", "masks", "Context and targets",
            f"{MASKS} images, each beside its visible context and its target blocks.",
            f"{what}; what is no context is grey. {learned.TITLE}: {learned.ABOUT}",
            picture=True,
        ),
        _figure(
            "masks", "context", "Realised masks",
            f"Histograms. Context: mean {context['mean']:.3f} of the patches, from"
            f" {context['smallest']:.3f} to {context['largest']:.3f}. One target: mean"
            f" {target['mean']:.3f}, from {target['smallest']:.3f} to {target['largest']:.3f}.",
            f"Shares of an image's patches over {shares['masks']:,} masks drawn with this run's"
            f" seed; the vertical line is the mean{band}. Blocks have whole patches, so a target"
            " can fall a little outside the range that was asked for. Numbers: results.json,"
            " masks.",
        ),
    ]  # fmt: skip


def _of_representation(
    settings: Config, data: Store, results: dict[str, Any], folder: Path
) -> list[dict[str, Any]]:
    seen = views.look(settings, data, collect.ENCODER, VIEWS)
    task = next(iter(data.tasks))
    labels, classes = data.splits[data.report_split].labels[task], data.tasks[task]
    figures.patch_maps(seen, folder / "patches")
    figures.retrieval(seen, labels, folder / "neighbours")
    same = {
        name: int((labels[found] == labels[seen.ids][:, None]).sum())
        for name, found in seen.neighbours.items()
    }
    shown = seen.ids.size * views.NEIGHBOURS
    results["views"] = {
        "split": data.report_split,
        "task": task,
        "ids": seen.ids.tolist(),
        "labels": [classes[i] for i in labels[seen.ids]],
        "explained": seen.explained,
        "pool": seen.pool,
        "neighbours": {name: found.tolist() for name, found in seen.neighbours.items()},
        "same": same,
        "shown": shown,
    }
    names = ", ".join(results["views"]["labels"])
    shares = "; ".join(f"{spoken(name)} {sum(part):.0%}" for name, part in seen.explained.items())
    counts = "; ".join(f"{spoken(name)} {count} of {shown}" for name, count in same.items())
    return [
        _figure(
            "representation", "patches", "Principal components of patch features",
            f"{len(seen.ids)} images ({names}) above colour maps of their patch features.",
            "The first three principal components of the last block's patch features as red, green"
            " and blue, in one basis for all images of an encoder, scaled up to the image. Equal"
            " colours are similar patches; colours mean nothing from one encoder to the other."
            f" Share of the variance shown: {shares}. The images are the first of each class in"
            f" the {data.report_split} split, chosen before training.",
            picture=True,
        ),
        _figure(
            "representation", "neighbours", "Nearest neighbours",
            f"{len(seen.ids)} query images ({names}), each beside its nearest images. Of the"
            f" query's class are: {counts}.",
            f"The {views.NEIGHBOURS} nearest among {seen.pool:,} images of the"
            f" {data.report_split} split, by the cosine similarity of mean patch features of the"
            " last block (or of pixels) once the mean over images is removed. Solid blue frame:"
            f" the query's {spoken(task)}; dashed orange: another. Of the query's {spoken(task)}"
            f" are: {counts}. So few queries only illustrate; the kNN rows of the table measure.",
            picture=True,
        ),
    ]  # fmt: skip
