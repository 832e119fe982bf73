"""An interval as a small picture in a line of text: zero, the margin to both sides, the effect."""

from markupsafe import Markup

from ijepa.pages.text import interval, points
from ijepa.study.numbers import Pair

WIDTH, HEIGHT = 180.0, 20.0  # of the drawing, in its own units
REACH = 4.0  # margins to each side; what lies beyond is cut, and an arrow says so


def of(pair: Pair) -> Markup:
    """The interval of a pair's difference against its margin."""
    spread = pair.comparison.spread
    return bar(spread.mean, spread.low, spread.high, pair.test.margin)


def place(value: float, unit: float) -> float:
    """Where a value stands from left to right, 0 to ``WIDTH``; at an end what lies beyond.

    Args:
        value: in points.
        unit: points that are ``1 / REACH`` of the way from the middle to an end.
    """
    return WIDTH / 2 * (1 + min(1.0, max(-1.0, value / unit / REACH)))


def bar(mean: float | None, low: float | None, high: float | None, margin: float) -> Markup:
    """The interval of an effect as SVG; lines with one margin have one axis.

    Without a margin the axis is as long as the interval asks for. Nothing without a mean.

    Args:
        mean: the effect, in points.
        low: lower limit of its interval, or None.
        high: upper limit.
        margin: that matters, in points; 0: none is known.
    """
    if mean is None:
        return Markup("")
    low, high = (mean, mean) if low is None or high is None else (low, high)
    unit = margin or max(abs(low), abs(high), 1e-9) * 1.1 / REACH
    left, right, at = place(low, unit), place(high, unit), place(mean, unit)
    middle, centre = HEIGHT / 2, WIDTH / 2
    parts = []
    if margin:
        half = centre / REACH
        parts.append(
            f'<rect class="band" x="{centre - half:g}" y="0" width="{2 * half:g}"'
            f' height="{HEIGHT:g}"/>'
        )
    parts += [
        f'<path class="zero" d="M{centre:g} 0V{HEIGHT:g}"/>',
        f'<path class="line" d="M{left:.1f} {middle:g}H{right:.1f}"/>',
    ]
    for end, value in ((left, low), (right, high)):
        if abs(value) > REACH * unit:  # it goes on beyond
            tip = end - 6 * (1 if end > centre else -1)
            parts.append(
                f'<path class="tip" d="M{tip:.1f} {middle - 4:g}L{end:.1f} {middle:g}'
                f'L{tip:.1f} {middle + 4:g}"/>'
            )
        elif low < high:
            parts.append(f'<path class="line" d="M{end:.1f} {middle - 4:g}V{middle + 4:g}"/>')
    if abs(mean) <= REACH * unit:
        parts.append(f'<circle class="dot" cx="{at:.1f}" cy="{middle:g}" r="3.6"/>')
    said = f"{points(mean)} points, {interval(low, high, signed=True)}; margin {margin:g}"
    return Markup(
        '<svg class="bar" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, said, Markup("").join(map(Markup, parts)))
