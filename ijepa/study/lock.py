"""Lock files: ``experiments/<name>.<scale>.lock.json``, the committed results of an experiment.

``registered`` is what the experiment is judged by, written before the first run
(``ijepa.study.registration``). ``results`` is what the runs computed: equal plans on one machine
give equal bytes; ``right`` of one says which test images it got right, by metric. ``provenance``
names the runs, commits and clocks behind these very numbers. ``vouched`` says which later code was
shown to give what theirs gave (``ijepa.study.vouch``). ``sha256`` is of all the others: a file
that was damaged, or changed by hand, is refused. Files of older versions have none.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ijepa.runtime import environment
from ijepa.runtime.files import locked, write_json
from ijepa.runtime.records import digest
from ijepa.study.plan import Run, git

FOLDER = Path("experiments")
_NEEDED = {"seeds", "results", "provenance"}
_KEYS = _NEEDED | {"experiment", "scale", "registered", "vouched", "sha256"}
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
        assert _NEEDED <= loaded.keys() <= _KEYS
    except (ValueError, AssertionError, AttributeError):
        raise ValueError(f"{file}: not a lock file; `git checkout {file}` restores it") from None
    written = loaded.pop("sha256", None)
    if written is not None and written != digest(loaded):
        raise ValueError(
            f"{file}: not as it was written: its sha256 is another; `git checkout {file}`"
            " restores it"
        )
    return loaded


@contextmanager
def _alone(name: str, scale: str) -> Iterator[None]:
    """No other process of this checkout changes the lock file meanwhile: none loses a result."""
    with locked(environment.home() / "locks" / f"{name}.{scale}"):
        yield


def _save(file: Path, content: Mapping[str, Any]) -> Path:
    write_json(file, {**content, "sha256": digest(content)})
    return file


def listing(folder: Path = FOLDER) -> list[tuple[str, str]]:
    """Names and scales of the lock files with a result; one that is registered alone has none."""
    stems = [file.name.removesuffix(".lock.json") for file in folder.glob("*.lock.json")]
    tables = sorted((name, scale) for name, _, scale in (stem.rpartition(".") for stem in stems))
    return [table for table in tables if read(*table, folder)["results"]]


def known(folder: Path = FOLDER) -> dict[tuple[str, str], dict[str, Any]]:
    """Every good result in any lock file, by signature and code: no run of them is run again.

    A result is there under its own code and under every code that it is vouched for, with the
    ``provenance`` and the ``vouched`` of its file.
    """
    results = {}
    for name, scale in listing(folder):
        content = read(name, scale, folder)
        for key, result in content["results"].items():
            if result["status"] == "done":
                vouchers = _vouchers(content, key)
                complete = {**result, "provenance": content["provenance"][key]}
                for code in (*(one["as"] for one in vouchers), result["code"]):
                    results[result["signature"], code] = {**complete, "vouched": vouchers}
    return results


def published(name: str, scale: str) -> set[str]:
    """Keys of the runs that any committed version of a lock file has a result of.

    Who deletes a lock file knows what was in it. Without git, or in a shallow clone, what came
    before is not to be seen.
    """
    file, keys = path(name, scale).as_posix(), set[str]()
    try:
        commits = git("log", "--format=%H", "--diff-filter=AM", "--", file).split()
    except ValueError:
        return keys
    for commit in commits:
        content = json.loads(git("show", f"{commit}:./{file}"))
        results = content.get("results", {})  # older versions may have had another form
        keys |= {key for key, one in results.items() if one.get("status") == "done"}
    return keys


def _vouchers(content: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The vouchers of a lock file for one of its results: of its code, and naming it."""
    code = content["results"][key]["code"]
    return [v for v in content.get("vouched", ()) if v["code"] == code and key in v["results"]]


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
            same = any(one["as"] == run.code for one in _vouchers(content, key))
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

    A run that failed replaces no good result, of whatever code: a full disk would take a table.
    Good results that others replace, or that go, are counted where there is a registration.

    Args:
        name: the experiment.
        scale: its scale.
        runs: all of its runs at that scale.
        results: of jobs, by signature and code.
        folder: of the lock files.
    """
    with _alone(name, scale):
        content = _replaced(name, scale, runs, results, read(name, scale, folder))
        return _save(path(name, scale, folder), content)


def _replaced(
    name: str, scale: str, runs: Sequence[Run],
    results: Mapping[tuple[str, str], Mapping[str, Any]], old: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    planned = {run.key for run in runs}
    cells = {key.rpartition("/")[0] for key in planned}
    kept = {  # also of seeds that another process has added since the runs were planned
        key: one
        for key, one in old["results"].items()
        if key not in planned and key.rpartition("/")[0] in cells
    }
    content: dict[str, Any] = {
        "experiment": name,
        "scale": scale,
        **{part: old[part] for part in ("registered",) if part in old},
        "seeds": sorted({run.seed for run in runs} | {one["seed"] for one in kept.values()}),
        "results": {},
        "provenance": {},
    }
    vouchers = []
    for run in runs:
        cell = {"variant": run.variant, "point": run.point, "seed": run.seed}
        result, before = results.get(run.identity), old["results"].get(run.key)
        same = before and before["signature"] == run.signature
        if result and (result["status"] == "done" or not same or before["status"] != "done"):
            content["results"][run.key] = cell | {part: result.get(part) for part in _KEPT}
            if result.get("right"):  # older results lack it
                content["results"][run.key]["right"] = result["right"]
            content["provenance"][run.key] = result["provenance"]
            vouchers += [{**one, "results": [run.key]} for one in result.get("vouched", ())]
        elif same:
            kept[run.key] = before
    for key, before in kept.items():
        content["results"][key] = before
        content["provenance"][key] = old["provenance"][key]
        vouchers += [{**one, "results": [key]} for one in _vouchers(old, key)]
    lost = sum(
        before["status"] == "done"
        and before["metrics"] != content["results"].get(key, {}).get("metrics")
        for key, before in old["results"].items()
        if key.rpartition("/")[0] in cells
    )
    if lost and "registered" in content:  # they were seen, so the design is not before all results
        known = content["registered"].get("replaced", 0)
        content["registered"] = {**content["registered"], "replaced": known + lost}
    return _with(content, vouchers)


def unregistered(name: str, scale: str, folder: Path = FOLDER) -> bool:
    """Whether an experiment at a scale can still be registered: nothing of it is known yet."""
    content = read(name, scale, folder)
    return "registered" not in content and not content["results"]


def register(name: str, scale: str, record: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Write what an experiment will be judged by, before the first of its runs; the first counts.

    Args:
        name: the experiment.
        scale: its scale.
        record: ``ijepa.study.registration.record``.
        folder: of the lock files.
    """
    with _alone(name, scale):
        if unregistered(name, scale, folder):
            content = {**read(name, scale, folder), "registered": record}
            _save(path(name, scale, folder), content)
    return path(name, scale, folder)


def vouch(name: str, scale: str, voucher: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Add a voucher to a lock file.

    Args:
        name: the experiment.
        scale: its scale.
        voucher: ``code`` gives what the results have, ``as`` gives the same, for the ``results``
            with these keys; and how that was shown.
        folder: of the lock files.
    """
    with _alone(name, scale):
        content = read(name, scale, folder)
        vouched = _with(content, [*content.get("vouched", ()), voucher])
        return _save(path(name, scale, folder), vouched)


def _with(content: Mapping[str, Any], vouchers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of a lock file with vouchers; those shown by the same runs are one."""
    merged: dict[str, dict[str, Any]] = {}
    for voucher in vouchers:
        shown = json.dumps([voucher["code"], voucher["as"], voucher.get("shown")], sort_keys=True)
        keys = {*merged.get(shown, {"results": []})["results"], *voucher["results"]}
        merged[shown] = {**voucher, "results": sorted(keys)}
    return {**content, "vouched": list(merged.values())} if merged else dict(content)
