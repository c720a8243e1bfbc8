"""Numbers as people read them."""


def si(value: float) -> str:
    """A number with an SI prefix, ready for its unit: ``1.2 M``."""
    for prefix in ("", "k", "M"):
        if value < 1000:
            return f"{value:.3g} {prefix}"
        value /= 1000
    return f"{value:.3g} G"


def duration(seconds: float) -> str:
    """Seconds as ``42 s``, ``12 min``, ``3 h 05 min`` or ``2 d 4 h``."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 36:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"
