"""Lock files: ``experiments/<name>.<scale>.lock.json``, the committed results of an experiment.

``results`` is what the runs computed: equal plans on one machine give equal bytes. ``provenance``
names the runs, commits and clocks behind these very numbers. ``vouched`` says which later code was
shown to give what theirs gave (``ijepa.study.vouch``).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ijepa.runtime.files import write_json
from ijepa.study.plan import Run

FOLDER = Path("experiments")
_KEPT = (
    "status", "reason", "signature", "code", "data", "encoder", "files", "metrics", "pretrain",
)  # fmt: skip


def path(name: str, scale: str, folder: Path = FOLDER) -> Path:
    """Where the lock file of an experiment at a scale is."""
    return folder / f"{name}.{scale}.lock.json"


def read(name: str, scale: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A lock file's content; an empty one when there is none.

    Raises:
        ValueError: the file is damaged.
    """
    file = path(name, scale, folder)
    if not file.is_file():
        return {"experiment": name, "scale": scale, "seeds": [], "results": {}, "provenance": {}}
    try:
        loaded: dict[str, Any] = json.loads(file.read_text())
        assert {"results", "provenance", "seeds"} <= loaded.keys()
    except (ValueError, AssertionError, AttributeError):
        raise ValueError(f"{file}: not a lock file; `git checkout {file}` restores it") from None
    return loaded


def listing(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """Names and scales of the lock files."""
    stems = [file.name.removesuffix(".lock.json") for file in folder.glob("*.lock.json")]
    return sorted((name, scale) for name, _, scale in (stem.rpartition(".") for stem in stems))


def known(folder: Path = FOLDER) -> dict[tuple[str, str], dict[str, Any]]:
    """Every good result in any lock file, by signature and code: no run of them is run again.

    A result is there under its own code and under every code that it is vouched for.
    """
    results = {}
    for name, scale in listing(folder):
        content = read(name, scale, folder)
        for key, result in content["results"].items():
            if result["status"] == "done":
                complete = {**result, "provenance": content["provenance"][key]}
                for code in (*vouched(content, result["code"]), result["code"]):
                    results[result["signature"], code] = complete
    return results


def vouched(content: Mapping[str, Any], code: str) -> list[str]:
    """The codes that were shown to give what ``code`` gave, for the results of a lock file."""
    return [one["as"] for one in content.get("vouched", ()) if one["code"] == code]


def standing(content: Mapping[str, Any], runs: Sequence[Run]) -> dict[str, str]:
    """How each result of a lock file stands to the code and settings of today's plan.

    Returns:
        Run key -> ``today``, ``vouched`` (older code, shown to give the same) or ``older``.
    """
    planned = {run.key: run for run in runs}
    stands = {}
    for key, result in content["results"].items():
        run = planned.get(key)
        if run is None or run.signature != result["signature"]:
            stands[key] = "older"
        elif run.code == result["code"]:
            stands[key] = "today"
        else:
            same = run.code in vouched(content, result["code"])
            stands[key] = "vouched" if same else "older"
    return stands


def write(
    name: str,
    scale: str,
    runs: Sequence[Run],
    results: Mapping[tuple[str, str], Mapping[str, Any]],
    folder: Path = FOLDER,
) -> Path:
    """Write what is known of an experiment's runs; a result of older code stays until replaced.

    Args:
        name: the experiment.
        scale: its scale.
        runs: all of its runs at that scale.
        results: of jobs, by signature and code.
        folder: of the lock files.
    """
    old = read(name, scale, folder)
    made: dict[str, dict[str, Any]] = {"results": {}, "provenance": {}}
    for run in runs:
        cell = {"variant": run.variant, "point": run.point, "seed": run.seed}
        found = results.get(run.identity)
        before = old["results"].get(run.key)
        if found:
            made["results"][run.key] = cell | {part: found.get(part) for part in _KEPT}
            made["provenance"][run.key] = found["provenance"]
        elif before and before["signature"] == run.signature:
            made["results"][run.key] = before
            made["provenance"][run.key] = old["provenance"][run.key]
    seeds = sorted({run.seed for run in runs})
    content = {"experiment": name, "scale": scale, "seeds": seeds, **made}
    codes = {result["code"] for result in made["results"].values()}
    kept = [one for one in old.get("vouched", ()) if one["code"] in codes]
    file = path(name, scale, folder)
    write_json(file, content | ({"vouched": kept} if kept else {}))
    return file


def vouch(name: str, scale: str, voucher: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Add a voucher to a lock file: a mapping with ``code``, ``as``, and how that was shown."""
    content = read(name, scale, folder)
    others = [
        one
        for one in content.get("vouched", ())
        if (one["code"], one["as"]) != (voucher["code"], voucher["as"])
    ]
    file = path(name, scale, folder)
    write_json(file, {**content, "vouched": [*others, voucher]})
    return file
