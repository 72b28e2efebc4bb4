"""The process of the fusion node: its arguments, its spin loop, its signals and its exit code."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rclpy.executors import SingleThreadedExecutor

    from smvae_ros.node.fusion_node import FusionNode

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end the node; SIGHUP comes when its terminal is closed."""


def main() -> None:
    """Run the executable `fusion_node`.

    It exits with 0 after any number of SIGINT, SIGTERM and SIGHUP, with 2 for arguments that cannot be used, and with 1
    when the node cannot go on, so that a launch file with `respawn` starts it again.
    """
    stopping = threading.Event()
    executor: SingleThreadedExecutor | None = None
    node: FusionNode | None = None

    def stop() -> None:
        if stopping.is_set():
            return
        stopping.set()
        if node is not None:
            node.hurry()
        if executor is not None:
            executor.wake()

    _open_standard_streams()
    _on_signal(stop)
    # Nearly all that is made until sets come stays: the collector would look through it again and again in vain.
    gc.disable()
    # Imported here, because they take seconds, and a signal that comes meanwhile must be heard.
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from rclpy.utilities import remove_ros_args, try_shutdown

    from smvae_ros.node.callback_guard import GuardedExecutor
    from smvae_ros.node.fusion_node import FusionNode
    from smvae_ros.overrides import files_of_others
    from smvae_ros.start_errors import START_ERRORS, start_error

    try:
        ArgumentParser(
            description="The fusion node. All its settings are ROS arguments.",
            usage="fusion_node [--ros-args -p NAME:=VALUE --params-file FILE -r FROM:=TO ...]",
        ).parse_args(remove_ros_args()[1:])
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        node = FusionNode()
    except START_ERRORS as error:
        print(f"error: {start_error(error)}", file=sys.stderr)
        try_shutdown()
        _ignore_signals()
        sys.exit(2)
    for sentence in files_of_others(node, sys.argv):
        node.get_logger().warning(sentence)
    executor = GuardedExecutor(node.warnings)
    executor.add_node(node)
    if not stopping.is_set():
        node.start()
    gc.freeze()
    gc.enable()
    while not stopping.is_set() and not node.broken:
        executor.spin_once()
    _ignore_signals()
    broken = node.broken
    node.end()
    executor.shutdown()
    rclpy.shutdown()
    sys.exit(1 if broken else 0)


def _open_standard_streams() -> None:
    """Open those of standard input, output and error that are closed, as where a daemon was started.

    Pipes and files opened later would take their places, and what the middleware logs would go into them.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _on_signal(act: Callable[[], None]) -> None:
    """Call `act` on a thread of its own at each signal that ends the node, but not at a SIGHUP that is ignored.

    `nohup` starts programs that ignore it.

    Python runs signal handlers between bytecodes of the main thread, which may wait inside the middleware or hold any
    lock. So the handlers do nothing; the wake-up pipe, which is written to at once, wakes the thread. rclpy's own
    handlers would shut the context down while the worker still publishes.
    """
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: None)

    def wait() -> None:
        while os.read(receiver, 1):
            act()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _ignore_signals() -> None:
    """Let the end that has begun come to its end.

    As the interpreter ends it puts the default action in place of handlers, but leaves ignored signals ignored.
    """
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
