"""Simulated peg insertion, written as Vision&Touch logs: a substitute for the 32 GiB of the real data set."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from smvae_core.data.log_file import STEPS_PER_FILE, write_log
from smvae_core.processes import without_interrupts, without_main
from smvae_core.simulation.policy import PegPolicy
from smvae_core.simulation.scene import SceneLook
from smvae_core.simulation.shapes import PEGS, Peg
from smvae_core.simulation.world import Observation, PegWorld, SimulationError

__all__ = ["SimulationError", "simulate"]


def simulate(
    out: Path,
    *,
    trajectories: int,
    steps: int,
    seed: int,
    peg: Peg = "triangle",
    vary_scene: bool = False,
    camera_yaw: float = 0.0,
    workers: int = 1,
    on_progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Write simulated trajectories as Vision&Touch HDF5 files of 50 steps; the last of a trajectory may be shorter.

    A step is 50 ms and ends at the moment of its pictures; T is the number of steps in a file:

    ====================  =================  =======  ============================================================
    key                   shape              dtype    what
    ====================  =================  =======  ============================================================
    image                 T x 128 x 128 x 3  uint8    RGB at the end of the step
    depth_data            T x 128 x 128 x 1  float32  metres along the optical axis, to 1/8192 m; wall beyond 2 m
    ee_forces_continuous  T x 50 x 6         float64  Fx Fy Fz Tx Ty Tz (N, N*m) on the peg, in the wrist's frame (z up
                                                      the tool), 1 kHz, oldest first, newest at the end of the step
    contact               T x 50             bool     peg touching the box, for each of those samples
    action                T x 4              float64  dx dy dz (m) dyaw (rad): the command carried out in the step
    proprio               T x 8              float64  x y z (m) yaw (rad) of the peg's tip, and their rates
    ee_pos, ee_vel        T x 3              float64  m, m/s
    ee_vel_ori            T x 3              float64  angular velocity, rad/s
    ee_ori, ee_yaw        T x 4              float64  orientation, and its yaw alone, as quaternions x y z w
    ee_yaw_delta          T x 4              float64  turn about z since the step before, as a quaternion x y z w
    joint_pos, joint_vel  T x 7              float64  rad, rad/s
    optical_flow          T x 128 x 128 x 2  float32  pixels since the step before, x and y, estimated from the pictures
                                                      to 1/16 pixel; zeros in the first step
    ====================  =================  =======  ============================================================

    Positions are in the frame of the arm's foot. The action of step t + 1 is the command that follows the pictures of
    step t.

    Trajectory k depends only on `seed`, k, `peg`, `vary_scene` and `camera_yaw`: the same seed gives the same bytes
    for any number of trajectories or workers. A file gets its name when it is whole, so an interruption leaves whole
    files only.

    Args:
        out: folder for the files; it is made if it does not exist.
        trajectories: number of trajectories, at least 1.
        steps: steps of each trajectory, at least 1.
        seed: at least 0.
        peg: cross-section of peg and hole.
        vary_scene: give each trajectory its own box position, camera, light and colours.
        camera_yaw: turn the camera by so many degrees around what it looks at, anticlockwise from above.
        workers: number of processes, at least 1.
        on_progress: called with the number of steps of each file after it is written.

    Returns:
        The files, in order of trajectory and part.

    Raises:
        SimulationError: an argument is bad, MuJoCo or off-screen drawing is missing, or a file exists already or cannot
            be written.
        KeyboardInterrupt: after Ctrl-C; the files written so far stay.
    """
    _check(trajectories=(trajectories, 1), steps=(steps, 1), seed=(seed, 0), workers=(workers, 1))
    if peg not in PEGS:
        raise SimulationError(f"peg must be one of {', '.join(PEGS)}, not {peg!r}")
    out = Path(out)
    parts = [_parts(out, k, steps, seed, peg) for k in range(trajectories)]
    files = [path for trajectory in parts for path in trajectory]
    if out.exists() and not out.is_dir():
        raise SimulationError(f"{out} must be a folder, it is a file")
    existing = [path for path in files if path.exists()]
    if existing:
        found = f"{len(existing)} of the {len(files)} files to be written, {existing[0].name} first"
        raise SimulationError(f"{out} already holds {found}: name an empty folder")
    report = on_progress or (lambda _: None)
    jobs = [(k, parts[k], steps, seed, peg, vary_scene, camera_yaw) for k in range(trajectories)]
    if workers == 1:
        for job in jobs:
            for written in _write_trajectory(*job):
                report(written)
    else:
        _share(jobs, min(workers, trajectories), steps, report)
    return files


def _check(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if value < least:
            raise SimulationError(f"{name} must be at least {least}, not {value}")


def _parts(out: Path, trajectory: int, steps: int, seed: int, peg: Peg) -> list[Path]:
    # Names of the data set hold the time of recording. Here a made-up time tells seeds apart.
    recorded = datetime(2000, 1, 1) + timedelta(days=seed % 10_000, minutes=trajectory)
    count = -(-steps // STEPS_PER_FILE)
    return [out / f"{recorded:%Y%m%d_%H%M%S}_{peg}_0_journal_{trajectory}_{part}_1000.h5" for part in range(count)]


def _write_trajectory(
    trajectory: int, parts: list[Path], steps: int, seed: int, peg: Peg, vary_scene: bool, camera_yaw: float
) -> Iterator[int]:
    """Simulate one trajectory; yield the number of steps of each file after writing it."""
    steps_left = steps
    rows = _simulate_trajectory(np.random.default_rng([seed, trajectory]), peg, vary_scene, camera_yaw)
    try:
        for path in parts:
            count = min(STEPS_PER_FILE, steps_left)
            with _interrupt_deferred():
                _write(path, [next(rows) for _ in range(count)])
            steps_left -= count
            yield count
    finally:
        rows.close()


@contextmanager
def _interrupt_deferred() -> Iterator[list[int]]:
    """Delay Ctrl-C to the end of the block. The yielded list is not empty once Ctrl-C has come.

    An interrupt inside the block could be swallowed by libraries that call back into Python, or leave locks held.
    """
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()  # Python handles signals only there
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if in_main else None
    try:
        yield came
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _simulate_trajectory(
    rng: np.random.Generator, peg: Peg, vary_scene: bool, camera_yaw: float
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yield the row of one step after the other, without end."""
    look = SceneLook.random(rng) if vary_scene else SceneLook()
    if camera_yaw:
        look = look.turned(camera_yaw)
    policy = PegPolicy(rng)
    flow = _OpticalFlow()
    with PegWorld(peg, look, rng) as world:
        yaw = world.reset(policy.start_pose())[3]
        contact = False
        while True:
            action = policy.act(world.pose(), contact)
            seen = world.step(action)
            yield _row(seen, action, seen.yaw - yaw) | {"optical_flow": flow.to(seen.image)}
            contact, yaw = bool(seen.contact.any()), seen.yaw


def _row(seen: Observation, action: np.ndarray, turned: float) -> dict[str, np.ndarray]:
    return {
        "image": seen.image,
        "depth_data": seen.depth,
        "ee_forces_continuous": seen.wrench,
        "contact": seen.contact,
        "action": action,
        "proprio": np.array([*seen.position, seen.yaw, *seen.velocity, seen.rate[2]]),
        "ee_pos": seen.position,
        "ee_vel": seen.velocity,
        "ee_vel_ori": seen.rate,
        "ee_ori": np.roll(seen.quaternion, -1),
        "ee_yaw": _about_z(seen.yaw),
        "ee_yaw_delta": _about_z(turned),
        "joint_pos": seen.joint_position,
        "joint_vel": seen.joint_velocity,
    }


class _OpticalFlow:
    """Optical flow from each picture to the next, by dense inverse search (Kroeger et al. 2016)."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)  # the estimate depends on the number of threads
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._previous: np.ndarray | None = None

    def to(self, image: np.ndarray) -> np.ndarray:
        """Return the flow (H, W, 2), float32, from the picture before to `image`, uint8 (H, W, 3)."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        previous, self._previous = self._previous, grey
        if previous is None:
            return np.zeros((*grey.shape, 2), np.float32)
        # OpenCV's stubs demand a start value, which would change the result; its documentation allows None.
        no_start = cast(np.ndarray, None)
        return np.asarray(np.round(self._search.calc(previous, grey, no_start) * 16.0) / np.float32(16.0))


def _about_z(angle: float) -> np.ndarray:
    return np.array([0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])


def _write(path: Path, rows: list[dict[str, np.ndarray]]) -> None:
    try:
        write_log(path, rows)
    except OSError as error:
        raise SimulationError(f"{path} could not be written: {error}") from error


# In a worker process: set when the parent wants it to stop after the current file.
_stop: Event


def _begin(stop: Event) -> None:
    global _stop
    _stop = stop


def _work(*job: Any) -> None:
    if _stop.is_set():
        return
    for _ in _write_trajectory(*job):
        parent = multiprocessing.parent_process()
        if _stop.is_set() or parent is None or not parent.is_alive():
            return


def _share(jobs: list[tuple[Any, ...]], workers: int, steps: int, report: Callable[[int], None]) -> None:
    """Write the trajectories in worker processes. A file that exists is whole, so progress is read from the folder."""
    context = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    stop = context.Event()
    sizes = {path: min(STEPS_PER_FILE, steps - STEPS_PER_FILE * k) for job in jobs for k, path in enumerate(job[1])}

    def look() -> None:
        for path in [path for path in sizes if path.exists()]:
            report(sizes.pop(path))

    with _interrupt_deferred() as interrupts, ProcessPoolExecutor(workers, context, _begin, (stop,)) as pool:
        try:
            with without_main(), without_interrupts():  # this process stops the others
                pending = {pool.submit(_work, *job) for job in jobs}
            while pending and not interrupts:
                done, pending = wait(pending, timeout=0.2, return_when="FIRST_EXCEPTION")
                look()
                for future in done:
                    future.result()
        except BrokenProcessPool as error:
            raise SimulationError("a worker process died: out of memory, or killed") from error
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
