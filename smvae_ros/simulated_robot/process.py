"""The process of the simulated robot: how it begins and how it ends."""

from __future__ import annotations

import signal
import sys
from argparse import ArgumentParser


def main() -> None:
    """Entry point of the executable `simulated_robot`; SIGINT and SIGTERM end it with exit code 0, bad input with 2."""
    stopping: list[int] = []
    # A list, not an Event: a handler that takes the lock of the code that it interrupts would wait for ever.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stopping.append(received))
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions
    from rclpy.utilities import remove_ros_args, try_shutdown

    from smvae_ros.overrides import files_of_others, unknown_overrides
    from smvae_ros.simulated_robot.node import SimulatedRobotNode
    from smvae_ros.start_errors import START_ERRORS, start_error

    try:
        ArgumentParser(
            description="A simulated arm with cameras and a wrist sensor, over ROS 2 topics. It takes ROS arguments.",
            usage="simulated_robot [--ros-args -p NAME:=VALUE --params-file FILE -r FROM:=TO ...]",
        ).parse_args(remove_ros_args()[1:])
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        node = SimulatedRobotNode()
        for sentence in files_of_others(node, sys.argv):
            node.get_logger().warning(sentence)
        if unknown := unknown_overrides(node):
            node.get_logger().warning(f"{', '.join(unknown)}: no such parameter; it has no effect")
        node.start()
    except START_ERRORS as error:
        print(f"error: {start_error(error)}", file=sys.stderr)
        try_shutdown()
        sys.exit(2)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stopping and node.robot.error is None:
            try:
                executor.spin_once(timeout_sec=0.1)
            except Exception as error:  # a client's call, such as a parameter of no known type, must not end the robot
                node.get_logger().error(f"a callback failed: {type(error).__name__}: {error}")
    finally:
        node.robot.stop()
    # As the interpreter ends it puts the default action in place of handlers, but leaves ignored signals ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if node.robot.error is not None:
        print(f"error: the robot's thread ended: {node.robot.error!r}", file=sys.stderr)
    executor.shutdown()
    rclpy.shutdown()
    sys.exit(1 if node.robot.error is not None else 0)


if __name__ == "__main__":
    main()
