from typing import Any

import numpy as np
import pytest
import torch

from ijepa import seeds

GOLDEN_KEY = 8748431698276096892
GOLDEN_UNIFORMS = [
    0.05774544806603332,
    0.06653058460707661,
    0.5869022935829395,
    0.7465093865007872,
]


def test_a_samples_numbers_do_not_depend_on_its_batch() -> None:
    samples = np.arange(1000)
    together = seeds.uniforms(3, "crop", 5, samples, 7)
    alone = seeds.uniforms(3, "crop", 5, samples[123:124], 7)
    assert (together[123] == alone[0]).all()
    shorter = seeds.uniforms(3, "crop", 5, samples, 4)
    assert (together[:, :4] == shorter).all()


def test_every_index_matters_and_numbers_are_uniform_and_independent() -> None:
    samples = np.arange(20000)
    base = seeds.uniforms(0, "crop", 0, samples, 2)
    for other in (
        seeds.uniforms(1, "crop", 0, samples, 2),
        seeds.uniforms(0, "crop/1", 0, samples, 2),
        seeds.uniforms(0, "crop", 1, samples, 2),
        seeds.uniforms(0, "crop", 0, samples + 1, 2)[:-1],
    ):
        correlation = np.corrcoef(base[: len(other), 0], other[:, 0])[0, 1]
        assert abs(correlation) < 0.03  # four standard errors of 20000 independent pairs
    assert abs(np.corrcoef(base[:, 0], base[:, 1])[0, 1]) < 0.03
    counts, _ = np.histogram(base, bins=50, range=(0, 1))
    expected = base.size / 50
    assert ((counts - expected) ** 2 / expected).sum() < 94.0  # chi-square, 49 df, p = 1e-4


def test_words_are_mixed_as_splitmix64_does() -> None:
    """Its published first five numbers for the seed 1234567 (Rosetta Code, Splitmix64)."""
    with np.errstate(over="ignore"):
        states = np.uint64(1234567) + seeds._GOLDEN * np.arange(1, 6, dtype=np.uint64)
        assert seeds._mix(states).tolist() == [
            6457827717110365317, 3203168211198807973, 9817491932198370423,
            4593380528125082431, 16408922859458223821,
        ]  # fmt: skip


@pytest.mark.parametrize(("epochs", "samples", "count"), [(300, 3000, 1), (50, 200, 20)])
def test_no_two_epochs_samples_and_columns_share_a_number(
    epochs: int, samples: int, count: int
) -> None:
    """Epoch 1 of image 7 is not epoch 0 of image 8; of 53 bits, chance repeats none of these."""
    epoch, sample = (index.ravel() for index in np.indices((epochs, samples)))
    drawn = seeds.uniforms(2, "crop", epoch, sample, count)
    assert len(np.unique(drawn)) == epochs * samples * count


def test_generators_are_keyed() -> None:
    def numpys(*keyed: Any) -> list[int]:
        return seeds.generator(*keyed).permutation(50).tolist()

    def torchs(*keyed: Any) -> list[int]:
        return torch.randperm(50, generator=seeds.torch_generator(*keyed)).tolist()

    for draw in (numpys, torchs):
        first = draw(0, "order", 1)
        assert first == draw(0, "order", 1)
        for other in ((0, "order", 2), (0, "order"), (0, "order", 1, 0), (1, "order", 1)):
            assert draw(*other) != first


@pytest.mark.parametrize("purpose", [
    "colour", "crops", "crop/left", "crop/1/2", "init/teacher", "mask/blockwise/part", "masks", "",
])  # fmt: skip
def test_nothing_is_drawn_for_a_purpose_that_is_not_declared(purpose: str) -> None:
    one = np.arange(1)
    for draw in (
        lambda: seeds.key(0, purpose),
        lambda: seeds.uniforms(0, purpose, 0, one, 1),
        lambda: seeds.generator(0, purpose),
        lambda: seeds.torch_generator(0, purpose),
    ):
        with pytest.raises(AssertionError, match="is not in seeds"):
            draw()


def test_views_and_attempts_are_numbered_and_a_new_variant_declares_nothing() -> None:
    purposes = ["crop/12", "mask/official/3/14", "masks/mine", "probes/mine/2", "objectives/a/b"]
    assert len({seeds.key(0, purpose) for purpose in purposes}) == len(purposes)


def test_golden_numbers_stay() -> None:
    found = seeds.uniforms(0, "crop", 0, np.array([0, 1]), 2)
    assert seeds.key(0, "order", 1) == GOLDEN_KEY
    np.testing.assert_allclose(found.ravel(), GOLDEN_UNIFORMS, rtol=0, atol=1e-12)
