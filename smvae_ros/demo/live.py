"""A minute with the simulated robot and the fusion node, while sensors fail on a schedule.

    python -m smvae_ros.demo.live

shows a table while it runs and leaves live.gif and live.mp4 in live/.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from sensor_msgs.msg import Image

from smvae_core.cli.exit import run
from smvae_core.modality import Modality
from smvae_core.plots.sheets import depth_picture
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import bind
from smvae_ros.demo.animation import frame, write_gif, write_mp4
from smvae_ros.demo.executable import ExecutableError, running
from smvae_ros.msg import Latent
from smvae_ros.simulated_robot.node import TOPICS

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SENSORS = {"rgb": "rgb", "depth": "depth", "force": "wrench", "action": "action"}
"""The robot's sensor of each modality."""
SCHEDULE: tuple[tuple[float, str, dict[str, str]], ...] = (
    (0.00, "all sensors work", {}),
    (0.15, "the camera is unplugged", {"rgb": "unplugged"}),
    (0.30, "the camera is covered", {"rgb": "covered"}),
    (0.45, "the depth camera is blank", {"depth": "blank"}),
    (0.60, "both cameras are unplugged", {"rgb": "unplugged", "depth": "unplugged"}),
    (0.75, "the wrist sensor is unplugged", {"wrench": "unplugged"}),
    (0.88, "all sensors work again", {}),
)
"""When, as a share of the whole time, which sensors fail and how."""

_FRAMES_PER_SECOND = 4
_WINDOW_S = 1.0
_READY_S = 60.0
_NEAR_M, _FAR_M = 0.6, 1.6


@dataclass
class Recent:
    """The messages of the last second, and the newest of each kind.

    Attributes:
        arrivals: when messages arrived, seconds.
        seen: the newest message of the sensor; None before the first.
        predicted: the newest prediction, in physical units, and its stamp.
        truths: by stamp, the newest pictures without fault.
        nmse: NMSE of predictions against the truth, by time of arrival.
    """

    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    seen: np.ndarray | None = None
    predicted: np.ndarray | None = None
    truths: dict[int, np.ndarray] = field(default_factory=dict)
    nmse: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=200))


class Audience(Node):
    """Listens to robot and fusion node, and makes the robot's sensors fail.

    Args:
        means: by modality, the training mean in model units: the trivial prediction.
    """

    def __init__(self, namespace: str, modalities: tuple[Modality, ...], means: dict[str, np.ndarray]) -> None:
        super().__init__("audience", namespace=namespace)
        self.bindings = {binding.modality.name: binding for binding in bind(modalities, {})}
        self.recent = {name: Recent() for name in self.bindings}
        self.sets: deque[tuple[float, frozenset[str]]] = deque(maxlen=200)
        self._means = means
        self._faults = self.create_client(SetParameters, "robot/set_parameters")
        for name in self.bindings:
            topic, kind = TOPICS[SENSORS[name]]
            self.create_subscription(kind, topic, self._taking(name, self._take_seen), qos_profile_sensor_data)
            predicted = f"fusion/predicted/{topic.split('/')[0]}"
            self.create_subscription(kind, predicted, self._taking(name, self._take_predicted), qos_profile_sensor_data)
            if self.bindings[name].modality.is_image:
                truth = f"robot/truth/{name}"
                self.create_subscription(Image, truth, self._taking(name, self._take_truth), qos_profile_sensor_data)
        self.create_subscription(Latent, "fusion/latent", self._take_latent, qos_profile_sensor_data)

    def ready(self) -> bool:
        """Return whether the robot moves and the fusion node answers it."""
        return bool(self.sets) and self._faults.service_is_ready()

    def make_fail(self, faults: dict[str, str]) -> None:
        """Give each of the robot's sensors its fault, or none."""
        parameters = [Parameter(f"{sensor}.fault", value=faults.get(sensor, "none")) for sensor in SENSORS.values()]
        request = SetParameters.Request(parameters=[parameter.to_parameter_msg() for parameter in parameters])
        self._faults.call_async(request)

    def rate(self, name: str) -> float:
        """Return the messages per second of a sensor, over the last second."""
        begin = time.monotonic() - _WINDOW_S
        return sum(1 for at in self.recent[name].arrivals if at > begin) / _WINDOW_S

    def share_of_sets(self, name: str) -> float:
        """Return the share of the last second's sets that a modality was in; NaN without sets."""
        begin = time.monotonic() - _WINDOW_S
        held = [name in names for at, names in self.sets if at > begin]
        return float(np.mean(held)) if held else float("nan")

    def nmse(self, name: str) -> float:
        """Return the mean NMSE of the last second's predictions of a camera; NaN for other modalities."""
        begin = time.monotonic() - _WINDOW_S
        values = [value for at, value in self.recent[name].nmse if at > begin]
        return float(np.mean(values)) if values else float("nan")

    def _taking(self, name: str, take: Any) -> Any:
        return lambda message: take(name, message)

    def _raw(self, name: str, message: Any) -> np.ndarray:
        return raw_array(self.bindings[name], [message])

    def _take_seen(self, name: str, message: Any) -> None:
        recent = self.recent[name]
        recent.arrivals.append(time.monotonic())
        if self.bindings[name].modality.is_image:
            recent.seen = self._raw(name, message)

    def _take_truth(self, name: str, message: Any) -> None:
        truths = self.recent[name].truths
        truths[_stamp_ns(message)] = self._raw(name, message)
        for old in sorted(truths)[:-20]:
            del truths[old]

    def _take_predicted(self, name: str, message: Any) -> None:
        recent, modality = self.recent[name], self.bindings[name].modality
        if not modality.is_image:
            return
        recent.predicted = self._raw(name, message)
        stamp_ns = _stamp_ns(message)
        nearest = min(recent.truths, key=lambda at: abs(at - stamp_ns), default=None)
        if nearest is not None and abs(nearest - stamp_ns) < 30_000_000:
            truth, predicted = modality.to_model(recent.truths[nearest]), modality.to_model(recent.predicted)
            trivial = float(np.square(truth - self._means[name]).mean())
            recent.nmse.append((time.monotonic(), float(np.square(truth - predicted).mean()) / trivial))

    def _take_latent(self, message: Latent) -> None:
        self.sets.append((time.monotonic(), frozenset(message.modalities)))


@app.command()
def live(
    out: Annotated[Path, typer.Option(help="Folder for the animation and the logs of both processes.")] = Path("live"),
    seconds: Annotated[
        float, typer.Option(min=7.0, help="How long it lasts (s); the schedule is stretched to it.")
    ] = 60.0,
) -> None:
    """Start the simulated robot and the fusion node, let sensors fail, and show what is seen and what is predicted."""
    # It must not meet the robots of the house, nor another one on this machine.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    namespace = f"/smvae_live_{os.getpid()}"
    out.mkdir(parents=True, exist_ok=True)
    with (
        running("simulated_robot", namespace, {}, out / "simulated_robot.log") as robot_runs,
        running("fusion_node", namespace, {}, out / "fusion_node.log") as fusion_runs,
    ):
        from smvae_core.checkpoint import default_checkpoint, load

        loaded = load(default_checkpoint())
        means = {name: mean.numpy() for name, mean in loaded.mean.items()}
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        audience = Audience(namespace, loaded.metadata.model.modalities, means)
        executor = SingleThreadedExecutor()
        executor.add_node(audience)
        try:
            frames = _watch(audience, executor, seconds, lambda: (robot_runs(), fusion_runs()))
        finally:
            executor.shutdown()
            audience.destroy_node()
            rclpy.shutdown()
    write_gif(out / "live.gif", frames, _FRAMES_PER_SECOND)
    write_mp4(out / "live.mp4", frames, _FRAMES_PER_SECOND)
    console.print(f"see {out / 'live.gif'} and {out / 'live.mp4'}", markup=False)


def _watch(audience: Audience, executor: SingleThreadedExecutor, seconds: float, check: Any) -> list[np.ndarray]:
    """Play the schedule; return the frames of the animation."""
    deadline = time.monotonic() + _READY_S
    with console.status("robot and fusion node start"):
        while not audience.ready():
            check()
            if time.monotonic() > deadline:
                raise ExecutableError(f"the fusion node published no latent within {_READY_S:g} s")
            executor.spin_once(timeout_sec=0.05)
    frames: list[np.ndarray] = []
    began, title = time.monotonic(), ""
    faults: dict[str, str] = {}
    with Live(console=console, refresh_per_second=4) as shown:
        while (elapsed := time.monotonic() - began) < seconds:
            check()
            now = max(entry for entry in SCHEDULE if entry[0] * seconds <= elapsed)
            if now[1] != title:
                _, title, faults = now
                audience.make_fail(faults)
            executor.spin_once(timeout_sec=0.02)
            if elapsed * _FRAMES_PER_SECOND >= len(frames):
                frames.append(_frame(audience, title, faults))
                shown.update(_table(audience, title, faults, elapsed))
    return frames


def _frame(audience: Audience, title: str, faults: dict[str, str]) -> np.ndarray:
    pictures: list[tuple[str, np.ndarray | None]] = []
    for name, binding in audience.bindings.items():
        if binding.modality.is_image:
            recent = audience.recent[name]
            silent = faults.get(SENSORS[name]) == "unplugged"
            pictures.append((f"{name} seen", None if silent else _picture(recent.seen)))
            pictures.append((f"{name} predicted", _picture(recent.predicted)))
    return frame(title, bool(faults), pictures)


def _picture(raw: np.ndarray | None) -> np.ndarray | None:
    return raw if raw is None or raw.dtype == np.uint8 else depth_picture(raw, _NEAR_M, _FAR_M)


def _table(audience: Audience, title: str, faults: dict[str, str], elapsed: float) -> Table:
    table = Table(title=f"{elapsed:4.0f} s  {title}", title_style="bold red" if faults else "bold green")
    for heading in ("modality", "fault", "arrives", "in sets", "NMSE of prediction"):
        table.add_column(heading, justify="left" if heading in ("modality", "fault") else "right")
    for name in audience.bindings:
        share, nmse = audience.share_of_sets(name), audience.nmse(name)
        table.add_row(
            name,
            faults.get(SENSORS[name], "–"),
            f"{audience.rate(name):.0f} Hz",
            "–" if np.isnan(share) else f"{share:.0%}",
            "–" if np.isnan(nmse) else f"{nmse:.2f}",
        )
    return table


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


def main() -> None:
    """Run it: exit code 1 if robot or node fails, 2 for what cannot be run, 130 when interrupted."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        run(app)
    except ExecutableError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
