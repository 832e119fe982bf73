"""What a comparison of variants means, in words: one place for page, Markdown and index."""

from collections.abc import Mapping, Sequence
from typing import Any

from ijepa.pages.run.words import NOTHING, interval, number, spoken
from ijepa.study.statistics import ENOUGH, FAILS, HOLDS, MOST, NOTHING_CLAIMED, UNDECIDED

MARKS = {
    HOLDS: "▲ holds", FAILS: "▼ does not hold", UNDECIDED: "◇ undecided",
    NOTHING_CLAIMED: "explores, claims nothing",
}  # fmt: skip
BANDS = {HOLDS: "▲ in", FAILS: "▼ out", UNDECIDED: "◇ undecided"}
CLASSES = {
    HOLDS: "better", FAILS: "worse", UNDECIDED: "undecided", NOTHING_CLAIMED: "undecided",
}  # fmt: skip
_MANY = 8  # keys of a factor: more are listed where the settings are


def label(results: Mapping[str, Any], variant: str) -> str:
    """A variant as the table calls it."""
    return next(str(v["label"]) for v in results["variants"] if v["name"] == variant)


def place(results: Mapping[str, Any], point: str) -> str:
    """A point as the charts call it."""
    return next(str(p["label"]) for p in results["points"] if p["name"] == point)


def metric(name: str, beside: str | None = None) -> str:
    """A metric as a reader says it: ``class, linear``; beside another, only what differs."""
    task, probe, which = name.rsplit(".", 2)
    text = spoken(task)
    if beside is None or beside.rsplit(".", 2)[1:] != [probe, which]:
        text += f", {spoken(probe)}" + (", held out" if which == "held_out" else "")
    return text


def flops(value: float | None) -> str:
    """FLOPs with the unit that leaves one to three digits before the point."""
    if value is None:
        return NOTHING
    for unit, size in (("Z", 1e21), ("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9)):
        if value >= size:
            return f"{value / size:.3g} {unit}FLOP"
    return f"{value / 1e6:.3g} MFLOP"


def claimed(results: Mapping[str, Any]) -> str:
    """Whose the claim is."""
    if not results["claim"]["pairs"]:
        return "What is claimed"
    whose = results["claim"]["by"]
    return "The paper's claim" if whose == "paper" else "Our claim, not the paper's"


def points(value: float | None) -> str:
    """A difference in points; one just beside zero does not look like zero."""
    return number(value, 2 if value is not None and 0 < abs(value) < 0.05 else 1, signed=True)


def pair(results: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """A claimed pair: the better over the worse, and where."""
    text = f"“{label(results, found['better'])}” over “{label(results, found['worse'])}”"
    if found["point"] is not None:
        text += f" at “{place(results, found['point'])}”"
    return text


def counted(found: Sequence[Mapping[str, Any]]) -> str:
    """``n = 3``, or ``n = 2 to 3``: the paired seeds of comparisons."""
    numbers = sorted({one["n"] for one in found}) or [0]
    return f"n = {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")


def probability(p: float | None) -> str:
    """A p value as tables print it."""
    if p is None:
        return "n/a"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def sentence(results: Mapping[str, Any]) -> str:
    """The verdict on the claim, as one sentence that can stand alone."""
    found, decision = results["comparisons"], results["verdict"]["decision"]
    if decision == NOTHING_CLAIMED:
        return (
            "Nothing is claimed: the variants are compared with"
            f" “{label(results, results['claim']['reference'])}”."
        )
    where = f"at {results['scale']['name']} scale and {counted(found)}"
    if decision == HOLDS:
        least = min(found, key=lambda one: one["mean"])
        if len(found) == 1:
            return f"The claim holds {where}: {pair(results, least)} is {_size(least)}."
        return (
            f"The claim holds {where}: all {len(found)} differences are decided in its favour;"
            f" the smallest, {pair(results, least)}, is {_size(least)}."
        )
    if decision == FAILS:
        against = [one for one in found if one["decision"] == FAILS]
        worst = min(against, key=lambda one: one["mean"])
        more = f"; of {len(found)} differences {len(against)} are decided against it"
        return (
            f"The claim does not hold {where}: {pair(results, worst)} is {_size(worst)}"
            f"{more if len(found) > 1 else ''}."
        )
    if not any(one["n"] for one in found):
        return f"The claim is undecided {where}: there is no seed to compare a pair with."
    return f"The claim is undecided {where}; {_direction(results)}; {_needed(results)}."


def _size(found: Mapping[str, Any]) -> str:
    return (
        f"{points(found['mean'])} points (95 % interval"
        f" {interval(found['low'], found['high'], signed=True)}, adjusted p"
        f" {probability(found['adjusted'])})"
        + (f", and more than {found['margin']:g} is claimed" if found["margin"] else "")
    )


def _direction(results: Mapping[str, Any]) -> str:
    """Which way the differences point, when they decide nothing."""
    found = [one for one in results["comparisons"] if one["n"]]
    total, margin = len(results["comparisons"]), results["claim"]["margin"]
    worst = min(found, key=lambda one: (one["mean"] - margin, -one["against"]))
    if total == 1:
        return f"the difference {_way(worst)}"
    along = sum(one["mean"] > margin for one in found)
    verb = "points" if along == 1 else "point"
    text = f"{along} of {total} differences {verb} the claimed way on average"
    if margin:
        text = f"{along} of {total} differences are above the margin on average"
    held = sum(one["decision"] == HOLDS for one in found)
    if held:
        text += f", {held} of them decided"
    if worst["against"]:
        far = "the one furthest from it" if along < len(found) else "the weakest"
        text += f" ({far}, {pair(results, worst)}, {_way(worst)})"
    return text


def _way(found: Mapping[str, Any]) -> str:
    n, against, margin = found["n"], found["against"], found["margin"]
    along = sum(difference > margin for difference in found["differences"])
    claimed = "exceeds the margin" if margin else "points the claimed way"
    other = "is below the margin" if margin else "points the other way"
    seeds = "the only seed" if n == 1 else f"all {n} seeds"
    if max(along, against) == n:
        return f"{claimed if along else other} in {seeds}"
    if against:
        return f"{other} in {against} of {n} seeds"
    return f"{claimed} in {along} of {n} seeds" if along else f"is {margin:g} in {seeds}"


def _needed(results: Mapping[str, Any]) -> str:
    needed = results["verdict"]["needed"]
    if needed is not None:
        return f"about {needed} seeds would decide it"
    if any(one["n"] < 2 for one in results["comparisons"]):
        return "how many seeds would decide it cannot be told without two seeds of every pair"
    return f"more than {MOST:,} seeds would be needed to decide it"


def coverage(results: Mapping[str, Any]) -> str:
    """What of the plan there is, and what else a reader must know before the numbers."""
    runs = results["runs"]
    count = {k: sum(r["status"] == k for r in runs) for k in ("done", "failed", "missing")}
    lost = " and ".join(f"{count[k]} {k}" for k in ("failed", "missing") if count[k])
    text = f"Of {len(runs)} planned runs {count['done']} are done, {lost}."
    if not lost:
        text = f"All {len(runs)} planned runs are done."
    collapsed = sum(bool(r["collapsed"]) for r in runs if r["status"] == "done")
    if collapsed:
        text += f" {collapsed} of them ended in a collapsed representation."
    if min((one["n"] for one in results["comparisons"]), default=ENOUGH) < ENOUGH:
        text += f" With fewer than {ENOUGH} paired seeds nothing is called decided."
    if any(cell["codes"] > 1 for cell in results["cells"]):
        text += " Some variants mix runs of different versions of the code."
    if results["strays"]:
        text += (
            f" The lock file also has {len(results['strays'])} results of no run of this plan:"
            f" {', '.join(results['strays'])}."
        )
    return text


_INTERVALS = (
    "All intervals on this page are 95 % t intervals over seeds: how far a mean could move with"
    " other initial weights, orders of images and masks. Intervals over test images, as in the"
    " report of one run, are another thing and are not in them. A difference is taken within each"
    " seed (paired), from seeds that both variants have. p is that of the two-sided paired t test,"
    " after Holm's correction for all comparisons of its table; the intervals are not corrected."
    f" A difference is decided from {ENOUGH} paired seeds on and if the adjusted p is below 0.05."
    " The claim holds if every pair it names does; it does not if one is decided against it. The"
    " number of seeds that would decide it takes for granted that means and standard deviations"
    " stay as they are."
)


def protocol(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Titled paragraphs: where the numbers are from, what the intervals are, what they miss."""
    return [
        {"title": "The paper's numbers", "text": _paper(results)},
        {"title": "What was run here", "text": _here(results)},
        *(
            [{"title": "How the recipes were chosen", "text": _recipes(results)}]
            if results["trials"]
            else []
        ),
        {"title": "What the intervals are", "text": _INTERVALS},
        {"title": "What the numbers cannot say", "text": _limits(results)},
    ]


def _paper(results: Mapping[str, Any]) -> str:
    if all(cell["paper"] is None for cell in results["cells"]):
        return f"The paper has no number for these variants. Source: {results['source']}."
    return (
        f"{results['source'].rstrip('.')}. They come without a spread and without a number of"
        " seeds, so how far apart two of them must be to mean something is not known."
    )


def _here(results: Mapping[str, Any]) -> str:
    scale, factor = results["scale"], results["factor"]
    keys = f"the {'key' if len(factor) == 1 else 'keys'} {', '.join(factor)}"
    if len(factor) > _MANY:
        keys = f"{len(factor)} keys, whose values are under Settings,"
    equal = [p for p in results["points"] if p["equal_compute"]]
    which = "top-1 accuracy in percent: a probe on the frozen target encoder (where an objective"
    which += " has none, on the encoder that it trains), its settings chosen on held-out training"
    which += " images. Random init and raw pixels went through the same probe."
    if results["metric"].endswith(".held_out"):
        which = "top-1 accuracy in percent of a probe on the frozen encoder, on the held-out"
        which += " training images that choose the probe's settings; no test image is in it."
    preset = f" It starts from the preset {scale['preset']}." if scale["preset"] else ""
    if results["data"]:
        preset += f" These runs learn from {' and '.join(results['data'])}."
    return (
        f"Scale {scale['name']}: {scale['about'].rstrip('.')}.{preset} The variants differ in"
        f" {keys} and in nothing else{_lengths(equal)}; the plan has the"
        f" {'seeds' if len(results['seeds']) > 1 else 'seed'}"
        f" {', '.join(map(str, results['seeds']))} of each. The metric is {results['metric']} of"
        f" out/metrics.json, {which}"
    )


def _lengths(points: Sequence[Mapping[str, Any]]) -> str:
    if not points:
        return ""
    names = " and ".join(f"“{point['label']}”" for point in points)
    others = " and ".join(dict.fromkeys(point["equal_compute"] for point in points))
    return (
        f", but at {names} in the number of epochs: each variant trains for as many as take the"
        f" total FLOPs of variant {others}, by analytic counts and before anything runs"
    )


def _recipes(results: Mapping[str, Any]) -> str:
    found, scale = results["trials"], results["scale"]["name"]
    counts = ", ".join(f"{label(results, name)} {n}" for name, n in found["runs"].items())
    if not any(found["runs"].values()):
        return (
            f"By no trial at this scale: experiment {found['experiment']} has no runs at scale"
            f" {scale}. The recipes are those of another scale, or first guesses."
        )
    seeds = ", ".join(map(str, found["seeds"]))
    return (
        f"Trials of each variant's objective at scale {scale}, counted in the lock file of"
        f" experiment {found['experiment']}: {counts}. The best by {found['metric']}, accuracy on"
        " held-out training images, is the recipe: no test image chose. The trials have seed"
        f" {seeds}, which no run here has. A trial that the experiment's file once listed and that"
        " another has replaced there is not counted."
    )


def _limits(results: Mapping[str, Any]) -> str:
    at_paper = results["scale"]["name"] == "paper"
    return (
        "A t interval of few seeds is wide and trusts that seeds scatter normally. All seeds share"
        " one data set and one split. "
        + (
            "A recipe is the best of a few trials at one length of training on one data set: with"
            " more trials another order is possible."
            if results["trials"]
            else "The settings that all variants share were chosen with the default values of the"
            " factor: a variant with settings of its own could do better."
        )
        + (
            ""
            if at_paper
            else " The runs are far smaller than the paper's: an order that is found here, or is"
            " not, says nothing for certain of the order there, and accuracies of the two have no"
            " common scale."
        )
    )
