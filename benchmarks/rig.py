"""A robot on the bench: its sensors and one fusion node as processes of their own, and an ear for the latents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, time_ns

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from smvae_ros.msg import FusionStatus, Latent

FUSION_NODE = ("fusion_node",)
NAIVE_NODE = (sys.executable, "-m", "benchmarks.naive_node")
TRANSPORTS = ("LARGE_DATA", "fastdds.xml")
"""Fast DDS's own for large messages, and this package's profile, whose shared memory holds several images."""

_PATIENCE_S = 60.0
_PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"
_TICKS_S = os.sysconf("SC_CLK_TCK")


class NodeProcess:
    """A node of ours that runs.

    Attributes:
        started_ns: system clock.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self.started_ns = time_ns()
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def output(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def processor_s(self) -> float:
        """Seconds that it has had a processor."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S

    def memory_mb(self) -> float:
        """Memory of its own; the transport's shared segments are left out, which fill up once and are then reused."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"process {self._process.pid} has no RssAnon")

    def check(self) -> None:
        """Raise RuntimeError once it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the node ended with exit code {self._process.returncode}:\n{self.output()[-2000:]}")

    def end(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Ear:
    """Hears latents.

    Attributes:
        arrived_ns: by stamp, when the latent was received, system clock.
        modalities: by stamp, those of the set.
        status: the node's last.
    """

    def __init__(self) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("ear")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.arrived_ns: dict[int, int] = {}
        self.modalities: dict[int, tuple[str, ...]] = {}
        self.status = FusionStatus()
        self._node.create_subscription(FusionStatus, "fusion/status", self._note, 1)
        self._node.create_subscription(Latent, "fusion/latent", self._hear, QoSProfile(depth=200))

    def listen(self, seconds: float) -> None:
        """Take what comes in that time."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for_latent(self, node: NodeProcess) -> None:
        """Until the first one.

        Raises:
            RuntimeError: the node ended, or said nothing for a minute.
        """
        deadline = monotonic() + _PATIENCE_S
        while not self.arrived_ns:
            node.check()
            if monotonic() > deadline:
                raise RuntimeError(f"no latent in {_PATIENCE_S:.0f} s:\n{node.output()[-2000:]}")
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        """Leave."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown()

    def _hear(self, latent: Latent) -> None:
        arrived_ns = time_ns()
        stamp_ns = latent.header.stamp.sec * 1_000_000_000 + latent.header.stamp.nanosec
        self.arrived_ns[stamp_ns] = arrived_ns
        self.modalities[stamp_ns] = tuple(latent.modalities)

    def _note(self, status: FusionStatus) -> None:
        self.status = status


class Sensors:
    """Both groups of `benchmarks.sensors`."""

    def __init__(self, dropouts: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.sensors"]
        options = ["--dropouts"] if dropouts else []
        self._processes = [
            subprocess.Popen([*command, group, *options], stdout=subprocess.PIPE, text=True)
            for group in ("cameras", "touch")
        ]

    def end(self) -> dict[str, np.ndarray]:
        """Stop them; returns the stamps that they published, by modality, int64 nanoseconds."""
        for process in self._processes:
            process.terminate()
        stamps: dict[str, np.ndarray] = {}
        for process in self._processes:
            output, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"the sensors ended with exit code {process.returncode}")
            stamps |= {name: np.array(values, np.int64) for name, values in json.loads(output).items()}
        return stamps

    def kill(self) -> None:
        """Leave nothing behind."""
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def rig(
    command: Sequence[str], *, dropouts: bool = False, transport: str = "fastdds.xml"
) -> Iterator[tuple[Sensors, NodeProcess, Ear]]:
    """The sensors run, the node starts, the ear listens: in a ROS domain of their own on this machine.

    Args:
        transport: one of TRANSPORTS.
    """
    # Of 1 to 101, the domains whose ports are free of others' use; not the demo's and the tests'.
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 80)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "LARGE_DATA"
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        os.environ.pop(variable, None)
        if transport == "fastdds.xml":
            os.environ[variable] = str(_PROFILE)
    with tempfile.TemporaryDirectory() as folder:
        sensors = Sensors(dropouts)
        ear = Ear()
        node = NodeProcess(command, Path(folder) / "log")
        try:
            yield sensors, node, ear
        finally:
            node.end()
            sensors.kill()
            ear.close()
