"""The faults of a replay at work: on the way of each message, and on the arrays of each set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from zlib import crc32

import numpy as np

from smvae_core.data.faults import FAULTS, faulty, stuck
from smvae_core.modality import Modality
from smvae_ros.replay.summary import Fault, WhatIf
from smvae_ros.settings import nanoseconds
from smvae_ros.synchronizer.set_synchronizer import Sample

Swapped = Callable[[int], np.ndarray | None]
"""What another bag holds at a time after its own start (ns): an array in model units, or None."""


class Faults:
    """The faults applied to one bag.

    `drop` and `delay` act on messages by their receive time. All others act on the arrays of a set, by the time at
    which the set went out.

    Args:
        others: of each `swap`, what the other bag holds.

    Attributes:
        touched: modalities whose messages come late or never.
        longest_delay_ns: the longest delay of any modality.
    """

    def __init__(
        self, what_if: WhatIf, modalities: Sequence[Modality], others: Mapping[Fault, Swapped] | None = None
    ) -> None:
        self._faults = what_if.faults
        self._others = others or {}
        self._effective: set[Fault] = set()
        self._modalities = {modality.name: modality for modality in modalities}
        self._last: dict[str, np.ndarray] = {}
        self._stuck: dict[str, np.ndarray] = {}
        delays = [fault for fault in self._faults if fault.kind == "delay" and fault.amount]
        self.touched = {fault.modality for fault in self._faults if fault.kind == "drop" or fault in delays}
        self.longest_delay_ns = max((nanoseconds(fault.amount) for fault in delays), default=0)

    def arrival(self, modality: str, receive_ns: int, begin_ns: int) -> int | None:
        """Return when a message with this receive time arrives, None if never; the bag begins at `begin_ns`."""
        if not self._faults:
            return receive_ns
        faults = self._active(modality, receive_ns - begin_ns)
        if gone := [fault for fault in faults if fault.kind == "drop"]:
            self._effective.update(gone)
            return None
        late = [fault for fault in faults if fault.kind == "delay"]
        self._effective.update(late)
        return receive_ns + sum(nanoseconds(fault.amount) for fault in late)

    def without_effect(self) -> list[Fault]:
        """Return the faults that met neither a message nor an array."""
        return [fault for fault in self._faults if fault not in self._effective]

    def disturbed(self, name: str, array: np.ndarray, samples: Sequence[Sample], since_ns: int) -> np.ndarray:
        """Return a modality's array in model units with its faults; the same samples get the same noise every time.

        Sets come in the order in which they went out: a frozen sensor repeats what it sent in the set before.

        Args:
            since_ns: when the set went out, from the bag's start.
        """
        modality, faults = self._modalities[name], {fault.kind: fault for fault in self._active(name, since_ns)}
        if (fault := faults.get("swap")) and (other := self._others[fault](since_ns)) is not None:
            self._effective.add(fault)
            array = other
        for kind in FAULTS:
            if fault := faults.get(kind):
                self._effective.add(fault)
                random = np.random.default_rng([crc32(name.encode()), abs(samples[-1].stamp_ns)])
                array = faulty(modality, kind, array, fault.amount, random)
        if fault := faults.get("freeze"):
            self._effective.add(fault)
            return self._stuck.setdefault(name, stuck(modality, self._last.get(name, array)))
        self._stuck.pop(name, None)
        self._last[name] = array
        return array

    def _active(self, modality: str, since_ns: int) -> list[Fault]:
        return [fault for fault in self._faults if fault.modality == modality and fault.covers(since_ns)]
