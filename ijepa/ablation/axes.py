"""What the figures of an ablation share: colours, marks, labels and logarithmic ticks."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ijepa.reporting import style

_COLOURS = (style.BLUE, style.ORANGE, style.GREEN, style.RED, "#CC79A7", "#56B4E9", "#6B5B2E")
_MARKERS = "osD^vPX"


def looks(count: int) -> list[tuple[str, str]]:
    """Colour and mark of each of so many variants; no two are alike up to 49."""
    colours, marks = len(_COLOURS), len(_MARKERS)
    return [(_COLOURS[i % colours], _MARKERS[(i + i // colours) % marks]) for i in range(count)]


def wrapped(text: str, width: int = 30) -> str:
    """A label in lines of so many characters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def logarithmic(axes: Axes, xs: Sequence[float]) -> None:
    """A logarithmic x axis over these, with few enough ticks for their labels."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _scientific(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(LogLocator(subs=_steps(xs), numticks=9))


def _scientific(value: float) -> str:
    if 1e-3 < value < 1e4:  # hours, not FLOPs
        return f"{value:g}"
    power = math.floor(math.log10(value) + 1e-9)
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    times = f"{value / 10.0**power:.0f}×"
    return f"{times if times != '1×' else ''}10{digits}"


def _steps(xs: Sequence[float]) -> tuple[int, ...]:
    decades = math.log10(max(xs, default=1.0) / min(xs, default=1.0))
    return (1,) if decades > 2.5 else (1, 3) if decades > 0.7 else (1, 2, 5)
