"""Numbers of any message: `smvae check --write` drafts their `fields`, and the examples of the docs read them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from smvae_core.modality import Modality
from smvae_core.preprocessing import Vector
from smvae_ros.check.bag import RecordedSource
from smvae_ros.check.run import check, draft
from smvae_ros.conversions.arrays import numbers
from smvae_ros.conversions.bindings import bind

from ..bags.made import MS, START_NS, TYPES, Timed, write_typed

ROOT = Path(__file__).resolve().parents[3]
T = TYPES.types


def vector(x: float, y: float, z: float) -> Any:
    return T["geometry_msgs/msg/Vector3"](x, y, z)


def made(now_ns: int, n: float) -> dict[str, Any]:
    """A message for each topic; `n` makes them differ."""
    stamp = T["builtin_interfaces/msg/Time"](*divmod(now_ns, 1_000_000_000))
    header = T["std_msgs/msg/Header"](stamp, "base")
    still = T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    layout = T["std_msgs/msg/MultiArrayLayout"]([], 0)
    none, second = np.zeros(0), T["builtin_interfaces/msg/Duration"](1, 0)
    point = T["trajectory_msgs/msg/JointTrajectoryPoint"](np.array([n, 0.5]), none, none, none, second)
    turning = np.zeros(9)
    scan = T["sensor_msgs/msg/LaserScan"](
        header, 0.0, 1.0, 0.01, 0.0, 0.1, 0.1, 9.0, np.ones(360, np.float32), np.zeros(0, np.float32)
    )
    return {
        "/cmd_vel": T["geometry_msgs/msg/Twist"](vector(n, 0.0, 0.0), vector(0.0, 0.0, -n)),
        "/imu": T["sensor_msgs/msg/Imu"](
            header, still, turning, vector(0.1, n, 0.3), turning, vector(0, 0, 9.8), turning
        ),
        "/tactile": T["std_msgs/msg/Float64MultiArray"](layout, np.array([n, 2.0, 3.0])),
        "/goal": T["trajectory_msgs/msg/JointTrajectory"](header, ["a", "b"], [point]),
        "/scan": scan,
        "/tf": T["tf2_msgs/msg/TFMessage"]([]),
        "/name": T["std_msgs/msg/String"]("hello"),
    }


def serialised(message: Any) -> bytes:
    return bytes(TYPES.serialize_cdr(message, message.__msgtype__))


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    messages: list[Timed] = []
    for n in range(40):
        now = START_NS + n * 50 * MS
        messages += [(topic, now, serialised(message)) for topic, message in made(now, 0.1 * n).items()]
    types = {topic: message.__msgtype__ for topic, message in made(START_NS, 0.0).items()}
    return write_typed(tmp_path_factory.mktemp("any") / "bag", types, messages)


def test_a_draft_takes_the_numbers_of_every_message_that_has_some(bag: Path) -> None:
    source = RecordedSource(bag, 60.0)
    drafted = draft(source)
    fields = {stream["topic"]: stream["fields"] for stream in drafted.parameters["streams"].values()}
    imu = ["orientation.x", "orientation.y", "orientation.z", "orientation.w"]
    imu += [f"{name}.{axis}" for name in ("angular_velocity", "linear_acceleration") for axis in "xyz"]
    assert fields == {
        "/cmd_vel": [f"{name}.{axis}" for name in ("linear", "angular") for axis in "xyz"],
        "/imu": imu,
        "/tactile": ["data"],
        "/goal": ["points[0].positions"],
    }
    assert {topic.name for topic in drafted.unused} == {"/scan", "/tf", "/name"}
    sizes = {modality.name: modality.shape[0] for modality in drafted.modalities}
    assert sizes == {"vel": 6, "imu": 10, "tactile": 3, "goal": 2}
    verdict = check(source, drafted.modalities, [drafted.parameters])
    assert verdict.fuses and verdict.sets >= 40


def test_the_examples_of_the_docs_read_what_they_name() -> None:
    page = (ROOT / "docs" / "your-robot.md").read_text()
    (block,) = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if text.startswith("streams:")]
    streams = yaml.safe_load(block)["streams"]
    messages = made(START_NS, 0.7)
    expected = {"imu": [0.1, 0.7, 0.3], "drive": [0.7, -0.7], "tactile": [0.7, 2.0, 3.0], "goal": [0.7, 0.5]}
    assert streams.keys() == expected.keys()
    for name, stream in streams.items():
        size = len(expected[name])
        modality = Modality(
            name=name, source=name, preprocessing=Vector(size=size), network="vector", likelihood="normal"
        )
        (binding,) = bind([modality], {name: stream["message"]}, {name: tuple(stream["fields"])})
        message = messages["/" + stream["topic"]]
        assert message.__msgtype__ == stream["message"]
        np.testing.assert_allclose(numbers(binding.reading(TYPES), serialised(message)), expected[name])
