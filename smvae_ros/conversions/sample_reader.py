"""The way of one stream's messages to the synchroniser: stamp, checks, joints by name.

A message is judged when it arrives, by itself: one that cannot be used takes no other along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from smvae_ros.conversions.arrays import MissingJoints, Numbers, numbers
from smvae_ros.conversions.bindings import JOINTS, Binding
from smvae_ros.conversions.errors import ConversionError

# Larger numbers are infinite in the model's float32.
_MOST = float(np.finfo(np.float32).max)
# Within this time, states of different publishers are merged to one.
_MERGE_NS = 200_000_000
# Joints of a first message that are not brought again for so long, before they came for `_SETTLED_NS`, were a mistake.
_GONE_NS, _SETTLED_NS = 500_000_000, 1_000_000_000
# Pictures are compared by so many of their bytes, behind the header: it has the stamp, and bytes that mean nothing.
_PART, _HEADER = 2048, 256
# A driver that hangs may send its few buffers in turn.
_BUFFERS = 4


class _Joint(NamedTuple):
    position: float
    stamp_ns: int


class SampleReader:
    """The reader of one stream of serialised messages. It keeps the last state of each joint.

    A sample is what `raw_array` takes: the message itself of an image, the checked `Numbers` of any other. JointStates
    are read by name. Without `joints` in the settings, the first message that names as many joints as the modality has
    numbers sets their order; if it stays alone, and messages name as many others, these take its place. Messages that
    bring only some of the joints, as of two publishers on one topic, are completed by the last state of the others, if
    that is at most 0.2 s old. Messages that bring none of them, as of another device on the topic, cannot be used.

    Args:
        binding: of the stream, with an accessor (`Binding.reading`).

    Attributes:
        binding: with the joints that are in use.
        repeated: how many pictures were the same as one of the few just before, by a part of their bytes; how many
            forces were the same as the one before.
        repeated_in_a_row: how many of these came last.
        merges: whether the last message brought only some of the joints, so that others bring the rest.
    """

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self._is_joints = binding.type == JOINTS and not binding.fields
        self._is_image = binding.modality.is_image
        self._is_force = binding.modality.preprocessing.kind == "force"
        self._stamp_ns = binding.stamp_ns
        self._states: dict[str, _Joint] = {}
        self._settled = bool(binding.joints)
        # When messages first and last brought the joints that the first message named.
        self._since_ns = self._last_ns = 0
        self.repeated = self.repeated_in_a_row = 0
        self.merges = False
        self._newest: deque[tuple[Any, ...]] = deque(maxlen=_BUFFERS if self._is_image else 1)

    def read(self, message: bytes | memoryview, arrived_ns: int = 0) -> tuple[int, Any]:
        """Return a message's stamp in nanoseconds, 0 if it has none, and its sample.

        Args:
            message: as it was serialised.
            arrived_ns: when it arrived; stands in for a stamp that joints lack, so that a silent publisher's grow old.
                Without it, the joints of the first message stay.

        Raises:
            ConversionError: a message that cannot be used: cut off, with another number of numbers, with one that is
                not finite, or without a joint.
        """
        stamp_ns = self._stamp_ns(message)
        if self._is_image:
            # Of bytes all over the picture; the noise of a camera changes many of them.
            size = len(message)
            self._note((size, bytes(message[min(size // 2, _HEADER) :: 1 + size // _PART])))
            return stamp_ns, message
        if self._is_joints:
            return stamp_ns, Numbers(_checked(self._joint_row(message, stamp_ns, arrived_ns)), message)
        found = numbers(self.binding, message)
        if self._is_force:
            self._note(tuple(found))
        # The sum is finite where all are; rarely where one is too large.
        if not sum(map(abs, found)) <= _MOST:
            _checked(found)
        return stamp_ns, Numbers(found, message)

    def _note(self, content: tuple[Any, ...]) -> None:
        if content in self._newest:
            self.repeated += 1
            self.repeated_in_a_row += 1
        else:
            self.repeated_in_a_row = 0
        self._newest.append(content)

    @property
    def different(self) -> int:
        """Return how many of the last few pictures are different ones."""
        return len(set(self._newest))

    def reset(self) -> None:
        """Forget the states of joints, as after a jump of time."""
        self._states.clear()

    def _joint_row(self, message: bytes | memoryview, stamp_ns: int, arrived_ns: int) -> Sequence[float]:
        stamp_ns = stamp_ns or arrived_ns
        names, state = self.binding.values(message)
        size = self.binding.modality.shape[0]
        # Joints of other devices may have any names.
        wanted = [name for name in names if name in self.binding.joints] if self._settled else names
        if len(set(wanted)) < len(wanted):
            raise ConversionError(f"expected each joint once, found {', '.join(names)}")
        if not self._settled and len(state) == size and len(names) in (0, size):
            self._choose(tuple(names), arrived_ns)
        joints = self.binding.joints
        if not joints:
            return numbers(self.binding, message)
        self.merges = not set(joints).issubset(names)
        if len(state) != len(names):
            found = f"{len(state)} for {len(names)} names"
            raise ConversionError(f"expected a number in {self.binding.field} for each name, found {found}")
        if not set(joints).intersection(names):
            raise MissingJoints(joints, names)
        # All are checked before one is kept: a bad state must not spoil what other publishers bring.
        brought = {name: value for name, value in zip(names, state) if name in joints}
        positions = _checked(list(brought.values()))
        self._states |= {name: _Joint(position, stamp_ns) for name, position in zip(brought, positions)}
        missing = [
            name
            for name in joints
            if name not in self._states or abs(stamp_ns - self._states[name].stamp_ns) > _MERGE_NS
        ]
        if missing:
            raise MissingJoints(missing, names)
        return [self._states[name].position for name in joints]

    def _choose(self, names: tuple[str, ...], arrived_ns: int) -> None:
        """Take the names of the first message, or those of later ones if it turns out to have been a mistake."""
        if set(names) == set(self.binding.joints):
            self._settled = bool(names) and abs(arrived_ns - self._since_ns) >= _SETTLED_NS
        elif not self.binding.joints or abs(arrived_ns - self._last_ns) > _GONE_NS:
            self.binding, self._since_ns = replace(self.binding, joints=names), arrived_ns
            self._states.clear()
        else:
            return
        self._last_ns = arrived_ns


def _checked(found: Sequence[Any]) -> tuple[float, ...]:
    for number in found:
        if not -_MOST <= number <= _MOST:
            shown = number if not isfinite(number) else f"{number:g}, which is too large"
            raise ConversionError(f"expected finite numbers, found {shown}")
    return tuple(map(float, found))
