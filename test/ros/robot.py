"""A robot's sensors, which publish and listen beside a fusion node."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from struct import pack
from time import monotonic
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped, WrenchStamped
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from smvae_ros.msg import FusionStatus, Latent, ModalityStatus
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from smvae_ros.conversions.arrays import fill_image, fill_twist, fill_wrench

from .fusion_process import PATIENCE_S, FusionProcess, own_domain
from .simulated_clock import SimulatedClock

STEP_S = 0.05
ALL = ("rgb", "depth", "force", "action")
FRAMES = {"rgb": "camera", "depth": "depth_camera", "force": "wrist", "action": "tool"}


class Robot:
    """Publishes what is in `sending` 20 times a second while `wait` spins, and keeps what the node publishes.

    Attributes:
        sending: modalities.
        noise: each image differs from the one before, as those of a camera do.
        stamping: by modality, the stamps of the messages that are published for one moment: just its own, unless the
            sensor lies.
        sent: by modality, messages.
        force: the wrench of 1 ms before a moment; earlier ones are multiples of it.
        action: the command.
        camera_info: goes out with each depth image; None for none.
        latents: all that arrived, oldest first.
        status: the newest, or None.
        diagnostics: by name, the newest of the node.
        sent_ns: stamps of the moments that were sent.
    """

    def __init__(self, domain: int, fusion: str = "/fusion", topics: str = "") -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node("robot", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._fusion = fusion
        types = {
            "rgb/image": Image,
            "depth/image": Image,
            "depth/camera_info": CameraInfo,
            "wrench": WrenchStamped,
            "action": TwistStamped,
        }
        self._publishers = {
            topic: self.node.create_publisher(kind, f"{topics}/{topic}", QoSProfile(depth=200))
            for topic, kind in types.items()
        }
        self.sending: set[str] = set()
        self.noise = True
        self._clock: SimulatedClock | None = None
        self.sent_ns: list[int] = []
        self.stamping: dict[str, Callable[[int], list[int]]] = {}
        self.sent: Counter[str] = Counter()
        self.force = np.full(6, 0.1)
        self.action = np.full(4, 0.1)
        self.rgb = image(colours())
        self.depth = image(np.full((48, 64), 1.0, np.float32))
        k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
        self.camera_info: CameraInfo | None = CameraInfo(width=64, height=48, k=k)
        self.latents: list[Latent] = self.listen("latent", Latent)
        self.status: FusionStatus | None = None
        self.diagnostics: dict[str, DiagnosticStatus] = {}
        self.node.create_subscription(FusionStatus, f"{fusion}/status", self._take_status, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)
        self.node.create_timer(STEP_S, lambda: self.send(self.sending))

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def join(self, name: str) -> Node:
        """Return another node, which spins with the robot's own."""
        node = Node(name, context=self._context)
        self._executor.add_node(node)
        return node

    def listen(self, topic: str, kind: type) -> list[Any]:
        """Subscribe to a topic of the node; returns the list that fills."""
        heard: list[Any] = []
        self.node.create_subscription(kind, f"{self._fusion}/{topic}", heard.append, 50)
        return heard

    def publisher(self, topic: str) -> Publisher:
        """Return the publisher of a topic of the robot."""
        return self._publishers[topic]

    def listeners(self, topic: str) -> int:
        """How many subscribe to a topic of the robot."""
        return self._publishers[topic].get_subscription_count()

    def rename(self, topic: str, name: str) -> None:
        """Publish the messages of a topic of the robot on another one."""
        publisher = self._publishers[topic]
        self._publishers[topic] = self.node.create_publisher(publisher.msg_type, name, QoSProfile(depth=200))
        self.node.destroy_publisher(publisher)

    def mistake(self, topic: str, kind: type) -> None:
        """Offer messages of another type on a topic of the robot, and none of its own."""
        self.node.destroy_publisher(self._publishers.pop(topic))
        self.node.create_publisher(kind, f"/{topic}", 1)

    def send(self, names: Iterable[str], stamp_ns: int | None = None) -> None:
        """Publish one moment: images and command with its stamp, and the 50 wrenches of the 50 ms before it."""
        names = set(names)
        if not names:
            return
        if stamp_ns is None:
            stamp_ns = self.node.get_clock().now().nanoseconds if self._clock is None else self._clock.now_ns
        self.sent_ns.append(stamp_ns)
        if "force" in names:
            for back, wrench in zip(range(49, -1, -1), serialized_wrenches(*self.force)):
                self._publish("force", "wrench", wrench, stamp_ns - back * 1_000_000)
        if "action" in names:
            twist = TwistStamped()
            fill_twist(twist, self.action)
            self._publish("action", "action", twist, stamp_ns)
        if "depth" in names:
            if self.camera_info is not None:
                self.camera_info.header = header("depth", stamp_ns)
                self._publishers["depth/camera_info"].publish(self.camera_info)
            self._publish("depth", "depth/image", self._seen(self.depth), stamp_ns)
        if "rgb" in names:
            self._publish("rgb", "rgb/image", self._seen(self.rgb), stamp_ns)

    def _seen(self, message: Any) -> Any:
        return changed(message) if self.noise else message

    def _publish(self, name: str, topic: str, message: Any, moment_ns: int) -> None:
        for stamp_ns in self.stamping[name](moment_ns) if name in self.stamping else [moment_ns]:
            if isinstance(message, bytes):
                message = message[:4] + pack("<iI", *divmod(stamp_ns, 1_000_000_000)) + message[12:]
            else:
                message.header = header(name, stamp_ns)
            self._publishers[topic].publish(message)
            self.sent[name] += 1

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Spin, and send, until the condition holds.

        Raises:
            TimeoutError: it did not come to hold within `PATIENCE_S`.
        """
        deadline = monotonic() + PATIENCE_S
        while not condition():
            if monotonic() > deadline:
                raise TimeoutError(f"waited {PATIENCE_S:.0f} s in vain: {what}")
            self._executor.spin_once(timeout_sec=0.1)

    def wait_for_set(self, *names: str) -> Latent:
        """Wait for a new latent of a set of just these modalities."""
        self.latents.clear()
        self.wait(lambda: any(set(m.modalities) == set(names) for m in self.latents), f"a latent of {names}")
        return next(m for m in self.latents if set(m.modalities) == set(names))

    def wait_for_new_latents(self, number: int = 5) -> list[Latent]:
        """Wait for so many more latents."""
        self.latents.clear()
        self.wait(lambda: len(self.latents) >= number, f"{number} new latents")
        return self.latents

    def wait_for_state(self, state: str) -> None:
        """Wait until the node says that it is in a state of its lifecycle."""
        self.status = None
        self.wait(lambda: self.status is not None and self.status.state == state, f"the state {state}")

    def new_status(self) -> FusionStatus:
        """Wait for the next status."""
        self.status = None
        self.wait(lambda: self.status is not None, "a status")
        return self.status

    def modality(self, name: str) -> ModalityStatus:
        """What the newest status says of a modality; that of one unheard of before the first."""
        modalities = self.status.modalities if self.status is not None else []
        return next((m for m in modalities if m.name == name), ModalityStatus())

    def dropped(self, name: str) -> dict[str, int]:
        """What the newest status says of a modality's dropped samples, by reason."""
        modality = self.modality(name)
        return dict(zip(modality.drop_reasons, modality.drop_counts))

    def restart(self, **parameters: Any) -> None:
        """Deactivate the node, set parameters, and activate it: it has seen nothing and counted nothing yet."""
        assert self.change("deactivate")
        assert self.set(**parameters) == ""
        assert self.change("activate")
        self.new_status()

    def call(self, kind: type, service: str, request: Any) -> Any:
        """Call a service of the node and wait for its answer."""
        client = self.node.create_client(kind, f"{self._fusion}/{service}")
        self.wait(client.service_is_ready, f"the service {service}")
        future = client.call_async(request)
        self.wait(future.done, f"an answer of {service}")
        self.node.destroy_client(client)
        return future.result()

    def clock(self, start_s: float) -> SimulatedClock:
        """Publish simulated time from now on, and stamp with it."""
        self._clock = SimulatedClock(self.node, start_s)
        return self._clock

    def real_time(self) -> None:
        """Stamp with real time again."""
        self._clock = None

    def reset(self) -> Trigger.Response:
        """Call `~/reset`."""
        return self.call(Trigger, "reset", Trigger.Request())

    def change(self, transition: str) -> bool:
        """Ask for a transition of the lifecycle; returns whether it succeeded."""
        request = ChangeState.Request()
        request.transition.label = transition
        return self.call(ChangeState, "change_state", request).success

    def state(self) -> str:
        """Label of the lifecycle's state."""
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def set(self, **parameters: Any) -> str:
        """Set a parameter, `__` for a dot in its name; returns the reason if it was refused, else nothing."""
        messages: list[ParameterMessage] = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in parameters.items()
        ]
        results = self.call(SetParameters, "set_parameters", SetParameters.Request(parameters=messages)).results
        return "; ".join(result.reason or "refused" for result in results if not result.successful)

    def parameters(self) -> list[str]:
        """Return the names of all parameters of the node."""
        request = ListParameters.Request(depth=ListParameters.Request.DEPTH_RECURSIVE)
        return sorted(self.call(ListParameters, "list_parameters", request).result.names)

    def get(self, name: str) -> Any:
        """The value of a parameter."""
        values = self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name])).values
        return Parameter.from_parameter_msg(ParameterMessage(name=name, value=values[0])).value

    def _take_status(self, message: FusionStatus) -> None:
        self.status = message

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        self.diagnostics.update({status.name: status for status in message.status})


@contextmanager
def fusion_and_robot(log: Path, parameters: dict[str, Any]) -> Iterator[tuple[Robot, FusionProcess]]:
    """A node and a robot in a domain of their own; neither is left behind."""
    with fusion_starter(log) as begin:
        yield begin(**parameters)


@contextmanager
def fusion_starter(log: Path) -> Iterator[Callable[..., tuple[Robot, FusionProcess]]]:
    """Starts nodes with the parameters that it is called with, and a robot for each, in a domain of their own."""
    with own_domain() as domain:
        begun: list[tuple[Robot, FusionProcess]] = []

        def begin(**parameters: object) -> tuple[Robot, FusionProcess]:
            process = FusionProcess(log, parameters)
            begun.append((Robot(domain), process))
            return begun[-1]

        try:
            yield begin
        finally:
            for robot, process in begun:
                robot.close()
                process.kill()


@lru_cache(maxsize=4)
def serialized_wrenches(*force: float) -> list[bytes]:
    """Return the 50 wrenches of one moment, oldest first, as CDR, which saves making a thousand messages a second.

    Their stamps are in bytes 4 to 12.
    """
    message = WrenchStamped(header=Header(frame_id=FRAMES["force"]))
    found = []
    for back in range(49, -1, -1):
        fill_wrench(message, np.array(force) * back)
        found.append(serialize_message(message))
    return found


def header(name: str, stamp_ns: int) -> Header:
    """A header in the frame of a modality's sensor."""
    return Header(stamp=Time(nanoseconds=stamp_ns).to_msg(), frame_id=FRAMES[name])


def colours(height: int = 48, width: int = 64) -> np.ndarray:
    """Return a picture (height, width, 3) that is not constant: a constant one counts as absent."""
    columns = np.linspace(40, 160, width).astype(np.uint8)
    return np.broadcast_to(columns[None, :, None], (height, width, 3)).copy()


def image(pixels: np.ndarray) -> Image:
    """An Image of an array."""
    message = Image()
    fill_image(message, pixels)
    return message


def changed(message: Any) -> Any:
    """The image with another noise than before, since no camera brings the same picture twice.

    Only each fourth byte changes: the last bits of a depth.
    """
    for place in range(200, min(len(message.data), 280), 4):
        message.data[place] = (message.data[place] + 1) % 256
    return message


def stamp_ns(message: Any) -> int:
    """The stamp in a message's header."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
