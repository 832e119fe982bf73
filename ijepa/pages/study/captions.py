"""Which figures an ablation has, and their words."""

from collections.abc import Mapping
from typing import Any

from ijepa.pages.run.words import number
from ijepa.pages.study import words
from ijepa.study import costs

Tree = Mapping[str, Any]


def listing(results: Tree) -> list[dict[str, Any]]:
    """The figures that these results allow, with their words, in the page's order."""
    found = [_accuracy_words(results)] if _anything(results) else []
    if all(tradeoffs(results)):
        found.append(_tradeoff_words(results))
    if costs.differ(results["cells"]):
        found.append(_compute_words(results))
    done = [r for r in results["runs"] if r["status"] == "done"]
    if any(r["context_ratio"] is not None for r in done):
        found.append(
            {
                "name": "context",
                "title": "Accuracy against the realised context",
                "alt": "Scatter plot: share of patches that the context encoder saw, against"
                f" accuracy. {_listed(results, 'context_ratio', 3)}.",
                "caption": "Each small mark is a run, each large one the mean of a variant. A"
                " variant that also changes how much context there is differs in two things: the"
                " factor and this ratio, the mean share of an image's patches that the context"
                " encoder saw in pretraining.",
            }
        )
    if any(cell["pretrain_seconds"] for cell in results["cells"]):
        found.append(
            {
                "name": "cost",
                "title": "Time of pretraining",
                "alt": "Bars of the seconds that pretraining took."
                f" {_listed(results, 'pretrain_seconds', 0)}.",
                "caption": "Wall time of the pretraining stage, mean over seeds (bars) and each"
                " run (marks), on the machines that the table of runs names; other work on the"
                " same machine is in it.",
            }
        )
    # points that are budgets of one thing: not other data, nor other lengths for each variant
    budgets = len(costs.groups(results)) == 1 and not any(
        point["equal_compute"] for point in results["points"]
    )
    if results["points"] and results["comparisons"] and budgets and axis(results):
        found.append(
            {
                "name": "emergence",
                "title": "Claimed differences against compute",
                "alt": "Paired differences of each claimed pair at each point. "
                + "; ".join(
                    f"{words.pair(results, c)} {number(c['mean'], signed=True)}"
                    for c in results["comparisons"]
                )
                + ".",
                "caption": "Mean difference paired by seed with its 95 % interval over seeds;"
                " above the zero line the claim points the right way. Green is decided for the"
                " claim, red against it, blue undecided. An interval that meets the frame goes on"
                " beyond; points of nearly the same compute stand side by side. The horizontal"
                f" axis: {axis(results)}.",
            }
        )
    return [{"number": i, "picture": False, **one} for i, one in enumerate(found, 1)]


def tradeoffs(results: Tree) -> tuple[list[str | None], list[str]]:
    """Points, and further metrics of other tasks, that have numbers: a figure's rows, columns."""
    task = results["metric"].partition(".")[0]
    metrics = [m for m in results["also"] if m.partition(".")[0] != task]
    both = [
        (cell["point"], metric)
        for cell in results["cells"]
        for metric in metrics
        if cell["mean"] is not None and cell["also"][metric]["mean"] is not None
    ]
    points = [p["name"] for p in results["points"]] or [None]
    return (
        [point for point in points if any(point == p for p, _ in both)],
        [metric for metric in metrics if any(metric == m for _, m in both)],
    )


def _tradeoff_words(results: Tree) -> dict[str, Any]:
    points, metrics = tradeoffs(results)
    listed = "; ".join(
        f"{name(results, cell)} {number(cell['mean'])}, "
        + ", ".join(number(cell["also"][metric]["mean"]) for metric in metrics)
        for cell in results["cells"]
        if cell["point"] in points
    )
    what = " and ".join(words.metric(metric) for metric in metrics)
    return {
        "name": "tradeoff",
        "title": "Semantic against low-level tasks",
        "alt": f"Accuracy in percent of {words.metric(results['metric'])} against {what}:"
        f" {listed}.",
        "caption": "Each mark is a variant, mean over seeds with one standard deviation to each"
        " side; grey: the same probe on a random encoder and on raw pixels. Right is better at"
        f" {words.metric(results['metric'])}, up is better at {what}.",
    }


def _compute_words(results: Tree) -> dict[str, Any]:
    listed = "; ".join(
        f"{name(results, cell)} {words.flops(cell['flops'])}, {number(cell['mean'])}"
        for cell in results["cells"]
    )
    return {
        "name": "compute",
        "title": "Accuracy against the cost of pretraining",
        "alt": f"Total FLOPs and accuracy in percent: {listed}.",
        "caption": "Mean over seeds with one standard deviation to each side; a line joins a"
        " variant's points on one data set. Grey lines: the same probe on a random encoder and on"
        " raw pixels. FLOPs are analytic, forward and backward, teacher included. Device-hours are"
        " wall time of the training loop times devices, on the machines that the table of runs"
        " names; other work on the same machine is in them.",
    }


def _anything(results: Tree) -> bool:
    return any(c["mean"] is not None or c["paper"] is not None for c in results["cells"])


def _listed(results: Tree, key: str, digits: int = 1) -> str:
    return "; ".join(
        f"{name(results, cell)} {number(cell[key], digits)}" for cell in results["cells"]
    )


def name(results: Tree, cell: Tree) -> str:
    """A row's variant, and its point."""
    point = cell["point"]
    at = f", {words.place(results, point)}" if point is not None else ""
    return f"{cell['label']}{at}"


def _accuracy_words(results: Tree) -> dict[str, Any]:
    paper = [cell for cell in results["cells"] if cell["paper"] is not None]
    published = "; ".join(f"{cell['label']} {number(cell['paper'])}" for cell in paper)
    reference = words.label(results, results["claim"]["reference"])
    return {
        "name": "accuracy",
        "title": "Accuracy of the variants" + (", here and in the paper" if paper else ""),
        "alt": f"Accuracies in percent. Here: {_listed(results, 'mean')}."
        + (f" In the paper: {published}." if paper else ""),
        "caption": "First panel: here, mean over seeds (large) with its 95 % interval, each seed"
        " (small), and the seeds of neighbouring variants joined; dashed: the same probe on a"
        f" random encoder and on raw pixels. Second: the difference to {reference} (bold), paired"
        " by seed."
        + (" Third: the paper's numbers on an axis of their own." if paper else "")
        + " An interval that meets the frame goes on beyond.",
    }


def axis(results: Tree) -> str | None:
    """What the points are drawn against: compute where runs tell it, else the points' own x."""
    done = [run for run in results["runs"] if run["status"] == "done"]
    if all(c["compute"] for c in results["comparisons"] if c["n"]) and any(
        c["n"] for c in results["comparisons"]
    ):
        if all(run["flops"] for run in done):
            return "FLOPs of pretraining, forward and backward, the mean of the two"
        if all(run["patches"] for run in results["runs"]):
            return "approximate compute of pretraining, 6 × encoder parameters × patches × images"
        return "approximate compute of pretraining, encoder parameters × images seen"
    if all(point["x"] for point in results["points"]):
        return "x as the experiment's file has it"
    return None
