"""All systems, one line each. A new system is one new file `systems/<name>.py` with its `SYSTEM`, and its name here.

This module imports no torch, so that the command line can list the systems at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smvae_core.systems.configuration import ObjectiveConfiguration
    from smvae_core.systems.system import System

SYSTEMS: tuple[str, ...] = (
    "smvae",
    "mvae",
    "mmvae",
    "mopoe",
    "jmvae",
    "crmvae",
    "mvtcae",
    "telbo",
)

# Version 0.1 wrote these settings for every system, with these defaults, and had no others.
_VERSION_0_1 = {
    "full_set": 0.2,
    "keep": 0.5,
    "reconstruct": "available",
    "pull": 0.0,
    "random_subsets": 0,
    "alpha": 0.1,
}
_NOT_IN_VERSION_0_1 = {"subset_kl": 0.0, "full_kl": 0.0}


def find_system(name: str) -> System[Any, Any]:
    """Return the system of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in SYSTEMS:
        raise ValueError(f"expected a system among {', '.join(SYSTEMS)}, found '{name}'")
    system: System[Any, Any] = import_module(f"smvae_core.systems.{name}").SYSTEM
    return system


def objective_settings(name: str, given: ObjectiveConfiguration | dict[str, Any]) -> ObjectiveConfiguration:
    """Return the settings of a system's objective, validated by the system's own class.

    A setting that only other systems have must have its default, and is left out: configurations that were written by
    version 0.1 hold the settings of all systems. Settings that version 0.1 did not have are off in them.

    Args:
        name: of a registered system.
        given: keys that are left out take the system's defaults. Settings of another system's class count as given
            where they were set explicitly.

    Raises:
        ValueError: a setting of another system that differs from its default.
        ValidationError: of pydantic; an unknown key or a bad value.
    """
    own: type[ObjectiveConfiguration] = find_system(name).settings
    if isinstance(given, own):
        return given
    content = dict(given) if isinstance(given, dict) else given.model_dump(exclude_unset=True)
    old = content.keys() >= _VERSION_0_1.keys()
    if old:
        content = {key: value for key, value in _NOT_IN_VERSION_0_1.items() if key in own.model_fields} | content
    foreign: dict[str, type[ObjectiveConfiguration]] = {}
    for other in SYSTEMS:
        settings: type[ObjectiveConfiguration] = find_system(other).settings
        foreign |= {key: settings for key in settings.model_fields if key in content and key not in own.model_fields}
    used = [key for key, settings in foreign.items() if not _is_default(settings, key, content[key])]
    if used := [key for key in used if not (old and content[key] == _VERSION_0_1.get(key))]:
        found = ", ".join(f"objective.{key}" for key in used)
        raise ValueError(f"expected only settings that system '{name}' uses, found {found}")
    return own.model_validate({key: value for key, value in content.items() if key not in foreign})


def _is_default(settings: type[ObjectiveConfiguration], key: str, value: object) -> bool:
    try:
        return bool(getattr(settings.model_validate({key: value}), key) == getattr(settings(), key))
    except ValueError:
        return False
