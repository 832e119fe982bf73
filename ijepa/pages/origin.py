"""Of which code and which machines a study's results are, in words."""

from collections.abc import Sequence

from ijepa.pages.text import short
from ijepa.study import recorded
from ijepa.study.numbers import Study

_FEW = 6  # labels that a sentence can bear


def codes(study: Study) -> str:
    """That the variants ran on different code, if they did."""
    if len(study.codes) < 2:
        return ""
    parts = (
        f"{_listed(study, one.variants)}"
        f" ({', '.join(map(short, one.commits)) or 'commit unknown'})"
        for one in study.codes
    )
    return (
        f"This table mixes {len(study.codes)} versions of the code, so a difference between"
        f" variants may be one of the code: {'; '.join(parts)}."
    )


def _listed(study: Study, variants: Sequence[str]) -> str:
    """Labels in quotes; of many their number."""
    if len(variants) > _FEW:
        return f"{len(variants)} variants"
    return ", ".join(f"“{study.label(name)}”" for name in variants)


def standing(study: Study) -> str:
    """Of which code the results are, as far as somebody has looked; or nothing."""
    known = [run.standing for run in study.runs if run.done and run.standing is not None]
    if not known:
        return ""
    words = {"today": "of today's code", "vouched": "vouched for", "older": "of older code"}
    counts = {text: known.count(name) for name, text in words.items()}
    parts = [f"{n} {'is' if n == 1 else 'are'} {text}" for text, n in counts.items() if n]
    if len(parts) == 1:
        return f"All results are {words[known[0]]}."
    return f"Of {len(known)} results {', '.join(parts)}."


def machines(study: Study) -> str:
    """Of which kinds of machine the results are, and whether pairs mix them; or nothing."""
    if not study.machines:
        return ""
    kinds = (
        f"{recorded.numerics_in_words(one.numerics) or 'not on record'} ({one.results})"
        for one in study.machines
    )
    if study.across:
        seeds = f"seed{'s' if len(study.across) > 1 else ''} {', '.join(map(str, study.across))}"
        end = f"Within {seeds} runs are of several kinds: a difference may be one of machines."
    else:
        end = "Within a seed all are of one kind, so no paired difference is one of machines."
    return (
        f"Results of {len(study.machines)} kinds of machine, which may give other bits:"
        f" {'; '.join(kinds)}. {end}"
    )
