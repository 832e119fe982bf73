"""Several processes that write one lock file lose none of its results."""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ijepa.study import lock
from ijepa.study.plan import Run


def runs(seeds: int, variants: str = "ab") -> list[Run]:
    return [
        Run(f"{v}/{s}", v, None, s, {}, f"{v}{s}", "data", "code")
        for v in variants
        for s in range(seeds)
    ]


def done(chosen: list[Run]) -> dict[tuple[str, str], Mapping[str, Any]]:
    one = {"status": "done", "provenance": {"seconds": {}}}
    return {r.identity: {**one, "signature": r.signature, "code": r.code} for r in chosen}


def keys(folder: Path) -> list[str]:
    content = lock.read("made", "laptop", folder)
    assert content["results"].keys() == content["provenance"].keys()
    assert content["seeds"] == sorted({one["seed"] for one in content["results"].values()})
    return sorted(content["results"])


def test_those_who_write_at_once_each_keep_what_the_others_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IJEPA_HOME", str(tmp_path / "home"))
    read, planned = lock.read, runs(4)

    def slowly(*where: Any) -> dict[str, Any]:
        content = read(*where)
        time.sleep(0.02)
        return content

    monkeypatch.setattr(lock, "read", slowly)
    with ThreadPoolExecutor(8) as threads:
        writing = [
            threads.submit(lock.write, "made", "laptop", planned, done([run]), tmp_path)
            for run in planned
        ]
        for one in writing:
            one.result()
        vouching = [
            threads.submit(lock.vouch, "made", "laptop", {
                "code": "code", "as": f"new {run.key}", "results": [run.key]}, tmp_path)
            for run in planned
        ]  # fmt: skip
        for other in vouching:
            other.result()
    assert len(lock.read("made", "laptop", tmp_path)["vouched"]) == len(planned)
    assert keys(tmp_path) == sorted(run.key for run in planned)


def test_seeds_beyond_the_plan_stay_and_variants_beyond_it_go(tmp_path: Path) -> None:
    lock.write("made", "laptop", runs(4), done(runs(4)), tmp_path)
    lock.write("made", "laptop", runs(2), {}, tmp_path)  # planned before the others were there
    assert keys(tmp_path) == sorted(run.key for run in runs(4))
    lock.write("made", "laptop", runs(2, "a"), {}, tmp_path)
    assert keys(tmp_path) == ["a/0", "a/1", "a/2", "a/3"]
