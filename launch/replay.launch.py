"""Replay a recording to the fusion node, by default the one that ships with the package."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the description of a replay; it takes the arguments of fusion.launch.py as well."""
    share = FindPackageShare("smvae_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "bag",
                default_value=PathJoinSubstitution([share, "recordings", "peg_insertion"]),
                description="A rosbag2 folder to replay; by default the shipped recording.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(PathJoinSubstitution([share, "launch", "fusion.launch.py"])),
                launch_arguments={"bag": LaunchConfiguration("bag")}.items(),
            ),
        ]
    )
