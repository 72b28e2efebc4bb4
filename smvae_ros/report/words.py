"""Numbers in words, as the report prints them."""

GOOD, FAIR = 0.25, 0.5
"""NMSE up to which a prediction is called good, and fair; below 1 it is called weak."""


def clock(seconds: float) -> str:
    """Return minutes and seconds, as `1:02.5`."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def duration(seconds: float) -> str:
    """Return a duration, as `4.2 s` or `3 min 05 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float) -> str:
    """Return a share, as `8.1 %`; anything less than the whole stays below 100 %."""
    if 0.99 < share < 1.0:
        return f"{min(100 * share, 99.9):.1f}\N{NO-BREAK SPACE}%"
    return f"{100 * share:.{1 if 0.0 < share < 0.0995 else 0}f}\N{NO-BREAK SPACE}%"


def verdict(worst: float) -> str:
    """Return the word for a normalised error."""
    return "good" if worst <= GOOD else "fair" if worst <= FAIR else "weak" if worst < 1.0 else "bad"
