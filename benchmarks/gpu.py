"""Training steps on this GPU: ours, ours compiled, and the released code's beside it.

    python benchmarks/gpu.py OUT.json [--only PRESET ...] [--official FOLDER] [--seconds 300]
    python benchmarks/gpu.py OUT.json --together 1 2 4 --only scale:gpu

A step is forward, backward, AdamW and EMA on images that lie on the GPU: no loader, no health
readings. Both sides get the same images and the same masks, with the lengths that the whole batch
of the preset has. ``--official`` names a checkout of github.com/facebookresearch/ijepa (CC BY-NC:
keep it outside this repository). Its modules get the padded masks, whose padding they take for
patches: the same tokens and not the same mathematics. Its step is that of its ``train.py``:
autocast with a gradient scaler, AdamW as torch chooses it, a loop over the parameters for the EMA.

``mfu`` counts FLOPs without padding, over 989 TFLOP/s, an H100's dense bf16. ``gpu_ms`` is the sum
of a step's kernels: where it is far below ``ms``, the processor and not the GPU is the limit.
``--together K`` runs K processes at once, as ``ijepa ablate --jobs`` does, and adds them up.
"""

import argparse
import copy
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ijepa import config as configs
from ijepa import presets, seeds, variants
from ijepa.masks import Keys, Masks
from ijepa.model import vit
from ijepa.runtime import files
from ijepa.training.loop import create_objective, create_optimizer
from ijepa.views import normalise

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
SHAPES = 8  # batches of different masks


def config(name: str) -> configs.Config:
    """params.yaml with a preset, or with a scale of ``experiments``, on it."""
    tree = files.read_yaml(configs.PARAMS)
    if name.startswith("scale:"):
        scale = files.read_yaml(Path("experiments/scales") / f"{name[6:]}.yaml")
        presets.apply(tree, presets.load(scale["preset"])[1], name)
        keys = {key: value for key, value in scale.items() if "." in key}
        presets.apply(tree, keys, name)
    else:
        presets.apply(tree, presets.load(name)[1], name)
    return configs.parse(tree, name)


def batches(setup: configs.Config, micro: int) -> list[tuple[Tensor, Masks]]:
    """Images as they come from a loader, and masks, on the GPU."""
    grid, size = configs.grid(setup), setup.train.batch_size
    sample = variants.load("masks", setup.mask.name).sample
    side = setup.data.image_size
    drawn = []
    for step in range(SHAPES):
        places = np.arange(step * size, (step + 1) * size)
        keys = Keys(0, step, np.zeros(size, np.int64), places)
        masks = sample(keys, grid, setup.mask.options).rows(0, micro)
        drawn.append((torch.randint(0, 256, (micro, 3, side, side), dtype=torch.uint8), masks))
    return drawn


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


def ours(
    setup: configs.Config, drawn: list[tuple[Tensor, Masks]], compiled: bool
) -> Callable[[], None]:
    """Our step."""
    objective = create_objective(setup, GPU)
    if compiled:
        vit.compile_blocks(objective)
    optimizer = create_optimizer(objective, setup)
    turn = itertools.cycle([(images.to(GPU), masks.to(GPU)) for images, masks in drawn])

    def step() -> None:
        images, masks = next(turn)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = objective(normalise(images), masks)
        loss.backward()
        optimizer.step()
        objective.update(0.5)

    return step


def official(
    setup: configs.Config, drawn: list[tuple[Tensor, Masks]], folder: Path
) -> Callable[[], None]:
    """The released code's step."""
    sys.path.insert(0, str(folder))
    from src.masks.utils import apply_masks  # type: ignore[import-not-found]
    from src.models.vision_transformer import (  # type: ignore[import-not-found]
        VisionTransformer,
        VisionTransformerPredictor,
    )
    from src.utils.tensors import repeat_interleave_batch  # type: ignore[import-not-found]

    model, size = setup.model, setup.data.image_size
    norm = lambda width: nn.LayerNorm(width, eps=1e-6)  # noqa: E731
    encoder = VisionTransformer(
        img_size=[size], patch_size=model.patch_size, embed_dim=model.width, depth=model.depth,
        num_heads=model.heads, mlp_ratio=model.mlp_ratio, qkv_bias=True, norm_layer=norm,
    ).to(GPU)  # fmt: skip
    predictor = VisionTransformerPredictor(
        num_patches=encoder.patch_embed.num_patches, embed_dim=model.width,
        predictor_embed_dim=model.predictor_width, depth=model.predictor_depth,
        num_heads=model.predictor_heads, qkv_bias=True, norm_layer=norm,
    ).to(GPU)  # fmt: skip
    target = copy.deepcopy(encoder).requires_grad_(False)
    trained = [p for net in (encoder, predictor) for p in net.parameters() if p.requires_grad]
    optimizer, scaler = torch.optim.AdamW(trained), torch.amp.GradScaler("cuda")
    turn = itertools.cycle(
        [
            (images.to(GPU), [masks.context.to(GPU)], [t.to(GPU) for t in masks.targets.unbind(1)])
            for images, masks in drawn
        ]
    )

    def step() -> None:
        raw, contexts, blocks = next(turn)
        images = normalise(raw)
        with torch.autocast("cuda", torch.bfloat16):
            with torch.no_grad():
                wanted = target(images)
                wanted = nn.functional.layer_norm(wanted, (wanted.size(-1),))
                wanted = apply_masks(wanted, blocks)
                wanted = repeat_interleave_batch(wanted, len(images), repeat=1)
            predicted = predictor(encoder(images, contexts), contexts, blocks)
            loss = nn.functional.smooth_l1_loss(predicted, wanted)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        with torch.no_grad():
            for new, old in zip(encoder.parameters(), target.parameters(), strict=True):
                old.data.mul_(0.996).add_((1.0 - 0.996) * new.detach().data)

    return step


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
        step = official(setup, drawn, official_code)
    else:
        seeds.deterministic()
        step = ours(setup, drawn, "compiled" in kind)
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
    step = ours(setup, batches(setup, micro), compiled=False)
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
        arguments.out.write_text(json.dumps({**card, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
