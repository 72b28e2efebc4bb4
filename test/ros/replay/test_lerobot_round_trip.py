"""A bag with every kind of modality becomes a LeRobot data set; our own reader gives back every number and frame."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from smvae_core.data.formats.lerobot import find_episodes, read_episode
from smvae_core.data.formats.lerobot_writer import write_lerobot
from smvae_core.modality import Modality
from smvae_core.preprocessing import RGB, Depth, Force, Grey, Vector
from smvae_ros.replay.to_lerobot import feature_names, unshifted, write_data_set
from smvae_ros.replay.to_logs import WrittenLogs, write_logs
from smvae_ros.settings import default_settings

from ..bags.made import JOINT_STATE, MS, START_NS, TYPES, Timed, joints, write_typed

IMAGE, WRENCH, ARRAY = "sensor_msgs/msg/Image", "geometry_msgs/msg/WrenchStamped", "std_msgs/msg/Float64MultiArray"
STEPS = 24


def image_modality(name: str, source: str, preprocessing: Any) -> Modality:
    return Modality(name=name, source=source, preprocessing=preprocessing, network="image", likelihood="bernoulli")


def numbers(name: str, source: str, size: int, **options: str) -> Modality:
    return Modality(
        name=name, source=source, preprocessing=Vector(size=size), network="vector", likelihood="normal", **options
    )


FORCE = Modality(
    name="force", source="ft/wrench", preprocessing=Force(window=16), network="sequence", likelihood="normal"
)
ROBOT = (
    image_modality("left", "observation.images/left arm", RGB()),
    image_modality("right", "observation.images.right", RGB()),
    image_modality("mask", "mask", Grey()),
    image_modality("depth", "camera/depth", Depth(max_depth=4.0)),
    FORCE,
    numbers("hand", "hand/command", 26, pairs="following"),
    numbers("grip", "größe", 1, pairs="following"),
    numbers("arm", "arm", 2),
)
FEATURES = {
    "left": "observation.images.left",
    "right": "observation.images.right",
    "mask": "observation.images.mask",
    "depth": "observation.depth",
    "force": "observation.force",
    "hand": "action.hand",
    "grip": "action.grip",
    "arm": "observation.state",
}
STREAMS = {
    "left": {"topic": "/left", "message": IMAGE},
    "right": {"topic": "/right", "message": IMAGE},
    "mask": {"topic": "/mask", "message": IMAGE},
    "depth": {"topic": "/depth", "message": IMAGE},
    "force": {"topic": "/wrench", "message": WRENCH, "window": 16, "least": 16},
    "hand": {"topic": "/hand", "message": ARRAY, "fields": ["data"]},
    "grip": {"topic": "/grip", "message": ARRAY, "fields": ["data[0]"]},
    "arm": {"topic": "/arm", "message": JOINT_STATE},
}


def header(stamp_ns: int) -> Any:
    stamp = TYPES.types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    return TYPES.types["std_msgs/msg/Header"](stamp, "base")


def content(topic: str, step: int, stamp_ns: int) -> bytes:
    """The message of a topic: every step and topic has other content."""
    random = np.random.default_rng([step, len(topic), ord(topic[1])])
    if topic in ("/left", "/right", "/mask"):
        channels = 1 if topic == "/mask" else 3
        pixels = np.zeros((64, 64, channels), np.uint8)
        pixels[:, : 2 * step + 4] = random.integers(60, 240, channels)
        image = TYPES.types[IMAGE](
            header(stamp_ns), 64, 64, "mono8" if channels == 1 else "rgb8", 0, 64 * channels, pixels.reshape(-1)
        )
        return bytes(TYPES.serialize_cdr(image, IMAGE))
    if topic == "/depth":
        metres = random.uniform(0.3, 3.9, (64, 64)).astype(np.float32)
        image = TYPES.types[IMAGE](header(stamp_ns), 64, 64, "32FC1", 0, 256, metres.reshape(-1).view(np.uint8))
        return bytes(TYPES.serialize_cdr(image, IMAGE))
    if topic == "/wrench":
        vector = TYPES.types["geometry_msgs/msg/Vector3"]
        wrench = TYPES.types["geometry_msgs/msg/Wrench"](vector(*random.normal(size=3)), vector(*random.normal(size=3)))
        return bytes(TYPES.serialize_cdr(TYPES.types[WRENCH](header(stamp_ns), wrench), WRENCH))
    if topic == "/arm":
        return joints(stamp_ns, random.normal(size=2).tolist(), ("schulter", "ellbogen"))
    layout = TYPES.types["std_msgs/msg/MultiArrayLayout"]([], 0)
    values = random.normal(size=26 if topic == "/hand" else 1)
    return bytes(TYPES.serialize_cdr(TYPES.types[ARRAY](layout, values), ARRAY))


def recorded(path: Path, period_ns: int) -> Path:
    messages: list[Timed] = []
    for step in range(STEPS):
        stamp = START_NS + step * period_ns
        for stream in STREAMS.values():
            topic = str(stream["topic"])
            back = 16 if topic == "/wrench" else 1
            for n in range(back - 1, -1, -1):
                at = stamp - n * 3 * MS
                messages.append((topic, at, content(topic, 100 * step + n, at) if n else content(topic, step, at)))
    return write_typed(path, {str(one["topic"]): str(one["message"]) for one in STREAMS.values()}, messages)


def logged(path: Path, period_ns: int) -> WrittenLogs:
    settings = default_settings(ROBOT).changed({"reference": "left", "streams": STREAMS})
    return write_logs(recorded(path, period_ns), unshifted(ROBOT), settings, path.parent / "logs")


@pytest.mark.parametrize(("period_ns", "fps"), [(50 * MS, 20), (66_666_667, 15), (80 * MS, 12)])
def test_every_number_and_frame_comes_back(tmp_path: Path, period_ns: int, fps: int) -> None:
    written = logged(tmp_path / "montag früh", period_ns)
    out = tmp_path / "daten satz"
    done = write_data_set([written], ROBOT, out, "wörter", "arm")
    assert (done.episodes, done.fps, done.features) == (1, fps, FEATURES)
    told = [sentence for sentence in done.warnings if "LeRobot's whole number is 12" in sentence]
    assert len(told) == len(done.warnings) == (fps == 12)
    info = json.loads((out / "meta" / "info.json").read_text())
    assert info["features"]["observation.state"]["names"] == ["schulter", "ellbogen"]
    assert not any("/" in key for key in info["features"])
    ((name, ((_, path),)),) = [(one.name, one.parts) for one in find_episodes(out)]
    found = read_episode(path, list(FEATURES.values()), {})
    (file,) = written.files
    with h5py.File(file) as log:
        for modality in ROBOT:
            mine, theirs = log[modality.source][:], found[FEATURES[modality.name]]
            assert len(mine) == len(theirs) == written.account.rows, modality.name
            if modality.preprocessing.kind in ("rgb", "grey"):
                for frame, exact in zip(theirs, mine, strict=True):
                    assert np.abs(frame.astype(int) - exact).mean() < 6, modality.name
            else:
                exact = mine.astype(np.float32)
                np.testing.assert_array_equal(theirs, exact.reshape(np.shape(theirs)), err_msg=modality.name)
        # The log itself holds what was sent, so the data set does.
        sent = np.random.default_rng([3, len("/grip"), ord("g")]).normal(size=1)
        assert np.float32(sent[0]) in log["größe"][:].astype(np.float32)


def test_episodes_of_one_step_stand_between_longer_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = (1, 5, 1, 1)
    pictures = [np.full((length, 48, 64, 3), 40 + 60 * n, np.uint8) for n, length in enumerate(lengths)]
    actions = [random.normal(size=(length, 1)).astype(np.float32) for length in lengths]
    steps = ({"action": action, "observation.images.eye": seen} for action, seen in zip(actions, pictures))
    assert write_lerobot(tmp_path / "set", 7, ([one] for one in steps), "wait") == 4
    for episode, action, seen in zip(find_episodes(tmp_path / "set"), actions, pictures, strict=True):
        found = read_episode(episode.parts[0][1], ["action", "observation.images.eye"], {})
        np.testing.assert_array_equal(np.reshape(found["action"], (-1, 1)), action)
        frames = list(found["observation.images.eye"])
        assert len(frames) == len(seen) and all(abs(int(frame.mean()) - int(seen[0, 0, 0, 0])) < 4 for frame in frames)


def test_features_have_names_of_their_own_that_lerobot_takes() -> None:
    modalities = [
        numbers("state", "joints", 2),
        numbers("other", "observation.state", 2),
        image_modality("front", "observation.images.front", RGB()),
        image_modality("small", "observation.images.front", RGB(size=32)),
        numbers("wrist", "observation.wrist force/N", 3),
    ]
    assert list(feature_names(modalities).values()) == [
        "observation.state",
        "observation.state_2",
        "observation.images.front",
        "observation.images.front_2",
        "observation.wrist",
    ]
