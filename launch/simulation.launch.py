"""Start a simulated robot and the fusion node that listens to it."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch smvae_ros simulation.launch.py` starts, with the arguments of fusion.launch.py."""
    fusion = PathJoinSubstitution([FindPackageShare("smvae_ros"), "launch", "fusion.launch.py"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "policy",
                default_value="scripted",
                choices=["scripted", "commands"],
                description="Who moves the arm: its own policy, or the TwistStamped messages on the topic command.",
            ),
            DeclareLaunchArgument(
                "seed",
                default_value="0",
                description="Of the start, the scripted policy and the sensors' noise.",
            ),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(fusion)),
            Node(
                package="smvae_ros",
                executable="simulated_robot",
                name="robot",
                namespace=LaunchConfiguration("namespace"),
                parameters=[
                    {
                        "policy": LaunchConfiguration("policy"),
                        "seed": ParameterValue(LaunchConfiguration("seed"), value_type=int),
                    }
                ],
                output="screen",
            ),
        ]
    )
