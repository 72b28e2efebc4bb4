"""Arguments and options that several commands of the robot side share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from smvae_core.errors import ConfigurationError

Bags = Annotated[
    list[Path],
    typer.Argument(
        metavar="BAG...", help="A rosbag2 (its folder, or one .mcap or .db3 file), several, or folders of them."
    ),
]
OtherTopics = Annotated[
    list[str] | None,
    typer.Option(help="Another topic for a modality, as MODALITY:=TOPIC; may be given several times."),
]
ParameterFile = Annotated[
    Path | None, typer.Option(help="The node's parameter file (as config/fusion.yaml), for how sets are made.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Number of processes for several bags; by default one for each core.")
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Work on a Dask cluster: the address of its scheduler, as tcp://head:8786. One task for each bag.",
    ),
]


def settings_changes(params_file: Path | None, topics: Iterable[str]) -> tuple[dict[str, Any], ...]:
    """Return the changes to the node's settings by a parameter file and by other topics."""
    from smvae_ros.settings import read_parameters

    of_file = [read_parameters(params_file)] if params_file else []
    return (*of_file, {"streams": _topics(topics)})


def _topics(options: Iterable[str]) -> dict[str, dict[str, str]]:
    topics = {}
    for option in options:
        modality, separator, topic = option.partition(":=")
        if not (modality and separator and topic):
            raise ConfigurationError(f"--topic: expected MODALITY:=TOPIC, found '{option}'")
        topics[modality] = {"topic": topic}
    return topics
