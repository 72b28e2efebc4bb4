"""The account of `smvae log`: every message counts once, with the reason why it stands in no log."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rosbags.rosbag2 import StoragePlugin

from smvae_core.modality import Modality
from smvae_core.preprocessing import Force
from smvae_ros.bags.reading import BagError
from smvae_ros.replay.account import NO_SET, UNREAD, BagAccount
from smvae_ros.replay.account_table import bag_lines
from smvae_ros.replay.spacings import Spacings
from smvae_ros.replay.to_logs import ACCOUNT, WrittenLogs, write_logs
from smvae_ros.replay.turns import Turns
from smvae_ros.settings import default_settings

from ..bags.made import ARM, HAND, JOINT_STATE, MS, START_NS, Timed, joints, settings, steady, write
from ..command import smvae

BOTH = [ARM, HAND]


def logged(folder: Path, messages: list[Timed], **changes: object) -> WrittenLogs:
    folder.mkdir(exist_ok=True)
    return write_logs(write(folder / "bag", messages), BOTH, settings(**changes), folder / "logs")


def rows_of(logs: WrittenLogs) -> int:
    rows = 0
    for file in logs.files:
        with h5py.File(file) as content:
            rows += len(content["arm"] if "arm" in content else content["hand"])
    return rows


def check(account: BagAccount, sent: dict[str, int]) -> None:
    """Every message is used or dropped, once."""
    for name, modality in account.modalities.items():
        assert modality.messages == sent[name]
        assert modality.messages == modality.used + sum(modality.dropped.values()), (name, modality)
        assert min(modality.dropped.values(), default=1) > 0 and modality.used >= 0


MESSAGE = st.sampled_from(["good", "good", "good", "size", "nan", "damaged", "equal", "late", "missing", "pause"])


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arm=st.lists(MESSAGE, min_size=2, max_size=40), hand=st.lists(MESSAGE, max_size=40))
def test_every_message_is_used_or_dropped_once(
    tmp_path_factory: pytest.TempPathFactory, arm: list[str], hand: list[str]
) -> None:
    messages, sent = [], {"arm": 0, "hand": 0}
    for topic, kinds in (("/arm", arm), ("/hand", ["good", *hand])):
        now = START_NS
        for kind in kinds:
            now += 400 * MS if kind == "pause" else 50 * MS
            if kind == "missing":
                continue
            stamp = now - {"equal": 50, "late": 900}.get(kind, 0) * MS
            positions = {"size": (0.1, 0.2, 0.3), "nan": (0.1, float("nan"))}.get(kind, (0.1, 0.2))
            content = joints(stamp, positions)
            messages.append((topic, now, content[:14] if kind == "damaged" else content))
            sent[topic[1:]] += 1
    folder = tmp_path_factory.mktemp("account")
    try:
        logs = logged(folder, messages)
    except BagError as error:
        assert "expected sets to write, found none; arm: " in str(error) or "expected messages on" in str(error)
        assert not (folder / "logs").exists()
        return
    check(logs.account, sent)
    assert logs.account.rows == rows_of(logs) == sum(one.rows for one in logs.account.trajectories)
    assert sum(logs.account.splits.values()) >= len(logs.account.trajectories)


def test_the_account_stands_in_each_log_and_beside_them(tmp_path: Path) -> None:
    logs = logged(tmp_path, steady("/arm", 120) + steady("/hand", 120))
    assert len(logs.files) == 3
    beside = BagAccount.model_validate_json((tmp_path / "logs" / "bag.account.json").read_text())
    assert beside == logs.account
    for file in logs.files:
        with h5py.File(file) as content:
            inside = json.loads(content.attrs[ACCOUNT])
        assert inside["modalities"]["arm"]["used"] == 120 and "trajectories" not in inside


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"positions": (0.1, 0.2, 0.3)}, "expected 2 numbers in position, found 3"),
        ({"positions": (0.1, float("nan"))}, "expected finite numbers, found nan"),
        ({"names": ("a", "a")}, "expected each joint once, found a, a"),
    ],
)
def test_messages_that_cannot_be_used_are_counted_by_their_reason(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    messages = steady("/hand", 40)
    for n in range(10, 20):
        topic, receive_ns, _ = messages[n]
        messages[n] = topic, receive_ns, joints(receive_ns, **change)
    account = logged(tmp_path, steady("/arm", 40) + messages).account
    hand = account.modalities["hand"]
    assert hand.dropped[reason] == 10 and sum(hand.dropped.values()) <= 11
    # The last command before is held for a while.
    assert account.modalities["arm"].rows == 40 and 29 <= hand.rows <= 32
    assert account.splits == {"hand went": 1, "hand came": 1, "end of the bag": 1}
    assert account.losses() == [f"hand: 10 of 40 messages on /hand were lost: 10 × {reason}"]


def test_equal_stamps_are_told(tmp_path: Path) -> None:
    frozen = [("/hand", START_NS + n * 50 * MS, joints(START_NS)) for n in range(40)]
    account = logged(tmp_path, steady("/arm", 40) + frozen).account
    dropped = account.modalities["hand"].dropped
    assert account.modalities["hand"].messages == 40 and sum(dropped.values()) >= 38
    assert any("hand" in loss for loss in account.losses())


@pytest.mark.parametrize("jumping", ["/arm", "/hand"])
def test_messages_without_a_set_are_a_loss_where_sets_lack_them(jumping: str, tmp_path: Path) -> None:
    """The clock of one sensor jumps back by 20 minutes, so no set finds its messages any more."""
    messages = steady("/arm", 120) + steady("/hand", 120)
    half = START_NS + 60 * 50 * MS
    messages = [
        (topic, at, joints(at - 1_200_000 * MS)) if topic == jumping and at >= half else (topic, at, content)
        for topic, at, content in messages
    ]
    account = logged(tmp_path, messages).account
    check(account, {"arm": 120, "hand": 120})
    (loss,) = account.losses()
    assert f"60 of 120 messages on {jumping} were lost" in loss


def moving(count: int, start_ms: int, apart: float, delay_ms: int = 0, frame: str = "base") -> list[Timed]:
    """An arm that moves, `apart` from another one."""
    stamps = [START_NS + (start_ms + 50 * n) * MS for n in range(count)]
    angles = [0.3 * np.sin(0.1 * n) + apart for n in range(count)]
    return [
        ("/arm", stamp + delay_ms * MS, joints(stamp, (angle, -angle), (), frame))
        for stamp, angle in zip(stamps, angles)
    ]


@pytest.mark.parametrize(
    ("other", "sign"),
    [
        (moving(200, 23, 2.0), "each message is like the last but one"),
        (moving(200, 25, 2.0), "each message is like the last but one"),
        ([(topic, at, joints(at, (2.0, 3.0))) for topic, at, _ in moving(200, 20, 0.0)], "like the last but one"),
        (moving(200, 0, 0.01, delay_ms=120), "stamps run back again and again"),
        (moving(200, 23, 0.0, frame="other"), "each message is like the last but one"),
        ([(topic, at, joints(at, (0.5,), "g")) for topic, at, _ in moving(200, 23, 0.0)], "like the last but one"),
    ],
)
def test_two_publishers_in_turn_are_told_without_their_qos(other: list[Timed], sign: str, tmp_path: Path) -> None:
    account = logged(tmp_path, moving(200, 0, 0.0) + other + steady("/hand", 200)).account
    assert [name for name, one in account.modalities.items() if one.mixed] == ["arm"]
    assert any(
        "arm: messages on /arm look like those of two publishers" in loss and sign in loss for loss in account.losses()
    )


EVERY_OTHER = np.arange(6400) % 2
NOISE = np.random.default_rng(0).normal(size=6400)
ALONE = {
    "noise": NOISE,
    "random states": np.random.default_rng(1).integers(0, 2, 6400),
    "steps": np.arange(6400) // 50 % 2,
    "two states": EVERY_OTHER,
    "two states with noise": EVERY_OTHER + 0.01 * NOISE,
    "a vibration near half of the rate": np.cos(0.99 * np.pi * np.arange(6400)),
    "a movement": np.sin(0.01 * np.arange(6400)),
}


@pytest.mark.parametrize("jitter_ms", [0.0, 1.0])
@pytest.mark.parametrize("kind", ALONE)
def test_what_one_publisher_sends_is_not_that_of_two(kind: str, jitter_ms: float) -> None:
    turns = Turns()
    jitter = np.random.default_rng(2).normal(size=6400)
    for n, value in enumerate(ALONE[kind].tolist()):
        turns.add(START_NS + round((20 * n + jitter_ms * jitter[n]) * MS), START_NS + 20 * n * MS, (value, 3 - value))
    assert turns.reason == ""


def test_a_sensor_without_a_reading_every_other_time_is_not_two() -> None:
    turns = Turns()
    for n in range(640):
        at = START_NS + 20 * n * MS
        turns.add(at, *((0, None) if n % 2 else (at, (0.1,), b"base")))
    assert turns.reason == ""


def test_a_lamp_that_blinks_before_a_camera_is_not_a_second_camera() -> None:
    turns = Turns()
    for n in range(6400):
        size = (20_000 if n % 2 else 9_000) + round(500 * np.sin(0.01 * n))
        turns.add(START_NS + 33 * n * MS, START_NS + 33 * n * MS, (size,), is_picture=True)
    assert turns.reason == ""
    for n in range(64):
        at = START_NS + (1_000_000 + 33 * (n // 2) + 12 * (n % 2)) * MS
        turns.add(at, at, (20_000 if n % 2 else 9_000,), is_picture=True)
    assert turns.reason, "two cameras, 12 ms apart"


def test_a_stream_that_is_much_faster_than_the_reference_loses_nothing(tmp_path: Path) -> None:
    account = logged(tmp_path, steady("/arm", 12, 5000) + steady("/hand", 1200)).account
    hand = account.modalities["hand"]
    assert hand.dropped["overflow"] > 100, "more wait for a set than are kept"
    assert (hand.rows, account.rows, account.losses()) == (12, 12, [])


def test_a_stream_that_comes_and_goes_is_no_loss(tmp_path: Path) -> None:
    fast = [message for message in steady("/hand", 1200, 5) if (message[1] - START_NS) // (1000 * MS) % 2]
    account = logged(tmp_path, steady("/arm", 120) + fast).account
    assert account.modalities["hand"].dropped[NO_SET] > 300 and account.losses() == []


def test_a_stream_that_is_slower_than_the_sets_gets_a_hint_that_helps(tmp_path: Path) -> None:
    messages = steady("/arm", 240) + steady("/hand", 30, 400)
    account = logged(tmp_path / "as_it_is", messages).account
    assert len(account.trajectories) == 60
    (hint,) = [line for line in bag_lines(account) if "streams.hand.hold: " in line]
    hold = float(hint.split()[-1])
    account = logged(tmp_path / "held", messages, streams={"hand": {"hold": hold}}).account
    assert len(account.trajectories) == 1 and not any("hold" in line for line in bag_lines(account))


def test_windows_of_a_slower_stream_than_expected_get_a_hint_that_helps(tmp_path: Path) -> None:
    window = Force(window=16, scale=(1.0, 1.0))
    hand = Modality(name="hand", source="hand", preprocessing=window, network="sequence", likelihood="normal")
    bag = write(tmp_path / "bag", steady("/arm", 60) + steady("/hand", 600, 5))
    streams = {name: {"topic": name, "message": JOINT_STATE} for name in ("arm", "hand")}
    found = default_settings([ARM, hand]).changed({"reference": "arm", "streams": streams})
    account = write_logs(bag, [ARM, hand], found, tmp_path / "as_it_is").account
    assert account.modalities["hand"].used == 0
    (hint,) = [line for line in bag_lines(account) if "streams.hand.period: " in line]
    helped = found.changed({"streams": {"hand": {"period": float(hint.split()[-1])}}})
    account = write_logs(bag, [ARM, hand], helped, tmp_path / "helped").account
    assert account.modalities["hand"].used > 550 and not account.losses()
    assert not any("period" in line for line in bag_lines(account))


@pytest.mark.parametrize("period_ms", [20, 100, 280, 450])
def test_a_gap_follows_the_rate_of_the_stream(period_ms: int, tmp_path: Path) -> None:
    pause = period_ms * 8
    messages = []
    for topic in ("/arm", "/hand"):
        messages += steady(topic, 40, period_ms)
        messages += steady(topic, 40, period_ms, start_ms=39 * period_ms + pause)
    streams = {name: {"timeout": 20.0} for name in ("arm", "hand")}
    account = logged(tmp_path, messages, streams=streams).account
    assert [trajectory.rows for trajectory in account.trajectories] == [40, 40]
    assert account.splits == {"a gap": 1, "end of the bag": 1}
    arm = account.modalities["arm"]
    assert arm.rate == pytest.approx(1000 / period_ms, rel=0.03)
    assert (arm.gaps, arm.longest_gap) == (1, pytest.approx(pause / 1000))


@pytest.mark.parametrize(("arm_ms", "hand_ms"), [(700, 700), (5000, 5000), (1000, 50)])
def test_a_reference_slower_than_its_timeout_loses_nothing(arm_ms: int, hand_ms: int, tmp_path: Path) -> None:
    hand = steady("/hand", 30 * arm_ms // hand_ms, hand_ms)
    account = logged(tmp_path, steady("/arm", 30, arm_ms) + hand).account
    assert [trajectory.rows for trajectory in account.trajectories] == [30]
    assert account.modalities["hand"].rows == account.modalities["arm"].used == 30
    assert account.timeouts["arm"] == pytest.approx(5 * arm_ms / 1000, rel=0.03)
    (line,) = [line for line in bag_lines(account) if "streams.arm.timeout" in line]
    assert "arm comes more rarely than its timeout" in line


@given(st.lists(st.integers(1, 10**10), min_size=1, max_size=60))
def test_spacings_are_known_to_two_percent(steps: list[int]) -> None:
    spacings = Spacings()
    for stamp in np.cumsum([0, *steps]).tolist():
        spacings.add(stamp)
    middle = sorted(steps)[(len(steps) - 1) // 2]
    assert spacings.usual_ns() == pytest.approx(middle, rel=0.02)
    assert spacings.longest_ns == max(steps)


def cut_database(folder: Path) -> Path:
    messages = steady("/arm", 400) + steady("/hand", 400)
    bag = write(folder / "bag", messages, StoragePlugin.SQLITE3)
    (database,) = bag.glob("*.db3")
    content = database.read_bytes()
    database.write_bytes(content[: len(content) * 6 // 10])
    return bag


def test_messages_that_the_metadata_counts_and_nobody_can_read_are_in_the_account(tmp_path: Path) -> None:
    account = write_logs(cut_database(tmp_path), BOTH, settings(), tmp_path / "logs").account
    check(account, {"arm": 400, "hand": 400})
    assert min(modality.dropped[UNREAD] for modality in account.modalities.values()) > 50


def test_the_command_warns_of_a_loss_and_strict_ends_with_3(tmp_path: Path) -> None:
    bag = cut_database(tmp_path)
    (tmp_path / "arm.yaml").write_text(
        "model:\n  modalities:\n"
        + "".join(
            f"    - {{name: {name}, source: {name}, preprocessing: {{kind: vector, size: 2}}, network: vector, "
            "likelihood: normal}\n"
            for name in ("arm", "hand")
        )
    )
    (tmp_path / "node.yaml").write_text(
        "/**:\n  ros__parameters:\n    reference: arm\n    streams:\n"
        "      arm: {topic: arm, message: sensor_msgs/msg/JointState}\n"
        "      hand: {topic: hand, message: sensor_msgs/msg/JointState}\n"
    )
    options = ("--config", tmp_path / "arm.yaml", "--params-file", tmp_path / "node.yaml")
    lenient = smvae("log", bag, "--out", tmp_path / "lenient", *options)
    strict = smvae("log", bag, "--out", tmp_path / "strict", *options, "--strict")
    assert (lenient.returncode, strict.returncode) == (0, 3)
    for done in (lenient, strict):
        assert "what became of the messages" in done.stdout
        assert "warning: bag: bag.db3: is cut off or damaged after" in done.stderr
        assert "of 400 messages on /arm could be read" in done.stderr
    assert len(list((tmp_path / "strict").glob("*.h5"))) == len(list((tmp_path / "lenient").glob("*.h5"))) > 0
