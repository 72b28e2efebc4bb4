"""`smvae check`: the verdict on a bag, a robot or a data set before anything is launched."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from smvae_core.errors import ConfigurationError
from smvae_core.modality import vision_touch_modalities
from smvae_ros.check.bag import RecordedSource
from smvae_ros.check.facts import Topic, of_fusion_nodes
from smvae_ros.check.run import check, draft
from smvae_ros.check.verdicts import Line, Verdict
from smvae_ros.conversions.bindings import WRENCH
from smvae_ros.replay.fusion_bag import LATENT

from ..bags.made import ARM, HAND, JOINT_STATE, MS, START_NS, TYPES, joints, steady, write, write_mixed, write_typed
from ..command import smvae

BOTH = [ARM, HAND]
IMAGE = "sensor_msgs/msg/Image"
STATUS = "smvae_ros/msg/FusionStatus"
JSON = ("jsonschema", b'{"type": "object"}', "json")
STREAMS = {name: {"topic": name, "message": JOINT_STATE} for name in ("arm", "hand")}


def verdict_on(bag: Path, **changes: Any) -> Verdict:
    return check(RecordedSource(bag, 60.0), BOTH, [{"reference": "arm", "streams": STREAMS}, changes])


def line(verdict: Verdict, modality: str, fact: str) -> Line:
    (found,) = [one for one in verdict.lines if (one.modality, one.fact) == (modality, fact)]
    return found


def image(stamp_ns: int, encoding: str, brightness: int = 0) -> bytes:
    """A serialised picture of 4 by 4 pixels."""
    types, step = TYPES.types, 4 * (3 if encoding == "rgb8" else 2)
    stamp = types["builtin_interfaces/msg/Time"](*divmod(stamp_ns, 1_000_000_000))
    header = types["std_msgs/msg/Header"](stamp, "camera")
    pixels = np.arange(4 * step, dtype=np.uint8) + np.uint8(brightness)
    return bytes(TYPES.serialize_cdr(types[IMAGE](header, 4, 4, encoding, 0, step, pixels), IMAGE))


def write_episode(path: Path, length: int) -> Path:
    """An episode of ALOHA without cameras."""
    path.parent.mkdir(exist_ok=True)
    joints = np.cumsum(np.random.default_rng(length).normal(size=(length, 2)), axis=0)
    with h5py.File(path, "w") as file:
        file["observations/qpos"], file["action"] = joints, joints + 0.1
    return path


def test_a_good_bag_would_be_fused(tmp_path: Path) -> None:
    verdict = verdict_on(write(tmp_path / "bag", steady("/arm", 60) + steady("/hand", 60)))
    assert verdict.fuses and verdict.sets >= 60
    assert line(verdict, "arm", "rate").found.startswith("20")
    assert line(verdict, "arm", "content").found == "2 numbers"
    assert line(verdict, "hand", "valid").found == "100 %"


def test_a_missing_topic_is_named_with_those_that_could_bring_it(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 60) + steady("/hand", 60))
    verdict = verdict_on(bag, streams={"hand": {"topic": "gripper/hand"}})
    found = line(verdict, "hand", "topic")
    assert not verdict.fuses and found.level == "error" and found.advice.startswith("--topic hand:=/hand")
    assert [topic.name for topic in verdict.unused] == ["/hand"]


@pytest.mark.parametrize("node", ["/fusion", "/arm_robot/fusion"])
def test_what_a_fusion_node_infers_is_no_sensor(node: str, tmp_path: Path) -> None:
    topics = ("/arm", "/hand", f"{node}/predicted/hand", f"{node}/latent", f"{node}_arm/hand")
    messages = [message for name in topics for message in steady(name, 60)]
    source = RecordedSource(write(tmp_path / "bag", messages), 60.0)
    source.topics[f"{node}/latent"] = replace(source.topics[f"{node}/latent"], types=(LATENT,))
    unheard = {"reference": "arm", "streams": {**STREAMS, "hand": {"topic": "gripper", "message": JOINT_STATE}}}
    found = line(check(source, BOTH, [unheard]), "hand", "topic")
    assert f"{node}_arm/hand" in found.advice and f"{node}/" not in found.advice
    drafted = draft(source).parameters["streams"].values()
    assert {stream["topic"] for stream in drafted} == {"/arm", "/hand", f"{node}_arm/hand"}


def test_a_sensor_that_is_named_like_an_output_of_a_fusion_node_is_a_sensor() -> None:
    types = {"/fusion/latent": LATENT, "/fusion/status": STATUS, "/fusion/predicted/hand": JOINT_STATE}
    sensors = {"/fusion/latent_heat": JOINT_STATE, "/fusion/status_of_hand": JOINT_STATE}
    topics = {name: Topic(name, (kind,), 1) for name, kind in {**types, **sensors}.items()}
    assert of_fusion_nodes(topics) == set(types)


def test_a_bag_of_nothing_but_what_a_fusion_node_infers_brings_no_modality(tmp_path: Path) -> None:
    messages = [*steady("/fusion/predicted/hand", 60), *steady("/fusion/latent", 1)]
    source = RecordedSource(write(tmp_path / "bag", messages), 60.0)
    source.topics["/fusion/latent"] = replace(source.topics["/fusion/latent"], types=(LATENT,))
    verdict = check(source, BOTH, [{"reference": "arm", "streams": STREAMS}])
    assert line(verdict, "hand", "topic").advice.startswith("nothing but a fusion node sends")
    with pytest.raises(ConfigurationError, match="which no fusion node publishes, found /fusion/latent"):
        draft(source)


def test_another_type_is_named(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 60) + steady("/hand", 60))
    verdict = verdict_on(bag, streams={"hand": {"message": "smvae_ros/msg/VectorStamped"}})
    found = line(verdict, "hand", "type")
    assert (found.level, found.found, found.wanted) == ("error", JOINT_STATE, "smvae_ros/msg/VectorStamped")


@pytest.mark.parametrize("offset_s", [-3600.0, -0.5, 0.0, 2.5])
def test_stamps_of_another_clock_get_the_offset_that_mends_them(offset_s: float, tmp_path: Path) -> None:
    hand = [
        (topic, receive_ns, joints(receive_ns - round(offset_s * 1e9))) for topic, receive_ns, _ in steady("/hand", 60)
    ]
    bag = write(tmp_path / "bag", steady("/arm", 60) + hand)
    found = line(verdict_on(bag), "hand", "stamps")
    if offset_s == 0.0:
        assert found.level == "ok"
        return
    assert found.level == "error" and f"offset: {offset_s:.3f}" in found.advice
    assert verdict_on(bag, streams={"hand": {"offset": offset_s}}).fuses


def test_stamps_that_repeat_are_no_other_clock(tmp_path: Path) -> None:
    hand = [
        (topic, receive_ns, joints(receive_ns - receive_ns % (500 * MS)))
        for topic, receive_ns, _ in steady("/hand", 60)
    ]
    verdict = verdict_on(write(tmp_path / "bag", steady("/arm", 60) + hand))
    found = line(verdict, "hand", "stamps")
    assert (
        found.level == "warning" and found.found == "stamps repeat: 54 of 60 messages have the stamp of an earlier one"
    )
    assert not verdict.fuses


def test_a_camera_that_hangs_is_told(tmp_path: Path) -> None:
    stamps = [START_NS + n * 50 * MS for n in range(40)]
    rgb = vision_touch_modalities()[0]
    for pictures, level in ((1, "warning"), (len(stamps), "ok")):
        messages = [("/rgb", stamp, image(stamp, "rgb8", n % pictures)) for n, stamp in enumerate(stamps)]
        bag = write_typed(tmp_path / f"bag_{pictures}", {"/rgb": IMAGE}, messages)
        verdict = check(RecordedSource(bag, 60.0), [rgb], [{"reference": "rgb", "streams": {"rgb": {"topic": "rgb"}}}])
        assert verdict.fuses
        told = [one for one in verdict.lines if one.fact == "repeated"]
        assert [one.found for one in told] == ["39 of 40 are the same as one just before"] * (level == "warning")


def test_a_window_that_spans_too_much_time_is_told_with_the_rate_that_is_wanted(tmp_path: Path) -> None:
    force = vision_touch_modalities()[2]
    types = TYPES.types
    vector = types["geometry_msgs/msg/Vector3"]
    messages = []
    for n in range(200):
        stamp = START_NS + n * 10 * MS
        header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*divmod(stamp, 10**9)), "wrist")
        wrench = types["geometry_msgs/msg/Wrench"](vector(n, 0.0, 0.0), vector(0.0, 0.0, 0.0))
        data = bytes(TYPES.serialize_cdr(types[WRENCH](header, wrench), WRENCH))
        messages.append(("/wrench", stamp, data))
    bag = write_typed(tmp_path / "bag", {"/wrench": WRENCH}, messages)
    found = line(check(RecordedSource(bag, 60.0), [force], [{"reference": ""}]), "force", "rate")
    assert found.level == "error" and "spans 309 ms" in found.advice and "streams.force.period: 0.01" in found.advice


@pytest.mark.parametrize(
    ("positions", "reason"),
    [((0.1, 0.2, 0.3), "expected 2 numbers"), ((0.1, float("nan")), "expected finite numbers, found nan")],
)
def test_messages_that_cannot_be_used_are_told(positions: tuple[float, ...], reason: str, tmp_path: Path) -> None:
    hand = [(topic, receive_ns, joints(receive_ns, positions)) for topic, receive_ns, _ in steady("/hand", 60)]
    verdict = verdict_on(write(tmp_path / "bag", steady("/arm", 60) + hand))
    found = line(verdict, "hand", "content")
    assert not verdict.fuses and found.level == "error" and reason in found.advice


def test_a_slow_command_gets_a_hold_that_lets_it_into_the_sets(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 120) + steady("/hand", 12, period_ms=500))
    verdict = verdict_on(bag)
    found = line(verdict, "hand", "sets")
    assert found.level == "error" and "streams.hand.hold: 1" in found.advice
    assert verdict_on(bag, streams={"hand": {"hold": 1.0, "timeout": 2.0}}).fuses


def test_joints_that_are_taken_by_position_are_offered_by_name(tmp_path: Path) -> None:
    arm = [(topic, stamp, joints(stamp, (1.0, 2.0), "ab")) for topic, stamp, _ in steady("/arm", 60)]
    bag = write(tmp_path / "bag", arm + steady("/hand", 60))
    assert "streams.arm.joints: [a, b]" in line(verdict_on(bag), "arm", "joints").advice
    assert line(verdict_on(bag, streams={"arm": {"joints": ["b", "a"]}}), "arm", "joints").level == "ok"


def test_a_draft_of_a_bag_is_fused_at_once(tmp_path: Path) -> None:
    arm = [(topic, stamp, joints(stamp, (1.0, 2.0), "ab")) for topic, stamp, _ in steady("/arm", 60, period_ms=200)]
    source = RecordedSource(write(tmp_path / "bag", arm + steady("/hand", 240)), 60.0)
    found = draft(source)
    assert [modality.name for modality in found.modalities] == ["arm", "hand"]
    assert found.parameters["reference"] == "arm" and found.parameters["streams"]["arm"]["joints"] == ["a", "b"]
    assert check(source, found.modalities, [found.parameters]).fuses


def test_a_draft_opens_a_set_for_each_picture_of_the_camera_that_sends_most(tmp_path: Path) -> None:
    topics = {"/camera/aligned_depth_to_color/image_raw": "16UC1", "/camera/color/image_raw": "rgb8"}
    messages = []
    for n in range(20):
        at = START_NS + n * 50 * MS
        for topic, encoding in topics.items():
            if encoding == "rgb8" or n < 10:
                messages.append((topic, at, image(at, encoding)))
    source = RecordedSource(write_typed(tmp_path / "bag", dict.fromkeys(topics, IMAGE), messages), 60.0)
    drafted = draft(source)
    assert {m.name: m.preprocessing.kind for m in drafted.modalities} == {"depth": "depth", "color": "rgb"}
    assert drafted.parameters["reference"] == "color"


def test_what_is_wrong_with_a_bag_is_told(tmp_path: Path) -> None:
    whole = write_mixed(tmp_path / "whole.mcap", steady("/arm", 60) + steady("/hand", 60), {"/other": JSON})
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole.read_bytes()[:-40])
    source = RecordedSource(cut, 60.0)
    assert check(source, BOTH, [{"reference": "arm", "streams": STREAMS}]).fuses
    damage, channel = source.notes
    assert damage.startswith("cut.mcap: is cut off or damaged after 120 messages")
    assert channel == "/other (jsonschema) was left out, since it holds no ROS 2 messages (120 messages)"


def test_a_draft_passes_over_damaged_messages(tmp_path: Path) -> None:
    arm = [
        (topic, stamp, content[:9] if n == 0 else content)
        for n, (topic, stamp, content) in enumerate(steady("/arm", 60))
    ]
    hand = [(topic, stamp, content[:9]) for topic, stamp, content in steady("/hand", 60)]
    source = RecordedSource(write(tmp_path / "bag", arm + hand), 60.0)
    assert [modality.name for modality in draft(source).modalities] == ["arm"]
    assert source.notes == ["/hand is not drafted: no whole message was read"]
    source = RecordedSource(write(tmp_path / "none", hand), 60.0)
    with pytest.raises(
        ConfigurationError, match="expected whole messages to draft modalities from, found none on /hand"
    ):
        draft(source)


def test_a_modality_that_begins_after_the_part_that_is_read_is_no_silent_sensor(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", steady("/arm", 300) + steady("/hand", 60, start_ms=12_000))
    source = RecordedSource(bag, 10.0)
    found = line(check(source, BOTH, [{"reference": "arm", "streams": STREAMS}]), "hand", "messages")
    assert found.level == "error" and "the bag counts 60" in found.advice and "--seconds" in found.advice


def test_two_publishers_in_turn_are_seen_without_their_qos(tmp_path: Path) -> None:
    arm = [(topic, at, joints(at, (5.0, 6.0))) for topic, at, _ in steady("/arm", 60, start_ms=20)]
    verdict = verdict_on(write(tmp_path / "bag", steady("/arm", 60) + arm + steady("/hand", 60)))
    assert line(verdict, "arm", "publishers").level == "warning"
    assert not [one for one in verdict.lines if (one.modality, one.fact) == ("hand", "publishers")]


def test_the_command_checks_and_drafts_a_bag(bag: Path, checkpoint: Path, tmp_path: Path) -> None:
    good = smvae("check", bag, "--checkpoint", checkpoint, run=subprocess.run)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "the node would fuse" in good.stdout
    other = smvae("check", bag, "--checkpoint", checkpoint, "--topic", "depth:=/nowhere")
    assert other.returncode == 1 and "the node would not fuse: depth: topic no publisher" in other.stdout
    drafted = smvae("check", bag, "--write", tmp_path / "mine")
    assert drafted.returncode == 0, drafted.stdout + drafted.stderr
    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    kinds = {one["name"]: one["preprocessing"]["kind"] for one in content["model"]["modalities"]}
    assert kinds == {"rgb": "rgb", "depth": "depth", "wrench": "force", "action": "vector"}
    log = ("--config", tmp_path / "mine.yaml", "--params-file", tmp_path / "mine_fusion.yaml")
    assert smvae("log", bag, "--out", tmp_path / "logs", *log).returncode == 0
    again = smvae("check", bag, "--write", tmp_path / "mine")
    assert again.returncode == 2 and "mine.yaml: exists already" in again.stderr


def test_the_command_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    (tmp_path / "fake.mcap").write_text("hello")
    (tmp_path / "empty").mkdir()
    for path in ("fake.mcap", "empty", "nothing"):
        done = smvae("check", tmp_path / path)
        assert done.returncode == 2 and done.stderr.startswith("error:") and "Traceback" not in done.stderr, path


def test_the_command_drafts_a_data_set(logs: Path, tmp_path: Path) -> None:
    done = smvae("check", logs, "--write", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "1 trajectories, 21 steps" in done.stdout
    sources = {one["source"] for one in yaml.safe_load((tmp_path / "data.yaml").read_text())["model"]["modalities"]}
    assert {"image", "depth_data", "action"} <= sources


def test_a_folder_of_bags_and_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "mixed" / "monday", steady("/arm", 5))
    (tmp_path / "mixed" / "arm").mkdir()
    write_episode(tmp_path / "mixed" / "arm" / "episode_0.hdf5", 3)
    done = smvae("check", tmp_path / "mixed")
    assert done.returncode == 2 and "found both (monday and arm/episode_0.hdf5)" in done.stderr
