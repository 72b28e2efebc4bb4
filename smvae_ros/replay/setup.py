"""The setup of a replay: the model, the settings and the faults of a job, loaded and checked."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from smvae_core import checkpoint as checkpoints
from smvae_core.inference.backend import BackendError
from smvae_core.inference.engine import Engine
from smvae_core.inference.onnx_runtime import agreeing_fusion, is_installed
from smvae_core.inference.state import Recalled
from smvae_core.model.vae import MultimodalVAE
from smvae_ros.bags.reading import bag_hash
from smvae_ros.conversions.bindings import Binding
from smvae_ros.distrust import Distrust, policies
from smvae_ros.replay.inference import BatchInference, Step
from smvae_ros.replay.job import ReplayJob
from smvae_ros.replay.summary import WhatIf
from smvae_ros.replay.what_if import dropped_altogether
from smvae_ros.settings import FusionSettings
from smvae_ros.trained_joints import with_trained_joints

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """A replay job with its model loaded.

    Attributes:
        checkpoint: file of the model.
        engine: the model as the node runs it, one set at a time.
        inference: the same model for many sets at a time.
        settings: how messages become sets; topics are resolved at the root.
        what_if: the faults to put on top.
        bindings: each modality with its message.
        subset_rate: see `ReplayJob`.
    """

    checkpoint: Path
    engine: Engine
    inference: BatchInference
    settings: FusionSettings
    what_if: WhatIf
    bindings: tuple[Binding, ...]
    subset_rate: float | None

    @property
    def topics(self) -> dict[str, str]:
        """The topic of each modality."""
        return self.settings.root_topics()

    @property
    def types(self) -> dict[str, tuple[str, ...]]:
        """The message types that the topic of each modality may have."""
        return {binding.modality.name: binding.recorded for binding in self.bindings}

    @property
    def optional(self) -> Collection[str]:
        """The modalities that the bag may lack, because no set will hold them."""
        disabled = {name for name, stream in self.settings.streams.items() if not stream.enabled}
        return dropped_altogether(self.what_if) | disabled

    def hashes(self, bag: Path) -> dict[str, str]:
        """Return the SHA-256 of all that the results depend on."""
        chosen = f"{self.settings.model_dump_json()}{self.what_if.model_dump_json()}{self.subset_rate}"
        chosen += "".join(bag_hash(fault.other) for fault in self.what_if.faults if fault.other is not None)
        return {
            "bag_sha256": bag_hash(bag) if bag.exists() else "",
            "checkpoint_sha256": sha256(self.checkpoint.read_bytes()).hexdigest(),
            "settings_sha256": sha256(chosen.encode()).hexdigest(),
        }


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


def load(job: ReplayJob) -> Setup:
    """Load the model of a job and check its settings and faults.

    Raises:
        CheckpointError, EngineError, ConfigurationError, WhatIfError: what is wrong with the job.
    """
    loaded = checkpoints.load(job.checkpoint_path)
    engine = Engine(loaded, job.device, backend="eager")
    settings = with_trained_joints(job.settings(engine.modalities), loaded.metadata.joints)
    distrust = Distrust(policies(settings))
    watch = engine.watch if distrust.judges else None
    if watch is not None and is_installed():
        # A set is judged by itself, in whatever batch it is, so this gives the same bytes every time, too.
        watch.compiled()()
    return Setup(
        checkpoint=job.checkpoint_path,
        engine=engine,
        inference=BatchInference(
            loaded.model,
            engine.mean,
            engine.device,
            pictures=job.write_bag,
            watch=watch,
            drop=distrust.names("drop"),
            step=memory_step(loaded.model, engine),
        ),
        settings=settings,
        what_if=job.what_if(settings, engine.modalities),
        bindings=settings.bindings(engine.modalities),
        subset_rate=job.subset_rate,
    )
