"""Randomness as a pure function of (seed, purpose, index): the only place that seeds anything.

What numbers may be drawn for is a closed set, ``PURPOSES``: two uses of one purpose would share
their numbers, and a colour would follow from the place of a crop.

No generator state is ever carried from step to step, so workers, ranks and resumed runs draw the
same numbers. Vectors of per-sample numbers come from ``uniforms``, a counter-based generator
(Salmon et al. 2011) built on the SplitMix64 finaliser (Steele et al. 2014): NumPy's own
counter-based generators must be constructed once per key, which is 100 times slower here.
"""

import hashlib
import os
import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# What a run's seed sets, part by part: the keys of ``seeds`` in params.yaml, and what they are. A
# part is a seed of its own, so two parts share no numbers that their purposes do not.
PARTS = {
    "init": "initial weights",
    "order": "order of the images, their subset, crops and augmentations",
    "mask": "masks",
    "labels": "labels that fit a probe, and those that select its settings",
    "probe": "a probe's own draws: its batches, initial weights, few labels and views",
}

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

PURPOSES = frozenset({  # "#" is a number: of a view, an attempt, a rectangle
    # which images, in which order, and how a view shows them
    "subset", "order", "crop", "crop/#", "augment", "augment/#", "health",
    # masks; plain "mask" makes the seed of another view's
    "mask", "mask/#", "mask/context_ratio", "mask/size", "mask/official", "mask/official/#/#",
    "mask/block", "mask/random", "mask/rasterized",
    "mask/blockwise", "mask/blockwise/#", "mask/blockwise/#/part", "mask/blockwise/rest",
    # initial weights
    "init/encoder", "init/predictor", "init/decoder", "init/head",
    # evaluation
    "held-out", "linear", "logistic", "few-shot", "attentive", "attentive/init",
    "finetune", "view", "report/pool",
    # rendering
    "scenes/train/labels", "scenes/train/places", "scenes/train/look",
    "scenes/test/labels", "scenes/test/places", "scenes/test/look",
})  # fmt: skip
# A new variant is one file, and a line here would change the code that every result depends on.
# So what is drawn in ijepa/<family>/<name>.py may also be called <family>/<name>, or that and on.
_OF_A_VARIANT = re.compile(r"(?:datasets|masks|objectives|probes)/\w+(?:/|$)")


def key(seed: int, purpose: str, *index: int) -> int:
    """A 64-bit key for one purpose, stable across machines and Python versions.

    All that draws begins here, so an undeclared purpose stops all.
    """
    declared = re.sub(r"(?<=/)\d+(?=/|$)", "#", purpose) in PURPOSES
    assert declared or _OF_A_VARIANT.match(purpose), f"{purpose!r} is not in seeds.PURPOSES"
    text = "/".join([str(seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: a bijection of 64-bit words whose output bits look random."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(
    seed: int, purpose: str, epoch: int | NDArray[np.int64], samples: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """``count`` uniform numbers for each sample, whatever other samples are drawn with it.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for, of ``PURPOSES``; different ones are independent.
        epoch: the epoch, one for all samples or one for each, shape (B,).
        samples: indices of the samples in their data set, shape (B,).
        count: numbers wanted for each sample.

    Returns:
        Numbers in [0, 1), shape (B, count).
    """
    base = np.uint64(key(seed, purpose))
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        epochs = np.broadcast_to(np.asarray(epoch, dtype=np.uint64), samples.shape)
        row = _mix(base + _GOLDEN * (epochs + np.uint64(1)))
        row = _mix(row ^ (_GOLDEN * (samples.astype(np.uint64) + np.uint64(1))))
        columns = _GOLDEN * np.arange(1, count + 1, dtype=np.uint64)
        words = _mix(row[:, None] + columns[None, :])
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """A NumPy generator for one purpose and index."""
    return np.random.Generator(np.random.Philox(key(seed, purpose, *index)))


def torch_generator(seed: int, purpose: str, *index: int) -> "torch.Generator":
    """A CPU torch generator for one purpose and index."""
    import torch  # masks and scenes, which need none of it, are drawn in processes without it

    made = torch.Generator()
    made.manual_seed(key(seed, purpose, *index) >> 1)
    return made


def deterministic() -> None:
    """Ask torch for deterministic kernels; on a GPU this is what makes a resumed run bit-exact."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # filling fresh memory costs time and removes no randomness of ours
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32, in the patch embedding too
