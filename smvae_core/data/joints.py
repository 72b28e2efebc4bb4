"""The names of joints, as logs from joint states hold them."""

from functools import lru_cache
from pathlib import Path

from smvae_core.configuration import Configuration
from smvae_core.data.formats import hdf5
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.formats.registry import find_trajectories
from smvae_core.data.log_file import JOINTS


def logged_joints(data: Path, configuration: Configuration) -> dict[str, tuple[str, ...]]:
    """Return the names of joints by modality, in the order of the numbers; only of modalities whose logs name them.

    Raises:
        LogError: two logs name other joints, or the same in another order.
    """
    if configuration.data.format != "logs":
        return {}
    names = _names(data, tuple(modality.source for modality in configuration.model.modalities))
    return {m.name: names[m.source] for m in configuration.model.modalities if m.source in names}


@lru_cache(maxsize=1)
def _names(data: Path, keys: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[tuple[str, ...], Path]] = {}
    for trajectory in find_trajectories(data, "logs"):
        path = trajectory.parts[0][1]
        try:
            with hdf5.opened(path) as file:
                named = {key: file[key].attrs[JOINTS] for key in keys if key in file and JOINTS in file[key].attrs}
        except LogError:  # told where the data are read
            continue
        for key, names in named.items():
            mine = tuple(map(str, names))
            first, where = found.setdefault(key, (mine, path))
            if mine != first:
                raise LogError(
                    f"{path}: key '{key}' expected joints {', '.join(first)} as in {where.name}, found "
                    f"{', '.join(mine)}; name them in the parameter file (joints) and log the bags again"
                )
    return {key: names for key, (names, _) in found.items()}
