"""What each command does, from its parsed arguments; ``ijepa.cli`` has what they are called.

A command imports its module when it is asked for, so that help is instant.
"""

import argparse
import dataclasses
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

PRESETS = Path("experiments/presets")


def _print_json(tree: Any) -> None:
    print(json.dumps(tree, indent=1, default=str))  # str: of a path


def _soon(what: str) -> None:
    """Say at once what is begun, on stderr: to load torch takes seconds."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def env(args: argparse.Namespace) -> None:
    """Print every variable with its value and meaning."""
    from ijepa.runtime import environment
    from ijepa.tracking import redaction

    values = redaction.settings()
    values["IJEPA_HOME"] = values["IJEPA_HOME"] or str(environment.home())
    for name, (_, meaning) in environment.VARIABLES.items():
        print(f"{name}={values[name]:<12}  # {meaning}")


def preset(args: argparse.Namespace) -> None:
    """Print the presets, or one as arguments."""
    if args.name is None:
        for path in sorted(PRESETS.glob("*.yaml")):
            print(f"{path.stem:<18} {checked_preset(path.stem)[0]}")
    else:
        print(" ".join(preset_arguments(args.name)))


def checked_preset(name: str) -> tuple[str, dict[str, Any]]:
    """What a preset is about, and its dotted keys, checked against ``params.yaml``.

    Raises:
        ValueError: there is no such preset, or a key or value of it is wrong.
    """
    from ijepa import config, presets
    from ijepa.runtime import files
    from ijepa.study import plan

    about, changes = presets.load(name, PRESETS)
    plan.parsed(files.read_yaml(config.PARAMS), changes, str(PRESETS / f"{name}.yaml"))
    return about, changes


def preset_arguments(name: str) -> list[str]:
    """A preset as arguments of ``dvc exp run``; ``++`` adds a key that ``params.yaml`` lacks."""
    from ijepa import config, presets
    from ijepa.runtime import files

    there = presets.leaves(files.read_yaml(config.PARAMS))
    return [
        f"-S {'' if key in there else '++'}{key}={_hydra(key, value)}"
        for key, value in checked_preset(name)[1].items()
    ]


def _hydra(key: str, value: Any) -> str:
    """A value as ``dvc exp run -S`` reads it, with nothing in it that a shell would split."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return value
    text = json.dumps(value, separators=(",", ":"))
    if re.search(r"\s", text):
        raise ValueError(f"{key}: {value!r}: a space cannot go through $(ijepa preset ...)")
    return text


def exp(args: argparse.Namespace) -> None:
    """Print the experiments of DVC."""
    from ijepa import compare

    print(compare.show(args.task, args.probe, args.all))


def ablate(args: argparse.Namespace) -> int:
    """Run experiments, or list them."""
    if args.list:
        from ijepa.study import catalogue

        listed = catalogue.entries()
        if args.json:
            _print_json([dataclasses.asdict(one) for one in listed])
        else:
            print(catalogue.table(listed))
        return 0
    if args.json:
        raise ValueError("--json: with --list alone")
    from ijepa.study import runner, stopping

    if bool(args.names) == args.all:
        raise ValueError("ijepa ablate: name experiments, or say --all; --list has them")
    if args.scale is None:
        raise ValueError("ijepa ablate: --scale: missing; `ls experiments/scales` has them")
    if args.jobs < 0:
        raise ValueError(f"--jobs: {args.jobs} is not a whole number >= 0")
    if not args.seconds > 0:
        raise ValueError(f"--seconds: {args.seconds:g} is not a number above 0")
    if args.until_decided:
        if args.runner == "plain" or args.seconds < math.inf:
            option = "--runner plain" if args.runner == "plain" else "--seconds"
            raise ValueError(f"{option}: not with --until-decided, which goes on to a verdict")
        if args.seeds or args.only:
            option = "--seeds" if args.seeds else "--only"
            raise ValueError(f"{option}: not with --until-decided, which runs whole tables")
        return stopping.run(args.names, args.scale, args.jobs, args.runner, args.dry_run)
    return runner.ablate(
        args.names, args.scale, args.only, args.seeds, args.jobs, args.runner, args.dry_run,
        args.seconds,
    )  # fmt: skip


def import_(args: argparse.Namespace) -> int:
    """Bring home what ran elsewhere."""
    from ijepa.study import merge

    return merge.merge(args.file)


def vouch(args: argparse.Namespace) -> int:
    """Show that today's code gives what older results have."""
    from ijepa.study import vouch

    if args.jobs < 1:
        raise ValueError(f"--jobs: {args.jobs} is not a whole number >= 1")
    return vouch.vouch(args.names, args.scale, args.jobs, args.dry_run)


def reproduce(args: argparse.Namespace) -> int:
    """Run what is behind a number again, and compare its bytes."""
    from ijepa.study import reproduce

    return reproduce.reproduce(args.what, args.dry_run, args.keep)


def report(args: argparse.Namespace) -> int:
    """Build the reports, or check them."""
    from ijepa.study import lock, vouch

    tables = [
        (name, scale)
        for name, scale in lock.listing()
        if name in (args.ablation or [name]) and scale == (args.scale or scale)
    ]
    missing = set(args.ablation) - {name for name, _ in tables}
    if missing or not tables:
        wanted = ", ".join(sorted(missing)) or "any experiment"
        raise ValueError(f"no results of {wanted}; `ijepa ablate NAME --scale SCALE` runs it")
    _soon(f"{'checking' if args.check else 'building'} {len(tables)} of the reports")
    from ijepa.pages import index, readme, run, study

    standing = {table: vouch.standing(*table) for table in tables}
    if args.check:
        changed = [*index.check(tables, standing=standing), *run.check(), *readme.check()]
        for path in changed:
            print(f"{path}: not what the committed results give")
        print(f"{len(tables)} reports: " + (f"{len(changed)} files differ" if changed else "same"))
        return 1 if changed else 0
    for page in study.build_all(tables, standing=standing):
        print(page, flush=True)
    print(index.write())
    for path in [*run.rewrite(), *readme.write()]:
        print(path)
    return 0


def evaluate(args: argparse.Namespace) -> None:
    """Probe an encoder."""
    _soon(f"evaluating {args.encoder}")
    from ijepa.evaluation.elsewhere import evaluate

    changes = dict(text.partition("=")[::2] for text in args.changes)
    folder = evaluate(args.encoder, changes, args.out)
    print(f"{folder}; `ijepa verify {folder}` recomputes its numbers")


def verify(args: argparse.Namespace) -> int:
    """Compute numbers again from the answers that are kept."""
    if args.tables:
        from ijepa.study import lock

        return max([_verify_table(lock.path(*table)) for table in lock.listing()], default=0)
    if args.path.name.endswith(".lock.json"):
        return _verify_table(args.path)
    if (args.path / "results.json").is_file():
        return _verify_report(args.path)
    _soon(f"verifying {args.path}")
    from ijepa.evaluation import scores

    inside, beside = args.path / "metrics.json", args.path.parent / "metrics.json"
    wrong = scores.verify(args.path, inside if inside.is_file() else beside)
    return _verified(args.path, wrong, "every number holds")


def _verify_table(file: Path) -> int:
    from ijepa.study import answers, lock

    name, _, scale = file.name.removesuffix(".lock.json").rpartition(".")
    if not file.is_file():
        raise ValueError(f"{file}: no such file; `ls experiments/*.lock.json` has them")
    wrong, hold, without = answers.verify(lock.read(name, scale, file.parent)["results"])
    older = f"; {without} have no answers to compute them from" if without else ""
    return _verified(file, wrong, f"{hold} accuracies hold{older}")


def _verify_report(folder: Path) -> int:
    from ijepa.results import kept

    wrong, hold, without = kept.verify(folder / "results.json")
    older = f"; {without} have no answers to compute them from" if without else ""
    return _verified(folder, wrong, f"{hold} accuracies hold{older}")


def _verified(path: Path, wrong: list[str], good: str) -> int:
    for line in wrong:
        print(f"{path}: {line}")
    print(f"{path}: " + (f"{len(wrong)} numbers differ" if wrong else good))
    return 1 if wrong else 0


def export(args: argparse.Namespace) -> None:
    """Write an encoder as others read it."""
    _soon(f"exporting {args.encoder}")
    from ijepa import config
    from ijepa.backbones import _export

    for path in _export.export(args.encoder, args.format, args.folder, config.load()):
        print(path)


def masks(args: argparse.Namespace) -> None:
    """Draw masks."""
    _soon("drawing the masks of params.yaml")
    from ijepa import config
    from ijepa.pages.figures import masks

    args.out.parent.mkdir(parents=True, exist_ok=True)
    stem = args.out.with_suffix("")
    real = masks.draw(config.load(), stem, 8)
    print(f"{stem}.png, {stem}.svg" + ("" if real else " (grey: no prepared data set yet)"))


def runs(args: argparse.Namespace) -> int:
    """List, show, send, pack or load the recorded runs."""
    from ijepa.runtime import environment
    from ijepa.tracking import omniboard, runs, sync, terminal

    if args.json and args.action not in ("list", "show"):
        raise ValueError(f"--json: not with runs {args.action}")
    if args.all and args.action != "export":
        raise ValueError(f"--all: not with runs {args.action}")
    if args.of is not None and args.action in ("list", "sync"):
        raise ValueError(f"{args.of}: not with runs {args.action}, which is of all runs")
    if args.action in ("export", "import"):
        from ijepa.study import archive

        if not args.of:
            raise ValueError(f"runs {args.action}: which file? such as reports/runs.tar.gz")
        file = Path(args.of)
        return archive.export(file, args.all) if args.action == "export" else archive.load(file)
    if args.action == "sync":
        done = sync.sync(environment.home(), compare=True, patient=True)
        omniboard.prepare(environment.home())
        said = f"{len(done.written)} runs written, {done.unchanged} were there already"
        whole = len(runs.folders(environment.home()))
        print(f"MongoDB: {said}; it has {done.held} of the journal's {whole}")
        for number, how in done.died.items():
            print(f"run {number}: {how}; it is marked DIED")
        for number in done.repaired:
            print(f"run {number}: the database's was not what was written; written again")
        for line in done.problems:
            print(line, file=sys.stderr)
        return 1 if done.problems else 0
    if args.action == "list":
        records, damaged = runs.every()
        if args.json:
            _print_json([dataclasses.asdict(record) for record in records])
        else:
            print(terminal.table(records) if records else "no runs yet; `dvc repro` makes some")
            for record in records:
                if record.died:
                    print(f"run {record.id}: DIED: {record.died}")
        for line in damaged:
            print(line, file=sys.stderr)
        return 0
    if not (args.of or "").isdecimal():
        raise ValueError("runs show: which one? `ijepa runs list` has the ids")
    if args.json:
        _print_json(dataclasses.asdict(runs.one(int(args.of))))
        return 0
    text, damaged = terminal.show(int(args.of))
    print(text)
    for line in damaged:
        print(f"error: {line}", file=sys.stderr)
    return int(bool(damaged))


def omniboard(args: argparse.Namespace) -> int:
    """Serve the runs as a web page."""
    from ijepa.tracking import omniboard

    if args.file:
        from ijepa.study import archive

        archive.load(args.file)
    return omniboard.serve(args.port)


def db(args: argparse.Namespace) -> None:
    """Start, stop or look at the embedded database."""
    from ijepa.runtime import environment
    from ijepa.tracking import mongo

    home = environment.home()
    if args.action == "stop":
        print("stopped" if mongo.stop(home) else "not running")
        return
    if args.action == "start":
        mongo.connect(home).client.close()
    print(f"MongoDB: {mongo.status(home)}")


def checkpoints(args: argparse.Namespace) -> None:
    """List or remove checkpoints."""
    from ijepa.runtime import environment
    from ijepa.training import checkpoint

    if args.action == "gc":
        print(f"{checkpoint.collect(environment.home()) / 1e6:.1f} MB freed")
        return
    for name, step, size in checkpoint.listing(environment.home()):
        print(f"{name}  step {step:<8} {size / 1e6:8.1f} MB")
