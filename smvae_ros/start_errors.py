"""The errors that wrong ROS arguments cause while a node starts, and each of them in one sentence."""

from __future__ import annotations

from rclpy._rclpy_pybind11 import RCLError, UnknownROSArgsError
from rclpy.exceptions import NameValidationException, ParameterException

from smvae_core.errors import SMVAEError

START_ERRORS = (SMVAEError, RCLError, UnknownROSArgsError, ParameterException, NameValidationException)
"""Whatever a user can cause by arguments: unknown ones, bad names and remappings, parameters of a wrong type."""


def start_error(error: Exception) -> str:
    """Return what is wrong with the arguments, as one line."""
    # rcl adds the lines of its source.
    sentence = " ".join(str(error).split(", at /")[0].split())
    if isinstance(error, UnknownROSArgsError):
        return f"expected ROS arguments behind --ros-args, as -p NAME:=VALUE or -r FROM:=TO, found {sentence}"
    return sentence
