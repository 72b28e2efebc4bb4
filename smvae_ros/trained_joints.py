"""The joints that a checkpoint was trained on: a robot whose JointStates have another order is read by name."""

from __future__ import annotations

from collections.abc import Mapping

from smvae_ros.conversions.bindings import JOINTS
from smvae_ros.settings import FusionSettings

Joints = Mapping[str, tuple[str, ...]]
"""Names of joints, in the order of the model's numbers, by modality."""


def with_trained_joints(settings: FusionSettings, trained: Joints) -> FusionSettings:
    """Return settings that name the checkpoint's joints for each JointState whose settings name none."""
    streams = {
        name: {"joints": list(joints)}
        for name, joints in trained.items()
        if name in settings.streams
        and settings.streams[name].message == JOINTS
        and not settings.streams[name].joints
        and not settings.streams[name].fields
    }
    return settings.changed({"streams": streams}) if streams else settings


def other_joints(settings: FusionSettings, trained: Joints) -> list[str]:
    """Return a sentence for each modality whose settings name other joints than the checkpoint."""
    return [
        f"streams.{name}.joints: expected {', '.join(joints)}, on which the checkpoint was trained, found "
        f"{', '.join(settings.streams[name].joints)}; the model takes their numbers in that order"
        for name, joints in trained.items()
        if name in settings.streams and settings.streams[name].joints not in ((), joints)
    ]
