"""A LeRobot data set from the logs of bags: an episode for each trajectory that holds all modalities."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from smvae_core.data.formats.lerobot_writer import Steps, write_lerobot
from smvae_core.data.log_file import JOINTS
from smvae_core.modality import Modality
from smvae_ros.replay.account import BagAccount
from smvae_ros.replay.to_logs import LogWriteError, WrittenLogs

_LEGAL = re.compile(r"action|observation\.[A-Za-z0-9_.]+")
_TOLERANCE = 0.02
"""A rate of rows that is so far off a whole number is worth a warning, because LeRobot counts in whole numbers."""


@dataclass(frozen=True)
class DataSetWritten:
    """A data set, and what a reader should know about it.

    Attributes:
        features: name of the feature by name of the modality.
        warnings: sentences on trajectories that were left out, and on the rate.
    """

    episodes: int
    fps: int
    features: dict[str, str]
    warnings: tuple[str, ...]


def unshifted(modalities: Sequence[Modality]) -> list[Modality]:
    """Return modalities whose logs hold a command beside the observation before it, as LeRobot does."""
    return [modality.model_copy(update={"pairs": "same"}) for modality in modalities]


def write_data_set(
    logs: Sequence[WrittenLogs], modalities: Sequence[Modality], out: Path, task: str, robot: str
) -> DataSetWritten:
    """Write a data set of version 3.0, whole or not at all; the account of each bag is in its folder `meta`.

    Args:
        logs: logs of `unshifted` modalities.
        modalities: as configured.
        task: what the robot does, in words.

    Raises:
        LogWriteError: no trajectory holds all modalities, or the rows come at less than one in two seconds.
        LogError: `out` exists or cannot be written, or PyAV is not installed.
    """
    names = feature_names(modalities)
    keys = {names[modality.name]: modality.source for modality in modalities}
    trajectories = [files for one in logs for files in _trajectories(one)]
    whole = [files for files in trajectories if _holds(files[0], keys)]
    if not whole:
        raise LogWriteError(f"{out}: expected trajectories with {', '.join(names)}, found none of {len(trajectories)}")
    rate = _rate([one.account for one in logs])
    fps = round(rate)
    if fps < 1:
        raise LogWriteError(f"{out}: LeRobot counts whole steps a second, the rows come at {rate:.2g} a second")
    warnings = []
    if len(whole) < len(trajectories):
        warnings.append(
            f"{len(trajectories) - len(whole)} of {len(trajectories)} trajectories were left out, because an episode "
            f"needs all of {', '.join(names)}"
        )
    if abs(rate - fps) > _TOLERANCE * fps:
        warnings.append(f"the rows come at {rate:.3g} a second; LeRobot's whole number is {fps}")
    episodes = write_lerobot(
        out,
        fps,
        (_parts(files, keys) for files in whole),
        task,
        robot,
        {f"{one.account.bag}.account.json": one.account.model_dump_json(indent=2) + "\n" for one in logs},
        _joints(whole[0][0], keys),
    )
    return DataSetWritten(episodes, fps, names, tuple(warnings))


def feature_names(modalities: Sequence[Modality]) -> dict[str, str]:
    """Return LeRobot's name of each modality.

    A source that is such a name already stays, unless it has letters that LeRobot refuses. Otherwise a camera is
    `observation.images.<name>`, the only command (a modality named action, or with `pairs: following`) is `action`, the
    only other vector is `observation.state`, and anything else is `observation.<name>`.
    """
    commands = [m.name for m in modalities if m.preprocessing.kind == "vector" and (m.follows or m.name == "action")]
    vectors = [m.name for m in modalities if m.preprocessing.kind == "vector" and m.name not in commands]
    alone = {only[0]: name for only, name in ((commands, "action"), (vectors, "observation.state")) if len(only) == 1}

    def name_of(modality: Modality) -> str:
        if _LEGAL.fullmatch(modality.source):
            return modality.source
        if modality.preprocessing.kind in ("rgb", "grey"):
            return f"observation.images.{modality.name}"
        return alone.get(modality.name, f"{'action' if modality.name in commands else 'observation'}.{modality.name}")

    names: dict[str, str] = {}
    for modality in modalities:
        name, number = name_of(modality), 2
        while name in names.values():
            name, number = f"{name_of(modality)}_{number}", number + 1
        names[modality.name] = name
    return names


def _trajectories(written: WrittenLogs) -> Iterator[list[Path]]:
    """Yield the files of each trajectory; a file's part is the number before the last in its name."""
    files: list[Path] = []
    for file in written.files:
        if file.stem.rsplit("_", 2)[1] == "0" and files:
            yield files
            files = []
        files.append(file)
    yield files


def _holds(file: Path, keys: dict[str, str]) -> bool:
    with h5py.File(file) as log:
        return all(key in log for key in keys.values())


def _joints(file: Path, keys: dict[str, str]) -> dict[str, list[str]]:
    """Return the names of the joints by feature, of those that have some."""
    with h5py.File(file) as log:
        return {name: list(log[key].attrs[JOINTS]) for name, key in keys.items() if JOINTS in log[key].attrs}


def _parts(files: Sequence[Path], keys: dict[str, str]) -> Iterator[Steps]:
    for file in files:
        with h5py.File(file) as log:
            yield {name: _content(log[key]) for name, key in keys.items()}


def _content(data: h5py.Dataset) -> np.ndarray:
    values = np.asarray(data)
    grey = values.dtype == np.uint8 and values.ndim == 4 and values.shape[3] == 1
    return np.repeat(values, 3, axis=3) if grey else values


def _rate(accounts: Sequence[BagAccount]) -> float:
    """Return the rows a second of the trajectories."""
    trajectories = [trajectory for account in accounts for trajectory in account.trajectories]
    seconds = sum(trajectory.end_ns - trajectory.begin_ns for trajectory in trajectories) / 1e9
    return sum(trajectory.rows - 1 for trajectory in trajectories) / seconds
