"""The registry, and the settings that each system has of its own."""

from importlib.resources import files

import pytest
from pydantic import ValidationError

from smvae_core.checkpoint import default_checkpoint, read_metadata
from smvae_core.configuration import Configuration, changed
from smvae_core.errors import ConfigurationError
from smvae_core.model.vae import ModelConfiguration
from smvae_core.systems.configuration import ObjectiveConfiguration
from smvae_core.systems.registry import SYSTEMS, find_system
from smvae_core.systems.smvae import SMVAESettings

# The section `objective` as version 0.1 wrote it for every system.
VERSION_0_1 = {
    "beta": 0.3,
    "anneal_epochs": 3,
    "full_set": 0.2,
    "keep": 0.5,
    "reconstruct": "available",
    "pull": 0.0,
    "random_subsets": 0,
    "alpha": 0.1,
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_has_its_own_file(system):
    assert files("smvae_core.systems").joinpath(f"{system}.py").is_file()
    assert issubclass(find_system(system).settings, ObjectiveConfiguration)


def test_an_unknown_system_is_refused_with_the_names_of_all():
    with pytest.raises(ValidationError, match=f"expected a system among {', '.join(SYSTEMS)}, found 'vae'"):
        ModelConfiguration(system="vae")
    with pytest.raises(ConfigurationError, match="'model.system': expected a system among smvae, .*, found 'vae'"):
        changed(Configuration(), {"model": {"system": "vae"}})


@pytest.mark.parametrize("system", ["smvae", "mvae", "mmvae", "mopoe", "jmvae", "crmvae"])
def test_an_objective_that_version_0_1_wrote_still_loads(system):
    loaded = Configuration.model_validate({"model": {"system": system}, "objective": VERSION_0_1})
    assert type(loaded.objective) is find_system(system).settings
    own = {key: VERSION_0_1[key] for key in type(loaded.objective).model_fields if key in VERSION_0_1}
    off = {"subset_kl": 0.0, "full_kl": 0.0} if system == "smvae" else {}
    assert loaded.objective == type(loaded.objective)(**own, **off)
    assert Configuration.model_validate_json(loaded.model_dump_json()) == loaded


def test_the_shipped_checkpoint_is_coordinated():
    training = read_metadata(default_checkpoint()).training
    assert training is not None and isinstance(training.configuration.objective, SMVAESettings)
    assert training.configuration.objective.beta == 0.3 and training.configuration.objective.coordinated


@pytest.mark.parametrize(
    "system, key, value",
    [
        ("mvae", "keep", 0.3),
        ("mvae", "keep", "nonsense"),
        ("mopoe", "random_subsets", 2),
        ("smvae", "alpha", 1.0),
        ("jmvae", "reconstruct", "observed"),
    ],
)
def test_a_setting_that_the_system_does_not_use_is_refused(system, key, value):
    with pytest.raises(ConfigurationError, match=f"settings that system '{system}' uses, found objective.{key}"):
        changed(Configuration(), {"model": {"system": system}, "objective": {key: value}})


def test_bad_and_unknown_settings_are_named_with_their_section():
    with pytest.raises(ConfigurationError, match=r"unknown key 'objective.gamma'"):
        changed(Configuration(), {"objective": {"gamma": 1.0}})
    with pytest.raises(ConfigurationError, match=r"'objective.full_set': Input should be less than or equal to 1"):
        changed(Configuration(), {"objective": {"full_set": 2.0}})


def test_common_settings_hold_for_any_system():
    common = ObjectiveConfiguration(anneal_epochs=7)
    for system in SYSTEMS:
        objective = Configuration(model=ModelConfiguration(system=system), objective=common).objective
        assert objective == find_system(system).settings(anneal_epochs=7)
