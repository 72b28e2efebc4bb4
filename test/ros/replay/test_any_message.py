"""Numbers of any message, joints by name, commands of any length: from the bag to logs that train, and to a replay."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from smvae_core.checkpoint import read_metadata
from smvae_core.configuration import Configuration
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.vision_touch import find_trajectories
from smvae_core.data.joints import logged_joints
from smvae_core.data.log_file import JOINTS
from smvae_core.data.samples import read_samples
from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality
from smvae_core.model.vae import ModelConfiguration
from smvae_core.preprocessing import Vector
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.run import replay
from smvae_ros.replay.to_logs import write_logs
from smvae_ros.settings import default_settings
from smvae_ros.trained_joints import other_joints, with_trained_joints

from ..bags.made import ARM, HAND, JOINT_STATE, MS, START_NS, TYPES, Timed, joints, settings, write, write_typed
from ..command import smvae
from ..senses import tiny_checkpoint

STEPS = 30


def numbers(name: str, size: int, **changes: str) -> Modality:
    return Modality(
        name=name, source=name, preprocessing=Vector(size=size), network="vector", likelihood="normal", **changes
    )


def row_of(folder: Path, key: str) -> np.ndarray:
    (file,) = folder.glob("*.h5")
    with h5py.File(file) as log:
        return np.array(log[key])


def test_joints_are_logged_by_name_whatever_their_order(tmp_path: Path) -> None:
    arm: list[Timed] = []
    for n in range(STEPS):
        stamp = START_NS + n * 50 * MS
        ordered = n % 3 == 0
        arm.append(("/arm", stamp, joints(stamp, (1.0, 2.0) if ordered else (2.0, 1.0), "ab" if ordered else "ba")))
    hand = [("/hand", stamp, joints(stamp, (3.0, 4.0), "cd")) for _, stamp, _ in arm]
    logs = write_logs(write(tmp_path / "bag", arm + hand), [ARM, HAND], settings(), tmp_path / "logs")
    np.testing.assert_array_equal(row_of(tmp_path / "logs", "arm"), [[1.0, 2.0]] * STEPS)
    with h5py.File(logs.files[0]) as log:
        assert list(log["arm"].attrs[JOINTS]) == ["a", "b"] and list(log["hand"].attrs[JOINTS]) == ["c", "d"]


def test_two_publishers_of_joints_are_merged_by_name(tmp_path: Path) -> None:
    messages: list[Timed] = []
    for n in range(20):
        stamp = START_NS + n * 50 * MS
        messages.append(("/arm", stamp, joints(stamp, (1.0,), "a")))
        messages.append(("/arm", stamp + MS, joints(stamp + MS, (2.0,), "b")))
        messages.append(("/hand", stamp, joints(stamp)))
    changed = settings().changed({"streams": {"arm": {"joints": ["a", "b"]}}})
    account = write_logs(write(tmp_path / "bag", messages), [ARM, HAND], changed, tmp_path / "logs").account
    assert account.modalities["arm"].dropped == {"expected joints b, found a": 1}
    np.testing.assert_array_equal(np.unique(row_of(tmp_path / "logs", "arm"), axis=0), [[1.0, 2.0]])


def test_joints_come_in_the_order_of_the_checkpoint_and_others_are_refused(tmp_path: Path) -> None:
    stamps = [START_NS + n * 50 * MS for n in range(20)]
    messages = [("/arm", stamp, joints(stamp, (2.0, 1.0), "ba")) for stamp in stamps]
    messages += [("/hand", stamp, joints(stamp, (3.0, 4.0), "xy")) for stamp in stamps]
    trained = {"arm": ("a", "b"), "hand": ("c", "d")}
    chosen = with_trained_joints(settings(), trained)
    account = write_logs(write(tmp_path / "bag", messages), [ARM, HAND], chosen, tmp_path / "logs").account
    np.testing.assert_array_equal(row_of(tmp_path / "logs", "arm"), [[1.0, 2.0]] * 20)
    assert account.modalities["hand"].dropped == {"expected joints c, d, found x, y": 20}
    own = settings().changed({"streams": {"arm": {"joints": ["b", "a"]}}})
    assert with_trained_joints(own, trained).streams["arm"].joints == ("b", "a"), "the settings have the last word"
    (told,) = other_joints(own, trained)
    assert told.startswith("streams.arm.joints: expected a, b, on which the checkpoint was trained, found b, a")


def test_logs_of_other_joints_are_not_mixed(tmp_path: Path) -> None:
    for bag, order in (("one", "ab"), ("two", "ba")):
        stamps = [START_NS + n * 50 * MS for n in range(20)]
        messages = [(topic, stamp, joints(stamp, names=order)) for stamp in stamps for topic in ("/arm", "/hand")]
        write_logs(write(tmp_path / bag, messages), [ARM, HAND], settings(), tmp_path / "logs")
    model = ModelConfiguration(modalities=(ARM, HAND))
    with pytest.raises(LogError, match=r"two_0_0_50.h5: key '(arm|hand)' expected joints a, b as in .*one_0_0_50.h5"):
        logged_joints(tmp_path / "logs", Configuration(model=model))


TWIST, ARRAY, ODOMETRY, OWN = (
    "geometry_msgs/msg/Twist",
    "std_msgs/msg/Float64MultiArray",
    "nav_msgs/msg/Odometry",
    "lab_msgs/msg/Gripper",
)


def own_types() -> object:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nfloat32 width\nfloat32[] forces", OWN))
    return store


def any_messages() -> tuple[dict[str, str], list[Timed]]:
    """By topic a message type of its own, 20 times a second; two of them without a header."""
    store = own_types()
    types = store.types
    vector = types["geometry_msgs/msg/Vector3"]
    found: list[Timed] = []
    for n in range(STEPS):
        now = START_NS + n * 50 * MS
        stamp = types["builtin_interfaces/msg/Time"](*divmod(now, 1_000_000_000))
        header = types["std_msgs/msg/Header"](stamp, "base")
        twist = types[TWIST](vector(0.1 * n, 0.0, 0.0), vector(0.0, 0.0, -0.2 * n))
        layout = types["std_msgs/msg/MultiArrayLayout"]([], 0)
        array = types[ARRAY](layout, np.array([n, 2.0 * n, 3.0 * n]))
        gripper = types[OWN](header, 0.01 * n, np.array([n, -n], np.float32))
        for topic, message in (("/cmd_vel", twist), ("/tactile", array), ("/gripper", gripper)):
            found.append((topic, now, bytes(store.serialize_cdr(message, message.__msgtype__))))
    return {"/cmd_vel": TWIST, "/tactile": ARRAY, "/gripper": OWN}, found


CHOSEN = [numbers("gripper", 3), numbers("tactile", 2), numbers("action", 2)]
STREAMS = {
    "gripper": {"topic": "gripper", "message": OWN, "fields": ["width", "forces"]},
    "tactile": {"topic": "tactile", "message": ARRAY, "fields": ["data[0]", "data[-1]"]},
    "action": {"topic": "cmd_vel", "message": TWIST, "fields": ["linear.x", "angular.z"]},
}
CHANGES = {"reference": "gripper", "streams": STREAMS}


def test_numbers_of_any_message_are_logged_and_replayed(tmp_path: Path) -> None:
    types, messages = any_messages()
    bag = write_typed(tmp_path / "bag", types, messages, own_types())
    account = write_logs(bag, CHOSEN, default_settings(CHOSEN).changed(CHANGES), tmp_path / "logs").account
    assert account.rows == STEPS and not account.losses()
    n = np.arange(STEPS)
    np.testing.assert_allclose(row_of(tmp_path / "logs", "gripper"), np.stack([0.01 * n, n, -n], 1), rtol=1e-6)
    np.testing.assert_allclose(row_of(tmp_path / "logs", "tactile"), np.stack([n, 3.0 * n], 1), rtol=1e-6)
    # A command stands beside the step that it led to: one row later.
    np.testing.assert_allclose(
        row_of(tmp_path / "logs", "action")[1:], np.stack([0.1 * n, -0.2 * n], 1)[:-1], rtol=1e-6
    )
    checkpoint = tiny_checkpoint(tmp_path / "any.safetensors", tuple(CHOSEN))
    summary = replay(bag, tmp_path / "out", ReplayJob(checkpoint, (CHANGES,), "cpu", write_bag=True))
    assert summary.sets_by_subset == {"gripper+tactile+action": STEPS}
    assert not [warning for warning in summary.warnings if "without a stamp" not in warning]


@pytest.mark.filterwarnings("error")
def test_whole_numbers_and_truth_values_are_logged_as_they_are(tmp_path: Path) -> None:
    """Numbers that fall, and large ones: differences and sums do not fit into their own type."""
    store = own_types()
    finger = "uint8[] taxels\nint16[2] counts\nbool touched"
    store.register(get_types_from_msg(finger, "lab_msgs/msg/Finger"))
    store.register(get_types_from_msg("lab_msgs/Finger[] fingers\nlab_msgs/Finger[1] thumb", "lab_msgs/msg/Hand"))
    fields = ["fingers[-1].taxels", "thumb[0].counts", "fingers[0].touched", "fingers[0].taxels[1]"]
    hand, levels = numbers("gripper", 6), numbers("tactile", 2)
    streams = {
        "gripper": {"topic": "hand", "message": "lab_msgs/msg/Hand", "fields": fields},
        "tactile": {"topic": "levels", "message": "std_msgs/msg/UInt8MultiArray", "fields": ["data"]},
    }
    found: list[Timed] = []
    expected = np.stack([250 - 3 * np.arange(STEPS), np.arange(STEPS) % 2 * 255], 1)
    for n, (falling, state) in enumerate(expected.tolist()):
        make = store.types["lab_msgs/msg/Finger"]
        counts = np.array([-30000 if n % 2 else 30000, n], np.int16)
        first, last = (make(np.array(x, np.uint8), counts, n % 3 == 0) for x in ([9, state], [falling, state]))
        hands = store.types["lab_msgs/msg/Hand"]([first, last], [first])
        layout = store.types["std_msgs/msg/MultiArrayLayout"]([], 0)
        array = store.types["std_msgs/msg/UInt8MultiArray"](layout, np.array([falling, state], np.uint8))
        for topic, message in (("/hand", hands), ("/levels", array)):
            content = bytes(store.serialize_cdr(message, message.__msgtype__))
            found.append((topic, START_NS + n * 50 * MS, content))
    types = {"/hand": "lab_msgs/msg/Hand", "/levels": "std_msgs/msg/UInt8MultiArray"}
    bag = write_typed(tmp_path / "bag", types, found, store)
    chosen = default_settings([hand, levels]).changed({"reference": "gripper", "streams": streams})
    account = write_logs(bag, [hand, levels], chosen, tmp_path / "logs").account
    assert account.rows == STEPS
    np.testing.assert_array_equal(row_of(tmp_path / "logs", "tactile"), expected)
    logged = row_of(tmp_path / "logs", "gripper")
    np.testing.assert_array_equal(logged[:, :2], expected)
    np.testing.assert_array_equal(logged[:, 2], np.where(np.arange(STEPS) % 2, -30000, 30000))
    np.testing.assert_array_equal(logged[:, 4], np.arange(STEPS) % 3 == 0)
    np.testing.assert_array_equal(logged[:, 5], expected[:, 1])


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (["linear.w", "angular.z"], "expected a field of geometry_msgs/msg/Vector3 .*, found 'w'"),
        (["linear.x"], "expected 2 numbers, found 1"),
        (["linear", "angular"], "add one of its fields"),
    ],
)
def test_fields_that_do_not_fit_are_named(fields: list[str], sentence: str, tmp_path: Path) -> None:
    types, messages = any_messages()
    bag = write_typed(tmp_path / "bag", types, messages, own_types())
    changed = default_settings(CHOSEN).changed(CHANGES).changed({"streams": {"action": {"fields": fields}}})
    with pytest.raises(ConfigurationError, match=f"streams.action.*{sentence}"):
        write_logs(bag, CHOSEN, changed, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def six_numbers(folder: Path) -> Path:
    """A bag of an arm and of commands with six numbers."""
    types = TYPES.types
    vector = types["geometry_msgs/msg/Vector3"]
    messages: list[Timed] = []
    for n in range(80):
        now = START_NS + n * 50 * MS
        messages.append(("/arm", now, joints(now, (0.1, 0.01 * n), ["shoulder", "elbow"])))
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(now, 1_000_000_000)), "")
        twist = types[TWIST](vector(n, 1.0, 2.0), vector(3.0, 4.0, 5.0))
        message = types["geometry_msgs/msg/TwistStamped"](header, twist)
        messages.append(("/action", now, bytes(TYPES.serialize_cdr(message, message.__msgtype__))))
    return write_typed(folder / "bag", {"/arm": JOINT_STATE, "/action": "geometry_msgs/msg/TwistStamped"}, messages)


@pytest.mark.parametrize("pairs", [None, "following", "same"])
def test_a_command_of_six_numbers_is_paired_as_configured(pairs: str | None, tmp_path: Path) -> None:
    action = numbers("action", 6, **({} if pairs is None else {"pairs": pairs}))
    chosen = default_settings([ARM, action]).changed({"reference": "arm", "streams": {"arm": {"message": JOINT_STATE}}})
    write_logs(six_numbers(tmp_path), [ARM, action], chosen, tmp_path / "logs")
    samples = read_samples(find_trajectories(tmp_path / "logs"), [ARM, action])
    batch, available = samples.batch(np.arange(70))
    # The command of a step's own set, whichever row of the log it stands in.
    np.testing.assert_allclose(action.preprocessing.shape, (6,))
    np.testing.assert_allclose(batch["action"][:, 0].numpy(), np.arange(70))


def test_what_the_command_logs_the_command_trains(tmp_path: Path) -> None:
    content = {
        "model": {
            "size": "tiny",
            "latent": 4,
            "modalities": [one.model_dump(mode="json", exclude_none=True) for one in (ARM, numbers("action", 6))],
        },
        "training": {"epochs": 1, "batch_size": 8},
    }
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(content))
    parameters = {"reference": "arm", "streams": {"arm": {"message": JOINT_STATE}}}
    (tmp_path / "node.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    shared = ("--config", tmp_path / "model.yaml")
    bags = []
    for day in ("monday", "tuesday"):
        (tmp_path / day).mkdir()
        bags.append(six_numbers(tmp_path / day))
    done = smvae("log", *bags, "--out", tmp_path / "logs", *shared, "--params-file", tmp_path / "node.yaml", "--strict")
    assert done.returncode == 0, done.stderr
    trained = smvae("train", "--data", tmp_path / "logs", "--out", tmp_path / "run", *shared, "--device", "cpu")
    assert trained.returncode == 0, trained.stderr
    trained_on = read_metadata(tmp_path / "run" / "best.safetensors").joints
    assert trained_on == {"arm": ("shoulder", "elbow")}
