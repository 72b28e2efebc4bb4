"""A camera that lies is named, leaves the set where it is to, and comes back; by real processes and real messages."""

from pathlib import Path

import numpy as np
import torch

from smvae_core.model.vae import ModelConfiguration, MultimodalVAE
from test.core.made_trust import write_checkpoint

from ..robot import ALL, Robot, fusion_and_robot, image


def look(robot: Robot, bright: bool) -> None:
    """Let the camera send pictures that are bright, which the checkpoint takes for a fault, or dark ones."""
    pixels = np.random.default_rng(0).integers(0, 50, (64, 64, 3)).astype(np.uint8)
    robot.rgb = image(pixels + np.uint8(178 if bright else 12))


def distrusted(robot: Robot, *names: str) -> bool:
    return bool(robot.latents) and robot.latents[-1].distrusted == list(names)


def test_a_camera_that_lies_is_named_dropped_and_trusted_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    checkpoint = write_checkpoint(tmp_path / "told.safetensors", MultimodalVAE(ModelConfiguration(size="tiny")).eval())
    parameters = {"checkpoint": checkpoint, "streams.rgb.distrust": "drop"}
    with fusion_and_robot(tmp_path / "log", parameters) as (robot, process):
        robot.noise = False
        look(robot, bright=False)
        robot.sending = set(ALL)
        latent = robot.wait_for_set(*ALL)
        assert len(latent.trust) == len(latent.modalities) and min(latent.trust) > 0.9 and not latent.distrusted

        look(robot, bright=True)
        robot.wait(lambda: distrusted(robot, "rgb"), "rgb to be distrusted")
        assert "rgb" not in robot.latents[-1].modalities and len(robot.latents[-1].trust) == 3
        robot.wait(lambda: robot.new_status() and robot.modality("rgb").distrusted, "the status to say so")
        rgb = robot.modality("rgb")
        assert rgb.trust <= 0.5 and rgb.distrusted_since.sec > 0 and rgb.alive
        assert not robot.modality("force").distrusted and robot.modality("force").trust > 0.9
        told = "contradicts what else is known"
        robot.wait(lambda: any(told in one.message for one in robot.diagnostics.values()), "the diagnostics to say so")

        look(robot, bright=False)
        robot.wait(lambda: distrusted(robot) and "rgb" in robot.latents[-1].modalities, "rgb to be trusted again")
        robot.wait(lambda: robot.new_status() and not robot.modality("rgb").distrusted, "the status to say so")

        assert robot.set(streams__rgb__distrust="off") == ""
        look(robot, bright=True)
        assert all("rgb" in one.modalities and not one.distrusted for one in robot.wait_for_new_latents(15))
        policies = {name: f"streams__{name}__distrust" for name in ALL}
        assert robot.set(**dict.fromkeys(policies.values(), "off")) == ""
        robot.wait(lambda: not robot.latents[-1].trust, "no more verdicts")
        assert all(not one.trust and len(one.modalities) == 4 for one in robot.wait_for_new_latents(5))
        robot.wait(lambda: robot.new_status() and robot.modality("force").trust == -1.0, "the status to say so")
        assert robot.set(**dict.fromkeys(policies.values(), "warn")) == ""
        robot.wait(lambda: distrusted(robot, "rgb"), "rgb to be distrusted again")
        assert "rgb" in robot.latents[-1].modalities
        assert "rgb" in robot.set(streams__rgb__distrust="never")

        look(robot, bright=False)
        assert robot.reset().success
        robot.wait(lambda: distrusted(robot), "trust to be as at the start")
    said = [line for line in process.output().splitlines() if "rgb is distrusted, since" in line]
    assert len(said) == 2 and "it leaves the set until it agrees again" in said[0] and "it stays" in said[1]
    assert sum("rgb is trusted again" in line for line in process.output().splitlines()) >= 1
