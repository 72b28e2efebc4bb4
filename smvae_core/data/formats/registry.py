"""The formats of data on disk, by the name that a configuration gives them. Imports no torch."""

from pathlib import Path

import h5py

from smvae_core.data.formats import hdf5
from smvae_core.data.formats.aloha import ALOHA
from smvae_core.data.formats.idx import IDX
from smvae_core.data.formats.lerobot import LEROBOT
from smvae_core.data.formats.lerobot_meta import INFO
from smvae_core.data.formats.pictures import CELEBA, PICTURES
from smvae_core.data.formats.protocol import Format, LogError, Trajectory
from smvae_core.data.formats.robomimic import ROBOMIMIC
from smvae_core.data.formats.vision_touch import VISION_TOUCH

FORMATS: dict[str, Format] = {
    "logs": VISION_TOUCH,
    "lerobot": LEROBOT,
    "robomimic": ROBOMIMIC,
    "aloha": ALOHA,
    "idx": IDX,
    "celeba": CELEBA,
    "pictures": PICTURES,
}

_ROBOT_DATA = ("logs", "lerobot", "robomimic", "aloha")


def find_trajectories(data: Path, name: str) -> list[Trajectory]:
    """Return the trajectories of a folder in the format of that name.

    Raises:
        LogError: the folder holds none, or data of another format.
    """
    if name in _ROBOT_DATA:
        check_unmixed(data)
    if name in _ROBOT_DATA and name != "lerobot" and (data / INFO).is_file():
        raise LogError(f"{data}: expected HDF5 files, found a LeRobot data set ({INFO}); set data.format to lerobot")
    return FORMATS[name].find(data)


def recognise(data: Path) -> str:
    """Return the name of the format of robot data: `logs`, `lerobot`, `robomimic` or `aloha`.

    Raises:
        LogError: the data are of none of them, or of several; or all files are damaged.
    """
    if not data.exists():
        raise LogError(f"{data}: no such file or folder; expected robot data")
    check_unmixed(data)
    if (data / INFO).is_file():
        return "lerobot"
    found: dict[str, Path] = {}
    damaged: LogError | None = None
    for path in reversed(hdf5.hdf5_files(data, "robot data")):
        try:
            found[_kind_of(path)] = path
        except LogError as error:
            damaged = error
    if damaged is not None and not found:
        raise damaged
    if len(found) > 1:
        raise _mixed(data, {name: path.name for name, path in found.items()})
    return next(iter(found))


def check_unmixed(data: Path) -> None:
    """Raise the LogError for a folder that holds LeRobot data sets in its subfolders, or HDF5 files beside one."""
    if not data.is_dir():
        return
    files = data_files(data)
    sets = [path.parents[1] for path in files if not hdf5.is_hdf5(path)]
    strangers = [path for path in files if hdf5.is_hdf5(path)]
    if data in sets:  # what it holds in folders of its own, as recordings that it was made from, is no doubt
        sets, strangers = [data], [path for path in strangers if path.parent == data]
    if sets and strangers:
        lerobot = (sets[0] / INFO).relative_to(data)
        raise _mixed(data, {"lerobot": str(lerobot), "logs": str(strangers[0].relative_to(data))})
    if sets and data != sets[0]:
        inside = ", ".join(str(path.relative_to(data)) for path in sets)
        raise LogError(f"{data}: expected one data set, found LeRobot data sets in its subfolders ({inside}); name one")


def data_files(folder: Path) -> list[Path]:
    """Return the HDF5 files and the descriptions of LeRobot data sets in a folder and its subfolders.

    Raises:
        LogError: a folder cannot be read.
    """
    return [path for path in hdf5.files(folder) if hdf5.is_hdf5(path) or path.parts[-2:] == INFO.parts]


def _mixed(data: Path, found: dict[str, str]) -> LogError:
    told = " and ".join(f"{name} ({file})" for name, file in sorted(found.items()))
    return LogError(f"{data}: expected data of one format, found {told}; give each format a folder of its own")


def _kind_of(path: Path) -> str:
    with hdf5.opened(path) as file:
        if isinstance(file.get("data"), h5py.Group):
            return "robomimic"
        return "aloha" if "observations/qpos" in file or "observations/images" in file else "logs"
