"""The parameters as they are documented are the parameters as they are declared."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from smvae_core.errors import ConfigurationError
from smvae_core.inference.building import BackendName
from smvae_core.modality import vision_touch_modalities
from smvae_ros.node.parameter_table import parameters_page
from smvae_ros.settings import FusionSettings, NodeSettings, StreamSettings, default_settings, flat, read_parameters

ROOT = Path(__file__).parents[3]


def test_the_page_in_the_tree_is_up_to_date() -> None:
    assert (ROOT / "docs" / "parameters.md").read_text() == parameters_page(), (
        "run: python -m smvae_ros.node.parameter_table > docs/parameters.md"
    )


def test_the_command_writes_the_page_without_ros(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.modules['rclpy'] = None; "
        "runpy.run_module('smvae_ros.node.parameter_table', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, parameters_page())


@pytest.mark.parametrize("settings", [NodeSettings, FusionSettings, StreamSettings])
def test_every_parameter_is_described_and_on_the_page(settings: type) -> None:
    page = parameters_page()
    for name, field in settings.model_fields.items():
        if name != "streams":
            assert field.description
            assert f"| `{name}` |" in page and field.description in page


def test_the_configuration_file_describes_every_parameter_before_its_value() -> None:
    text = (ROOT / "config" / "fusion.yaml").read_text()
    names = list(yaml.safe_load(text)["/**"]["ros__parameters"]["streams"]["rgb"])
    names += [name for name, _, _ in flat(NodeSettings())]
    lines = [line.strip() for line in text.splitlines()]
    for name in names:
        place = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        assert lines[place - 1].startswith("#"), name


def test_the_back_ends_are_those_of_the_engine() -> None:
    assert get_args(NodeSettings.model_fields["backend"].annotation) == ("auto", *get_args(BackendName))


def test_the_parameters_are_flat_names_of_the_settings() -> None:
    names = [name for name, _, _ in flat(default_settings(vision_touch_modalities()))]
    assert "max_wait" in names and "streams.force.window" in names
    assert len(names) == 4 + 4 * len(StreamSettings.model_fields)


def test_a_file_for_the_replay_may_have_dotted_names_as_the_nodes_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    device: cpu\n    streams.rgb.topic: /a\n"
        "    streams:\n      rgb: {tolerance: 0.1}\n      depth.topic: b\n"
    )
    assert read_parameters(tmp_path / "mine.yaml") == {
        "streams": {"rgb": {"topic": "/a", "tolerance": 0.1}, "depth": {"topic": "b"}}
    }


def test_a_parameter_that_the_node_does_not_have_is_refused_by_the_replay(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("/**:\n  ros__parameters: {maxwait: 0.1}\n")
    with pytest.raises(ConfigurationError, match=r"mine\.yaml: unknown parameter maxwait"):
        read_parameters(tmp_path / "mine.yaml")
