"""A whole model as one file: safetensors weights, with JSON metadata in the header. Nothing in it is executed."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

import smvae_core
from smvae_core.calibration import Calibration
from smvae_core.configuration import Configuration
from smvae_core.errors import SMVAEError, explain
from smvae_core.files import write_atomically
from smvae_core.model.sizes import NetworkError
from smvae_core.model.trust import TrustNetwork
from smvae_core.model.vae import Batch, ModelConfiguration, MultimodalVAE
from smvae_core.scores import Evaluation
from smvae_core.trust import TrustRecord

# Goes up when an existing key changes its meaning. A new key needs no new format: the version that wrote it is named.
FORMAT = 1
_KEY = "smvae"
_MODEL, _MEAN, _TRUST = "model.", "mean.", "trust."


class CheckpointError(SMVAEError):
    """A checkpoint that is missing, damaged, foreign, or newer than this package."""


class TrainingRecord(BaseModel):
    """The training of a model: its data, and how to train it again.

    Attributes:
        data: the logs in words: how many trajectories and steps, and their folder.
        commands: the shell commands that train it again.
        configuration: of the run.
        epochs: finished epochs.
        samples: in the training part.
        held_out: names of trajectories that were never trained on.
        skipped: names of log files that could not be used.
        joints: by modality whose logs name them, the joints in the order of the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    commands: tuple[str, ...]
    configuration: Configuration
    epochs: int
    samples: int
    held_out: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    joints: dict[str, tuple[str, ...]] = {}


class Metadata(BaseModel):
    """Everything that a checkpoint says besides its weights.

    Attributes:
        format: of the file; this package reads `FORMAT` and older ones.
        package_version: the version of smvae that wrote the file.
        model: enough to build the network.
        training: None for a model that was not trained by `smvae train`.
        metrics: errors on held-out samples, by subset; None for a model that was not evaluated.
        calibration: how far σ and predicted intervals can be trusted, by subset; None for a model that was not
            calibrated, as those of version 0.1.
        trust: the calibration of trust; None for a model without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    package_version: str
    model: ModelConfiguration
    training: TrainingRecord | None = None
    metrics: Evaluation | None = None
    calibration: Calibration | None = None
    trust: TrustRecord | None = None

    @property
    def joints(self) -> dict[str, tuple[str, ...]]:
        """The joints that the model was trained on, by modality."""
        return self.training.joints if self.training is not None else {}


@dataclass(frozen=True)
class Checkpoint:
    """A model in memory.

    Attributes:
        model: as loaded: on the processor, in evaluation mode.
        mean: the mean of each modality over the training part, (*shape), model units: the trivial prediction.
        metadata: everything else in the file.
        trust: the network behind trust, in evaluation mode; None for a model without it.
    """

    model: MultimodalVAE
    mean: Batch
    metadata: Metadata
    trust: TrustNetwork | None = None


def default_checkpoint() -> Path:
    """Return the path of the checkpoint that ships with the package."""
    return Path(str(files("smvae_core") / "checkpoints" / "peg_insertion.safetensors"))


def save(
    path: Path,
    model: MultimodalVAE,
    mean: Batch,
    training: TrainingRecord | None,
    metrics: Evaluation | None,
    calibration: Calibration | None = None,
    trust: tuple[TrustNetwork, TrustRecord] | None = None,
) -> None:
    """Write a checkpoint atomically: a reader sees the old file or the new one, never a part.

    Args:
        path: of the file.
        model: on any device.
        mean: mean of each modality over the training part, (*shape), model units.
        training: None if the model was not trained by `smvae train`.
        metrics: errors on held-out samples.
        calibration: of σ and predicted intervals, on held-out samples.
        trust: the network behind trust, and its calibration.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    metadata = Metadata(
        format=FORMAT,
        package_version=smvae_core.__version__,
        model=model.configuration,
        training=training,
        metrics=metrics,
        calibration=calibration,
        trust=trust[1] if trust else None,
    )
    tensors = {_MODEL + name: tensor for name, tensor in model.state_dict().items()}
    tensors |= {_MEAN + name: tensor for name, tensor in mean.items()}
    if trust is not None:
        tensors |= {_TRUST + name: tensor for name, tensor in trust[0].state_dict().items()}
    content = to_bytes(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={_KEY: metadata.model_dump_json()},
    )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from None


def read_metadata(path: Path) -> Metadata:
    """Return the metadata of a checkpoint, without loading its weights.

    Raises:
        CheckpointError: as `load`.
    """
    try:
        if path.is_dir():
            raise CheckpointError(f"{path}: expected a checkpoint (.safetensors), found a folder")
        if not path.is_file():
            raise CheckpointError(f"{path}: no such checkpoint")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a safetensors file, found a damaged or foreign one ({error})"
        ) from None
    if header is None:
        raise CheckpointError(f"{path}: expected a checkpoint of smvae, found safetensors without its metadata")
    try:
        content = json.loads(header)
        found = content["format"]
        if isinstance(found, int) and found > FORMAT:
            raise CheckpointError(
                f"{path}: expected checkpoint format {FORMAT} or older, found {found}, "
                f"made by a newer version, smvae {content.get('package_version')}; install that version"
            )
        return Metadata.model_validate(content)
    except ValidationError as error:
        version, ours = content.get("package_version"), smvae_core.__version__
        if version and version != ours:
            raise CheckpointError(
                f"{path}: expected metadata that smvae {ours} knows, found that of another version, smvae {version}: "
                f"{explain(error)}; install that version"
            ) from None
        raise CheckpointError(f"{path}: damaged metadata: {explain(error)}") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged metadata ({error!r})") from None


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and build its model.

    Raises:
        CheckpointError: the file is missing, damaged, foreign or newer; the message names the file and the reason.
    """
    metadata = read_metadata(path)
    try:
        model = MultimodalVAE(metadata.model)
    except NetworkError as error:
        raise CheckpointError(f"{path}: damaged metadata: {error}") from None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        weights = {name.removeprefix(_MODEL): t for name, t in tensors.items() if name.startswith(_MODEL)}
        model.load_state_dict(weights)
        trust = _trust(metadata, model, tensors)
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: the weights do not fit the model that it describes ({reason})") from None
    if not all(torch.isfinite(tensor).all() for name, tensor in tensors.items() if not name.startswith(_MEAN)):
        raise CheckpointError(f"{path}: expected finite weights, found NaN or infinity")
    mean = {name.removeprefix(_MEAN): t for name, t in tensors.items() if name.startswith(_MEAN)}
    return Checkpoint(model.eval(), mean, metadata, trust)


def _trust(metadata: Metadata, model: MultimodalVAE, tensors: Batch) -> TrustNetwork | None:
    """Return the network behind trust; None for a model without it.

    Raises:
        RuntimeError: the weights do not fit.
    """
    if metadata.trust is None:
        return None
    record, latent = metadata.trust, model.configuration.latent
    network = TrustNetwork(len(model.names), model.width, latent, record.hidden, record.traits, record.each_still)
    network.load_state_dict({name.removeprefix(_TRUST): t for name, t in tensors.items() if name.startswith(_TRUST)})
    return network.eval()
