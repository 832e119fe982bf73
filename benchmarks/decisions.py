"""How often verdicts are false, and how many seeds they take: by simulation.

    python benchmarks/decisions.py > benchmarks/results/decisions.md

Made-up experiments are judged as ``ijepa.study.decision`` judges real ones: variants share a
reference, seeds are added from look to look. The rules are written here once more, for arrays of
experiments; ``tests/test_decisions_table.py`` holds the two against each other.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtr

from ijepa.study import crossed, sequential

LOOKS, ERROR = sequential.LOOKS, sequential.ERROR
PRIORS = (0.5, 1.0, 2.0, 4.0)  # of a confidence sequence, in seeds
KINDS = ("holds", "does not hold", "no difference")

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Law = Callable[[np.random.Generator, tuple[int, ...]], Floats]  # of a run's accuracy, sd about 1


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.normal(size=shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.standard_t(3, shape) / 3**0.5


def exponential(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    return rng.exponential(size=shape)


def collapses(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """One run in ten falls by ten standard deviations."""
    return rng.normal(size=shape) - 10 * (rng.random(shape) < 0.1)


LAWS: dict[str, Law] = {
    "normal": normal, "t, 3 degrees": t3, "exponential": exponential,
    "1 in 10 collapses": collapses,
}  # fmt: skip


def differences(
    rng: np.random.Generator, law: Law, count: int, shifts: Sequence[float], scale: float = 1.0
) -> Floats:
    """Reference minus each variant: (experiments, pairs, seeds).

    Args:
        rng: draws.
        law: of a run; of the reference and the variants alike.
        count: experiments.
        shifts: true difference of each pair.
        scale: standard deviation of a difference of normal runs.
    """
    runs = law(rng, (count, len(shifts) + 1, LOOKS[-1])) * scale / 2**0.5
    return np.asarray(runs[:, :1] - runs[:, 1:] + np.asarray(shifts)[:, None])


def tails(d: Floats, margin: float, looks: Sequence[int] = LOOKS) -> Floats:
    """Nominal one-sided p values: (question, look, experiments, pairs)."""
    p = []
    for n in looks:
        mean, error = d[..., :n].mean(-1), d[..., :n].std(-1, ddof=1) / n**0.5
        above, below = stdtr(n - 1, -mean / error), stdtr(n - 1, mean / error)
        same = np.maximum(*(stdtr(n - 1, -(margin + s * mean) / error) for s in (-1, 1)))
        p.append((above, below, same))
    return np.asarray(p).swapaxes(0, 1)


def rejected(p: Floats, looks: tuple[int, ...] = LOOKS) -> Bools:
    """Whether each look by itself gives each verdict: (verdict, look, experiments)."""
    level, corrected = (sequential.nominal(e, looks) for e in (ERROR, ERROR / p.shape[-1]))
    above, below, same = p
    return np.stack([
        above.max(-1) <= level, below.min(-1) <= corrected, same.max(-1) <= level
    ])  # fmt: skip


def verdicts(
    p: Floats, looks: tuple[int, ...] = LOOKS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Index of the verdict (3: undecided) and seeds at the stop, of each experiment."""
    at_looks = rejected(p, looks)
    verdict = np.full(p.shape[2], 3)
    seeds = np.full(p.shape[2], looks[-1])
    for look, n in enumerate(looks):
        for kind in range(3):
            now = (verdict == 3) & at_looks[kind, look]
            verdict[now], seeds[now] = kind, n
    return verdict, seeds


def rates(p: Floats, kind: int) -> list[float]:
    """How often a verdict was reached by each look, whatever the other verdicts said before."""
    return [float(rejected(p)[kind, : look + 1].any(0).mean()) for look in range(len(LOOKS))]


def percents(values: Sequence[float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in values]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def false_decisions(rng: np.random.Generator, count: int) -> Iterator[list[str]]:
    """A row for each law, number of pairs, truth and verdict that is then false."""
    for name, law in LAWS.items():
        for pairs in (1, 3, 5):
            p = tails(differences(rng, law, count, [0.0] * pairs), 1.0)
            for kind in (0, 1):
                yield [KINDS[kind], "every difference 0", name, str(pairs),
                       *percents(rates(p, kind))]  # fmt: skip
            at = [1.0, *[0.0] * (pairs - 1)]
            p = tails(differences(rng, law, count, at, 0.65), 1.0)
            truth = "one difference at the margin" + (", the others 0" if pairs > 1 else "")
            yield [KINDS[2], truth, name, str(pairs), *percents(rates(p, 2))]
    p = tails(differences(rng, normal, count, [0.0, 2.0, 2.0, 2.0, 2.0]), 1.0)
    yield [KINDS[0], "one of five 0, the others 2 sd", "normal", "5", *percents(rates(p, 0))]
    p = tails(differences(rng, normal, count, [0.0, 0.5, 0.5, 0.5, 0.5]), 1.0)
    yield [KINDS[1], "one of five 0, the others 0.5 sd", "normal", "5", *percents(rates(p, 1))]
    p = tails(differences(rng, normal, count, [1.0] * 5, 0.65), 1.0)
    yield [KINDS[2], "every difference at the margin", "normal", "5", *percents(rates(p, 2))]


def power(rng: np.random.Generator, count: int) -> Iterator[list[str]]:
    """A row for each truth: how often its verdict is reached by each look, seeds at the stop."""
    cases: list[tuple[int, str, list[float], float, float]] = [
        (0, f"{effect:g} sd", [effect] * pairs, 1.0, 1e-9)
        for effect in (1.0, 1.5, 2.0) for pairs in (1, 3, 5)
    ]  # fmt: skip
    cases += [(1, f"{pairs - 1} of 1 sd, one of -1 sd", [*[1.0] * (pairs - 1), -1.0], 1.0, 1e-9)
              for pairs in (1, 5)]  # fmt: skip
    cases += [
        (2, f"0, sd {sd:g}, margin {margin:g}", [0.0] * pairs, sd, margin)
        for sd, margin in ((0.65, 1.0), (2.0, 3.0), (3.5, 3.0), (5.0, 3.0)) for pairs in (1, 3, 5)
    ]  # fmt: skip
    for kind, truth, shifts, scale, margin in cases:
        p = tails(differences(rng, normal, count, shifts, scale), margin)
        verdict, seeds = verdicts(p)
        by = [float(((verdict == kind) & (seeds <= n)).mean()) for n in LOOKS]
        yield [KINDS[kind], truth, str(len(shifts)), *percents(by), f"{seeds.mean():.1f}"]


def other_looks(rng: np.random.Generator, count: int) -> Iterator[list[str]]:
    """A row for each plan of looks: "holds" where every difference is 1 sd."""
    for looks in ((12,), (24,), (6, 12), (12, 24), LOOKS):
        row = [", ".join(map(str, looks))]
        for pairs in (1, 3, 5):
            p = tails(differences(rng, normal, count, [1.0] * pairs), 1e-9, looks)
            verdict, seeds = verdicts(p, looks)
            by = [((verdict == 0) & (seeds <= n)).mean() for n in looks]
            row += [" / ".join(percents(by)), f"{seeds.mean():.1f}"]
        yield row


def after_every_seed(d: Floats, prior: float, error: float = ERROR) -> NDArray[np.int64]:
    """Seeds at which an anytime-valid t test says "above 0"; 0: not up to the last look.

    A normal mixture of effects with right-Haar scale (Lai 1976; Wang and Ramdas, arXiv
    2310.03722, eq. 4.5): a test martingale under the null hypothesis, so one may look after every
    seed. By symmetry half of its crossings are to either side.

    Args:
        d: differences, (experiments, seeds).
        prior: seeds that the prior of the effect is worth.
        error: one-sided.
    """
    n = np.arange(1, d.shape[-1] + 1)
    sums, squares = d.cumsum(-1), (d**2).cumsum(-1)
    share = sums**2 / ((n + prior) * squares)
    wealth = 0.5 * np.log(prior / (n + prior)) - n / 2 * np.log1p(-share)
    crossed_ = (wealth >= np.log(1 / (2 * error))) & (n >= LOOKS[0])
    first = np.where(crossed_.any(-1), crossed_.argmax(-1), 0)
    up = np.take_along_axis(sums, first[:, None], -1)[:, 0] > 0
    return np.where(crossed_.any(-1) & up, n[first], 0)


def compared(rng: np.random.Generator, count: int) -> Iterator[list[str]]:
    """A row for each effect of one pair: looks, and a confidence sequence with its best prior."""
    for effect in (0.0, 0.5, 1.0, 1.5):
        d = differences(rng, normal, count, [effect])
        hits = rejected(tails(d, 1.0))[0]
        seeds = np.where(hits.any(0), np.asarray(LOOKS)[hits.argmax(0)], LOOKS[-1])
        row = [f"{effect:g}", *percents([hits.any(0).mean()]), f"{seeds.mean():.1f}"]
        for prior in PRIORS:
            stops = after_every_seed(d[:, 0], prior)
            spent = np.where(stops > 0, stops, LOOKS[-1])
            row.append(f"{100 * (stops > 0).mean():.1f}; {spent.mean():.1f}")
        yield row


def over_images(rng: np.random.Generator, count: int, images: int = 2000) -> Iterator[list[str]]:
    """False "holds" where variants differ on these very images and not on the population's."""
    level = sequential.nominal(ERROR, LOOKS)
    for interaction in (0.0, 0.5, 1.0):
        hits = np.zeros((2, len(LOOKS), count), bool)
        for one in range(count):
            difficulty = rng.normal(0.5, 1.5, images) + rng.normal(0, interaction, (2, 1, images))
            logits = difficulty + rng.normal(0, 0.05, (2, LOOKS[-1], 1))
            right = rng.random(logits.shape) < expit(logits)
            d = 100.0 * (right[0].astype(float) - right[1])
            for look, n in enumerate(LOOKS):
                by_seed = d[:n].mean(1)
                both = crossed.error(d[:n])
                errors = (by_seed.std(ddof=1) / n**0.5, n - 1.0), (both.size, both.freedom)
                for way, (size, freedom) in enumerate(errors):
                    hits[way, look, one] = stdtr(freedom, -by_seed.mean() / size) <= level
        for way, name in enumerate(("seeds", "seeds and images")):
            by = [float(hits[way, : look + 1].any(0).mean()) for look in range(len(LOOKS))]
            yield [f"{interaction:g}", name, *percents(by)]


def any_false_on_board(
    claims: Sequence[tuple[Floats, float, tuple[bool, bool, bool]]],
) -> tuple[float, float]:
    """Share of boards with a false decision: after Holm over the board, and without it.

    Args:
        claims: differences, margin, and whether each verdict would be false, of every claim.
    """
    grid = np.geomspace(1e-9, 1, 400)
    worth = np.array([sequential.overall(float(p), LOOKS) for p in grid])
    asked, false = [], []
    alone = np.zeros(len(claims[0][0]), bool)
    for d, margin, wrong in claims:
        p = tails(d, margin)
        above, below, same = p[0].max(-1).min(0), p[1].min(-1).min(0), p[2].max(-1).min(0)
        overall = [np.interp(np.log(np.maximum(q, 1e-9)), np.log(grid), worth)
                   for q in (above, below, same)]  # fmt: skip
        overall[1] = np.minimum(1, d.shape[1] * overall[1])
        asked += overall
        false += wrong
        verdict, _ = verdicts(p)
        alone |= np.asarray([*wrong, False])[verdict]
    ps = np.asarray(asked)
    order = ps.argsort(0)
    ranked = np.take_along_axis(ps, order, 0) * np.arange(len(ps), 0, -1)[:, None]
    adjusted = np.empty_like(ps)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(ranked, 0), 0)
    wrong_ones = (adjusted <= ERROR) & np.asarray(false)[:, None]
    return float(wrong_ones.any(0).mean()), float(alone.mean())


def board(rng: np.random.Generator, count: int) -> Iterator[list[str]]:
    """A row for each truth about the fourteen claims of the paper."""
    pairs, margin, sd = (1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 5, 8), 1.0, 0.65
    cases = {
        "every difference 0": [[0.0] * n for n in pairs],
        "one difference of each at the margin, the others 0":
            [[1.0, *[0.0] * (n - 1)] for n in pairs],
        "one difference of each 0, the others far above": [[0.0, *[9.0] * (n - 1)] for n in pairs],
        "every second claim true by 3 points, of the others all 0":
            [[3.0 * (i % 2)] * n for i, n in enumerate(pairs)],
    }  # fmt: skip
    for truth, shifts in cases.items():
        claims = [
            (differences(rng, normal, count, of, sd), margin,
             (min(of) <= 0, min(of) >= 0, max(map(abs, of)) >= margin))
            for of in shifts
        ]  # fmt: skip
        yield [truth, *percents(any_false_on_board(claims))]


HEAD = """\
# How often verdicts are false, and what they take

{count:,} made-up experiments a row ({few:,} with images); looks at {looks} seeds, error {error:g}:
nominal one-sided level {level:.4f} at each look. A share of 5 % has a standard error of {se:.2f}
points."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="experiments of each kind")
    count, start = parser.parse_args().count, time.process_time()
    rng, few = np.random.default_rng(0), count // 10
    print(HEAD.format(
        count=count, few=few, looks=", ".join(map(str, LOOKS)), error=ERROR,
        level=sequential.nominal(ERROR, LOOKS), se=100 * (0.05 * 0.95 / count) ** 0.5,
    ))  # fmt: skip
    by = [f"by {n} (%)" for n in LOOKS]
    priors = [f"sequence, prior {prior:g} (%; seeds)" for prior in PRIORS]
    counts = [text for n in (1, 3, 5) for text in (f"{n} pairs (%)", "seeds")]
    sections = [
        ("False decisions", "Each verdict where it is false, by each look, whatever another"
         " verdict said before.", ["verdict", "truth", "runs scatter", "pairs", *by],
         false_decisions(rng, count)),
        ("Power", "The verdict that is true, and the mean number of seeds at the stop.",
         ["verdict", "truth of each pair", "pairs", *by, "seeds"], power(rng, count)),
        ("Other looks", "`holds` by each look where every difference is 1 sd.",
         ["looks", *counts], other_looks(rng, count)),
        ("Looks, or after every seed", "One pair: `holds` by 24 seeds, and the mean number of"
         " seeds. The confidence sequence is an anytime-valid t test from six seeds on, whose"
         " prior of the effect is worth so many seeds.",
         ["effect (sd)", "looks (%)", "seeds", *priors], compared(rng, count)),
        ("Images", "No difference on the population; an image has its own difficulty for each"
         " variant, sd in logits, and 2,000 of them are the test set. False `holds`.",
         ["sd", "interval over", *by], over_images(rng, few)),
        ("The board", "Fourteen claims of 1 to 8 pairs: boards with any false decision, in %.",
         ["truth", "after Holm over the board", "each claim alone"], board(rng, count)),
    ]  # fmt: skip
    for title, about, head, rows in sections:
        print(f"\n## {title}\n\n{about}\n\n{table(head, list(rows))}", flush=True)
    print(f"\n{time.process_time() - start:.0f} CPU seconds.", file=sys.stderr)


if __name__ == "__main__":
    main()
