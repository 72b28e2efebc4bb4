"""The simulated robot as a process, and a listener to everything that it publishes."""

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import rclpy
from ament_index_python.packages import get_package_prefix
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo

from smvae_ros.simulated_robot.node import TOPICS

from ...programs import Program

PATIENCE_S = 60.0


class Watcher:
    """The simulated robot as a process, and everything that it publishes.

    Fast DDS has crashed here while a participant was deleted, in a mutex of its shared memory; the cause is not known.
    """

    def __init__(self, domain: int, log: Path, **parameters: Any) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("watcher", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.count: Counter[str] = Counter()
        self.last: dict[str, Any] = {}
        for name, (topic, kind) in {
            **TOPICS,
            "info": ("rgb/camera_info", CameraInfo),
            "clock": ("/clock", Clock),
        }.items():
            self.hear(name, topic, kind)
        self._set = self.node.create_client(SetParameters, "/robot/set_parameters")
        self.log = log
        executable = Path(get_package_prefix("smvae_ros")) / "lib" / "smvae_ros" / "simulated_robot"
        arguments = [
            word for name, value in parameters.items() for word in ("-p", f"{name.replace('__', '.')}:={value}")
        ]
        with log.open("w") as file:
            self.process = Program(
                [str(executable), "--ros-args", *arguments], stdout=file, stderr=file, stdin=subprocess.DEVNULL
            )

    def hear(self, name: str, topic: str, kind: type) -> None:
        def take(message: Any) -> None:
            self.count[name] += 1
            self.last[name] = message

        self.node.create_subscription(kind, topic, take, qos_profile_sensor_data)

    def wait(self, ready: Callable[[], bool], wanted: str) -> None:
        deadline = monotonic() + PATIENCE_S
        while not ready():
            assert self.process.poll() is None, self.log.read_text()
            assert monotonic() < deadline, f"waited for {wanted}: {self.log.read_text()}"
            self._executor.spin_once(timeout_sec=0.05)

    def wait_for(self, name: str, count: int = 1) -> Any:
        wanted = self.count[name] + count
        self.wait(lambda: self.count[name] >= wanted, f"{count} of {name}")
        return self.last[name]

    def set(self, name: str, value: Any) -> SetParametersResult:
        return self.call(Parameter(name, value=value).to_parameter_msg())

    def call(self, parameter: ParameterMessage) -> SetParametersResult:
        self.wait(self._set.service_is_ready, "the robot's parameters")
        answer = self._set.call_async(SetParameters.Request(parameters=[parameter]))
        self.wait(answer.done, f"an answer about {parameter.name}")
        return answer.result().results[0]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
