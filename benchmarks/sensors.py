"""The sensors of a robot as a process: `cameras` (VGA colour and depth, 30 Hz) or `touch` (wrench, action).

They publish until SIGTERM or SIGINT, then print the stamps that they published, by modality, as JSON. With `--dropouts`
each topic falls silent at random, about every ten seconds, for up to three seconds. `--rates 2` doubles all rates.
"""

import argparse
import json
import random
import signal
import sys
from collections.abc import Iterator
from itertools import cycle
from time import time_ns
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import TwistStamped, WrenchStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.arrays import fill_image, fill_twist, fill_wrench
from smvae_ros.demo.player import Recorded
from smvae_ros.settings import default_settings

RATES = {"rgb": 30, "depth": 30, "force": 1000, "action": 20}
GROUPS = {"cameras": ("rgb", "depth"), "touch": ("force", "action")}
_HEIGHT, _WIDTH = 480, 640
# No camera brings the same picture twice.
CONTENTS = 3
_QUIET_EVERY_S, _QUIET_S = 10.0, 3.0
ENDING = (signal.SIGTERM, signal.SIGINT)


def sensor_message(name: str, seed: int) -> Any:
    """Return a healthy message of a modality; each seed gives another content."""
    noise = np.random.default_rng(seed)
    header = Header(frame_id=name)
    if name == "force":
        message = WrenchStamped(header=header)
        fill_wrench(message, noise.normal(size=6))
    elif name == "action":
        message = TwistStamped(header=header)
        # Within the range of the shipped checkpoint's data: other commands count as absent.
        fill_twist(message, noise.uniform(-0.01, 0.01, size=4))
    else:
        message = Image(header=header)
        size = (_HEIGHT, _WIDTH)
        rgb = name == "rgb"
        fill_image(message, noise.integers(0, 256, (*size, 3), np.uint8) if rgb else noise.random(size, np.float32))
    return message


def moments(names: tuple[str, ...], start_ns: int, factor: float) -> Iterator[tuple[int, str]]:
    """Yield times and the modality that is due at each; both cameras are due at the same times."""
    due = {name: start_ns for name in names}
    index = dict.fromkeys(names, 0)
    while True:
        name = min(due, key=due.__getitem__)
        yield due[name], name
        index[name] += 1
        due[name] = start_ns + int(index[name] * 1_000_000_000 / (factor * RATES[name]))


class _DropOuts:
    """The silences of a topic, at random times that are the same in every run."""

    def __init__(self, name: str, start_ns: int) -> None:
        self._random = random.Random(name)
        self._from_ns = self._until_ns = start_ns
        self._next()

    def _next(self) -> None:
        self._from_ns = self._until_ns + round(self._random.expovariate(1 / _QUIET_EVERY_S) * 1e9)
        self._until_ns = self._from_ns + round(self._random.uniform(0.0, _QUIET_S) * 1e9)

    def silent(self, due_ns: int) -> bool:
        """Return whether the topic is silent at that time; times must not decrease."""
        while due_ns >= self._until_ns:
            self._next()
        return due_ns >= self._from_ns


def main() -> None:
    """Publish until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("group", choices=GROUPS)
    parser.add_argument("--dropouts", action="store_true")
    parser.add_argument("--rates", type=float, default=1.0, help="factor of all rates")
    arguments = parser.parse_args()
    names = GROUPS[arguments.group]
    # Blocked and waited for, because a handler could interrupt any line, and take a lock that the line holds. Threads
    # that start from here on inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = Node(arguments.group)
    streams = default_settings(vision_touch_modalities()).streams
    publishers, contents = {}, {}
    for name in names:
        messages = [sensor_message(name, seed) for seed in range(CONTENTS)]
        publishers[name] = node.create_publisher(type(messages[0]), streams[name].topic, qos_profile_sensor_data)
        contents[name] = cycle([Recorded(name, 0, 0, message, serialize_message(message)) for message in messages])
    start_ns = time_ns()
    dropouts = {name: _DropOuts(name, start_ns) for name in names} if arguments.dropouts else {}
    stamps: dict[str, list[int]] = {name: [] for name in names}
    frame_due_ns = frame_ns = 0
    for due_ns, name in moments(names, start_ns, arguments.rates):
        if signal.sigtimedwait(ENDING, max(0, due_ns - time_ns()) / 1e9):
            break
        if name in dropouts and dropouts[name].silent(due_ns):
            continue
        # Both images of a camera carry the time at which they were taken. The wrench is sampled by its own clock: when
        # this process was late, its messages come in a burst.
        if name == "force":
            stamp_ns = due_ns
        elif name == "action":
            stamp_ns = time_ns()
        else:
            if frame_due_ns != due_ns:
                frame_due_ns, frame_ns = due_ns, time_ns()
            stamp_ns = frame_ns
        publishers[name].publish(next(contents[name]).stamped(stamp_ns))
        stamps[name].append(stamp_ns)
    json.dump(stamps, sys.stdout)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
