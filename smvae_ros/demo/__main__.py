"""The demo: play the shipped recording to the fusion node over real topics, with ever fewer modalities.

    python -m smvae_ros.demo

leaves predictions.png and summary.json in demo/. In the last two passes, sensors fail in mid-motion: all cameras fall
silent, and one camera freezes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, time_ns
from typing import Annotated, Any

import rclpy
import typer
from ament_index_python.packages import get_package_prefix
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from std_srvs.srv import Trigger

from smvae_core.cli.exit import run
from smvae_core.interrupts import ending_once, interruptible, uninterrupted
from smvae_core.modality import Modality
from smvae_ros.conversions.arrays import stamp_ns
from smvae_ros.conversions.bindings import bind
from smvae_ros.conversions.message_types import message_class
from smvae_ros.demo.executable import ExecutableError, running
from smvae_ros.demo.player import Change, Player, Recorded, read_piece
from smvae_ros.demo.report import Heard, Pass, Truth, draw, summarise, table
from smvae_ros.msg import FusionStatus, Latent
from smvae_ros.settings import default_topics

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_READY_S = 60.0
_ANSWER_S = 5.0
_PAUSE_NS = 100_000_000
_CHANGE = 0.4
"""When something fails in the last passes, as a share of the piece."""


class DemoError(Exception):
    """A fusion node that failed or did not answer."""


@app.command()
def demo(
    bag: Annotated[Path | None, typer.Option(help="Bag; by default the shipped recording.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint; by default the shipped one.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the numbers.")] = Path("demo"),
    start: Annotated[float, typer.Option(min=0.0, help="Where in the bag the piece begins (s).")] = 0.0,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the piece (s); it is played six times.")] = 8.0,
) -> None:
    """Start the fusion node, play a bag to it with ever fewer modalities, and show what it predicts."""
    begin = monotonic()
    # Keeps the demo apart from robots on the network; the namespace, from other demos on this machine.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    namespace = f"/smvae_demo_{os.getpid()}"
    out.mkdir(parents=True, exist_ok=True)
    parameters: dict[str, object] = {} if checkpoint is None else {"checkpoint": checkpoint.absolute()}
    with running("fusion_node", namespace, parameters, out / "fusion_node.log") as alive:
        # Imported while the node starts, because torch takes seconds to import.
        from smvae_core import checkpoint as checkpoints

        model = checkpoints.load(checkpoint or checkpoints.default_checkpoint())
        modalities = model.metadata.model.modalities
        topics = default_topics(modalities)
        topics["camera_info"] = "depth/camera_info"
        bag = bag or _shipped_recording()
        piece = read_piece(bag, {name: f"/{topic}" for name, topic in topics.items()}, start, seconds, _note)
        passes, heard = _play(namespace, modalities, topics, piece, seconds, alive)
    truth = Truth(piece, modalities)
    means = {name: mean.numpy() for name, mean in model.mean.items()}
    summary = {"recording": bag.name, "seconds": seconds, **summarise(passes, heard, truth, modalities, means)}
    draw(out / "predictions.png", passes, heard, truth, modalities, seconds)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    console.print(table(summary, modalities))
    console.print(
        f"{summary['latents_published']} latents in {monotonic() - begin:.0f} s; "
        f"see {escape(str(out / 'predictions.png'))} and {escape(str(out / 'summary.json'))}"
    )


def _note(sentence: str) -> None:
    console.print(f"[yellow]note:[/] {escape(sentence)}", soft_wrap=True)


def _shipped_recording() -> Path:
    return Path(get_package_prefix("smvae_ros")) / "share" / "smvae_ros" / "recordings" / "peg_insertion"


def _play(
    namespace: str,
    modalities: tuple[Modality, ...],
    topics: dict[str, str],
    piece: list[Recorded],
    seconds: float,
    alive: Callable[[], None],
) -> tuple[list[Pass], Heard]:
    with uninterrupted():
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        node = Node("demo", namespace=namespace)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            with interruptible():
                return _play_passes(node, executor, modalities, topics, piece, seconds, alive)
        finally:
            executor.shutdown()
            node.destroy_node()
            rclpy.shutdown()


def _play_passes(
    node: Node,
    executor: SingleThreadedExecutor,
    modalities: tuple[Modality, ...],
    topics: dict[str, str],
    piece: list[Recorded],
    seconds: float,
    alive: Callable[[], None],
) -> tuple[list[Pass], Heard]:
    listener = _Listener(node, modalities)
    player = Player(node, piece, topics)
    with console.status("the fusion node loads its model"):
        _wait_until(lambda: player.matched() and listener.matched(), executor, listener, alive)
    begun = _passes(modalities, seconds)
    listener.drop_distrusted([m.name for m in modalities], executor)
    console.print(f"The fusion node is active. Playing {seconds:g} s, {len(begun)} times, with ever less to see.")
    passes = []
    with Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TextColumn("{task.fields[latents]} latents"),
        console=console,
    ) as bar:
        for title, subset, change in begun:
            # What was remembered of the pass before would be of the end of the piece.
            listener.reset(executor)
            start_ns = time_ns() + _PAUSE_NS
            passes.append(Pass(title, subset, start_ns, start_ns + round(seconds * 1e9), change))
            names = {*subset, "camera_info"} if "depth" in subset else set(subset)
            names |= {*change.silent, *change.frozen} if change is not None else set()
            task = bar.add_task(title, total=seconds, latents=0)
            with player.playing(names, start_ns, change) as plays:
                while plays():
                    executor.spin_once(timeout_sec=0.05)
                    latents = len(listener.arrived_ns) - sum(1 for stamp in listener.arrived_ns if stamp < start_ns)
                    bar.update(task, completed=(time_ns() - start_ns) / 1e9, latents=latents)
                    alive()
            bar.update(task, completed=seconds)
            if not listener.arrived_ns:
                raise DemoError(f"the fusion node published no latent in {seconds:.0f} s")
        listener.drain(executor)
    return passes, listener.heard(player)


def _passes(modalities: tuple[Modality, ...], seconds: float) -> list[tuple[str, tuple[str, ...], Change | None]]:
    """Return title, subset and change of the passes: all modalities, all but each camera, touch only, and failures."""
    names = tuple(modality.name for modality in modalities)
    cameras = [modality.name for modality in modalities if modality.is_image]
    without = [(f"no {camera}", tuple(name for name in names if name != camera)) for camera in cameras]
    touch = tuple(name for name in names if name not in cameras)
    combinations = [("all modalities", names), *without, ("touch only", touch)]
    at_ns = round(_CHANGE * seconds * 1e9)
    silent = [("cameras silent", touch, Change(at_ns, silent=tuple(cameras)))] if cameras else []
    frozen = [
        (f"{camera} freezes", rest, Change(at_ns, frozen=(camera,))) for camera, (_, rest) in zip(cameras[:1], without)
    ]
    return [*((title, subset, None) for title, subset in combinations), *silent, *frozen]


def _wait_until(
    ready: Callable[[], bool], executor: SingleThreadedExecutor, listener: _Listener, alive: Callable[[], None]
) -> None:
    deadline = monotonic() + _READY_S
    while not ready():
        alive()
        if listener.state not in ("", "active"):
            raise DemoError(f"the fusion node stayed {listener.state}")
        if monotonic() > deadline:
            raise DemoError(f"the fusion node did not subscribe and publish within {_READY_S:.0f} s")
        executor.spin_once(timeout_sec=0.05)


class _Listener:
    """Subscriptions to all that the node publishes."""

    def __init__(self, node: Node, modalities: tuple[Modality, ...]) -> None:
        self.state = ""
        self.arrived_ns: dict[int, int] = {}
        self._node = node
        self._heard = Heard()
        self._topics: list[str] = []
        self._subscribe(Latent, "latent", self._hear_latent)
        topics = default_topics(modalities)
        for binding in bind(modalities, {}):
            name = binding.modality.name
            self._subscribe(
                message_class(binding.type), f"predicted/{topics[name].split('/')[0]}", self._hear_prediction(name)
            )
        self._subscribe(FusionStatus, "status", self._hear_status)
        self._resets = node.create_client(Trigger, "fusion/reset")
        self._parameters = node.create_client(SetParameters, "fusion/set_parameters")

    def matched(self) -> bool:
        """Return whether the node publishes on every topic."""
        return all(self._node.count_publishers(topic) for topic in self._topics)

    def reset(self, executor: SingleThreadedExecutor) -> None:
        """Let the node forget everything, memory too; a node that does not answer goes on as it is."""
        future = self._resets.call_async(Trigger.Request())
        executor.spin_until_future_complete(future, timeout_sec=_ANSWER_S)

    def drop_distrusted(self, names: Sequence[str], executor: SingleThreadedExecutor) -> None:
        """Let modalities leave the sets while they are distrusted; without an answer they stay in."""
        values = [Parameter(f"streams.{name}.distrust", value="drop").to_parameter_msg() for name in names]
        future = self._parameters.call_async(SetParameters.Request(parameters=values))
        executor.spin_until_future_complete(future, timeout_sec=_ANSWER_S)

    def drain(self, executor: SingleThreadedExecutor) -> None:
        """Take messages that are still under way, until half a second brings nothing new."""
        heard, quiet_from = len(self.arrived_ns), monotonic()
        while monotonic() - quiet_from < 0.5:
            executor.spin_once(timeout_sec=0.1)
            if len(self.arrived_ns) != heard:
                heard, quiet_from = len(self.arrived_ns), monotonic()

    def heard(self, player: Player) -> Heard:
        """Return all that was heard, with latencies."""
        for at_ns, subset in self._heard.latents.items():
            published_ns = player.newest_published_ns(subset, at_ns)
            if published_ns is not None:
                self._heard.latencies_ns[at_ns] = self.arrived_ns[at_ns] - published_ns
        return self._heard

    def _subscribe(self, message: type, topic: str, callback: Callable[[Any], None]) -> None:
        subscription = self._node.create_subscription(message, f"fusion/{topic}", callback, QoSProfile(depth=50))
        self._topics.append(subscription.topic_name)

    def _hear_latent(self, message: Latent) -> None:
        at_ns = stamp_ns(message)
        self.arrived_ns[at_ns] = time_ns()
        self._heard.latents[at_ns] = tuple(message.modalities)
        self._heard.distrusted[at_ns] = tuple(message.distrusted)

    def _hear_prediction(self, name: str) -> Callable[[Any], None]:
        def hear(message: Any) -> None:
            self._heard.predictions[name][stamp_ns(message)] = message

        return hear

    def _hear_status(self, message: FusionStatus) -> None:
        self.state = message.state


def main() -> None:
    """Run the demo. The exit code is 1 if the node fails, 2 for bad input, 130 after Ctrl-C."""
    try:
        with ending_once():
            run(app)
    except (DemoError, ExecutableError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
