"""The simulated robot: physics, wrist sensor and camera of one peg-insertion scene, stepped at 20 Hz."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from smvae_core.errors import SMVAEError
from smvae_core.simulation.scene import JOINTS, LINKS, PHYSICS_STEP, PICTURE_SIZE, SceneLook, scene_xml
from smvae_core.simulation.shapes import Peg

if TYPE_CHECKING:  # at run time `_load_mujoco` imports it, after choosing the OpenGL platform
    from mujoco import MjData, MjModel

SAMPLES = 50  # physics steps, and wrench samples, in a step of 50 ms
FILTER_CUTOFF = 95.0  # Hz, of the wrist sensor
FORCE_NOISE, TORQUE_NOISE = 0.03, 0.002  # N, N*m, standard deviation
# The spring's rest point leads the tip by so many commands: the damper takes the rest, and free motion follows.
LEAD = 2.4

# Older versions rotate Cartesian servos with the wrong sign, which makes the arm unstable.
_OLDEST_MUJOCO = (3, 15)

# Elbow up, tool pointing down over the box: where the search for the start pose begins.
_REST = np.array([0.0, 0.62, 0.0, -1.55, 0.0, 0.97, 0.0])


class SimulationError(SMVAEError):
    """A simulation that cannot run, or cannot write its files."""


@dataclass(frozen=True)
class Observation:
    """The measurements of one step: the newest wrench sample, the pictures and the joints belong to one moment.

    Poses are those of the peg's tip in the world frame (foot of the arm).
    """

    image: np.ndarray  # uint8 (128, 128, 3), RGB
    depth: np.ndarray  # float32 (128, 128, 1), metres along the optical axis
    wrench: np.ndarray  # float64 (50, 6), N and N*m on the peg in the wrist's frame, 1 kHz, oldest first
    contact: np.ndarray  # bool (50,), peg touching the box
    position: np.ndarray  # (3,) metres
    quaternion: np.ndarray  # (4,), w x y z
    yaw: float  # radians
    velocity: np.ndarray  # (3,) m/s
    rate: np.ndarray  # (3,) rad/s
    joint_position: np.ndarray  # (7,) radians
    joint_velocity: np.ndarray  # (7,) rad/s


class PegWorld:
    """One arm over one box. A context manager that holds an OpenGL context until `close`.

    Args:
        peg: cross-section of peg and hole.
        look: box position, camera, light and colours.
        rng: source of the sensor's noise.

    Raises:
        SimulationError: MuJoCo is not installed, or no off-screen OpenGL can be started.
    """

    def __init__(self, peg: Peg, look: SceneLook, rng: np.random.Generator) -> None:
        self._mujoco = mujoco = _load_mujoco()
        self.model = mujoco.MjModel.from_xml_string(scene_xml(peg, look))
        self.data = mujoco.MjData(self.model)
        self._rng = rng
        self._tip = self.model.site("tip").id
        self._reading_at = {self.model.sensor(i).name: int(self.model.sensor_adr[i]) for i in range(self.model.nsensor)}
        self._camera = _Camera(mujoco, self.model)
        self._target: np.ndarray = np.zeros(6)
        self._ramp: np.ndarray = np.empty((0, 6))
        self._filtered = np.zeros(6)

    def __enter__(self) -> PegWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the OpenGL context."""
        self._camera.close()

    def reset(self, pose: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Put the arm at rest with the tip at `pose` (x, y, z, yaw) relative to the hole; return the pose reached.

        With `rng`, the sensor's noise comes from there from now on.
        """
        self._rng = rng if rng is not None else self._rng
        mujoco, data = self._mujoco, self.data
        mujoco.mj_resetData(self.model, data)
        data.qpos[:] = _REST
        goal = np.array([*pose[:3], 0.0, 0.0, pose[3]])
        jacobian = np.empty((6, self.model.nv))
        for _ in range(200):  # damped least squares; a pose that the arm reaches takes about ten
            mujoco.mj_fwdPosition(self.model, data)  # actuator_length: the tip's pose as the servos see it
            error = goal - data.actuator_length
            if np.abs(error).max() < 1e-6:
                break
            mujoco.mj_jacSite(self.model, data, jacobian[:3], jacobian[3:], self._tip)
            data.qpos += jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-5 * np.eye(6), error)
        data.qvel[:] = 0.0
        data.ctrl[:] = self._target = goal
        self._ramp = np.empty((0, 6))
        self._filtered[:] = 0.0
        mujoco.mj_forward(self.model, data)
        return self.pose()

    def pose(self) -> np.ndarray:
        """Return the tip relative to the hole, (4,) float64: x, y, z (metres), yaw (radians)."""
        return np.array(self.data.actuator_length[[0, 1, 2, 5]])

    def step(self, action: np.ndarray) -> Observation:
        """Carry out one command (dx, dy, dz in metres, dyaw in radians) for 50 ms.

        The rest point of the impedance moves in a straight line to a point ahead of the tip, so that the force against
        an obstacle is at most in proportion to the command.
        """
        self.command(action)
        return self._observe(self._advance(SAMPLES))

    def command(self, action: np.ndarray) -> None:
        """Begin one command (dx, dy, dz in metres, dyaw in radians); `advance` carries it out within 50 ms.

        The rest point stays where the command led until the next command.
        """
        x, y, z, yaw = self.pose() + LEAD * np.asarray(action)
        target = np.array([x, y, z, 0.0, 0.0, yaw])
        ramp = np.linspace(0.0, 1.0, SAMPLES + 1)[1:, None]
        self._ramp = self._target + ramp * (target - self._target)
        self._target = target

    def advance(self, milliseconds: int) -> tuple[np.ndarray, bool]:
        """Let time pass.

        Returns:
            The wrench samples of these milliseconds, float64 (milliseconds, 6), N and N*m, oldest first; and whether
            the peg touched the box in any of them.
        """
        readings = self._advance(milliseconds)
        touched = readings[:, self._reading_at["touch"]] > 0.0
        return self._wrench(readings[:, self._reading_at["force"] :][:, :6]), bool(touched.any())

    def picture(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB, uint8 (128, 128, 3), and depth, float32 (128, 128) in metres along the optical axis, of now."""
        image, depth = self._camera.take(self.data)
        return np.ascontiguousarray(image), depth[..., 0]

    def joints(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions (rad) and velocities (rad/s) of the seven joints, each float64 (7,)."""
        return self.data.qpos[:7].copy(), self.data.qvel[:7].copy()

    def frames(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the poses of links and tool in the world: position (3,) in metres, quaternion (4,), w x y z."""
        names = [*LINKS, "tool"]
        return {n: (self.data.body(n).xpos.copy(), self.data.body(n).xquat.copy()) for n in names}

    def _advance(self, milliseconds: int) -> np.ndarray:
        data, model, mj_step = self.data, self.model, self._mujoco.mj_step
        readings = np.empty((milliseconds, model.nsensordata))
        for reading in readings:
            if len(self._ramp):
                data.ctrl[:], self._ramp = self._ramp[0], self._ramp[1:]
            mj_step(model, data)
            # The readings belong to the state before this millisecond's integration, as data.xpos and the picture do.
            reading[:] = data.sensordata
        return readings

    def _observe(self, readings: np.ndarray) -> Observation:
        newest = readings[-1]
        image, depth = self._camera.take(self.data)
        quaternion = self._reading(newest, "tip_quaternion", 4)
        return Observation(
            image=image,
            depth=depth,
            wrench=self._wrench(readings[:, self._reading_at["force"] :][:, :6]),
            contact=readings[:, self._reading_at["touch"]] > 0.0,
            position=self._reading(newest, "tip_position", 3),
            quaternion=quaternion,
            yaw=yaw_of(quaternion),
            velocity=self._reading(newest, "tip_velocity", 3),
            rate=self._reading(newest, "tip_rate", 3),
            joint_position=self._reading(newest, f"{JOINTS[0]}_position", 7),
            joint_velocity=self._reading(newest, f"{JOINTS[0]}_velocity", 7),
        )

    def _reading(self, row: np.ndarray, sensor: str, size: int) -> np.ndarray:
        start = self._reading_at[sensor]
        return np.array(row[start : start + size])

    def _wrench(self, raw: np.ndarray) -> np.ndarray:
        """Return the wrench of the surroundings on the peg, low-passed (first order) and with the sensor's noise."""
        gain = 1.0 - np.exp(-2.0 * np.pi * FILTER_CUTOFF * PHYSICS_STEP)
        filtered = np.empty_like(raw)
        for row, out in zip(raw, filtered):
            # MuJoCo gives the wrench of the arm on the tool, which is opposite to that of the surroundings.
            self._filtered += gain * (-row - self._filtered)
            out[:] = self._filtered
        noise = self._rng.standard_normal(raw.shape) * np.array([FORCE_NOISE] * 3 + [TORQUE_NOISE] * 3)
        return np.asarray(filtered + noise)


def yaw_of(quaternion: np.ndarray) -> float:
    """Return the rotation of a quaternion (w, x, y, z) about the world's z axis, in radians."""
    w, x, y, z = quaternion
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


class _Camera:
    """The camera: RGB and exact depth from one pass. The scene sets `offsamples` to 0, so no pixel is blended."""

    def __init__(self, mujoco: ModuleType, model: MjModel) -> None:
        self._mujoco, self._model = mujoco, model
        try:
            # Not mujoco.GLContext, whose platform was fixed when the process first imported MuJoCo.
            platform = importlib.import_module(f"mujoco.{os.environ['MUJOCO_GL'].lower()}")
            self._gl = platform.GLContext(PICTURE_SIZE, PICTURE_SIZE)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        except Exception as error:  # ImportError, RuntimeError, mujoco.FatalError or one of PyOpenGL's own
            raise SimulationError(_no_opengl(error)) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, 200)
        self._option = mujoco.MjvOption()
        self._rect = mujoco.MjrRect(0, 0, PICTURE_SIZE, PICTURE_SIZE)
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view.fixedcamid = 0

    def take(self, data: MjData) -> tuple[np.ndarray, np.ndarray]:
        mujoco, model = self._mujoco, self._model
        self._gl.make_current()
        mujoco.mjv_updateScene(model, data, self._option, None, self._view, mujoco.mjtCatBit.mjCAT_ALL, self._scene)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        image = np.empty((PICTURE_SIZE, PICTURE_SIZE, 3), np.uint8)
        buffer = np.empty((PICTURE_SIZE, PICTURE_SIZE), np.float32)
        mujoco.mjr_readPixels(image, buffer, self._rect, self._context)
        near, far = (v * model.stat.extent for v in (model.vis.map.znear, model.vis.map.zfar))
        metres = near * far / (near + buffer.astype(np.float64) * (far - near))  # the buffer is 1 at near, 0 at far
        # Steps of 1/8192 m are exact in float32, finer than any depth camera, and compress well.
        return image[::-1], (np.rint(metres[::-1, :, None] * 8192.0) / 8192.0).astype(np.float32)

    def close(self) -> None:
        self._gl.make_current()
        self._context.free()
        self._gl.free()


def _load_mujoco() -> ModuleType:
    os.environ["MUJOCO_GL"] = os.environ.get("MUJOCO_GL") or "egl"
    try:
        mujoco = importlib.import_module("mujoco")
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise SimulationError(_no_opengl(error)) from error
        message = "the simulator needs MuJoCo, which is not installed: pip install 'smvae_ros[sim]'"
        raise SimulationError(message) from error
    except Exception as error:  # without libEGL the import itself raises some error of PyOpenGL
        raise SimulationError(_no_opengl(error)) from error
    if tuple(int(part) for part in mujoco.__version__.split(".")[:2]) < _OLDEST_MUJOCO:
        wanted = ".".join(map(str, _OLDEST_MUJOCO))
        raise SimulationError(
            f"the simulator needs MuJoCo {wanted} or newer, found {mujoco.__version__}: "
            f"pip install -U 'mujoco>={wanted}'"
        )
    return mujoco


def _no_opengl(error: Exception) -> str:
    choices = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID")
    chosen = [f"{name}={os.environ[name]}" for name in choices if os.environ.get(name, "egl").lower() != "egl"]
    cure = "Install the Debian packages libegl1, libopengl0 and libgl1-mesa-dri"
    if chosen:
        cure = f"Without {' and '.join(chosen)} in the environment it draws by EGL"
    return f"MuJoCo cannot draw off-screen (MUJOCO_GL={os.environ['MUJOCO_GL']}): {error}. {cure}"
