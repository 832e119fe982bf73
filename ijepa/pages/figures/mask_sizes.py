"""How large contexts and targets are: shares of an image's patches over many drawn masks."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ijepa.pages import style
from ijepa.pages.figure import Words
from ijepa.results import Results
from ijepa.results.masks import Histogram


def needs(results: Results) -> bool:
    """Masks that were drawn."""
    return results.masks.masks > 0


def words(results: Results) -> Words:
    """Its title, alternative text and caption."""
    shares = results.masks
    context, target = shares.context, shares.target
    band = ", the green band mask.target_scale" if shares.target_scale else ""
    return Words(
        "Realised masks",
        f"Histograms. Context: mean {context.mean:.3f} of the patches, from"
        f" {context.smallest:.3f} to {context.largest:.3f}. One target: mean {target.mean:.3f},"
        f" from {target.smallest:.3f} to {target.largest:.3f}.",
        f"Shares of an image's patches over {shares.masks:,} masks drawn with this run's seed; the"
        f" vertical line is the mean{band}. Blocks have whole patches, so a target can fall a"
        " little outside the range that was asked for. Numbers: results.json, masks.",
    )


def draw(results: Results, path: Path) -> None:
    """A histogram of contexts, and one of targets."""
    with style.figure(path, (7.6, 2.5)) as figure:
        left, right = figure.subplots(1, 2)
        _panel(left, results.masks.context, "Context", style.BLUE)
        _panel(right, results.masks.target, "One target block", style.ORANGE)
        if results.masks.target_scale:
            right.axvspan(*results.masks.target_scale, color=style.GREEN, alpha=0.18, lw=0,
                          zorder=0.4)  # fmt: skip


def _panel(axes: Axes, shares: Histogram, title: str, colour: str) -> None:
    edges, counts = np.array(shares.edges), np.array(shares.counts, dtype=float)
    percents = 100 * counts / max(counts.sum(), 1)
    axes.bar(edges[:-1], percents, np.diff(edges), align="edge", color=colour, ec="white", lw=0.4)
    axes.set_axisbelow(True)
    axes.axvline(shares.mean, color=style.INK, lw=1.2)
    axes.set(title=f"{title}: mean {shares.mean:.3f}", xlabel="share of an image's patches")
    axes.set_ylabel("masks (%)")
