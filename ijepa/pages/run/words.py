"""What the numbers mean, in words: one place, so that page, Markdown and terminal say the same."""

from collections.abc import Mapping, Sequence
from typing import Any

NAMES = {
    "random_init": "random init",
    "pixels": "raw pixels",
    "knn": "kNN",
    "logistic": "logistic regression",
    "few_shot": "few-shot",
    "finetune": "fine-tuning",
}
FEW = 0.02  # of the labels: up to here a number belongs beside the paper's of 1 %
MARKS = {"better": "▲ better", "worse": "▼ worse", "undecided": "◇ undecided"}
NOTHING = "n/a"


def spoken(name: str) -> str:
    """An identifier as a reader says it."""
    return NAMES.get(name, name.replace("_", " "))


def method(probe: str, options: Mapping[str, Any], used: float = 1.0) -> str:
    """A probe as a reader says it, with the labels it was given.

    Args:
        probe: its name.
        options: its parameters.
        used: the share of the training images that all probes may use.
    """
    if probe == "few_shot" and (shots := options.get("shots")):
        return f"{max(shots)}-shot, first draw"  # of the most; the curve has them all
    share = used * options.get("fraction", 1.0)
    return f"{100 * share:g} % labels, {spoken(probe)}" if share < 1 else spoken(probe)


def few_labels(probe: str, options: Mapping[str, Any]) -> bool:
    """Whether a probe is of the kind of the paper's Table 2."""
    share = options.get("fraction")
    few = isinstance(share, int | float) and share <= FEW
    return probe == "logistic" or (probe == "finetune" and few)


def number(value: float | None, digits: int = 1, signed: bool = False) -> str:
    """A number, or what stands for one that is missing."""
    if value is None:
        return NOTHING
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """An interval, or what stands for one that is missing."""
    if low is None or high is None:
        return NOTHING
    # a limit just beside zero decides a verdict: it must not look like zero
    digits = 2 if signed and min(abs(low), abs(high)) < 0.05 else 1
    return f"[{number(low, digits, signed)}, {number(high, digits, signed)}]"


def verdict(low: float | None, high: float | None) -> str | None:
    """Whether a difference is decided by its interval: better, worse, undecided; None: unknown."""
    if low is None or high is None:
        return None
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


# heads of the results table, and of the table of chosen settings
LEVEL, MOST = (
    "item-level 95\u00a0%\u00a0interval",
    "max over candidates (chosen on test, optimistic)",
)
COLUMNS = ["task", "probe", "features from", "accuracy (%)", LEVEL, MOST, "chance (%)",
           "trained minus this", LEVEL, "trained is"]  # fmt: skip
CHOSEN = ["task", "probe", "features from", "chosen", "held-out accuracy (%)"]


def cells(row: Mapping[str, Any]) -> list[str]:
    """A row of the results table, as every page prints it."""
    trained = row["encoder"] == "trained"
    return [
        spoken(row["task"]),
        row["method"],
        spoken(row["encoder"]),
        number(row["accuracy"]),
        interval(row["low"], row["high"]),
        number(row["max"]),
        number(row["chance"]),
        "" if trained else number(row["difference"], signed=True),
        "" if trained else interval(row["difference_low"], row["difference_high"], signed=True),
        "" if trained else MARKS.get(row["verdict"], NOTHING),
    ]


def chosen(row: Mapping[str, Any]) -> list[str]:
    """A row of the table of chosen settings."""
    settings = ", ".join(f"{spoken(k)} {_short(v)}" for k, v in (row["selected"] or {}).items())
    return [*cells(row)[:3], settings or NOTHING, number(row["held_out"])]


def confusion(part: Mapping[str, Any]) -> str:
    """A confusion matrix in one line."""
    if far := part["distance"]:
        return (
            f"off by {far['mean']:.2f} classes (a constant: {far['constant']:.2f});"
            f" {100 * far['near']:.0f} % at most one off"
        )
    right = [100 * row[i] / max(sum(row), 1) for i, row in enumerate(part["counts"])]
    order = sorted(range(len(right)), key=lambda i: -right[i])
    best, worst = (f"{part['classes'][i]} ({right[i]:.0f} %)" for i in (order[0], order[-1]))
    return f"most often right: {best}; least often: {worst}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def plus_minus(row: Mapping[str, Any]) -> str:
    """``52.1 ± 1.4``: half the interval's width."""
    if row["low"] is None or row["high"] is None:
        return number(row["accuracy"])
    return f"{number(row['accuracy'])} ± {number((row['high'] - row['low']) / 2)}"


def headline(
    rows: Sequence[Mapping[str, Any]], task: str, probe: str, count: int | None, split: str
) -> str:
    """The result in one sentence, honest also when it is lost."""
    mine = {r["encoder"]: r for r in rows if r["task"] == task and r["probe"] == probe}
    trained = mine.get("trained")
    if trained is None or trained["accuracy"] is None:
        return f"There is no accuracy of the {spoken(probe)} probe on the task “{spoken(task)}”."
    images = f"{count:,} " if count else ""
    text = (
        f"A {spoken(probe)} probe on the frozen encoder gets the {spoken(task)} of"
        f" {number(trained['accuracy'])} % of {images}{split} images right (95 % interval"
        f" {number(trained['low'])} to {number(trained['high'])}; chance"
        f" {number(trained['chance'])} %)"
    )
    parts = [_against(mine[name]) for name in mine if name != "trained"]
    return f"{text}: {' and '.join(parts)}." if parts else f"{text}."


def _against(row: Mapping[str, Any]) -> str:
    what = {
        "better": "better than",
        "worse": "worse than",
        "undecided": "not told apart from",
        None: "beside",
    }[row["verdict"]]
    who = {"random_init": "its own random initialisation", "pixels": "raw pixels"}
    text = f"{what} {who.get(row['encoder'], spoken(row['encoder']))} ({number(row['accuracy'])} %"
    if row["difference"] is not None:
        text += (
            f"; difference {number(row['difference'], signed=True)} points,"
            f" {number(row['difference_low'], signed=True)} to"
            f" {number(row['difference_high'], signed=True)}"
        )
    return text + ")"


def score(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many of the comparisons are won, lost and undecided."""
    found = [r["verdict"] for r in rows if r["encoder"] != "trained"]
    if not found:
        return "Nothing was compared."
    count = {name: found.count(name) for name in ("better", "worse", "undecided", None)}
    text = (
        f"Of {len(found)} comparisons of the trained encoder with a baseline, {count['better']}"
        f" are won, {count['worse']} lost and {count['undecided']} undecided"
    )
    return text + (f"; {count[None]} could not be made." if count[None] else ".")


def health(end: Mapping[str, Any] | None, width: int, broken: int) -> str:
    """Whether the representation collapsed, in words.

    Args:
        end: the last health numbers of pretraining (``out/pretrain.json``), or None.
        width: dimensions of a feature.
        broken: rows of the history whose loss is not a number.
    """
    if end is None:
        return "There is no health record of this run (out/pretrain.json is missing)."
    state = (
        f"at its end the features' standard deviation over images was"
        f" {number(end.get('feature_std'), 3)} and their effective rank (RankMe)"
        f" {number(end.get('rankme'))} of {width} dimensions"
    )
    found = str(end.get("health", ""))
    if end.get("collapsed"):
        text = (
            f"The representation collapsed: {state}. The accuracies describe a collapsed encoder."
        )
    elif found.startswith("partly"):
        text = f"The representation {found}; {state}."
    elif end.get("collapsed") is None:
        text = f"The run says nothing about a collapse; {state}."
    else:
        text = f"The representation did not collapse: {state}."
    if broken:
        text += f" The loss was not a number in {broken} of the logged rows."
    return text


def result(results: Mapping[str, Any]) -> float | None:
    """The accuracy of the headline in percent."""
    row = _headline_rows(results).get("trained")
    found: float | None = row["accuracy"] if row else None
    return found


def _headline_rows(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    wanted = results["headline"]["task"], results["headline"]["probe"]
    return {r["encoder"]: r for r in results["table"] if (r["task"], r["probe"]) == wanted}


def line(results: Mapping[str, Any]) -> str:
    """The one line that ends ``make repro``."""
    task, probe = results["headline"]["task"], results["headline"]["probe"]
    rows = _headline_rows(results)
    text = "report: out/report/index.html"
    if "trained" not in rows:
        return f"{text} (no accuracy of {task} {probe}); Omniboard: make omniboard"
    others = ", ".join(
        f"{'pixels' if name == 'pixels' else spoken(name)} {number(row['accuracy'])}"
        for name, row in rows.items()
        if name != "trained"
    )
    beside = f" ({others})" if others else ""
    return (
        f"{text} — {spoken(task)} {spoken(probe)} {plus_minus(rows['trained'])} %{beside};"
        " Omniboard: make omniboard"
    )


COST = ["cost of pretraining", "", "counted or measured as"]


def cost(counted: Mapping[str, Any], measured: Mapping[str, Any] | None) -> list[list[str]]:
    """The rows of the table of costs; those that nobody counted or measured are left out.

    Args:
        counted: ``images``, ``flops`` and ``flops_per_image`` of ``out/pretrain.json``.
        measured: what the journal has (``ijepa.training.meter.Spent``), or None.
    """
    rows = []
    if counted["flops"]:
        how = "forward and backward of the loss: its matrix products, from their shapes"
        rows.append(["operations per image", scaled(counted["flops_per_image"], "FLOP"), how])
        rows.append(["operations in all", scaled(counted["flops"], "FLOP"), "summed over steps"])
    if counted["images"]:
        seen = f"{counted['images']:,.0f}"
        rows.append(["images seen", seen, "images of the training stream, whatever their views"])
    if measured:
        where = f"{measured['devices']} × {measured['device']}"
        how = f"wall time of the training loop times devices ({where})"
        rows.append(["device time", duration(measured["device_seconds"]), how])
        joules, source = measured["energy_joules"], measured["energy_source"]
        energy = "not reported" if joules is None else scaled(joules, "J")
        rows.append(["energy", energy, METERS[source]])
        memory = f"{measured['peak_memory_gib']:.3g} GiB"
        rows.append(["peak memory", memory, "of the first device; on a CPU, of its process"])
    return rows


METERS = {
    "nvml": "the GPUs' own counters (NVML)",
    "rapl": "the processors' counters (RAPL): the whole machine's, without its memory",
    None: "no counter that this user may read",
}


def scaled(value: float, unit: str) -> str:
    """A quantity with three digits and the unit's prefix: 1.53e12 FLOP is 1.53 TFLOP."""
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g}\u00a0{_PREFIXES[power]}{unit}"


_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def duration(seconds: float | None) -> str:
    """Seconds as a reader says them."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
