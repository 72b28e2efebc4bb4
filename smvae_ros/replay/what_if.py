"""What-if: from the words of the command line to the faults that a replay puts on top of a bag."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smvae_core.data.faults import FAULTS, misfit
from smvae_core.errors import SMVAEError
from smvae_core.modality import Modality
from smvae_ros.replay.summary import Fault, Kind, WhatIf
from smvae_ros.settings import FusionSettings

_TIMES = re.compile(r"(?P<word>.*)@(?P<start>[^:@/]*):(?P<end>[^:@/]*)")


class WhatIfError(SMVAEError):
    """A what-if that cannot be understood, or names a modality that does not exist."""


@dataclass(frozen=True)
class _Amount:
    """The amount of a fault: what it is, and its range."""

    what: str
    least: float
    most: float
    whole: bool = False


_AMOUNTS: dict[str, _Amount] = {
    "noise": _Amount("STANDARD DEVIATION", 0.0, 100.0),
    "delay": _Amount("SECONDS", 0.0, 60.0),
    "scale": _Amount("FACTOR", -100.0, 100.0),
    "bias": _Amount("AMOUNT", -1e6, 1e6),
    "dim": _Amount("FACTOR", 0.0, 1.0),
    "cover": _Amount("PART", 0.0, 1.0),
    "shift": _Amount("PIXELS", -1000.0, 1000.0, whole=True),
}


def parse_what_if(
    words: Mapping[Kind, Sequence[str]], settings: FusionSettings, modalities: Sequence[Modality]
) -> WhatIf:
    """Parse the options. Each may hold several faults, separated by commas, and be given several times.

    A modality is given by its name or its topic. `@START:END` limits any fault to a time in seconds from the bag's
    start; either end may be left out.

    Args:
        words: by kind of fault, as in `{"drop": ["rgb@10:20"], "scale": ["depth=1.03"], "swap": ["depth=other_bag"]}`.
            The name of a bag may contain commas, so `swap` takes one fault each time.

    Raises:
        WhatIfError: the sentence names the option, what was expected and what was found.
    """
    by_name = {modality.name: modality for modality in modalities}
    faults: list[Fault] = []
    for kind, options in words.items():
        for word in _split(kind, options):
            fault = _fault(kind, word, settings)
            if kind in FAULTS and (reason := misfit(by_name[fault.modality], kind)):
                raise WhatIfError(f"--{kind}: {reason}")
            if kind != "drop" and any(fault.meets(other) for other in faults):
                raise WhatIfError(f"--{kind}: expected {fault.modality} once at a time, found it again in '{word}'")
            faults.append(fault)
    return WhatIf(faults=tuple(faults))


def dropped_altogether(what_if: WhatIf) -> set[str]:
    """Return the modalities that never reach a set."""
    return {fault.modality for fault in what_if.faults if fault.kind == "drop" and fault.throughout}


def _split(kind: Kind, options: Sequence[str]) -> Iterator[str]:
    for option in options:
        yield from [option] if kind == "swap" else (word.strip() for word in option.split(","))


def _fault(kind: Kind, word: str, settings: FusionSettings) -> Fault:
    timed = _TIMES.fullmatch(word)
    given, equals, value = (timed["word"] if timed else word).partition("=")
    amount = _AMOUNTS.get(kind)
    if "@" in given and not timed:
        raise WhatIfError(
            f"--{kind}: expected MODALITY{_form(kind)}@START:END in seconds with START before END, found '{word}'"
        )
    if bool(equals) != (amount is not None or kind == "swap") or (kind == "swap" and not value):
        raise WhatIfError(f"--{kind}: expected MODALITY{_form(kind)}{_range(amount)}, found '{word}'")
    modality = _modality(kind, given, settings)
    start, end = _times(kind, word, timed)
    if kind == "swap":
        return Fault(kind=kind, modality=modality, other=Path(value), start=start, end=end)
    return Fault(kind=kind, modality=modality, amount=_number(kind, word, value), start=start, end=end)


def _times(kind: Kind, word: str, timed: re.Match[str] | None) -> tuple[float, float | None]:
    if timed is None:
        return 0.0, None
    try:
        start, end = float(timed["start"] or 0.0), float(timed["end"]) if timed["end"] else None
    except ValueError:
        start = end = math.nan
    if not 0.0 <= start < (math.inf if end is None else end):
        raise WhatIfError(
            f"--{kind}: expected MODALITY{_form(kind)}@START:END in seconds with START before END, found '{word}'"
        )
    return start, end


def _number(kind: Kind, word: str, value: str) -> float:
    amount = _AMOUNTS.get(kind)
    if amount is None:
        return 0.0
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not amount.least <= number <= amount.most or (amount.whole and number != round(number)):
        raise WhatIfError(f"--{kind}: expected MODALITY{_form(kind)}{_range(amount)}, found '{word}'")
    return number


def _form(kind: Kind) -> str:
    if kind == "swap":
        return "=BAG"
    return f"={_AMOUNTS[kind].what}" if kind in _AMOUNTS else ""


def _range(amount: _Amount | None) -> str:
    if amount is None:
        return ""
    return f", {'whole, ' if amount.whole else ''}between {amount.least:g} and {amount.most:g}"


def _modality(kind: Kind, name: str, settings: FusionSettings) -> str:
    topics = {stream.topic.strip("/"): modality for modality, stream in settings.streams.items()}
    if name in settings.streams:
        return name
    if name.strip("/") in topics:
        return topics[name.strip("/")]
    expected = ", ".join([*settings.streams, *(f"/{topic}" for topic in topics)])
    raise WhatIfError(f"--{kind}: expected a modality among {expected}, found '{name}'")
