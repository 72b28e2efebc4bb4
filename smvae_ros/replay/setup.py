"""The setup of a replay: the model, the settings and the faults of a job, loaded and checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from smvae_core.checkpoint import Checkpoint
from smvae_core.inference.backend import BackendError
from smvae_core.inference.engine import Engine
from smvae_core.inference.onnx_runtime import agreeing_fusion, is_installed
from smvae_core.inference.state import Recalled
from smvae_core.model.vae import MultimodalVAE
from smvae_ros.bags.reading import bag_hash
from smvae_ros.distrust import Distrust, policies
from smvae_ros.replay.inference import BatchInference, Step
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.reading import ReadingPlan
from smvae_ros.trained_joints import with_trained_joints

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """A replay job with its model loaded.

    Attributes:
        checkpoint: file of the model.
        plan: how messages become sets.
        engine: the model as the node runs it, one set at a time.
        inference: the same model for many sets at a time.
    """

    checkpoint: Path
    plan: ReadingPlan
    engine: Engine
    inference: BatchInference

    def hashes(self, bag: Path) -> dict[str, str]:
        """Return the SHA-256 of all that the results depend on."""
        plan = self.plan
        chosen = f"{plan.settings.model_dump_json()}{plan.what_if.model_dump_json()}{plan.subset_rate}"
        chosen += "".join(bag_hash(fault.other) for fault in plan.what_if.faults if fault.other is not None)
        return {
            "bag_sha256": bag_hash(bag) if bag.exists() else "",
            "checkpoint_sha256": sha256(self.checkpoint.read_bytes()).hexdigest(),
            "settings_sha256": sha256(chosen.encode()).hexdigest(),
        }


def reading_plan(job: ReplayJob, loaded: Checkpoint) -> ReadingPlan:
    """Return how the messages become sets, after a check of the job's settings and faults.

    Raises:
        ConfigurationError, WhatIfError: what is wrong with the job.
    """
    modalities = loaded.metadata.model.modalities
    settings = with_trained_joints(job.settings(modalities), loaded.metadata.joints)
    return ReadingPlan(settings, job.what_if(settings, modalities), settings.bindings(modalities), job.subset_rate)


def set_up(job: ReplayJob, loaded: Checkpoint, plan: ReadingPlan) -> Setup:
    """Build the model of a job.

    Raises:
        EngineError: it cannot run on the device.
    """
    engine = Engine(loaded, job.device, backend="eager")
    distrust = Distrust(policies(plan.settings))
    watch = engine.watch if distrust.judges else None
    if watch is not None and is_installed():
        # A set is judged by itself, in whatever batch it is, so this gives the same bytes every time, too.
        watch.compiled()()
    inference = BatchInference(
        loaded.model,
        engine.mean,
        engine.device,
        pictures=job.write_bag,
        watch=watch,
        drop=distrust.names("drop"),
        step=memory_step(loaded.model, engine),
    )
    return Setup(job.checkpoint_path, plan, engine, inference)


def memory_step(model: MultimodalVAE, engine: Engine) -> Step | None:
    """Return the step of memory as the node runs it; None where PyTorch is to do it."""
    if engine.memory is None or engine.device.type != "cpu" or not is_installed():
        return None
    try:
        graph = agreeing_fusion(model)
    except BackendError as error:
        _log.warning("%s; memory runs in PyTorch", error)
        return None

    def step(embeddings: np.ndarray, mask: np.ndarray, recalled: Recalled) -> tuple[np.ndarray, np.ndarray | None]:
        fused = graph(embeddings[None], mask[None], recalled)
        assert fused.hidden is not None, "a model with memory"
        return fused.hidden[0], fused.slot

    return step
