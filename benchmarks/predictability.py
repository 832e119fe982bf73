"""How much of a target the context tells, by the best linear prediction: of what matters, and not.

    python benchmarks/predictability.py > benchmarks/results/predictability.md

Linear theory (arXiv 2407.03475, 2505.12477) orders what is learned by the covariance of context
and target for pixel targets, and by the regression coefficient rho for latent ones. So latent
targets should win where a nuisance is larger than the signal and less predictable: rho_n < rho_s
and rho_n s_n > rho_s s_s. In scenes both are known, the scene and the field over it; of real
images only the sum is. rho is the square root of the share of a target patch's variance that a
linear map of the visible patches explains on other images, over the default masks; s is the
standard deviation of pixels in grey levels.
"""

import dataclasses
import platform
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ijepa import config as configs
from ijepa import presets, variants
from ijepa.config import Config, grid
from ijepa.datasets import _field, scenes
from ijepa.masks import Keys
from ijepa.runtime import environment, files
from ijepa.store import pictures

IMAGES, MASKS, PARTS = 8000, 64, 6  # PARTS: principal components of a patch that are looked at
WORLDS = ((0.0, 3.0), (25.0, 2.0), (50.0, 2.0), (50.0, 0.0), (25.0, 12.0))  # amplitude, length
F64 = NDArray[np.float64]


def patches(images: F64, side: int) -> F64:
    """Images (n, H, W, C) -> (n, N, D), about the mean of each place."""
    n, height, width, channels = images.shape
    split = images.reshape(n, height // side, side, width // side, side, channels)
    flat = split.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, side * side * channels)
    return flat - flat.mean(0)


def told(images: F64, config: Config) -> tuple[float, float]:
    """rho of a target patch given the context, and its standard deviation in grey levels."""
    parts = patches(images, config.model.patch_size)
    n, places, width = parts.shape
    rows = parts.reshape(-1, width)
    _, axes = np.linalg.eigh(rows.T @ rows)
    kept = (parts @ axes[:, -PARTS:]).reshape(n, -1)
    half = n // 2
    fit, test = (part.T @ part / len(part) for part in (kept[:half], kept[half:]))
    fit += 1e-4 * np.trace(fit) / len(fit) * np.eye(len(fit))
    variance = left = 0.0
    for context, target in _masks(config):
        c, t = (np.flatnonzero(np.repeat(np.isin(np.arange(places), p), min(PARTS, width)))
                for p in (context, target))  # fmt: skip
        map_ = np.linalg.solve(fit[np.ix_(c, c)], fit[np.ix_(c, t)])
        wrong = test[np.ix_(t, t)] - 2 * map_.T @ test[np.ix_(c, t)]
        left += np.trace(wrong + map_.T @ test[np.ix_(c, c)] @ map_)
        variance += np.trace(test[np.ix_(t, t)])
    return float(max(0.0, 1 - left / variance) ** 0.5), float(images.std())


def _masks(config: Config) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Context and target patches of some draws."""
    numbers = np.arange(MASKS)
    keys = Keys(config.seeds.mask, 0, np.zeros_like(numbers), numbers)
    masks = variants.load("masks", config.mask.name).sample(
        keys, grid(config), config.mask.options
    )
    for row in range(MASKS):
        for block in range(masks.targets.shape[1]):
            yield (masks.context[row][masks.context_valid[row]].numpy(),
                   masks.targets[row, block][masks.targets_valid[row, block]].numpy())  # fmt: skip


def rendered(config: Config) -> F64:
    """Clean scenes."""
    options = dataclasses.replace(config.data.options, nuisance_amplitude=0.0)
    chunks = [scenes.render(options, "train", np.arange(start, start + 16))[0]
              for start in range(0, IMAGES, 16)]  # fmt: skip
    return np.concatenate(chunks).astype(np.float64)


def cifar10(config: Config) -> F64:
    """Training images of CIFAR-10."""
    source = variants.load("datasets", "cifar10").load(
        config.data.options, environment.data_root()
    )
    images = []
    for item in source.splits["train"].items():
        image = item.image
        images.append(image if isinstance(image, np.ndarray) else pictures.decode(image))
        if len(images) == IMAGES:
            break
    return np.stack(images).astype(np.float64)


def _config(changes: dict[str, Any]) -> Config:
    tree = files.read_yaml(configs.PARAMS)
    presets.apply(tree, changes, "benchmarks/predictability.py")
    return configs.parse(tree, "benchmarks/predictability.py")


def main() -> None:
    print(
        f"{IMAGES} images, half of them to fit, {MASKS} x 4 targets, {PARTS} components of a"
        f" patch; {platform.processor() or platform.machine()}, numpy {np.__version__}.\n"
    )
    print("| data | grid | s_s | rho_s | s_n | rho_n | rho_n s_n / (rho_s s_s) | linear theory |")
    print("|---|---|---|---|---|---|---|---|")
    for patch in (8, 4):
        config = _config({"model.patch_size": patch})
        clean = rendered(config)
        rho_s, s_s = told(clean, config)
        size = config.data.image_size // patch
        for amplitude, length in WORLDS:
            row = [f"scenes, {amplitude:g} of {length:g} px", f"{size} x {size}",
                   f"{s_s:.1f}", f"{rho_s:.2f}"]  # fmt: skip
            if amplitude:
                field = _field.gaussian(0, "datasets/scenes/train/nuisance", np.arange(IMAGES),
                                        config.data.image_size, length)  # fmt: skip
                rho_n, s_n = told(amplitude * field[..., None], config)
                share = rho_n * s_n / (rho_s * s_s)
                latent = rho_n < rho_s and share > 1
                row += [f"{s_n:.1f}", f"{rho_n:.2f}", f"{share:.2f}",
                        "latent" if latent else "pixels, or alike"]  # fmt: skip
            else:
                row += ["", "", "", "pixels, or alike"]
            print(f"| {' | '.join(row)} |", flush=True)
    config = _config(presets.load("cifar10")[1])
    rho, deviation = told(cifar10(config), config)
    side = config.data.image_size // config.model.patch_size
    print(f"\nCIFAR-10, whole images, {side} x {side}: rho {rho:.2f}, s {deviation:.1f}.")


if __name__ == "__main__":
    sys.exit(main())
