"""Training steps on this processor beside the released code's, quiet and beside a busy process.

    python benchmarks/cpu.py OUT.md --official FOLDER [--rounds 5] [--seconds 8] [--threads 2]

Every measurement is a process of its own, since threads and their waiting are chosen when torch
is loaded. Within a round all kinds are measured one after the other, alone and then beside one
process that computes all the time; what is reported are medians over the rounds and, because a
machine's speed drifts, the medians of the ratios within a round.

``ours`` has the threads that ``ijepa.pretrain`` takes; the other two of ours have all of them,
which sleep while they wait for each other, or spin, as torch's do by default and the released
code's. What the two sides compute is in ``steps.py``; both in the same precision.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = (("default", 32, "bf16"), ("default", 32, "fp32"), ("vit_s16", 4, "fp32"))
KINDS = ("ours", "ours, threads sleep", "ours, threads spin", "official")


def child(case: str, images: int, precision: str, kind: str, seconds: float, code: str) -> None:
    """Print images per second."""
    import torch  # before the package, which sets how threads wait; the parent sets it otherwise
    from steps import batches, config, official, ours

    from ijepa import pretrain
    from ijepa.runtime import environment

    setup, cpu, half = config(case), torch.device("cpu"), precision == "bf16"
    hardware = environment.Hardware("cpu", precision, 1, int(os.environ["OMP_NUM_THREADS"]))
    if kind == "ours":
        hardware = pretrain.with_threads(setup, hardware)
    torch.set_num_threads(hardware.threads)
    drawn = batches(setup, images)
    step = (
        official(setup, drawn, cpu, half, Path(code))
        if kind == "official"
        else ours(setup, drawn, cpu, half)
    )
    for _ in range(2):
        step()
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < seconds or count < 4:
        step()
        count += 1
    print(count * images / (time.monotonic() - begun))


def spin() -> None:
    """A process that is busy."""
    while True:
        pass


def measure(arguments: argparse.Namespace, case: tuple[str, int, str], kind: str) -> float:
    """Images per second of one kind of step now."""
    told = [case[0], str(case[1]), case[2], kind, str(arguments.seconds), str(arguments.official)]
    allocator = {  # as ijepa.runtime.launch sets it; for the released code too
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "2147483647",
        "MALLOC_TOP_PAD_": "268435456",
    }
    variables = {**os.environ, **allocator, "OMP_NUM_THREADS": str(arguments.threads)}
    variables.pop("OMP_WAIT_POLICY", None)
    if kind in ("ours", "ours, threads sleep"):
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
    command = [sys.executable, __file__, "-", "--child", *told]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--official", type=Path, help="a checkout of the released code")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        case, images, precision, kind, seconds, code = arguments.child
        child(case, int(images), precision, kind, float(seconds), code)
        return
    kinds = KINDS if arguments.official else KINDS[:3]
    speeds: dict[tuple[object, ...], list[float]] = {}
    for number, case in itertools.product(range(arguments.rounds), CASES):
        for busy in (False, True):
            other = multiprocessing.Process(target=spin, daemon=True)
            if busy:
                other.start()
            for kind in kinds:
                speed = measure(arguments, case, kind)
                speeds.setdefault((case, busy, kind), []).append(speed)
                print(number, case, "busy" if busy else "quiet", kind, f"{speed:.1f}", flush=True)
            if busy:
                other.kill()
    arguments.out.write_text(table(speeds, arguments))


def table(speeds: dict[tuple[object, ...], list[float]], arguments: argparse.Namespace) -> str:
    """The results as Markdown."""
    lines = [
        f"`python benchmarks/cpu.py`: {arguments.threads} threads of {processor()}, medians of"
        f" {arguments.rounds} rounds of {arguments.seconds:g} s, ranges in brackets.",
        "",
        "| step | images | precision | other work | kind | images/s | to ours | to ours, quiet |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (case, busy, kind), values in speeds.items():
        assert isinstance(case, tuple)
        same = [v / o for v, o in zip(values, speeds[case, busy, "ours"], strict=True)]
        quiet = [v / o for v, o in zip(values, speeds[case, False, "ours"], strict=True)]
        cells = [*case, "one busy process" if busy else "none", kind, spread(values, 0)]
        lines.append(f"| {' | '.join(map(str, cells))} | {spread(same, 2)} | {spread(quiet, 2)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    """Median and range."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def processor() -> str:
    """Its name, as Linux has it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
