"""metadata.yaml of a bag: what the recorder says that it wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath

import yaml


@dataclass(frozen=True)
class BagMetadata:
    """The part of metadata.yaml that tells what the bag should hold.

    Attributes:
        duration_ns: time from the first to the last message.
        files: names of the storage files.
        messages: number of messages by topic.
    """

    duration_ns: int
    files: tuple[str, ...]
    messages: dict[str, int]


def read_metadata(folder: Path) -> BagMetadata | None:
    """Return the metadata of a bag; None if there is none, or if it cannot be read."""
    try:
        content = yaml.safe_load((folder / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
        return BagMetadata(
            duration_ns=int(content["duration"]["nanoseconds"]),
            files=tuple(PurePath(path).name for path in content["relative_file_paths"]),
            messages={
                topic["topic_metadata"]["name"]: int(topic["message_count"])
                for topic in content["topics_with_message_count"]
            },
        )
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        return None
