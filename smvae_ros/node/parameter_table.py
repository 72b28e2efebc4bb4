"""Write docs/parameters.md from the fields that the node declares its parameters from.

python -m smvae_ros.node.parameter_table > docs/parameters.md
"""

from __future__ import annotations

import sys
from typing import Any, get_args

from pydantic.fields import FieldInfo

from smvae_core.modality import vision_touch_modalities
from smvae_ros.conversions.bindings import IMAGES, NUMBERS, bind
from smvae_ros.conversions.images import colour_encodings, depth_encodings
from smvae_ros.settings import (
    FusionSettings,
    NodeSettings,
    StreamSettings,
    default_settings,
    default_topics,
    prediction_topics,
)

_HEAD = "| parameter | type | default | meaning | changes |\n|---|---|---|---|---|\n"


def parameters_page() -> str:
    """Return the page as Markdown."""
    return "\n".join(
        [
            "# Topics and parameters of the fusion node",
            "",
            "This page is written by `python -m smvae_ros.node.parameter_table > docs/parameters.md` from the "
            "declarations in the code. [config/fusion.yaml](../config/fusion.yaml) lists all parameters with their "
            "defaults. A bad value is refused with the reason, and the old value stays. A parameter that changes at "
            "any time is applied at once. Nothing is forgotten but the samples of a modality that is taken out, and "
            "sets that wait already keep their deadline.",
            "",
            "## Topics",
            "",
            "These are the topics of the usual four modalities. Any other modality is on `<name>/image` or `<name>`, "
            "its predictions on `~/predicted/<name>`. All names are relative, so namespaces and remappings work.",
            "",
            _topics(),
            "## The node",
            "",
            _table(NodeSettings.model_fields),
            "## How messages become sets",
            "",
            _table({name: field for name, field in FusionSettings.model_fields.items() if name != "streams"}),
            "## Each modality of the checkpoint",
            "",
            "The names begin with `streams.<modality>.`, as in `streams.rgb.topic`. The second table lists the "
            "defaults of the usual four modalities that differ from the first.",
            "",
            _table(StreamSettings.model_fields),
            _usual(),
            "## Messages",
            "",
            "`streams.<modality>.message` chooses the message that brings a modality. Left empty, it is Image for "
            "images, WrenchStamped for windows of six forces and torques, TwistStamped for vectors of 4 or 6, and "
            "VectorStamped for all other numbers. A prediction on `~/predicted/<modality>` has the same type; for a "
            "CompressedImage it is an Image.",
            "",
            _messages(),
            "**Any other message**: `streams.<modality>.fields` takes numbers by their paths from every type that an "
            "installed package (or the bag) describes: `message: geometry_msgs/msg/Twist` with `fields: [linear.x, "
            "angular.z]`. An index chooses an element, from the end if it is negative: `data[3]`, "
            "`points[-1].positions`. Arrays are put one behind the other. A message without a header takes its time of "
            "arrival. Predictions come as VectorStamped.",
            "",
            "**Joints** are taken by name: `streams.<modality>.joints: [shoulder, elbow]`, in the order of the model. "
            "Without it the first JointState that names as many joints as the modality has numbers sets the order. "
            "The log says which they are. If that message stays alone for half a second and others name as many other "
            "joints, theirs take its place, with a warning; joints that came for a second stay until the node is "
            "deactivated. "
            "States of two publishers on one topic are merged if they are at most 0.2 s apart. A message that lacks a "
            "joint is not used, and the joint is named.",
            "",
            "image_transport's `compressed` and `compressedDepth` send CompressedImages, on the topic with that name "
            "at its end: `streams.rgb.topic: /camera/color/image_raw/compressed`. Colours are JPEG or PNG. Depth is "
            "PNG or RVL, of millimetres (16UC1) or of `compressedDepth`'s inverse depth (32FC1).",
            "",
            "Encodings of an Image in colours: "
            + _encodings(colour_encodings())
            + ". Of depth: "
            + _encodings(depth_encodings())
            + "; integers are millimetres, others metres. cv_bridge, where it is "
            "installed, converts other encodings.",
            "",
            "## Quality of service",
            "",
            "`qos_overrides.<topic>.<subscription or publisher>.<reliability, history or depth>` sets one policy. The "
            "topic is its full name, after remapping. These parameters are read-only: give them at the start. The log "
            "names those that have no effect.",
            "",
        ]
    )


def _topics() -> str:
    modalities = vision_touch_modalities()
    topics, predicted = default_topics(modalities), prediction_topics(modalities)
    rows = [
        f"| {binding.modality.name} | `{topics[binding.modality.name]}` | `{predicted[binding.modality.name]}` | "
        f"`{binding.type}` |\n"
        for binding in bind(modalities, {})
    ]
    return "| modality | topic | predictions | type |\n|---|---|---|---|\n" + "".join(rows)


def _table(fields: dict[str, FieldInfo]) -> str:
    rows = []
    for name, field in fields.items():
        extra = field.json_schema_extra
        changes = extra["changes"] if isinstance(extra, dict) else "while not active"
        default = "by the name" if field.is_required() else _literal(field.default)
        rows.append(f"| `{name}` | {_type(field)} | {default} | {field.description} | {changes} |\n")
    return _HEAD + "".join(rows)


def _usual() -> str:
    """Return the table of defaults that differ from the field's own, for the usual four modalities."""
    streams = default_settings(vision_touch_modalities()).streams
    differing = [
        key
        for key, field in StreamSettings.model_fields.items()
        if any(getattr(stream, key) != field.default for stream in streams.values())
    ]
    lines = [f"| | {' | '.join(f'`{name}`' for name in streams)} |\n", "|---" * (len(streams) + 1) + "|\n"]
    for key in differing:
        lines.append(f"| `{key}` | {' | '.join(_literal(getattr(s, key)) for s in streams.values())} |\n")
    usual = [f"`{binding.message}`" for binding in bind(vision_touch_modalities(), {})]
    lines.append(f"| messages | {' | '.join(usual)} |\n")
    return "".join(lines)


def _encodings(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _messages() -> str:
    lines = ["| message | carries |\n|---|---|\n", *(f"| `{message}` | images |\n" for message in IMAGES)]
    for message, counts in NUMBERS.items():
        number = "any number of" if counts is None else " or ".join(map(str, counts))
        lines.append(f"| `{message}` | vectors of {number} entries, windows of {number} channels |\n")
    return "".join(lines)


def _type(field: FieldInfo) -> str:
    choices = get_args(field.annotation)
    if Ellipsis in choices:
        return "list of strings"
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    names: dict[object, str] = {bool: "bool", int: "integer", float: "double", str: "string"}
    return names[field.annotation]


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ("", ()) else "empty"


if __name__ == "__main__":
    sys.stdout.write(parameters_page())
