"""What-if: the faults that a replay puts on top of a bag, from the words of the command line to their effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import numpy as np

from smvae_core.errors import SMVAEError
from smvae_core.modality import Modality
from smvae_ros.replay.summary import Drop, WhatIf
from smvae_ros.settings import FusionSettings, nanoseconds
from smvae_ros.synchronizer.set_synchronizer import Sample

_MOST_NOISE = 100.0
_MOST_DELAY = 60.0


class WhatIfError(SMVAEError):
    """A what-if that cannot be understood, or names a modality that does not exist."""


def parse_what_if(drop: Iterable[str], noise: Iterable[str], delay: Iterable[str], settings: FusionSettings) -> WhatIf:
    """Parse the options; each may hold several faults, separated by commas, and be given several times.

    A modality is given by its name or its topic.

    Args:
        drop: `rgb` takes it away altogether, `rgb@10:20` from 10 s until 20 s after the bag's start, `rgb@10:` from
            10 s on.
        noise: `depth=0.3`, standard deviation in model units: images run from 0 to 1, forces from -1 to 1 (after tanh),
            vectors are in standard deviations of the training data.
        delay: `rgb=0.08`, seconds.

    Raises:
        WhatIfError: the sentence names the option, what was expected and what was found.
    """
    return WhatIf(
        drop=tuple(_drop(word, settings) for word in _words(drop)),
        noise=_amounts("--noise", noise, "STANDARD DEVIATION", _MOST_NOISE, settings),
        delay=_amounts("--delay", delay, "SECONDS", _MOST_DELAY, settings),
    )


def dropped_altogether(what_if: WhatIf) -> set[str]:
    """Return the modalities that never reach a set."""
    return {drop.modality for drop in what_if.drop if drop.start <= 0.0 and drop.end is None}


def interval(drop: Drop) -> str:
    """Return the time of a drop in words."""
    if drop.end is None:
        return f"from {drop.start:g} s" if drop.start else "throughout"
    return f"from {drop.start:g} to {drop.end:g} s"


class Faults:
    """The faults applied to the messages of one bag.

    Attributes:
        touched: modalities whose messages come late or never.
        longest_delay_ns: the longest delay of any modality.
    """

    def __init__(self, what_if: WhatIf, modalities: Sequence[Modality]) -> None:
        self._drops = {
            drop: (nanoseconds(drop.start), None if drop.end is None else nanoseconds(drop.end))
            for drop in what_if.drop
        }
        self._effective: set[Drop] = set()
        self._delays = {name: nanoseconds(seconds) for name, seconds in what_if.delay.items()}
        self._noise = dict(what_if.noise)
        self._modalities = {modality.name: modality for modality in modalities}
        self.touched = {drop.modality for drop in self._drops} | {
            name for name, late_ns in self._delays.items() if late_ns
        }
        self.longest_delay_ns = max(self._delays.values(), default=0)

    def arrival(self, modality: str, receive_ns: int, begin_ns: int) -> int | None:
        """Return when a message with this receive time arrives, None if never; the bag begins at `begin_ns`."""
        since_ns = receive_ns - begin_ns
        gone = [
            drop
            for drop, (start_ns, end_ns) in self._drops.items()
            if drop.modality == modality and start_ns <= since_ns and (end_ns is None or since_ns < end_ns)
        ]
        if gone:
            self._effective.update(gone)
            return None
        return receive_ns + self._delays.get(modality, 0)

    def without_effect(self) -> list[Drop]:
        """Return the drops that took no message away."""
        return [drop for drop in self._drops if drop not in self._effective]

    def disturbed(self, name: str, array: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
        """Return a modality's array in model units with its noise; the same samples get the same noise every time.

        Images stay between 0 and 1 and forces between -1 and 1. A depth pixel without a reading stays without one.
        """
        deviation = self._noise.get(name, 0.0)
        if not deviation:
            return array
        random = np.random.default_rng([crc32(name.encode()), abs(samples[-1].stamp_ns)])
        noisy = array + deviation * random.standard_normal(array.shape, np.float32)
        kind = self._modalities[name].preprocessing.kind
        if kind == "depth":
            noisy = np.where(array > 0.0, noisy, 0.0)
        if kind != "vector":
            noisy = noisy.clip(-1.0 if kind == "force" else 0.0, 1.0)
        return np.asarray(noisy, np.float32)


def _drop(word: str, settings: FusionSettings) -> Drop:
    name, interval, times = word.partition("@")
    modality = _modality("--drop", name, settings)
    if not interval:
        return Drop(modality=modality)
    start, colon, end = times.partition(":")
    try:
        drop = Drop(modality=modality, start=float(start or 0.0), end=float(end) if end else None)
    except ValueError:
        colon = ""
    if not colon or not 0.0 <= drop.start < (float("inf") if drop.end is None else drop.end):
        raise WhatIfError(f"--drop: expected MODALITY@START:END in seconds with START before END, found '{word}'")
    return drop


def _amounts(option: str, given: Iterable[str], what: str, most: float, settings: FusionSettings) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for word in _words(given):
        name, separator, amount = word.partition("=")
        try:
            value = float(amount)
        except ValueError:
            separator = ""
        if not separator or not 0.0 <= value <= most:
            raise WhatIfError(f"{option}: expected MODALITY={what} between 0 and {most:g}, found '{word}'")
        modality = _modality(option, name, settings)
        if modality in amounts:
            raise WhatIfError(f"{option}: expected {modality} once, found it again in '{word}'")
        amounts[modality] = value
    return amounts


def _modality(option: str, name: str, settings: FusionSettings) -> str:
    topics: Mapping[str, str] = {stream.topic.strip("/"): modality for modality, stream in settings.streams.items()}
    if name in settings.streams:
        return name
    if name.strip("/") in topics:
        return topics[name.strip("/")]
    expected = ", ".join([*settings.streams, *(f"/{topic}" for topic in topics)])
    raise WhatIfError(f"{option}: expected a modality among {expected}, found '{name}'")


def _words(options: Iterable[str]) -> list[str]:
    return [word.strip() for option in options for word in option.split(",")]
