"""The process of the fusion node: its arguments, its executor, and how it ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from smvae_core.errors import ConfigurationError
from smvae_ros.fusion_node import FusionNode


def main() -> None:
    """Entry point of the executable `fusion_node`; SIGINT and SIGTERM end it with exit code 0."""
    ArgumentParser(
        description="The fusion node. What it takes, it takes as ROS arguments.",
        usage="fusion_node [--ros-args -p NAME:=VALUE --params-file FILE -r FROM:=TO ...]",
    ).parse_args(remove_ros_args()[1:])
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor()
    stopping = threading.Event()

    def stop() -> None:
        stopping.set()
        executor.wake()

    _on_signal(stop)
    try:
        node = FusionNode()
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        rclpy.shutdown()
        sys.exit(2)
    executor.add_node(node)
    node.start()
    while not stopping.is_set():
        executor.spin_once()
    node.end()
    executor.shutdown()
    rclpy.shutdown()


def _on_signal(act: Callable[[], None]) -> None:
    """Call `act` on a thread of its own at each SIGINT or SIGTERM.

    Python runs signal handlers between bytecodes of the main thread, which waits inside the middleware; the wake-up
    pipe is written to at once. rclpy's own handlers would shut the context down while the worker still publishes.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        while os.read(receiver, 1):
            act()

    threading.Thread(target=wait, name="signals", daemon=True).start()


if __name__ == "__main__":
    main()
