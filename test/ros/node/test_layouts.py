"""The Foxglove layout and the RViz configuration name what the node publishes and hears, and no more."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import rclpy
import yaml
from ament_index_python.packages import get_package_share_directory
from rclpy.node import Node

from smvae_core.preprocessing import Depth

from ..robot import PATIENCE_S, FusionProcess, own_domain

IMAGE = "sensor_msgs/msg/Image"
EXPECTED = {"/rgb/image", "/depth/image", "/wrench", "/action", "/diagnostics", "/fusion/latent", "/fusion/status"} | {
    f"/fusion/predicted/{name}" for name in ("rgb", "depth", "wrench", "action")
}
PAIRS = {("/rgb/image", "/fusion/predicted/rgb"), ("/depth/image", "/fusion/predicted/depth")}


@pytest.fixture(scope="module")
def topics(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """By topic of the running node its type."""
    with own_domain() as domain:
        process = FusionProcess(tmp_path_factory.mktemp("fusion") / "log", {"checkpoint": checkpoint})
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        listener = Node("listener", context=context)
        try:
            found: dict[str, str] = {}
            deadline = monotonic() + PATIENCE_S
            # Endpoints are discovered one by one.
            while not set(found) >= EXPECTED:
                assert monotonic() < deadline, f"the node has {sorted(found)}"
                found = {name: types[0] for name, types in of_node(listener)}
            # Not published where sensor_msgs_py is not installed.
            yield found | {"/fusion/predicted/points": "sensor_msgs/msg/PointCloud2"}
        finally:
            listener.destroy_node()
            context.shutdown()
            process.kill()


def of_node(listener: Node) -> list[tuple[str, list[str]]]:
    """Topics that the node publishes or hears."""
    if ("fusion", "/") not in listener.get_node_names_and_namespaces():
        return []
    return [
        *listener.get_publisher_names_and_types_by_node("fusion", "/"),
        *listener.get_subscriber_names_and_types_by_node("fusion", "/"),
    ]


@pytest.fixture(scope="module")
def foxglove() -> dict[str, Any]:
    """The installed layout."""
    return json.loads((Path(get_package_share_directory("smvae_ros")) / "config" / "foxglove.json").read_text())


@pytest.fixture(scope="module")
def rviz() -> dict[str, Any]:
    """The installed configuration."""
    return yaml.safe_load((Path(get_package_share_directory("smvae_ros")) / "config" / "fusion.rviz").read_text())


def message_class(kind: str) -> type:
    """Of a type's name such as `std_msgs/msg/Header`."""
    package, _, name = kind.split("/")
    return getattr(import_module(f"{package}.msg"), name)


def field_of(kind: str, path: str) -> Any:
    """What a path such as `.modalities[:]{name=="rgb"}.share` names in a message; fails where it names nothing."""
    message = message_class(kind)()
    for name, is_element in re.findall(r"\.(\w+)((?:\[[^]]*\])?)(?:\{[^}]*\})?", path):
        kind = message.get_fields_and_field_types()[name]
        message = getattr(message, name)
        if is_element and "/" in kind:
            message = message_class(re.sub(r"sequence<(\w+)/(\w+)>", r"\1/msg/\2", kind))()
    return message


def test_the_layout_shows_each_of_its_panels_once(foxglove: dict[str, Any]) -> None:
    shown: list[str] = []

    def walk(place: Any) -> None:
        if isinstance(place, str):
            shown.append(place)
        else:
            assert place["direction"] in ("row", "column") and 0 < place["splitPercentage"] < 100
            walk(place["first"])
            walk(place["second"])

    walk(foxglove["layout"])
    assert sorted(shown) == sorted(foxglove["configById"])
    assert {panel.split("!")[0] for panel in shown} == {"Image", "Plot", "DiagnosticSummary", "3D"}


def test_foxglove_names_topics_and_fields_of_the_node(foxglove: dict[str, Any], topics: dict[str, str]) -> None:
    for name, panel in foxglove["configById"].items():
        if name.startswith("Image!"):
            assert topics[panel["imageMode"]["imageTopic"]] == IMAGE
        elif name.startswith("DiagnosticSummary!"):
            assert topics[panel["topicToRender"]] == "diagnostic_msgs/msg/DiagnosticArray"
        elif name.startswith("3D!"):
            assert set(panel["topics"]) <= set(topics)
        else:
            for path in [*panel["paths"], *([panel["xAxisPath"]] if "xAxisPath" in panel else [])]:
                topic, dot, rest = path["value"].partition(".")
                assert topic in topics
                field_of(topics[topic], dot + rest)
    panels = foxglove["configById"].items()
    images = {panel["imageMode"]["imageTopic"] for name, panel in panels if name.startswith("Image!")}
    assert {topic for pair in PAIRS for topic in pair} == images


def test_foxglove_and_lichtblick_name_the_panels_alike(foxglove: dict[str, Any]) -> None:
    for name, panel in foxglove["configById"].items():
        assert panel.get("foxglovePanelTitle") == panel.get("lichtblickPanelTitle")
        assert "foxglovePanelTitle" in panel or name.startswith("DiagnosticSummary!")


def test_foxglove_shows_depth_over_the_range_of_the_model(foxglove: dict[str, Any]) -> None:
    observed, predicted = (
        foxglove["configById"][f"Image!depth_{name}"]["imageMode"] for name in ("observed", "predicted")
    )
    assert (observed["minValue"], observed["maxValue"]) == (0.0, 1000.0 * Depth().max_depth)
    assert (predicted["minValue"], predicted["maxValue"]) == (0.0, Depth().max_depth)


def test_rviz_shows_depth_over_the_range_of_the_model(rviz: dict[str, Any]) -> None:
    # Integers: RViz casts both ends to uint16 whatever the encoding is.
    displays = {display["Name"]: display for display in rviz["Visualization Manager"]["Displays"]}
    for name, scale in (("depth observed", 1000), ("depth predicted", 1)):
        assert not displays[name]["Normalize Range"]
        assert (displays[name]["Min Value"], displays[name]["Max Value"]) == (0, scale * Depth().max_depth)
        assert isinstance(displays[name]["Max Value"], int)


def test_a_field_that_is_not_there_is_found_out() -> None:
    with pytest.raises(KeyError):
        field_of("smvae_ros/msg/FusionStatus", ".modalities[:].sharing")


def test_rviz_names_topics_of_the_node(rviz: dict[str, Any], topics: dict[str, str]) -> None:
    displays = rviz["Visualization Manager"]["Displays"]
    named = {display["Topic"]["Value"]: display for display in displays if "Topic" in display}
    kinds = {"rviz_default_plugins/Image": IMAGE, "rviz_default_plugins/PointCloud2": "sensor_msgs/msg/PointCloud2"}
    assert {topic: topics[topic] for topic in named} == {topic: kinds[d["Class"]] for topic, d in named.items()}
    assert {topic for pair in PAIRS for topic in pair} <= set(named)


def test_rviz_puts_what_was_seen_beside_what_was_predicted(rviz: dict[str, Any]) -> None:
    # Qt's own state of the window names its panes, in UTF-16, in the order in which they stand.
    state = bytes.fromhex(rviz["Window Geometry"]["QMainWindow State"])
    panes = ("rgb observed", "rgb predicted", "depth observed", "depth predicted")
    places = [state.find(pane.encode("utf-16-be")) for pane in panes]
    assert -1 not in places and places == sorted(places)
    assert set(panes) <= {display["Name"] for display in rviz["Visualization Manager"]["Displays"]}


def test_rviz_needs_no_transforms(rviz: dict[str, Any]) -> None:
    # Neither the recording nor the node sends any, and a camera may call its frame what it likes.
    manager = rviz["Visualization Manager"]
    assert manager["Transformation"]["Current"]["Class"] == "rviz_common/Identity"
    assert "rviz_default_plugins/TF" not in [display["Class"] for display in manager["Displays"]]
