"""A minute with the simulated robot and the fusion node, while sensors fail on a schedule.

    python -m smvae_ros.demo.live

shows a table while it runs and leaves live.gif and live.mp4 in live/.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rclpy
import typer
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from smvae_core.cli.exit import run
from smvae_core.interrupts import ending_once, interruptible, uninterrupted
from smvae_core.plots.sheets import depth_picture
from smvae_ros.demo.animation import frame, write_gif, write_mp4
from smvae_ros.demo.audience import SENSORS, Audience
from smvae_ros.demo.executable import ExecutableError, running

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

SCHEDULE: tuple[tuple[float, str, dict[str, str]], ...] = (
    (0.00, "all sensors work", {}),
    (0.12, "the camera is unplugged", {"rgb": "unplugged"}),
    (0.25, "all sensors work again", {}),
    (0.33, "the camera freezes", {"rgb": "frozen"}),
    (0.50, "the depth camera is blank", {"depth": "blank"}),
    (0.62, "both cameras are unplugged", {"rgb": "unplugged", "depth": "unplugged"}),
    (0.76, "the wrist sensor is unplugged", {"wrench": "unplugged"}),
    (0.88, "all sensors work again", {}),
)
"""When, as a share of the whole time, which sensors fail and how."""

# What is distrusted leaves the sets.
_DROP = {f"streams.{name}.distrust": "drop" for name in SENSORS}
_FRAMES_PER_SECOND = 4
_READY_S = 60.0
_NEAR_M, _FAR_M = 0.6, 1.6
_UNITS = {"force": ("N", 1.0), "action": ("mm", 1e3)}


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
        running("fusion_node", namespace, _DROP, out / "fusion_node.log") as fusion_runs,
    ):
        from smvae_core.checkpoint import default_checkpoint, load

        loaded = load(default_checkpoint())
        means = {name: mean.numpy() for name, mean in loaded.mean.items()}
        with uninterrupted():
            rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
            audience = Audience(namespace, loaded.metadata.model.modalities, means)
            executor = SingleThreadedExecutor()
            executor.add_node(audience)
            try:
                with interruptible():
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
            silent = faults.get(SENSORS[name]) == "unplugged"
            pictures.append((f"{name} seen", None if silent else _picture(audience.seen(name))))
            pictures.append((f"{name} predicted", _picture(audience.predicted(name))))
    trust = ", ".join(f"{name} {_trust(audience, name)}" for name in audience.bindings)
    # The font of the frames has no dash.
    note = f"trust: {trust}".replace("–", "-") if audience.trust else ""
    return frame(title, bool(faults), pictures, note)


def _trust(audience: Audience, name: str) -> str:
    """Return how far a modality is trusted, in words for a table; a dash where nothing of it comes."""
    absent = not audience.share_of_sets(name) > 0.0 and name not in audience.distrusted
    if absent or name not in audience.trust:
        return "–"
    return f"{audience.trust[name]:.2f}{', distrusted' if name in audience.distrusted else ''}"


def _picture(raw: np.ndarray | None) -> np.ndarray | None:
    return raw if raw is None or raw.dtype == np.uint8 else depth_picture(raw, _NEAR_M, _FAR_M)


def _table(audience: Audience, title: str, faults: dict[str, str], elapsed: float) -> Table:
    table = Table(title=f"{elapsed:4.0f} s  {title}", title_style="bold red" if faults else "bold green")
    for heading in ("modality", "fault", "seen", "in sets", "predicted", "trust"):
        table.add_column(heading, justify="left" if heading in ("modality", "fault") else "right")
    for name in audience.bindings:
        share = audience.share_of_sets(name)
        table.add_row(
            name,
            faults.get(SENSORS[name], "–"),
            _with_value(f"{audience.rate(name):.0f} Hz", name, audience.seen(name)),
            "–" if np.isnan(share) else f"{share:.0%}",
            _prediction(audience, name),
            _trust(audience, name),
        )
    return table


def _prediction(audience: Audience, name: str) -> str:
    if audience.bindings[name].modality.is_image:
        nmse = audience.nmse(name)
        return "–" if np.isnan(nmse) else f"NMSE {nmse:.2f}"
    predicted = audience.predicted(name)
    return "–" if predicted is None else _with_value("", name, predicted)


def _with_value(text: str, name: str, raw: np.ndarray | None) -> str:
    """Return a text and the size of a wrench's force or of a command's step; of pictures, the text alone."""
    if raw is None or name not in _UNITS:
        return text
    unit, factor = _UNITS[name]
    size = factor * float(np.linalg.norm(raw.ravel()[:3]))
    return f"{text}{', ' if text else ''}{size:.1f} {unit}"


def main() -> None:
    """Run it: exit code 1 if robot or node fails, 2 for what cannot be run, 130 when interrupted."""
    try:
        with ending_once():
            run(app)
    except ExecutableError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
