"""The scene as MJCF: an arm like a Kuka LBR iiwa, its peg, the box with the hole, table, light and camera.

World frame: origin at the foot of the arm on the table, x towards the box, z up; metres, kilograms, seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from smvae_core.simulation.shapes import (
    BOX_HALF_WIDTH,
    BOX_HEIGHT,
    HOLE_DEPTH,
    PEG_LENGTH,
    Peg,
    box_pieces,
    outline,
    prism,
)

PICTURE_SIZE = 128  # pixels, height and width
PHYSICS_STEP = 1e-3  # seconds

JOINTS = tuple(f"joint_{i}" for i in range(1, 8))
LINKS = tuple(f"link_{i}" for i in range(1, 8))


@dataclass(frozen=True)
class SceneLook:
    """The properties of a scene that `vary_scene` changes. The defaults are the fixed scene.

    Colours are (red, green, blue) in 0..1; `hole` is where the hole stands on the table (x, y in metres);
    `camera_position`, `camera_target` and `light_position` are in metres, `camera_fov` is the vertical opening in
    degrees, `light` a brightness in 0..1.
    """

    hole: tuple[float, float] = (0.56, 0.0)
    camera_position: tuple[float, float, float] = (1.17, -0.63, 0.60)
    camera_target: tuple[float, float, float] = (0.53, 0.0, 0.19)
    camera_fov: float = 26.5
    light: float = 0.65
    light_position: tuple[float, float, float] = (0.9, -0.9, 2.2)
    box: tuple[float, float, float] = (0.16, 0.42, 0.66)
    peg: tuple[float, float, float] = (0.80, 0.16, 0.14)
    table: tuple[float, float, float] = (0.29, 0.27, 0.26)
    shell: tuple[float, float, float] = (0.90, 0.90, 0.88)
    accent: tuple[float, float, float] = (0.98, 0.47, 0.05)
    wall: tuple[float, float, float] = (0.52, 0.57, 0.60)

    def turned(self, degrees: float) -> SceneLook:
        """Return the look with the camera turned around the vertical axis through its target, seen from above."""
        (x, y, z), (centre_x, centre_y, _) = self.camera_position, self.camera_target
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = x - centre_x, y - centre_y
        return replace(self, camera_position=(centre_x + cos * x - sin * y, centre_y + sin * x + cos * y, z))

    @classmethod
    def random(cls, rng: np.random.Generator) -> SceneLook:
        """Return a look with random box position, camera, light and colours."""

        def colour() -> tuple[float, float, float]:
            red, green, blue = rng.uniform(0.1, 0.95, 3)
            return float(red), float(green), float(blue)

        def near(value: float, spread: float) -> float:
            return float(value + rng.uniform(-spread, spread))

        def near_point(point: tuple[float, float, float], spread: float) -> tuple[float, float, float]:
            x, y, z = point
            return near(x, spread), near(y, spread), near(z, spread)

        return cls(
            hole=(near(cls.hole[0], 0.04), near(cls.hole[1], 0.04)),
            camera_position=near_point(cls.camera_position, 0.08),
            camera_target=near_point(cls.camera_target, 0.03),
            camera_fov=float(rng.uniform(30.0, 38.0)),
            light=float(rng.uniform(0.4, 0.9)),
            light_position=near_point(cls.light_position, 0.6),
            box=colour(),
            peg=colour(),
            table=colour(),
            shell=near_point(cls.shell, 0.08),
            accent=colour(),
            wall=colour(),
        )


def scene_xml(peg: Peg, look: SceneLook = SceneLook()) -> str:
    """Return the MJCF text of the scene.

    There is no gravity, because a real arm's controller compensates it and a real wrist sensor is tared for its
    payload. The controls are x, y, z (metres), roll, pitch, yaw (radians) of the site `tip` relative to the site
    `hole`. They act through a Cartesian impedance, J^T (K e - D v), which MuJoCo computes at each physics step.

    Sensors, in this order: `force` (N) and `torque` (N*m) that the arm exerts on the tool, in the frame of the site
    `wrist` (z up the tool); `touch`; `tip_position`, `tip_quaternion` (w x y z), `tip_velocity` and `tip_rate` in the
    world; `joint_1_position` to `joint_7_position`; `joint_1_velocity` to `joint_7_velocity`.
    """
    x, y = look.hole
    eye, axes = _look_at(look.camera_position, look.camera_target)
    sun = _numbers(np.array([x, y, 0.1]) - look.light_position)
    lid_bottom = BOX_HEIGHT - HOLE_DEPTH
    contact = 'contype="1" conaffinity="1" friction="0.2 0.005 0.0001" solref="0.04 1.5" solimp="0.3 0.9 0.004"'
    servos = "\n".join(
        f'<general name="{name}" site="tip" refsite="hole" gear="{_numbers(gear)}" {_gains(name)}/>'
        for name, gear in _SERVOS
    )
    joints = "\n".join(
        f'<joint{short} name="{joint}_{long}" joint="{joint}"/>'
        for short, long in (("pos", "position"), ("vel", "velocity"))
        for joint in JOINTS
    )
    peg_mesh, peg_geom = _peg(peg)
    pieces = box_pieces(peg)
    box_meshes = "\n".join(f'<mesh name="box_{i}" vertex="{_numbers(piece)}"/>' for i, piece in enumerate(pieces))
    box_geoms = "\n".join(f'<geom class="box" type="mesh" mesh="box_{i}"/>' for i in range(len(pieces)))
    return f"""
<mujoco model="peg_insertion">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="{PHYSICS_STEP}" gravity="0 0 0" integrator="implicitfast" cone="elliptic" impratio="3"/>
  <statistic extent="1" center="{x} {y} 0.2"/>
  <visual>
    <global offwidth="{PICTURE_SIZE}" offheight="{PICTURE_SIZE}"/>
    <quality offsamples="0" numslices="20" numstacks="8"/>
    <map znear="0.2" zfar="6"/>
    <headlight ambient="0.32 0.32 0.32" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
  </visual>
  <asset>
    <texture name="sky" type="skybox" builtin="flat" rgb1="{_numbers(look.wall)}" width="8" height="48"/>
    <material name="shell" rgba="{_numbers(look.shell)} 1" specular="0.3" shininess="0.4"/>
    <material name="accent" rgba="{_numbers(look.accent)} 1" specular="0.2"/>
    <material name="dark" rgba="0.16 0.17 0.18 1" specular="0.2"/>
    <material name="steel" rgba="0.55 0.57 0.60 1" specular="0.5" shininess="0.6"/>
    <material name="box" rgba="{_numbers(look.box)} 1" specular="0.1"/>
    <material name="peg" rgba="{_numbers(look.peg)} 1" specular="0.2"/>
    <material name="table" rgba="{_numbers(look.table)} 1" specular="0"/>
    <material name="wall" rgba="{_numbers(look.wall)} 1" specular="0"/>
    {peg_mesh}
    {box_meshes}
  </asset>
  <default>
    <geom contype="0" conaffinity="0" density="0"/>
    <general gaintype="fixed" biastype="affine"/>
    <default class="box"><geom material="box" density="1000" {contact}/></default>
    <default class="peg"><geom material="peg" mass="0.12" {contact}/></default>
    <default class="arm"><geom material="shell"/></default>
    <joint damping="0.8" armature="0.02"/>
  </default>
  <worldbody>
    <light pos="{_numbers(look.light_position)}" dir="{sun}" directional="true" castshadow="false"
           diffuse="{_numbers([look.light] * 3)}" specular="0.3 0.3 0.3"/>
    <camera name="kinect" pos="{eye}" xyaxes="{axes}" fovy="{look.camera_fov}"/>
    <geom name="table" type="box" pos="0.35 0 -0.02" size="0.75 0.75 0.02" material="table"/>
    <geom name="floor" type="plane" pos="0 0 -0.8" size="5 5 0.1" material="wall"/>
    <body name="box" pos="{x} {y} 0">
      <site name="hole" pos="0 0 {BOX_HEIGHT}" size="0.001" rgba="0 0 0 0"/>
      {box_geoms}
      <geom class="box" material="dark" type="box" pos="0 0 {lid_bottom / 2}"
            size="{BOX_HALF_WIDTH - 0.001} {BOX_HALF_WIDTH - 0.001} {lid_bottom / 2}"/>
    </body>
    {_arm(peg_geom)}
  </worldbody>
  <actuator>
    {servos}
  </actuator>
  <sensor>
    <force name="force" site="wrist"/>
    <torque name="torque" site="wrist"/>
    <touch name="touch" site="touch"/>
    <framepos name="tip_position" objtype="site" objname="tip"/>
    <framequat name="tip_quaternion" objtype="site" objname="tip"/>
    <framelinvel name="tip_velocity" objtype="site" objname="tip"/>
    <frameangvel name="tip_rate" objtype="site" objname="tip"/>
    {joints}
  </sensor>
</mujoco>
"""


# The name and the direction of each Cartesian servo, in the order of the controls.
_SERVOS = tuple(zip(("x", "y", "z", "roll", "pitch", "yaw"), np.eye(6)))

# The arm's links from the foot up: (name, height of its joint above the last, axis of the joint, kg, geoms).
# Distances between the axes are the iiwa 7's: 0.34, 0.40, 0.40 m and 0.126 m from the wrist to the flange.
_LINKS = (
    (
        "link_1",
        0.1575,
        "0 0 1",
        1.8,
        """
        <geom class="arm" type="cylinder" fromto="0 0 0 0 0 0.10" size="0.077"/>
        <geom class="arm" type="cylinder" fromto="0 -0.085 0.1825 0 0.085 0.1825" size="0.077"/>
        <geom class="arm" type="capsule" fromto="0 0 0.08 0 0 0.17" size="0.077"/>""",
    ),
    (
        "link_2",
        0.1825,
        "0 1 0",
        1.8,
        """
        <geom class="arm" material="accent" type="cylinder" fromto="0 -0.09 0 0 0.09 0" size="0.055"/>
        <geom class="arm" type="capsule" fromto="0 0 0 0 0 0.12" size="0.075"/>
        <geom class="arm" material="dark" type="cylinder" fromto="0 0 0.195 0 0 0.205" size="0.072"/>
        <geom class="arm" type="cylinder" fromto="0 0 0.1 0 0 0.195" size="0.074"/>""",
    ),
    (
        "link_3",
        0.205,
        "0 0 1",
        1.4,
        """
        <geom class="arm" type="cylinder" fromto="0 0 0 0 0 0.10" size="0.072"/>
        <geom class="arm" type="capsule" fromto="0 0 0.08 0 0 0.19" size="0.070"/>
        <geom class="arm" type="cylinder" fromto="0 -0.08 0.195 0 0.08 0.195" size="0.070"/>""",
    ),
    (
        "link_4",
        0.195,
        "0 -1 0",
        1.2,
        """
        <geom class="arm" material="accent" type="cylinder" fromto="0 -0.085 0 0 0.085 0" size="0.050"/>
        <geom class="arm" type="capsule" fromto="0 0 0 0 0 0.13" size="0.067"/>
        <geom class="arm" type="cylinder" fromto="0 0 0.1 0 0 0.185" size="0.067"/>
        <geom class="arm" material="dark" type="cylinder" fromto="0 0 0.185 0 0 0.195" size="0.065"/>""",
    ),
    (
        "link_5",
        0.195,
        "0 0 1",
        0.8,
        """
        <geom class="arm" type="cylinder" fromto="0 0 0 0 0 0.08" size="0.062"/>
        <geom class="arm" type="capsule" fromto="0 0.035 0.06 0 0.03 0.16" size="0.050"/>
        <geom class="arm" type="cylinder" fromto="0 0.035 0.205 0 0.075 0.205" size="0.052"/>
        <geom class="arm" type="capsule" fromto="0 0.055 0.12 0 0.055 0.205" size="0.040"/>""",
    ),
    (
        "link_6",
        0.205,
        "0 1 0",
        0.8,
        """
        <geom class="arm" material="accent" type="cylinder" fromto="0 -0.055 0 0 0.08 0" size="0.040"/>
        <geom class="arm" type="sphere" size="0.062"/>
        <geom class="arm" type="cylinder" fromto="0 0 0.02 0 0 0.06" size="0.052"/>""",
    ),
    (
        "link_7",
        0.081,
        "0 0 1",
        0.3,
        """
        <geom class="arm" material="dark" type="cylinder" fromto="0 0 -0.021 0 0 -0.012" size="0.050"/>
        <geom class="arm" material="accent" type="cylinder" fromto="0 0 -0.012 0 0 0.0" size="0.052"/>
        <geom class="arm" type="cylinder" fromto="0 0 0 0 0 0.045" size="0.045"/>""",
    ),
)


def _arm(peg_geom: str) -> str:
    opened = []
    for index, (name, height, axis, mass, geoms) in enumerate(_LINKS):
        # The six Cartesian servos leave one degree of freedom, the swivel of the elbow; a spring keeps the elbow up.
        spring = 'stiffness="40" damping="4"' if index == 2 else ""
        inertia = _numbers([mass * 0.004, mass * 0.004, mass * 0.003])
        opened.append(f"""
      <body name="{name}" pos="0 0 {height}">
        <joint name="{JOINTS[index]}" axis="{axis}" {spring}/>
        <inertial pos="0 0 0.08" mass="{mass}" diaginertia="{inertia}"/>{geoms}""")
    middle = PEG_LENGTH / 2
    tool = f"""
      <body name="tool" pos="0 0 0.045">
        <geom material="dark" type="cylinder" fromto="0 0 0 0 0 0.036" size="0.035"/>
        <geom material="steel" type="cylinder" fromto="0 0 0.036 0 0 0.05" size="0.042" mass="0.1"/>
        <geom material="dark" type="cylinder" fromto="0 0 0.05 0 0 0.066" size="0.026"/>
        <site name="wrist" pos="0 0 0.018" euler="0 3.14159265358979 0" size="0.001" rgba="0 0 0 0"/>
        <site name="tip" pos="0 0 {0.06 + PEG_LENGTH}" euler="0 3.14159265358979 0" size="0.001" rgba="0 0 0 0"/>
        <body name="peg" pos="0 0 0.06">
          {peg_geom}
          <site name="touch" type="box" pos="0 0 {middle}" size="0.06 0.06 {middle + 0.02}" rgba="0 0 0 0"/>
        </body>
      </body>"""
    return f"""
    <body name="base">
      <geom class="arm" type="cylinder" fromto="0 0 0 0 0 0.03" size="0.11" material="dark"/>
      <geom class="arm" type="cylinder" fromto="0 0 0.03 0 0 0.1575" size="0.077"/>
      {"".join(opened)}{tool}{"</body>" * len(opened)}
    </body>"""


def _peg(peg: Peg) -> tuple[str, str]:
    """Return the assets and the geom of the peg, which starts at the flange (z = 0) and points along +z."""
    if peg == "round":
        radius = float(np.linalg.norm(outline(peg)[0])) * math.cos(math.pi / 24)
        return "", f'<geom class="peg" type="cylinder" fromto="0 0 0 0 0 {PEG_LENGTH}" size="{radius}"/>'
    turned = outline(peg) * [-1, 1]  # the tool's frame is turned by 180° about y
    mesh = f'<mesh name="peg" vertex="{_numbers(prism(turned, 0.0, PEG_LENGTH))}"/>'
    return mesh, '<geom class="peg" type="mesh" mesh="peg"/>'


def _gains(servo: str) -> str:
    stiffness, damping = (600.0, 30.0) if servo in "xyz" else (30.0, 1.5)  # N/m, N*s/m; N*m/rad, N*m*s/rad
    return f'gainprm="{stiffness}" biasprm="0 {-stiffness} {-damping}"'


def _look_at(position: tuple[float, float, float], target: tuple[float, float, float]) -> tuple[str, str]:
    forward = np.subtract(target, position)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    up = np.cross(right, forward)
    return _numbers(position), _numbers(np.concatenate([right / np.linalg.norm(right), up / np.linalg.norm(up)]))


def _numbers(values: ArrayLike) -> str:
    return " ".join(f"{v:.9g}" for v in np.ravel(values))
