"""Training steps on this GPU: ours, ours compiled, and the released code's beside it.

    python benchmarks/gpu.py OUT.json [--only PRESET ...] [--official FOLDER] [--seconds 300]
    python benchmarks/gpu.py OUT.json --together 1 2 4 --only scale:gpu

Both sides get the same images and the same masks (``steps.py``), with the lengths that the whole
batch of the preset has.

``mfu`` counts FLOPs without padding, over 989 TFLOP/s, an H100's dense bf16. ``gpu_ms`` is the sum
of a step's kernels: where it is far below ``ms``, the processor and not the GPU is the limit.
``--together K`` runs K processes at once, as ``ijepa ablate --jobs`` does, and adds them up.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from steps import SHAPES, batches, config, official, ours

from ijepa import config as configs
from ijepa import seeds
from ijepa.training.loop import create_objective

PEAK = 989e12
GPU = torch.device("cuda")
CASES = (  # preset or scale, images at once
    ("scale:gpu", 256),
    ("vit_b16_300ep", 256),
    ("vit_l16", 128),
    ("vit_h14", 64),
    ("vit_h14", 128),
    ("vit_h14_official", 128),
)
STEPS = ("ours", "ours, compiled", "official")


def milliseconds(step: Callable[[], Any], count: int, warm: int) -> float:
    """Median of a step."""
    for _ in range(warm):
        step()
    times = []
    for _ in range(count):
        first, last = torch.cuda.Event(True), torch.cuda.Event(True)
        first.record()
        step()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last))
    return statistics.median(times)


def measure(
    setup: configs.Config, micro: int, kind: str, official_code: Path | None
) -> dict[str, float]:
    """A row of the table."""
    drawn = batches(setup, micro)
    useful = create_objective(setup, torch.device("cpu")).flops(*drawn[0], padding=False)
    torch._dynamo.reset()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if kind == "official":
        assert official_code is not None
        torch.use_deterministic_algorithms(False)
        step = official(setup, drawn, GPU, True, official_code)
    else:
        seeds.deterministic()
        step = ours(setup, drawn, GPU, True, "compiled" in kind)
    begun = time.monotonic()
    step()
    first = time.monotonic() - begun
    ms = milliseconds(step, 2 * SHAPES, SHAPES)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step()
        torch.cuda.synchronize()
    busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e3
    return {
        "ms": ms,
        "gpu_ms": busy,
        "images_s": 1e3 * micro / ms,
        "mfu": useful / ms * 1e3 / PEAK,
        "first_step_s": first,
        "gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def together(arguments: argparse.Namespace, name: str, micro: int, count: int) -> dict[str, Any]:
    """Images per second of several processes at once, and of each."""
    command = [sys.executable, __file__, str(arguments.out), "--child", name, str(micro)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    speeds = [float(child.communicate()[0]) for child in children]
    return {"preset": name, "images": micro, "processes": count, "images_s": sum(speeds)}


def child(name: str, micro: int) -> None:
    """Train for 20 s after 10 s in which the others start; print images per second."""
    seeds.deterministic()
    setup = config(name)
    torch.set_num_threads(1)
    step = ours(setup, batches(setup, micro), GPU, True)
    begun = time.monotonic()
    while time.monotonic() - begun < 10:
        step()
        torch.cuda.synchronize()
    begun, count = time.monotonic(), 0
    while time.monotonic() - begun < 20:
        step()
        torch.cuda.synchronize()
        count += 1
    print(count * micro / (time.monotonic() - begun))


def table(result: dict[str, Any]) -> str:
    """The rows as Markdown."""
    columns = {
        "preset": "", "images": "", "step": "", "processes": "",
        "ms": ".1f", "gpu_ms": ".1f", "images_s": ".0f", "mfu": ".3f", "gib": ".1f", "error": "",
    }  # fmt: skip
    lines = [
        f"{result['card']}, torch {result['torch']}; a bf16 product of 8192 x 8192 matrices"
        f" runs at {result['gemm_tflops']:.0f} TFLOP/s.",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for row in result["rows"]:
        cells = [format(row[name], how) if name in row else "" for name, how in columns.items()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="presets")
    parser.add_argument("--official", type=Path, help="a checkout of the released code")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no row after them")
    parser.add_argument("--together", nargs="*", type=int, default=[])
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], int(arguments.child[1]))
        return
    end = time.monotonic() + arguments.seconds
    a = torch.randn(8192, 8192, device=GPU, dtype=torch.bfloat16)
    gemm = 2 * 8192**3 / milliseconds(lambda: a @ a, 20, 5) / 1e9
    card = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "gemm_tflops": gemm}
    print(card, flush=True)
    rows: list[dict[str, Any]] = []
    cases = [case for case in CASES if not arguments.only or case[0] in arguments.only]
    steps = STEPS if arguments.official else STEPS[:2]
    work = [(*case, count) for case in cases for count in arguments.together]
    for name, micro, kind in work or [(*case, kind) for case in cases for kind in steps]:
        if time.monotonic() > end:
            break
        row: dict[str, Any] = {"preset": name, "images": micro}
        if isinstance(kind, int):
            row = together(arguments, name, micro, kind)
        else:
            row["step"] = kind
            try:
                row |= measure(config(name), micro, kind, arguments.official)
            except torch.OutOfMemoryError as error:
                row["error"] = str(error).split(". ")[0]
        rows.append(row)
        print(row, flush=True)
        result = {**card, "rows": rows}
        arguments.out.write_text(json.dumps(result, indent=1))
        arguments.out.with_suffix(".md").write_text(table(result))


if __name__ == "__main__":
    main()
