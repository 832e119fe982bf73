"""``ijepa vouch``: results of older code that today's code gives again, byte for byte.

A refactoring changes the code of every result and the bytes of none. Of the results that share one
older code, the cheapest are run again that between them make every choice (objective, mask, probe,
data set, each named option) that any of them makes. Only if all give the same bytes does the lock
file say that today's code gives what the older one gave, and shown by which runs.

Another processor or library rounds otherwise. Where a run does not give what the lock file has,
the older code is therefore run here too, at its own commit, and the two are compared.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ijepa import config as configs
from ijepa import presets
from ijepa.study import lock, plan, runner
from ijepa.study.experiment import load, load_scale
from ijepa.study.plan import Run


@dataclasses.dataclass(frozen=True, slots=True)
class Locked:
    """A good result of older code, and the run that today's plan has in its place."""

    experiment: str
    run: Run
    result: Mapping[str, Any]
    provenance: Mapping[str, Any]
    choices: frozenset[tuple[str, str]]

    @property
    def then(self) -> tuple[str, str]:
        """The run and the older code that gave it: two tables may have it of two codes."""
        return self.run.name, str(self.result["code"])

    @property
    def seconds(self) -> float:
        """What its stages took."""
        return float(sum(filter(None, self.provenance["seconds"].values())))


Groups = dict[tuple[str, str], list[Locked]]  # by older and today's code


def vouch(names: Sequence[str], scale_name: str, jobs: int = 1, dry_run: bool = False) -> int:
    """Run what is needed and write what it shows into the lock files.

    Args:
        names: experiments.
        scale_name: of their lock files.
        jobs: runs at once.
        dry_run: print what would run, and run nothing.

    Returns:
        0, or 1 when some code could not be vouched for.

    Raises:
        ValueError: an experiment file or the working tree is not fit to run.
    """
    groups = outdated(names, scale_name)
    samples = {codes: cover(group) for codes, group in groups.items()}
    for (old, new), group in groups.items():
        shown = ", ".join(one.run.key for one in samples[old, new])
        print(f"{old[:8]} -> {new[:8]}: {len(group)} results, shown by {shown}")
    if not groups:
        print("no result of older code with today's settings")
    if dry_run or not groups:
        return 0
    plan.refuse_dirty_tree()
    chosen = [one for sample in samples.values() for one in sample]
    today = runner.execute([one.run for one in chosen], f"vouch.{scale_name}.new", jobs)
    doubtful = [one for one in chosen if differences(one.result, today[one.run.name])]
    older = _rerun(doubtful, scale_name, jobs)
    failed = 0
    for codes, group in groups.items():
        lines = [
            f"  {one.run.key}: {line}"
            for one in samples[codes]
            for line in differences(older.get(one.then, one.result), today[one.run.name])
        ]
        words = "differs" if lines else "the same bytes"
        print("\n".join([f"{codes[0][:8]} -> {codes[1][:8]}: {words}", *lines]))
        failed += bool(lines)
        if not lines:
            _write(codes, group, samples[codes], scale_name, today, older.keys())
    return 1 if failed else 0


def outdated(names: Sequence[str], scale_name: str) -> Groups:
    """The good results of older code and today's settings, by older and today's code."""
    tree = plan.committed_params()
    groups: Groups = {}
    for name in names:
        content = lock.read(name, scale_name)
        runs = _planned(name, scale_name, content, tree)
        stands = lock.standing(content, runs)
        for run in runs:
            result = content["results"].get(run.key)
            good = result and result["status"] == "done" and stands[run.key] == "older"
            if good and result["signature"] == run.signature:
                config = configs.as_tree(plan.parsed(tree, run.changes, run.key))
                one = Locked(name, run, result, content["provenance"][run.key], choices(config))
                groups.setdefault((result["code"], run.code), []).append(one)
    return groups


def standing(name: str, scale_name: str) -> dict[str, str]:
    """How each result of an experiment stands to today's code: see ``lock.standing``."""
    content = lock.read(name, scale_name)
    return lock.standing(content, _planned(name, scale_name, content, plan.committed_params()))


def _planned(
    name: str, scale_name: str, content: Mapping[str, Any], tree: Mapping[str, Any]
) -> list[Run]:
    """Today's runs of a table, with as many seeds as its lock file has: looks may add some."""
    experiment, scale = load(name), load_scale(scale_name)
    there = [n for n, seed in enumerate(experiment.seeds, 1) if seed in content["seeds"]]
    scale = dataclasses.replace(scale, seeds=max([scale.seeds, *there]))
    return plan.resolve(experiment, scale, tree)


def choices(config: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """What a run chooses among: names, switches, lists of names, and whether a number is 0."""
    chosen: dict[str, str] = {}
    for key, value in presets.leaves(config).items():
        if isinstance(value, list):
            chosen |= {f"{key}.{part}": "named" for part in value if isinstance(part, str)}
        elif isinstance(value, bool | str | None):
            chosen[key] = str(value)
        elif key.partition(".")[0] not in ("seed", "seeds"):
            chosen[key] = "0" if value == 0 else "not 0"
    return frozenset(chosen.items())


def cover(group: Sequence[Locked]) -> list[Locked]:
    """The cheapest few that between them make every choice that any of the group makes."""
    missing = set().union(*(one.choices for one in group))
    chosen: list[Locked] = []
    while missing:
        best = max(group, key=lambda one: len(one.choices & missing) / (1 + one.seconds))
        chosen.append(best)
        missing -= best.choices
    return chosen


def differences(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> list[str]:
    """What two results of one run differ in, of all that both have; one line each."""
    for whose, result in (("the older code", before), ("today's code", after)):
        if result is None or result["status"] != "done":
            return [f"{whose}: {result['reason'] if result else 'it did not run to its end'}"]
    assert after is not None
    parts = ("data", "encoder", "metrics", "pretrain", "files")
    return [
        f"{part}{where}: {old} before, {new} now"
        for part in parts
        for where, old, new in _unequal(before.get(part), after.get(part))
    ]


def _unequal(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two trees differ; a key that only one has is not compared."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() & new.keys()):
            yield from _unequal(old[key], new[key], f"{where} {key}")
    elif old is not None and new is not None and old != new:
        yield where, old, new


def _rerun(
    doubtful: Sequence[Locked], scale_name: str, jobs: int
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What the older code gives here, by the name of today's run and that code."""
    results: dict[tuple[str, str], Mapping[str, Any]] = {}
    today = presets.leaves(plan.committed_params())
    for commit in sorted({str(one.provenance["baseline"]) for one in doubtful}):
        before = presets.leaves(plan.committed_params(commit))
        runs = {}
        for one in doubtful:
            if one.provenance["baseline"] == commit:
                wanted = {**today, **one.run.changes}
                changes = {k: v for k, v in wanted.items() if k in before and v != before[k]}
                older = dataclasses.replace(one.run, changes=changes, code=one.result["code"])
                runs[one.then] = older
        print(f"the recorded bytes are of another machine: running {commit[:8]} here too")
        label = f"vouch.{scale_name}.{commit[:8]}"
        ended = runner.execute(list(runs.values()), label, jobs, commit=commit)
        lost = {"status": "failed", "reason": "it did not run to its end"}
        results |= {then: ended[run.name] or lost for then, run in runs.items()}
    return results


def _write(
    codes: tuple[str, str], group: Sequence[Locked], sample: Sequence[Locked], scale_name: str,
    today: Mapping[str, Any], ran_here: Collection[tuple[str, str]],
) -> None:  # fmt: skip
    shown = {}
    for one in sample:
        here = f"{one.provenance['baseline']} run here"
        shown[f"{one.experiment} {one.run.key}"] = {
            "older": here if one.then in ran_here else "as recorded",
            "files": today[one.run.name]["files"],
        }
    voucher = {
        "code": codes[0],
        "as": codes[1],
        "commit": plan.git("rev-parse", "HEAD").strip(),
        "numerics": today[sample[0].run.name]["provenance"]["numerics"],
        "shown": shown,
    }
    for name in sorted({one.experiment for one in group}):
        keys = [one.run.key for one in group if one.experiment == name]
        print(lock.vouch(name, scale_name, {**voucher, "results": keys}))
