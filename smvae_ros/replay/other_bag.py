"""Another bag whose samples of one modality take the place of a bag's own: the fault `swap`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType

import numpy as np

from smvae_core.modality import Modality
from smvae_ros.bags.reading import Bag, BagError, open_bag
from smvae_ros.conversions.arrays import set_arrays
from smvae_ros.conversions.bindings import Binding
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.samples import Samples
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.summary import Fault, WhatIf
from smvae_ros.settings import FusionSettings


class OtherBag:
    """The arrays of one modality in the sets of another bag, read forwards and from its start again after its end.

    A context manager, in constant memory.

    Args:
        fault: the swap, with the other bag and the modality.
        settings: how sets are made; topics are resolved at the root.

    Raises:
        BagError: on entry: not a bag, or nothing in it can be read, or no sample of the modality.
    """

    def __init__(
        self, fault: Fault, settings: FusionSettings, bindings: Sequence[Binding], modalities: Sequence[Modality]
    ) -> None:
        assert fault.other is not None
        self._path, self._name = fault.other, fault.modality
        self._settings, self._bindings, self._modalities = settings, bindings, modalities
        self._bag = ExitStack()
        self._round_ns = self._end_ns = 0
        self._array: np.ndarray | None = None
        self._arrays: Iterator[tuple[int, np.ndarray]]
        self._next: tuple[int, np.ndarray]

    def __enter__(self) -> OtherBag:
        try:
            self._open()
        except BaseException:
            self._bag.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bag.close()

    def at(self, since_ns: int) -> np.ndarray | None:
        """Return what the bag holds at a time from its start, times in ascending order.

        That is the array of the newest set up to then, of the first one before it.
        """
        while self._next[0] + self._round_ns <= since_ns:
            self._end_ns, self._array = self._next
            following = next(self._arrays, None)
            if following is not None:
                self._next = following
                continue
            # From the start again, one step of a set later.
            self._round_ns += max(self._end_ns, 1)
            self._open()
        return self._next[1] if self._array is None else self._array

    def _open(self) -> None:
        self._bag.close()
        topics = self._settings.root_topics()
        types = {binding.modality.name: binding.recorded for binding in self._bindings}
        others = {modality.name for modality in self._modalities} - {self._name}
        opened = self._bag.enter_context(open_bag(self._path, topics, types, optional=others))
        self._arrays = self._read(opened)
        first = next(self._arrays, None)
        if first is None:
            raise BagError(f"--swap: expected samples of {self._name} in {self._path}, found none that can be used")
        self._next = first

    def _read(self, bag: Bag) -> Iterator[tuple[int, np.ndarray]]:
        samples = Samples(bag, self._bindings)
        streams = self._settings.synchronizer_streams()
        sets = RecordedSets(samples, self._settings.synchronizer(), streams, Faults(WhatIf(), self._modalities))
        for recorded in sets:
            own = [binding for binding in samples.bindings if binding.modality.name == self._name]
            arrays, _ = set_arrays(own, recorded.sample_set)
            if self._name in arrays:
                yield recorded.sample_set.emitted_ns - (bag.begin_ns or 0), arrays[self._name]
