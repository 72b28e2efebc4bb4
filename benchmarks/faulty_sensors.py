"""The sensors of `benchmarks.sensors`, each with faults of random kinds at random times, until SIGTERM or SIGINT.

Then they print as JSON, by modality: the stamps of the messages that were healthy, and how often each fault occurred.
"""

import argparse
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import nan
from time import time_ns
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions

from benchmarks.sensors import CONTENTS, ENDING, GROUPS, moments, sensor_message
from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.arrays import fill_image, fill_twist, fill_wrench
from smvae_ros.demo.player import Recorded
from smvae_ros.settings import default_settings

_HEALTHY_S, _FAULTY_S = 6.0, (0.3, 4.0)
_LATE_NS, _BURST_NS = 150_000_000, 300_000_000
# When a message is published, against its time; and the stamp that it claims.
_TIMING = ("silent", "late", "burst", "old stamp", "other clock", "future stamp", "one stamp", "no stamp")
_STAMPS: dict[str, Callable[[int, int], int]] = {
    "old stamp": lambda stamp_ns, began_ns: stamp_ns - 500_000_000,
    "other clock": lambda stamp_ns, began_ns: stamp_ns - 1_700_000_000_000_000_000,
    "future stamp": lambda stamp_ns, began_ns: stamp_ns + 3_000_000_000,
    "one stamp": lambda stamp_ns, began_ns: began_ns,
    "no stamp": lambda stamp_ns, began_ns: 0,
}


class FaultySensor:
    """One sensor: mostly healthy, now and then with a fault for some seconds.

    Attributes:
        healthy_ns: stamps of healthy messages.
        faults: how often each fault began.
    """

    def __init__(self, name: str, seed: int, start_ns: int) -> None:
        self.healthy_ns: list[int] = []
        self.faults: Counter[str] = Counter()
        self._random = random.Random(f"{seed} {name}")
        self._contents = [_serialised(name, sensor_message(name, seed)) for seed in range(CONTENTS)]
        self._bad = {kind: _serialised(name, message) for kind, message in _bad_messages(name).items()}
        self._fault = ""
        self._sent = 0
        self._began_ns = self._until_ns = start_ns
        self._until_ns += round(self._random.expovariate(1 / _HEALTHY_S) * 1e9)

    def messages(self, due_ns: int, stamp_ns: int) -> list[tuple[int, bytes]]:
        """Return what is published of the sample of that time, with the times of publication."""
        while due_ns >= self._until_ns:
            self._turn()
        self._sent += 1
        content = self._contents[self._sent % CONTENTS]
        if self._fault in self._bad:
            return [(due_ns, self._bad[self._fault].stamped(stamp_ns))]
        if self._fault == "silent":
            return []
        if self._fault in _STAMPS:
            return [(due_ns, content.stamped(_STAMPS[self._fault](stamp_ns, self._began_ns)))]
        if self._fault == "late":
            return [(due_ns + _LATE_NS, content.stamped(stamp_ns))]
        if self._fault == "burst":
            return [(due_ns - due_ns % _BURST_NS + _BURST_NS, content.stamped(stamp_ns))]
        self.healthy_ns.append(stamp_ns)
        return [(due_ns, content.stamped(stamp_ns))]

    def _turn(self) -> None:
        self._began_ns = self._until_ns
        if self._fault:
            self._fault, seconds = "", self._random.expovariate(1 / _HEALTHY_S)
        else:
            self._fault, seconds = self._random.choice([*_TIMING, *self._bad]), self._random.uniform(*_FAULTY_S)
            self.faults[self._fault] += 1
        self._until_ns += round(seconds * 1e9)


def _serialised(name: str, message: Any) -> Recorded:
    return Recorded(name, 0, 0, message, serialize_message(message))


def _bad_messages(name: str) -> dict[str, Any]:
    """Return messages of a modality whose content cannot be used, or brings no information."""
    if name in ("rgb", "depth"):
        bad = {kind: sensor_message(name, 0) for kind in ("other encoding", "cut off", "wrong size", "blank")}
        bad["other encoding"].encoding = "mono12p"
        bad["cut off"].data = bad["cut off"].data[:1000]
        bad["wrong size"].width = 2**31
        fill_image(
            bad["blank"], np.zeros((480, 640, 3), np.uint8) if name == "rgb" else np.zeros((480, 640), np.float32)
        )
        if name == "depth":
            bad["millimetres"] = sensor_message(name, 0)
            fill_image(bad["millimetres"], np.full((480, 640), 850, np.float32))
        return bad
    bad = {kind: sensor_message(name, 0) for kind in ("not a number", "huge")}
    fill = fill_wrench if name == "force" else fill_twist
    for kind, value in (("not a number", nan), ("huge", 1e300)):
        fill(bad[kind], np.full(6 if name == "force" else 4, value))
    return bad


def main() -> None:
    """Publish until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--rates", type=float, default=1.0, help="factor of all rates")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node(arguments.group)
    streams = default_settings(vision_touch_modalities()).streams
    names = GROUPS[arguments.group]
    publishers = {
        name: node.create_publisher(type(sensor_message(name, 0)), streams[name].topic, qos_profile_sensor_data)
        for name in names
    }
    start_ns = time_ns()
    sensors = {name: FaultySensor(name, arguments.seed, start_ns) for name in names}
    waiting: list[tuple[int, int, str, bytes]] = []
    order = count()
    for due_ns, name in moments(names, start_ns, arguments.rates):
        for at_ns, content in sensors[name].messages(due_ns, due_ns):
            heappush(waiting, (at_ns, next(order), name, content))
        while waiting and waiting[0][0] <= due_ns:
            at_ns, _, other, content = heappop(waiting)
            if signal.sigtimedwait(ENDING, max(0, at_ns - time_ns()) / 1e9):
                break
            publishers[other].publish(content)
        else:
            continue
        break
    found = {name: {"healthy": one.healthy_ns, "faults": one.faults} for name, one in sensors.items()}
    json.dump(found, sys.stdout)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
