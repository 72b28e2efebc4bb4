"""Start the fusion node; replay a bag to it if one is named."""

import asyncio
import shlex
from contextlib import suppress
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    OpaqueCoroutine,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnExecutionComplete
from launch.events.process import ProcessExited
from launch.substitutions import EnvironmentVariable, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.ros_adapters import get_ros_node
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.srv import GetState

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

TOPICS = {"rgb": "rgb/image", "depth": "depth/image", "force": "wrench", "action": "action"}
"""The topic of each modality of the shipped checkpoint, unless params_file names another one."""
RVIZ_OUTPUTS = ("latent", "predicted/rgb", "predicted/depth", "predicted/points")
RESPAWN_DELAY_S = 2.0
BAG_TOPICS = ("rgb/image", "depth/image", "depth/camera_info", "wrench", "action")
DISCOVERY_S = 3.0
"""The player waits for no subscriber. Fast DDS announces anew after 3 s what was missed at first."""
# The first is Jazzy's, the second Kilted's.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def generate_launch_description() -> LaunchDescription:
    """Return the description that `ros2 launch smvae_ros fusion.launch.py` starts."""
    config = PathJoinSubstitution([FindPackageShare("smvae_ros"), "config"])
    default_parameters = PathJoinSubstitution([config, "fusion.yaml"])
    # Fast DDS loses large best-effort images by default: its shared memory holds half a megabyte.
    profile = PathJoinSubstitution([config, "fastdds.xml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "checkpoint",
                default_value="",
                description="A .safetensors checkpoint; empty: what params_file says, by default the shipped one.",
            ),
            DeclareLaunchArgument(
                "params_file", default_value=default_parameters, description="YAML file with parameters of the node."
            ),
            DeclareLaunchArgument(
                "device",
                default_value="",
                description="Where the model runs: auto, cpu, cuda or cuda:N. Empty: what params_file says.",
            ),
            *(
                DeclareLaunchArgument(
                    f"{modality}_topic",
                    default_value="",
                    description=f"Topic of {modality}. Empty: what params_file says, by default {topic}.",
                )
                for modality, topic in TOPICS.items()
            ),
            DeclareLaunchArgument(
                "name", default_value="fusion", description="Name of the node, and so of its outputs."
            ),
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the node, and so of its relative topics."
            ),
            DeclareLaunchArgument(
                "autostart",
                default_value="",
                choices=["", "true", "false"],
                description="Configure and activate at once; false: a lifecycle manager does. Empty: as in the file.",
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                choices=["true", "false"],
                description=f"Start the node again {RESPAWN_DELAY_S:.0f} s after it ended by itself.",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                choices=["true", "false"],
                description="Start RViz too, with observed images beside predicted ones.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="auto",
                choices=["auto", "true", "false"],
                description="Take the time from /clock, which a bag then publishes. auto: true if a bag is named.",
            ),
            DeclareLaunchArgument(
                "bag",
                default_value="",
                description="A rosbag2 folder to replay once the node is active; when it ends, all ends. Empty: none.",
            ),
            DeclareLaunchArgument(
                "bag_arguments",
                default_value="",
                description="More arguments of `ros2 bag play`, such as '--loop --rate 0.5'.",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Least severity that the node logs.",
            ),
            *(
                SetEnvironmentVariable(variable, EnvironmentVariable(variable, default_value=profile))
                for variable in PROFILE_VARIABLES
            ),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    value = context.launch_configurations
    simulated = value["use_sim_time"] == "true" or (value["use_sim_time"] == "auto" and value["bag"] != "")
    if not Path(value["params_file"]).is_file():
        # launch_ros would warn and start the node with all defaults.
        raise RuntimeError(f"params_file: {value['params_file']}: no such file")
    if value["bag"] and not Path(value["bag"]).exists():
        # The player would end at once, and all with it, as if the bag had been played.
        raise RuntimeError(f"bag: {value['bag']}: no such file or folder")
    # An argument that was not given must not hide what the file says.
    given = {name: value[name] for name in ("checkpoint", "device") if value[name]}
    given |= {f"streams.{name}.topic": value[f"{name}_topic"] for name in TOPICS if value[f"{name}_topic"]}
    if value["autostart"]:
        given["autostart"] = value["autostart"] == "true"
    node = LifecycleNode(
        package="smvae_ros",
        executable="fusion_node",
        name=value["name"],
        namespace=value["namespace"],
        parameters=[value["params_file"], {**given, "use_sim_time": simulated}],
        ros_arguments=["--log-level", value["log_level"]],
        output="screen",
        respawn=value["respawn"] == "true",
        respawn_delay=RESPAWN_DELAY_S,
    )
    viewers = [_rviz(value)] if value["rviz"] == "true" else []
    if not value["bag"]:
        return [node, *viewers]
    namespace = value["namespace"].strip("/")
    remappings = [f"/{topic}:=/{namespace}/{topic}" for topic in BAG_TOPICS] if namespace else []
    player = ExecuteProcess(
        cmd=[
            "ros2", "bag", "play", value["bag"],
            "--delay", str(DISCOVERY_S),
            *(["--clock"] if simulated else []),
            *(["--remap", *remappings] if remappings else []),
            *shlex.split(value["bag_arguments"]),
        ],
        output="screen",
        on_exit=_end,
    )  # fmt: skip
    active = OpaqueCoroutine(coroutine=_until_active, args=[node])
    return [
        node,
        *viewers,
        RegisterEventHandler(OnExecutionComplete(target_action=active, on_completion=[player])),
        active,
    ]


def _rviz(value: dict[str, str]) -> Node:
    config = PathJoinSubstitution([FindPackageShare("smvae_ros"), "config", "fusion.rviz"])
    return Node(package="rviz2", executable="rviz2", arguments=["-d", config], remappings=rviz_remappings(value))


def rviz_remappings(value: dict[str, str]) -> list[tuple[str, str]]:
    """Return the remappings from the topics in fusion.rviz to those of the node, by the launch arguments."""
    namespace = f"/{value['namespace'].strip('/')}".rstrip("/")
    inputs = {topic: value[f"{name}_topic"] or topic for name, topic in TOPICS.items()}
    remappings = [
        (f"/{topic}", given if given.startswith("/") else f"{namespace}/{given}") for topic, given in inputs.items()
    ]
    return remappings + [(f"/fusion/{output}", f"{namespace}/{value['name']}/{output}") for output in RVIZ_OUTPUTS]


def _end(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    """End all with the bag. Where all ends already, a second Shutdown would make launch_ros fail."""
    return None if context.is_shutdown else Shutdown(reason="the bag has ended")


async def _until_active(context: LaunchContext, node: LifecycleNode) -> None:
    """Wait until the node is active, by asking it: its first transitions are over before launch can listen to them."""
    client = get_ros_node(context).create_client(GetState, f"{node.node_name}/get_state")
    state = ""
    # Launch cancels this when it shuts down, and would stumble over an exception; it starts nothing more then.
    with suppress(asyncio.CancelledError):
        while state != "active":
            await asyncio.sleep(0.1)
            if client.service_is_ready():
                answer = client.call_async(GetState.Request())
                while not answer.done():
                    await asyncio.sleep(0.01)
                state = answer.result().current_state.label
