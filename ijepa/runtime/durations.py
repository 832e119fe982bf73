"""How long something takes, as a person says it."""

_UNITS = (("s", 1), ("min", 60), ("h", 3600), ("d", 86400))


def about(seconds: float) -> str:
    """A duration to one or two digits: ``about 40 s``, ``about 12 min``, ``about 2.5 h``.

    For what is estimated: more digits would say more than is known.
    """
    seconds = max(seconds, 1.0)
    unit, size = next((u, s) for u, s in reversed(_UNITS) if seconds >= 1.5 * s or s == 1)
    return f"about {float(f'{seconds / size:.2g}'):g} {unit}"
