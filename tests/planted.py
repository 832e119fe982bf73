"""Experiments, scales and lock files that were never run: what a reader may meet, planted."""

import json
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ijepa.pages import study
from ijepa.runtime import bits
from ijepa.study import experiment, registration, summary
from ijepa.study.numbers import Study

LABELS = (
    "multi-block",
    "rasterized (quadrants) & more_of_it",
    "one block of 60 %",
    "random <0.6>",
)
SCALES = {"smoke": 2, "laptop": 3, "gpu": 6}
IMAGES = 400  # of a planted test set whose single answers are kept

Result = dict[str, Any]
Change = Callable[[dict[str, Result]], None]


def digest(*parts: object) -> str:
    return sha256(repr(parts).encode()).hexdigest()


class Bench:
    """A folder of experiments, scales and made-up lock files."""

    def __init__(self, folder: Path) -> None:
        self.experiments, self.reports = folder / "experiments", folder / "reports"
        for name, seeds in SCALES.items():
            self._yaml(f"scales/{name}", {
                "about": f"Made up, {name}.", "seeds": seeds, "minutes": 1,
                "data.image_size": 32, "model.patch_size": 4, "train.epochs": 0.6,
            })  # fmt: skip

    def _yaml(self, name: str, tree: Mapping[str, Any]) -> None:
        path = self.experiments / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree))  # JSON is YAML

    def experiment(self, name: str = "made", count: int = 4, **changed: Any) -> str:
        labels = [*LABELS, *(f"variant number {i}" for i in range(9))][:count]
        self._yaml(name, {
            "title": "Made-up table", "question": "Is A > B & C_d?", "table": 6,
            "source": "arXiv 2301.08243v3, Table 6", "metric": "class.linear.trained",
            "factor": ["mask.num_targets"], "seeds": list(range(24)),
            "variants": {
                f"v{i}": {"label": label, "set": {"mask.num_targets": i + 1},
                          "paper": [54.2, 15.5, 20.2, 17.6, 39.0, 42.1][i]}
                for i, label in enumerate(labels)
            },
            "claim": {"text": "Multi-block is best.", "by": "paper", "best": "v0", "margin": 1},
            **changed,
        })  # fmt: skip
        return name

    def lock(
        self,
        name: str,
        scale: str,
        means: Callable[[str, str | None], float],
        spread: float = 0.8,
        change: Change = lambda results: None,
        n: int | None = None,
        registered: bool = True,
        images: int = 0,
    ) -> None:
        """A lock file whose accuracies scatter around ``means(variant, point)``.

        Differences of two variants have the planted mean exactly and a deviation near 1.4 spreads.

        Args:
            name: of the experiment.
            scale: of the lock file.
            means: accuracy of a variant at a point, percent.
            spread: standard deviation over seeds of what variants do not share.
            change: alters the results.
            n: seeds; None: as many as the scale has.
            registered: whether the design stands in the file, as before a first run.
            images: of the test set, each answer kept; 0: none is.
        """
        chosen = experiment.load(name, self.experiments)
        size = experiment.load_scale(scale, self.experiments)
        seeds = list(chosen.seeds[: n or size.seeds])
        results, provenance = {}, {}
        for p, point in enumerate(chosen.points or [None]):
            for v, variant in enumerate(chosen.variants):
                noise = exact(np.random.default_rng([p, v, 99]), len(seeds))
                for i, seed in enumerate(seeds):
                    shared = np.random.default_rng([p, seed]).normal(0, 2)
                    value = round(means(variant, point) + shared + spread * noise[i], 4)
                    key = f"{variant}@{point}/{seed}" if point else f"{variant}/{seed}"
                    results[key] = made(variant, point, seed, value, 0.2 + 0.05 * v, 20000 * 4**p)
                    if images:
                        right = answered(value, images, np.random.default_rng([p, v, seed]))
                        results[key]["right"] = {chosen.metric: bits.pack(right)}
                        trained = results[key]["metrics"]["class"]["linear"]
                        trained["trained"] = 100 * float(right.mean())
                    provenance[key] = origin(key, 200.0 + 10 * v + 5 * float(noise[i]))
        change(results)
        for key, result in results.items():  # other code is of another commit
            provenance[key]["baseline"] = digest("of", result["code"])[:40]
        content = {
            "experiment": name, "scale": scale, "seeds": seeds, "results": results,
            "provenance": {key: provenance[key] for key in results},
        }  # fmt: skip
        if registered:
            content["registered"] = registration.record(chosen, size, digest("commit")[:40], 0)
        path = self.experiments / f"{name}.{scale}.lock.json"
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")

    def build(self, name: str = "made", scale: str = "laptop", **how: Any) -> Study:
        page = study.build(name, scale, self.folder(name, scale), self.experiments, **how)
        assert page == self.folder(name, scale) / "index.html"
        return study.read(page.parent)

    def numbers(self, name: str = "made", scale: str = "laptop") -> Study:
        return summary.read(name, scale, self.experiments)

    def folder(self, name: str = "made", scale: str = "laptop") -> Path:
        return self.reports / "ablations" / f"{name}.{scale}"


def exact(rng: np.random.Generator, n: int) -> np.ndarray:
    """Numbers of mean 0 and standard deviation 1, exactly."""
    drawn = rng.normal(size=n)
    drawn -= drawn.mean()
    return drawn / drawn.std(ddof=1) if n > 1 else drawn


def answered(percent: float, images: int, rng: np.random.Generator) -> np.ndarray:
    """Which test images a run got right: the easy ones, with luck."""
    ease = np.linspace(1, 0, images) + rng.normal(0, 0.3, images)
    right = np.zeros(images, dtype=bool)
    right[np.argsort(-ease)[: round(percent * images / 100)]] = True
    return right


def made(
    variant: str, point: str | None, seed: int, value: float, ratio: float, images: int
) -> Result:
    who = (variant, point, seed)
    return {
        "variant": variant, "point": point, "seed": seed, "signature": digest("s", who),
        "status": "done", "reason": None, "code": digest("code"), "data": digest("data"),
        "encoder": digest("e", who),
        "metrics": {"class": {
            "linear": {"trained": value, "random_init": 30.0 + seed, "pixels": 28.5},
            "knn": {"trained": value - 8, "random_init": 25.0, "pixels": 27.0},
        }},
        "pretrain": {
            "context_ratio": ratio + 0.002 * seed, "collapsed": False, "images": images,
            "health": "healthy: rank 40 of 64", "step": 600, "loss": 0.1, "rankme": 40.1,
            "feature_std": 0.5, "parameters": 203456,
        },
    }  # fmt: skip


def origin(key: str, seconds: float) -> Result:
    number = int(digest("id", key)[:11], 16)
    return {
        "name": f"ijepa-{digest('s', key)[:12]}-ab12", "commit": digest("c", key)[:40],
        "baseline": digest("b")[:40],
        "runs": {"prepare": 26112118370543, "pretrain": number, "evaluate": number + 1},
        "seconds": {"prepare": 3.1, "pretrain": round(seconds, 1), "evaluate": 44.0},
        "machine": "2 cores, AMD EPYC",
    }  # fmt: skip


def fail(results: dict[str, Result], key: str, reason: str) -> None:
    nothing = dict.fromkeys(("metrics", "pretrain", "encoder"))
    results[key] |= {"status": "failed", "reason": reason, **nothing}


def collapse(*keys: str) -> Change:
    """Runs whose representation collapsed, with the accuracy of chance."""

    def change(results: dict[str, Result]) -> None:
        for key in keys:
            results[key]["metrics"]["class"]["linear"]["trained"] = 12.5
            results[key]["pretrain"] |= {
                "collapsed": True, "health": "collapsed: feature std 0.003", "rankme": 1.1,
            }  # fmt: skip

    return change


# kind -> what of it is planted: the mean of the first over each other, and more of ``Bench.lock``
KINDS: dict[str, dict[str, Any]] = {
    "holds": {"gap": 3.0, "n": 12},
    "holds_by_less": {"gap": 0.45, "spread": 0.15, "n": 6},
    "does_not_hold": {"gap": -2.4, "n": 6},
    "holds_alone": {"gap": 0.8, "spread": 0.35, "n": 6},  # and not among all claims of the board
    "no_difference": {"gap": 0.05, "spread": 0.2, "n": 6},
    "undecided": {"gap": 0.5, "spread": 1.0, "n": 12},
    "last_look": {"gap": 0.3, "spread": 1.2, "n": 24},
    "between_looks": {"gap": 0.6, "spread": 0.8, "n": 9},
    "before_the_first": {"gap": 3.0, "n": 3},
    "collapsed": {"gap": 3.0, "n": 6, "change": collapse("v1/2")},
    "unregistered": {"gap": 3.0, "n": 6, "registered": False},
    "changed_later": {"gap": 3.0, "n": 6},
    "of_two_codes": {"gap": 3.0, "n": 6},
    "with_images": {"gap": 4.0, "n": 6, "images": IMAGES},
    "not_run": {"gap": 0.0, "n": 0},
}


def plant(bench: Bench, kinds: Collection[str] = tuple(KINDS), scale: str = "laptop") -> None:
    """An experiment and a lock file of each kind."""
    for table, kind in enumerate(KINDS, 1):
        if kind not in kinds:
            continue
        how = dict(KINDS[kind])
        gap, n = how.pop("gap"), how.pop("n")
        words = kind.replace("_", " ")
        about: dict[str, Any] = {
            "count": 3, "title": f"Planted: {words}", "table": table,
            "question": f"What does a reader see of a claim that is planted as {words}?",
            "source": f"arXiv 2301.08243v3, Table {table}",
        }  # fmt: skip
        bench.experiment(kind, **about)
        if kind == "of_two_codes":
            how["change"] = other_code
        if n:
            bench.lock(kind, scale, Gap(gap), n=n,
                       **how)  # fmt: skip
        if kind == "changed_later":
            claim = {"text": "Multi-block is best.", "by": "paper", "margin": 0.5,
                     "pairs": [["v0", "v1"], ["v0", "v2"], ["v1", "v2"]]}  # fmt: skip
            bench.experiment(kind, **about, claim=claim)


def other_code(results: dict[str, Result]) -> None:
    for key, result in results.items():
        if key.startswith("v2/"):
            result["code"] = digest("older code")


class Gap:
    """Accuracies of variants that all are as much below the first."""

    def __init__(self, gap: float) -> None:
        self.gap = gap

    def __call__(self, variant: str, point: str | None) -> float:
        return 50.0 if variant == "v0" else 50.0 - self.gap
