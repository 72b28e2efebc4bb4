"""Each modality has a key of its own in a log, however many share a topic."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from smvae_core.errors import ConfigurationError
from smvae_ros.replay.logs_of_bags import write_logs_of_bags
from smvae_ros.replay.to_logs import write_logs
from smvae_ros.settings import default_settings

from ..bags.made import ARM, HAND, MS, START_NS, settings, steady, write, write_typed
from .test_any_message import OWN, TWIST, any_messages, numbers, own_types

FORWARDS = {"topic": "cmd_vel", "message": TWIST, "fields": ["linear.x"]}
TURNING = {"topic": "cmd_vel", "message": TWIST, "fields": ["angular.z"]}


def test_two_modalities_take_their_numbers_from_one_topic(tmp_path: Path) -> None:
    types, messages = any_messages()
    bag = write_typed(tmp_path / "bag", types, messages, own_types())
    chosen = [numbers("gripper", 1), numbers("speed", 1), numbers("turn", 1)]
    gripper = {"topic": "gripper", "message": OWN, "fields": ["width"]}
    streams = {"gripper": gripper, "speed": FORWARDS, "turn": TURNING}
    made = default_settings(chosen).changed({"reference": "gripper", "streams": streams})
    logs = write_logs(bag, chosen, made, tmp_path / "logs")
    with h5py.File(logs.files[0]) as log:
        n = np.arange(len(log["speed"]))
        np.testing.assert_allclose(log["speed"][:, 0], 0.1 * n, rtol=1e-6)
        np.testing.assert_allclose(log["turn"][:, 0], -0.2 * n, rtol=1e-6)
    assert not logs.account.losses()


def test_a_message_of_two_modalities_is_counted_once_for_each(tmp_path: Path) -> None:
    store = own_types()
    types = store.types
    messages = []
    for n in range(40):
        now = START_NS + n * 50 * MS
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(now, 1_000_000_000)), "")
        # One number is missing in a quarter of the messages, and one message is cut off behind the width.
        message = types[OWN](header, 0.1 * n, np.ones(2 if n % 4 else 1, np.float32))
        content = bytes(store.serialize_cdr(message, OWN))
        messages.append(("/gripper", now, content[:-7] if n == 9 else content))
    bag = write_typed(tmp_path / "bag", {"/gripper": OWN}, messages, store)
    chosen = [numbers("width", 1), numbers("force", 1)]
    streams = {
        "width": {"topic": "gripper", "message": OWN, "fields": ["width"]},
        "force": {"topic": "gripper", "message": OWN, "fields": ["forces[1]"]},
    }
    made = default_settings(chosen).changed({"reference": "width", "streams": streams})
    account = write_logs(bag, chosen, made, tmp_path / "logs").account
    assert account.modalities["width"].dropped["damaged"] == account.modalities["force"].dropped["damaged"] == 1
    short = f"expected at least 2 elements in {OWN}.forces, found 1"
    assert account.modalities["force"].dropped[short] == 10 and account.modalities["width"].dropped.get(short) is None
    for modality in account.modalities.values():
        assert modality.messages == 40 == modality.used + sum(modality.dropped.values())


@pytest.mark.parametrize(
    ("arm", "hand", "sentence"),
    [
        ("state", "state", "arm and hand: expected a source for each, .*found 'state' for both"),
        ("state", "/state/", "arm and hand: expected a source for each, .*found '/state/' for both"),
        ("robot/state", "robot//./state", "arm and hand: expected a source for each"),
        ("robot", "robot/state", "none is a folder of the other, found 'robot' and 'robot/state'"),
        ("a/b/c", "a/b", "none is a folder of the other, found 'a/b/c' and 'a/b'"),
        ("state", "/", "hand: expected a key of a log as source, found '/'"),
    ],
)
def test_a_key_that_would_overwrite_another_is_refused(arm: str, hand: str, sentence: str, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", [*steady("/arm", 9), *steady("/hand", 9)])
    chosen = [ARM.model_copy(update={"source": arm}), HAND.model_copy(update={"source": hand})]
    with pytest.raises(ConfigurationError, match=sentence):
        write_logs(bag, chosen, settings(), tmp_path / "logs")
    with pytest.raises(ConfigurationError, match=sentence):
        write_logs_of_bags({"a": bag, "b": bag}, chosen, settings(), tmp_path / "logs", lambda: None)
    assert not (tmp_path / "logs").exists()
