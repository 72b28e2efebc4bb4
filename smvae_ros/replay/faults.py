"""What-if: the faults that a replay puts on top of a recording, from the command line's words to what they do."""

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
    """A what-if that says nothing, or names a sense that there is not."""


def parse_what_if(drop: Iterable[str], noise: Iterable[str], delay: Iterable[str], settings: FusionSettings) -> WhatIf:
    """What the options say; each may hold several, separated by commas, and be given several times.

    A sense is named by its modality or by its topic.

    Args:
        drop: `rgb` altogether, `rgb@10:20` from 10 s until 20 s after the bag's start, `rgb@10:` from then on.
        noise: `depth=0.3`, standard deviation in model units: images run from 0 to 1, forces from -1 to 1 (after tanh),
            vectors are in standard deviations of the training data.
        delay: `rgb=0.08`, seconds.

    Raises:
        WhatIfError: the sentence names the option, the expected and the found.
    """
    return WhatIf(
        drop=tuple(_drop(word, settings) for word in _words(drop)),
        noise=_amounts("--noise", noise, "STANDARD DEVIATION", _MOST_NOISE, settings),
        delay=_amounts("--delay", delay, "SECONDS", _MOST_DELAY, settings),
    )


def dropped_altogether(what_if: WhatIf) -> set[str]:
    """The modalities that never reach a set."""
    return {drop.modality for drop in what_if.drop if drop.start <= 0.0 and drop.end is None}


def interval(drop: Drop) -> str:
    """When it holds, in words."""
    if drop.end is None:
        return f"from {drop.start:g} s" if drop.start else "throughout"
    return f"from {drop.start:g} to {drop.end:g} s"


class Faults:
    """The faults at work on the messages of one bag.

    Attributes:
        touched: modalities of which messages come late or never.
        longest_delay_ns: of any of them.
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

    def arrival(self, modality: str, log_ns: int, begin_ns: int) -> int | None:
        """When a message arrives that was logged at `log_ns`, in a bag that begins at `begin_ns`; None: never."""
        since_ns = log_ns - begin_ns
        gone = [
            drop
            for drop, (start_ns, end_ns) in self._drops.items()
            if drop.modality == modality and start_ns <= since_ns and (end_ns is None or since_ns < end_ns)
        ]
        if gone:
            self._effective.update(gone)
            return None
        return log_ns + self._delays.get(modality, 0)

    def without_effect(self) -> list[Drop]:
        """Those that took no message away."""
        return [drop for drop in self._drops if drop not in self._effective]

    def disturbed(self, name: str, array: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
        """A modality's array in model units with its noise; the same samples get the same noise every time.

        Images stay between 0 and 1, forces between -1 and 1, and no reading of depth remains none.
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
        return noisy.astype(np.float32)


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
        raise WhatIfError(f"--drop: expected SENSE@START:END in seconds with START before END, found '{word}'")
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
            raise WhatIfError(f"{option}: expected SENSE={what} between 0 and {most:g}, found '{word}'")
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
    raise WhatIfError(f"{option}: expected a sense among {expected}, found '{name}'")


def _words(options: Iterable[str]) -> list[str]:
    return [word.strip() for option in options for word in option.split(",")]
