"""The ``ijepa`` command: experiments, evaluation, export, database, runs, masks, presets.

A command's module is imported when the command is asked for, so that help is instant.
"""

import argparse
import dataclasses
import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ijepa.arguments import SHELLS, Parser, Version, completion
from ijepa.runtime import errors

PRESETS = Path("experiments/presets")

GUIDE = """\
The design choices of I-JEPA, re-runnable and auditable. Run everything from the repository's root.

where to start:
  make repro                      all four stages with params.yaml, then one line with the result
  dvc repro                       the same; a second call runs only what a change touches
  dvc exp run -S mask.target_scale=0.2
                                  one change of params.yaml, which stays; `ijepa exp` compares
  dvc exp run $(ijepa preset cifar10)
                                  a whole setting of experiments/presets/

  ijepa ablate target_scale --scale laptop --jobs 2
                                  a table of the paper over seeds, then `ijepa report`

stages (dvc.yaml), each also `python -m ijepa.STAGE`:
  prepare    images -> a checksummed data set in data/prepared
  pretrain   I-JEPA without labels -> out/encoder.safetensors; stopped, it goes on where it was
  evaluate   probes of the frozen encoder, beside its random init and raw pixels
  report     out/report/index.html: accuracies, curves, masks, features, provenance

Every run of a stage is recorded: in .ijepa/runs always, in MongoDB when it can be reached.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a line is seen when it is known, also in a pipe
        sys.stdout.reconfigure(line_buffering=True)
    args = _parser().parse(argv)
    command: Callable[[argparse.Namespace], int | None] = args.command
    return errors.run(lambda: command(args))


def _parser() -> Parser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser("ijepa", description=GUIDE, formatter_class=raw)
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int | None], about: str) -> Any:
        command = commands.add_parser(name, help=about, description=about)
        command.set_defaults(command=run, parser=command)
        return command

    add("env", _env, "print the IJEPA_* variables: hardware and places, never science")
    preset = add("preset", _preset, "list the presets, or print one as arguments of `dvc exp run`")
    preset.add_argument("name", nargs="?", help="a file of experiments/presets/")
    compared = add("exp", _exp, "the experiments of `dvc exp run`: what each changed and reaches")
    compared.add_argument("--task", help="of out/metrics.json; default: class")
    compared.add_argument("--probe", help="default: linear")
    compared.add_argument("--all", action="store_true", help="those of every commit, not of HEAD")
    ablate = add("ablate", _ablate, "run experiments, variant by seed, into their lock files")
    ablate.add_argument("names", nargs="*", help="files of experiments/, without .yaml")
    ablate.add_argument("--all", action="store_true", help="every file of experiments/")
    ablate.add_argument(
        "--list",
        action="store_true",
        help="the experiments, and what is known of each",
    )
    ablate.add_argument("--json", action="store_true", help="with --list: as JSON")
    ablate.add_argument("--scale", help="a file of experiments/scales/")
    ablate.add_argument(
        "--only", nargs="+", default=[], metavar="VARIANT", help="these alone, or VARIANT@POINT"
    )
    ablate.add_argument("--seeds", nargs="+", type=int, default=[], metavar="SEED")
    ablate.add_argument(
        "--jobs",
        type=int,
        default=0,
        help="runs at once; default: the scale's jobs_per_gpu, else one",
    )
    ablate.add_argument(
        "--runner", choices=("local", "slurm", "plain"), default="local",
        help="local: as DVC experiments here; slurm: as an array of jobs; plain: here, without DVC"
        " and git, and into a file for `ijepa import`",
    )  # fmt: skip
    ablate.add_argument(
        "--seconds", type=float, default=math.inf, metavar="N",
        help="stop after so many; what has ended is kept, the rest has saved",
    )  # fmt: skip
    ablate.add_argument("--dry-run", action="store_true", help="print the plan, run nothing")
    ablate.add_argument(
        "--until-decided", action="store_true",
        help="add seeds from look to look of the experiment, until its claim is decided",
    )  # fmt: skip
    brought = add("import", _import, "bring what `ablate --runner plain` ran elsewhere into here")
    brought.add_argument("file", type=Path, help="the .tar.gz that it wrote")
    vouch = add("vouch", _vouch, "show that today's code gives what older results have, by runs")
    vouch.add_argument("names", nargs="+", help="files of experiments/, without .yaml")
    vouch.add_argument("--scale", required=True, help="a file of experiments/scales/")
    vouch.add_argument("--jobs", type=int, default=1, help="runs at once")
    vouch.add_argument("--dry-run", action="store_true", help="print what would run")
    about = "run again what is behind a recorded number, and compare the bytes"
    reproduce = add("reproduce", _reproduce, about)
    reproduce.add_argument(
        "what", nargs="*",
        help="a run's id; a cell of a lock file, such as `target_scale.laptop large/3`; the folder"
        " of a published run, such as reports/cifar10; default: the run of dvc.lock",
    )  # fmt: skip
    reproduce.add_argument("--dry-run", action="store_true", help="say what would run")
    reproduce.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="a new one, for the clone and its logs"
    )
    report = add("report", _report, "build the reports of experiments from their lock files")
    report.add_argument("--ablation", nargs="+", default=[], metavar="NAME", help="default: all")
    report.add_argument("--scale", help="default: every scale that has a lock file")
    report.add_argument(
        "--check", action="store_true", help="build nothing; fail if a file would change"
    )
    about = "probe any frozen encoder, beside random init and pixels"
    evaluate = add("evaluate", _evaluate, about)
    evaluate.add_argument(
        "--encoder", required=True, metavar="SPEC",
        help="a .safetensors file of ours, meta:FILE#target_encoder, timm:MODEL#WEIGHTS,"
        " huggingface:FOLDER, random_init, pixels",
    )  # fmt: skip
    evaluate.add_argument(
        "-S", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a change of params.yaml, such as data.name=cifar10 or evaluate.probes=[finetune]",
    )  # fmt: skip
    evaluate.add_argument("--out", type=Path, help="default: out/evaluations/SPEC")
    verify = add("verify", _verify, "recompute every number of an evaluation from its predictions")
    verify.add_argument(
        "path", nargs="?", type=Path, default=Path("out/evaluation"),
        help="the folder of an evaluation or of a published report, or a lock file, whose"
        " accuracies its kept answers give; default: %(default)s",
    )  # fmt: skip
    verify.add_argument("--tables", action="store_true", help="every lock file of experiments/")
    export = add("export", _export, "write an encoder as timm, transformers or we read it")
    export.add_argument("--format", required=True, choices=("timm", "hf", "safetensors"))
    export.add_argument(
        "--encoder", metavar="SPEC", default="out/encoder.safetensors",
        help="as of `ijepa evaluate`; default: %(default)s",
    )  # fmt: skip
    export.add_argument("folder", type=Path, help="a new or an empty one")
    masks = add("masks", _masks, "draw what the masks of params.yaml look like")
    masks.add_argument(
        "--out", type=Path, default=Path("out/masks.png"), help="default: %(default)s"
    )
    runs = add("runs", _runs, "the recorded runs of all stages")
    runs.add_argument(
        "action", choices=("list", "show", "sync", "export", "import"),
        help="list: a table, newest first; show ID: one run; sync: send them all to MongoDB;"
        " export FILE: pack those behind lock files and reports; import FILE: load these",
    )  # fmt: skip
    runs.add_argument("of", nargs="?", metavar="ID|FILE", help="with show; with export, import")
    runs.add_argument("--all", action="store_true", help="with export: every run of the journal")
    runs.add_argument("--json", action="store_true", help="list and show: as JSON")
    omniboard = add("omniboard", _omniboard, "serve the runs as a web page on this machine")
    omniboard.add_argument(
        "--port", type=int, default=9000, help="or the next free one (%(default)s)"
    )
    omniboard.add_argument(
        "--import", type=Path, metavar="FILE", dest="file", help="of `ijepa runs export`, first"
    )
    db = add("db", _db, "the embedded MongoDB; it also starts by itself when a run needs it")
    db.add_argument("action", choices=("start", "stop", "status"))
    checkpoints = add("checkpoints", _checkpoints, "what interrupted training goes on from")
    checkpoints.add_argument(
        "action", choices=("list", "gc"),
        help="list: name, newest step, size; gc: remove those that no process uses",
    )  # fmt: skip
    shells = add("completion", _completion, "print a script that makes a shell complete `ijepa`")
    shells.add_argument("shell", choices=SHELLS)
    return parser


def _completion(args: argparse.Namespace) -> None:
    print(completion(_parser(), args.shell))


def _print_json(tree: Any) -> None:
    print(json.dumps(tree, indent=1, default=str))  # str: of a path


def _soon(what: str) -> None:
    """Say at once what is begun, on stderr: to load torch takes seconds."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def _env(args: argparse.Namespace) -> None:
    from ijepa.runtime import environment
    from ijepa.tracking import redaction

    values = redaction.settings()
    values["IJEPA_HOME"] = values["IJEPA_HOME"] or str(environment.home())
    for name, (_, meaning) in environment.VARIABLES.items():
        print(f"{name}={values[name]:<12}  # {meaning}")


def _preset(args: argparse.Namespace) -> None:
    if args.name is None:
        for path in sorted(PRESETS.glob("*.yaml")):
            print(f"{path.stem:<18} {preset(path.stem)[0]}")
    else:
        print(" ".join(preset_arguments(args.name)))


def preset(name: str) -> tuple[str, dict[str, Any]]:
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
        for key, value in preset(name)[1].items()
    ]


def _hydra(key: str, value: Any) -> str:
    """A value as ``dvc exp run -S`` reads it, with nothing in it that a shell would split."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        return value
    text = json.dumps(value, separators=(",", ":"))
    if re.search(r"\s", text):
        raise ValueError(f"{key}: {value!r}: a space cannot go through $(ijepa preset ...)")
    return text


def _exp(args: argparse.Namespace) -> None:
    from ijepa import compare

    print(compare.show(args.task, args.probe, args.all))


def _ablate(args: argparse.Namespace) -> int:
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


def _import(args: argparse.Namespace) -> int:
    from ijepa.study import merge

    return merge.merge(args.file)


def _vouch(args: argparse.Namespace) -> int:
    from ijepa.study import vouch

    return vouch.vouch(args.names, args.scale, args.jobs, args.dry_run)


def _reproduce(args: argparse.Namespace) -> int:
    from ijepa.study import reproduce

    return reproduce.reproduce(args.what, args.dry_run, args.keep)


def _report(args: argparse.Namespace) -> int:
    from ijepa.study import lock, vouch

    tables = [
        (name, scale)
        for name, scale in lock.listing()
        if name in (args.ablation or [name]) and scale == (args.scale or scale)
    ]
    missing = set(args.ablation) - {name for name, _ in tables}
    if missing or not tables:
        wanted = ", ".join(sorted(missing)) or "any experiment"
        raise ValueError(f"no lock file of {wanted}; `ijepa ablate NAME --scale SCALE` makes it")
    _soon(f"{'checking' if args.check else 'building'} {len(tables)} of the reports")
    from ijepa.pages import index, readme, study

    standing = {table: vouch.standing(*table) for table in tables}
    if args.check:
        changed = [*index.check(tables, standing=standing), *readme.check()]
        for path in changed:
            print(f"{path}: not what the lock file gives")
        print(f"{len(tables)} reports: " + (f"{len(changed)} files differ" if changed else "same"))
        return 1 if changed else 0
    for name, scale in tables:
        print(study.build(name, scale, standing=standing[name, scale]))
    print(index.write())
    for path in readme.write():
        print(path)
    return 0


def _evaluate(args: argparse.Namespace) -> None:
    _soon(f"evaluating {args.encoder}")
    from ijepa.evaluation.elsewhere import evaluate

    changes = dict(text.partition("=")[::2] for text in args.changes)
    folder = evaluate(args.encoder, changes, args.out)
    print(f"{folder}; `ijepa verify {folder}` recomputes its numbers")


def _verify(args: argparse.Namespace) -> int:
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


def _export(args: argparse.Namespace) -> None:
    _soon(f"exporting {args.encoder}")
    from ijepa import config
    from ijepa.backbones import _export

    for path in _export.export(args.encoder, args.format, args.folder, config.load()):
        print(path)


def _masks(args: argparse.Namespace) -> None:
    _soon("drawing the masks of params.yaml")
    from ijepa import config
    from ijepa.pages.figures import masks

    args.out.parent.mkdir(parents=True, exist_ok=True)
    stem = args.out.with_suffix("")
    real = masks.draw(config.load(), stem, 8)
    print(f"{stem}.png, {stem}.svg" + ("" if real else " (grey: no prepared data set yet)"))


def _runs(args: argparse.Namespace) -> int:
    from ijepa.runtime import environment
    from ijepa.tracking import omniboard, runs, sync, terminal

    if args.json and args.action not in ("list", "show"):
        raise ValueError(f"--json: not with runs {args.action}")
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


def _omniboard(args: argparse.Namespace) -> int:
    from ijepa.tracking import omniboard

    if args.file:
        from ijepa.study import archive

        archive.load(args.file)
    return omniboard.serve(args.port)


def _db(args: argparse.Namespace) -> None:
    from ijepa.runtime import environment
    from ijepa.tracking import mongo

    home = environment.home()
    if args.action == "stop":
        print("stopped" if mongo.stop(home) else "not running")
        return
    if args.action == "start":
        mongo.connect(home).client.close()
    print(f"MongoDB: {mongo.status(home)}")


def _checkpoints(args: argparse.Namespace) -> None:
    from ijepa.runtime import environment
    from ijepa.training import checkpoint

    if args.action == "gc":
        print(f"{checkpoint.collect(environment.home()) / 1e6:.1f} MB freed")
        return
    for name, step, size in checkpoint.listing(environment.home()):
        print(f"{name}  step {step:<8} {size / 1e6:8.1f} MB")
