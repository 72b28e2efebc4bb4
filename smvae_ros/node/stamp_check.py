"""What is wrong with a sensor's stamps, said so that its driver or its clock can be mended."""

from __future__ import annotations

_MOST_BEHIND_S = 1.0
_HOUR_S = 3600.0
_DAY_S = 24 * _HOUR_S
_YEAR_S = 365.25 * _DAY_S
# No machine has run so long, and no stamp since 1970 is so small.
_LONGEST_RUN_S = 10 * _YEAR_S


def stamp_problem(stamp_ns: int, now_ns: int, *, future: bool, simulated: bool) -> str:
    """One clause about a stamp that is not of the node's time, empty if it may be.

    Args:
        stamp_ns: the stamp, its stream's offset included.
        now_ns: when it arrived, by the node's clock.
        future: whether it was dropped because it lies too far ahead.
        simulated: whether the node's clock is `/clock`.
    """
    behind_s = (now_ns - stamp_ns) / 1e9
    if behind_s < 0.0 and future:
        cause = ": they seem to be real time, which /clock is not" if simulated and behind_s < -_DAY_S else ""
        return f"stamps are {span(-behind_s)} ahead of the node's clock, beyond `future`, and dropped{cause}"
    if behind_s <= _MOST_BEHIND_S:
        return ""
    return f"stamps are {span(behind_s)} behind the node's clock: {_cause(stamp_ns, behind_s, simulated)}"


def span(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, name in ((_YEAR_S, "years"), (_DAY_S, "days"), (_HOUR_S, "h"), (60.0, "min"), (1.0, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{1e3 * seconds:.0f} ms"


def _cause(stamp_ns: int, behind_s: float, simulated: bool) -> str:
    if stamp_ns / 1e9 < _LONGEST_RUN_S and behind_s > _LONGEST_RUN_S:
        cause = "they seem to count from the start of the machine or of a simulation"
    elif behind_s > _DAY_S:
        cause = "they seem to be of a recording"
    else:
        return "the driver is slow, or its clock is another"
    return cause if simulated else f"{cause} (use_sim_time is false)"
