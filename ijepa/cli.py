"""The ``ijepa`` command: experiments, evaluation, export, database, runs, masks, presets.

Here is what they are called and take; ``ijepa.commands`` has what they do.
"""

import argparse
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ijepa import commands
from ijepa.arguments import SHELLS, Parser, Version, completion
from ijepa.runtime import errors

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
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int | None], about: str) -> Any:
        command = subparsers.add_parser(name, help=about, description=about)
        command.set_defaults(command=run, parser=command)
        return command

    add("env", commands.env, "print the IJEPA_* variables: hardware and places, never science")
    preset = add(
        "preset", commands.preset, "list the presets, or print one as arguments of `dvc exp run`"
    )
    preset.add_argument("name", nargs="?", help="a file of experiments/presets/")
    compared = add(
        "exp", commands.exp, "the experiments of `dvc exp run`: what each changed and reaches"
    )
    compared.add_argument("--task", help="of out/metrics.json; default: class")
    compared.add_argument("--probe", help="default: linear")
    compared.add_argument("--all", action="store_true", help="those of every commit, not of HEAD")
    ablate = add(
        "ablate", commands.ablate, "run experiments, variant by seed, into their lock files"
    )
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
    brought = add(
        "import", commands.import_, "bring what `ablate --runner plain` ran elsewhere into here"
    )
    brought.add_argument("file", type=Path, help="the .tar.gz that it wrote")
    vouch = add(
        "vouch", commands.vouch, "show that today's code gives what older results have, by runs"
    )
    vouch.add_argument("names", nargs="+", help="files of experiments/, without .yaml")
    vouch.add_argument("--scale", required=True, help="a file of experiments/scales/")
    vouch.add_argument("--jobs", type=int, default=1, help="runs at once")
    vouch.add_argument("--dry-run", action="store_true", help="print what would run")
    about = "run again what is behind a recorded number, and compare the bytes"
    reproduce = add("reproduce", commands.reproduce, about)
    reproduce.add_argument(
        "what", nargs="*",
        help="a run's id; a cell of a lock file, such as `target_scale.laptop s0150_0200/3`; the"
        " folder of a published run, such as reports/cifar10; default: the run of dvc.lock",
    )  # fmt: skip
    reproduce.add_argument("--dry-run", action="store_true", help="say what would run")
    reproduce.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="a new one, for the clone and its logs"
    )
    report = add(
        "report", commands.report, "build the reports of experiments from their lock files"
    )
    report.add_argument("--ablation", nargs="+", default=[], metavar="NAME", help="default: all")
    report.add_argument("--scale", help="default: every scale that has a lock file")
    report.add_argument(
        "--check", action="store_true", help="build nothing; fail if a file would change"
    )
    about = "probe any frozen encoder, beside random init and pixels"
    evaluate = add("evaluate", commands.evaluate, about)
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
    verify = add(
        "verify", commands.verify, "recompute every number of an evaluation from its predictions"
    )
    verify.add_argument(
        "path", nargs="?", type=Path, default=Path("out/evaluation"),
        help="the folder of an evaluation or of a published report, or a lock file, whose"
        " accuracies its kept answers give; default: %(default)s",
    )  # fmt: skip
    verify.add_argument("--tables", action="store_true", help="every lock file of experiments/")
    export = add("export", commands.export, "write an encoder as timm, transformers or we read it")
    export.add_argument("--format", required=True, choices=("timm", "hf", "safetensors"))
    export.add_argument(
        "--encoder", metavar="SPEC", default="out/encoder.safetensors",
        help="as of `ijepa evaluate`; default: %(default)s",
    )  # fmt: skip
    export.add_argument("folder", type=Path, help="a new or an empty one")
    masks = add("masks", commands.masks, "draw what the masks of params.yaml look like")
    masks.add_argument(
        "--out", type=Path, default=Path("out/masks.png"), help="default: %(default)s"
    )
    runs = add("runs", commands.runs, "the recorded runs of all stages")
    runs.add_argument(
        "action", choices=("list", "show", "sync", "export", "import"),
        help="list: a table, newest first; show ID: one run; sync: send them all to MongoDB;"
        " export FILE: pack those behind lock files and reports; import FILE: load these",
    )  # fmt: skip
    runs.add_argument("of", nargs="?", metavar="ID|FILE", help="with show; with export, import")
    runs.add_argument("--all", action="store_true", help="with export: every run of the journal")
    runs.add_argument("--json", action="store_true", help="list and show: as JSON")
    omniboard = add(
        "omniboard", commands.omniboard, "serve the runs as a web page on this machine"
    )
    omniboard.add_argument(
        "--port", type=int, default=9000, help="or the next free one (%(default)s)"
    )
    omniboard.add_argument(
        "--import", type=Path, metavar="FILE", dest="file", help="of `ijepa runs export`, first"
    )
    db = add(
        "db", commands.db, "the embedded MongoDB; it also starts by itself when a run needs it"
    )
    db.add_argument("action", choices=("start", "stop", "status"))
    checkpoints = add(
        "checkpoints", commands.checkpoints, "what interrupted training goes on from"
    )
    checkpoints.add_argument(
        "action", choices=("list", "gc"),
        help="list: name, newest step, size; gc: remove those that no process uses",
    )  # fmt: skip
    shells = add("completion", _completion, "print a script that makes a shell complete `ijepa`")
    shells.add_argument("shell", choices=SHELLS)
    return parser


def _completion(args: argparse.Namespace) -> None:
    print(completion(_parser(), args.shell))
