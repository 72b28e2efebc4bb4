"""The test bench of a node: sensors and the node in processes of their own, and a listener for the latents."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from struct import unpack_from
from time import monotonic, time_ns

import numpy as np
import rclpy
from rclpy._rclpy_pybind11 import RMWError
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from smvae_ros.msg import FusionStatus, Latent

from smvae_core.interrupts import interruptible, uninterrupted

FUSION_NODE = ("fusion_node",)
NAIVE_NODE = (sys.executable, "-m", "benchmarks.naive_node")
TRANSPORTS = ("LARGE_DATA", "fastdds.xml")
"""Fast DDS's transport for large messages, and this package's profile, whose shared memory holds several images."""

_PATIENCE_S = 60.0
_END_S = 10.0
"""Seconds in which a process must end after SIGTERM; then it is killed."""
_PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds.xml"
_TICKS_S = os.sysconf("SC_CLK_TCK")


class NodeProcess:
    """A running node.

    Attributes:
        started_ns: time of its start, system clock.
    """

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self.started_ns = time_ns()
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)

    def output(self) -> str:
        """Return everything that it has printed."""
        return self._log.read_text()

    def processor_s(self) -> float:
        """Return its processor time in seconds."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_S

    def threads_s(self) -> list[float]:
        """Return the processor time of each of its threads in seconds, most first."""
        tasks = [
            path.read_text().rpartition(")")[2].split()
            for path in Path(f"/proc/{self._process.pid}/task").glob("*/stat")
        ]
        return sorted(((int(one[11]) + int(one[12])) / _TICKS_S for one in tasks), reverse=True)

    def memory_mb(self) -> float:
        """Return its anonymous memory; segments of the transport, which fill up once and are reused, do not count."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError(f"process {self._process.pid} has no RssAnon")

    def check(self) -> None:
        """Raise RuntimeError if it has ended."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the node ended with exit code {self._process.returncode}:\n{self.output()[-2000:]}")

    def end(self) -> None:
        """End it with SIGTERM, or kill it."""
        self._process.terminate()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Listener:
    """A subscriber to the node's latents and status.

    Attributes:
        arrived_ns: time at which each latent was received, system clock, by stamp.
        modalities: modalities of each set, by stamp.
        status: the node's latest status.
    """

    def __init__(self) -> None:
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("listener")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self.arrived_ns: dict[int, int] = {}
        self.modalities: dict[int, tuple[str, ...]] = {}
        self.status = FusionStatus()
        # Serialised, since other builds have other fields at their end.
        self._node.create_subscription(FusionStatus, "fusion/status", self._take_status, 1, raw=True)
        self._node.create_subscription(Latent, "fusion/latent", self._take_latent, QoSProfile(depth=200), raw=True)

    def listen(self, seconds: float) -> None:
        """Receive messages for that long."""
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def wait_for_latent(self, node: NodeProcess) -> None:
        """Wait for the first latent.

        Raises:
            RuntimeError: the node ended, or published none within a minute.
        """
        deadline = monotonic() + _PATIENCE_S
        while not self.arrived_ns:
            node.check()
            if monotonic() > deadline:
                raise RuntimeError(f"no latent in {_PATIENCE_S:.0f} s:\n{node.output()[-2000:]}")
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        """Destroy the node and end rclpy."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown()

    def _take_latent(self, latent: bytes) -> None:
        arrived_ns = time_ns()
        sec, nanosec, length = unpack_from("<iII", latent, 4)
        stamp_ns = sec * 1_000_000_000 + nanosec
        self.arrived_ns[stamp_ns] = arrived_ns
        self.modalities[stamp_ns] = _texts(latent, 16 + length)

    def _take_status(self, status: bytes) -> None:
        with suppress(RMWError):  # of a build that has not all fields
            self.status = deserialize_message(status, FusionStatus)


def _texts(data: bytes, at: int) -> tuple[str, ...]:
    """Return the strings of a sequence that begins at or after a place in a serialised message."""
    found = []
    at += -at & 3
    (count,) = unpack_from("<I", data, at)
    at += 4
    for _ in range(count):
        at += -at & 3
        (length,) = unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 3 + length].decode())
        at += 4 + length
    return tuple(found)


class Sensors:
    """The two processes of `benchmarks.sensors`, or of `benchmarks.faulty_sensors`.

    Attributes:
        faults: how often each fault of each faulty sensor occurred; known when they have ended.
    """

    def __init__(self, dropouts: bool, rates: float, faults: int | None) -> None:
        self.faults: Counter[str] = Counter()
        command = [sys.executable, "-m", "benchmarks.sensors" if faults is None else "benchmarks.faulty_sensors"]
        options = [*(["--dropouts"] if dropouts else []), "--rates", str(rates)]
        options += ["--seed", str(faults)] if faults is not None else []
        # Threads that NumPy starts when it is imported would not block the signals, and die of the one that ends them.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen([*command, group, *options], stdout=subprocess.PIPE, text=True, env=environment)
            for group in ("cameras", "touch")
        ]

    def end(self) -> dict[str, np.ndarray]:
        """End them and return the stamps of healthy messages, int64 nanoseconds, by modality.

        Raises:
            RuntimeError: one failed, or did not end.
        """
        for process in self._processes:
            process.terminate()
        stamps: dict[str, np.ndarray] = {}
        for process in self._processes:
            try:
                output, _ = process.communicate(timeout=_END_S)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"the sensors did not end within {_END_S:g} s of SIGTERM") from None
            if process.returncode:
                raise RuntimeError(f"the sensors ended with exit code {process.returncode}")
            for name, found in json.loads(output).items():
                healthy = found["healthy"] if isinstance(found, dict) else found
                stamps[name] = np.array(healthy, np.int64)
                if isinstance(found, dict):
                    self.faults.update({f"{name}: {fault}": times for fault, times in found["faults"].items()})
        return stamps

    def kill(self) -> None:
        """Kill them if they still run."""
        for process in self._processes:
            process.kill()
            process.wait()


def of_other_build(install: Path, executable: str) -> tuple[str, ...]:
    """Return the command that starts an executable of another build, with its own packages and the same environment."""
    ours = Path(os.environ["AMENT_PREFIX_PATH"].split(os.pathsep)[0]).resolve()
    if not (path := install.resolve() / "lib" / "smvae_ros" / executable).is_file():
        sys.exit(f"error: --against: expected the install folder of a build, found no {path}")
    paths = {
        name: os.environ[name].replace(str(ours), str(install.resolve()))
        for name in ("PYTHONPATH", "AMENT_PREFIX_PATH", "LD_LIBRARY_PATH", "CMAKE_PREFIX_PATH")
        if name in os.environ
    }
    sources = str(Path(__file__).resolve().parents[1])
    packages = [path for path in paths["PYTHONPATH"].split(os.pathsep) if path and path != sources]
    paths["PYTHONPATH"] = os.pathsep.join(packages)
    return ("env", *(f"{name}={value}" for name, value in paths.items()), sys.executable, "-P", str(path))


def own_domain(transport: str = "fastdds.xml") -> None:
    """Give this process, and those that it starts from now on, a ROS domain of their own on this machine."""
    # One of the domains 1 to 80: the demo and the tests use higher ones, and ports of domains above 101 are taken.
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 80)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["FASTDDS_BUILTIN_TRANSPORTS"] = "LARGE_DATA"
    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        os.environ.pop(variable, None)
        if transport == "fastdds.xml":
            os.environ[variable] = str(_PROFILE)


@contextmanager
def rig(
    command: Sequence[str],
    *,
    dropouts: bool = False,
    transport: str = "fastdds.xml",
    rates: float = 1.0,
    faults: int | None = None,
) -> Iterator[tuple[Sensors, NodeProcess, Listener]]:
    """Start sensors, a listener and the node, in a ROS domain of their own on this machine; end them at the end.

    Args:
        command: starts the node.
        dropouts: whether the topics fall silent at random.
        transport: one of TRANSPORTS.
        rates: factor of the sensors' rates.
        faults: the seed of random faults; None for healthy sensors.
    """
    own_domain(transport)
    with uninterrupted(), ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        sensors = Sensors(dropouts, rates, faults)
        stack.callback(sensors.kill)
        listener = Listener()
        stack.callback(listener.close)
        node = NodeProcess(command, Path(folder) / "log")
        stack.callback(node.end)
        with interruptible():
            yield sensors, node, listener
