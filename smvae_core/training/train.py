"""The offline trainer: a folder of logs in, a run out. A run that was killed at any moment continues by `resume`."""

import os
from contextlib import ExitStack
from typing import Literal

import lightning_fabric
import torch
from rich.console import Console

from smvae_core.checkpoint import CheckpointError, read_metadata
from smvae_core.data.formats.registry import FORMATS, find_trajectories
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples
from smvae_core.data.sequences import SequenceConfiguration
from smvae_core.device import EngineError, arithmetic, device_errors, torch_device
from smvae_core.model.vae import MultimodalVAE
from smvae_core.training.interruption import interruption
from smvae_core.training.run import Job, Precision, Run, TrainingError
from smvae_core.training.session import Interrupted, Session

__all__ = ["Interrupted", "Job", "Run", "TrainingError", "train"]

_FABRIC_PRECISION: dict[Precision, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "tf32": "32-true",
    "bf16-mixed": "bf16-mixed",
    "16-mixed": "16-mixed",
}


def train(job: Job, console: Console | None = None) -> Run:
    """Train as the job says; under torchrun, as one of its processes.

    Args:
        console: where progress and held-out figures are shown.

    Raises:
        NetworkError: a modality's shape does not fit its network.
        LogError: the logs cannot be read, or are too few to hold some out.
        EngineError: the device is missing, does not work or is out of memory.
        RunError: another process trains in `job.out`.
        FolderError: `job.out` cannot be written to.
        TrainingError: `job.out` holds a run already, or another one than is to be resumed; the loss is no longer
            finite; the disk is full.
        Interrupted: Ctrl-C, after saving.
    """
    console = console or Console()
    run = Run(job.out)
    if run.begun and not job.resume:
        raise TrainingError(
            f"{job.out}: expected a folder without a run, found one; name another with --out, or go on with --resume"
        )
    if (key := _partly(job.configuration.sequences)) and job.init is None and not run.begun:
        raise TrainingError(
            f"sequences.{key}: expected --init with a trained model, from whose latents is learned, found none; name "
            "one, or set it to 0"
        )
    fabric = _launched(job)
    if fabric.global_rank:
        console = Console(quiet=True)
    # Networks that do not fit are found out now, not after hours of reading logs.
    with torch.device("meta"):
        MultimodalVAE(job.configuration.model)
    find_trajectories(job.data, job.configuration.data.format)
    _check_spacing(job)
    if job.init is not None and not run.state.exists():
        read_metadata(job.init)
    with ExitStack() as stack:
        if fabric.world_size > 1:
            # Left to the end of the process, the group's threads sometimes abort it.
            stack.callback(torch.distributed.destroy_process_group)
        if fabric.is_global_zero:
            stack.enter_context(run.locked())
        samples, skipped = _read(job, fabric, console)
        wanted = stack.enter_context(interruption(fabric.world_size))
        stack.enter_context(device_errors(fabric.device))
        # Deterministic, too: a run that is resumed on the same GPU gives the same weights.
        stack.enter_context(arithmetic(fabric.device, tf32=job.precision == "tf32"))
        try:
            return Session(job, run, fabric, samples, skipped, wanted, console).fit()
        except (OSError, CheckpointError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise TrainingError(
                f"{job.out}: the run cannot be written ({reason}); what was saved before is whole, and --resume goes "
                "on from there"
            ) from None


def _partly(settings: SequenceConfiguration) -> str:
    """Return the setting by which only a part of the model learns in some epochs; "" where all of it does."""
    return "latent_epochs" if settings.latent_epochs else "decoder_epochs" if settings.decoder_epochs else ""


def _check_spacing(job: Job) -> None:
    """Raise the TrainingError for a memory whose unit of time is not that of the data, where their format says it."""
    memory, form = job.configuration.model.memory, job.configuration.data.format
    describe = FORMATS[form].describe
    # Logs do not say it, and describing many of them takes long.
    if memory is None or form == "logs" or describe is None:
        return
    rate = describe(job.data).rate
    if rate and abs(memory.spacing * rate - 1.0) > 0.01:
        raise TrainingError(
            f"model.memory.spacing: expected {1.0 / rate:g}, since {job.data} has {rate:g} steps a second, found "
            f"{memory.spacing:g}"
        )


def _launched(job: Job) -> lightning_fabric.Fabric:
    """Return the launched Fabric of one process, or of one of the processes that torchrun started."""
    processes, partly = int(os.environ.get("WORLD_SIZE", 1)), bool(_partly(job.configuration.sequences))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    device = torch_device(job.device)
    if device.index is not None and processes > 1:
        raise EngineError(f"device: expected auto, cpu or cuda for {processes} processes, found '{job.device}'")
    fabric = lightning_fabric.Fabric(
        accelerator={"cuda": "gpu"}.get(device.type, "cpu"),
        devices=local if device.index is None else [device.index],
        num_nodes=processes // local,
        # What does not learn has no gradients.
        strategy="auto" if processes == 1 else "ddp_find_unused_parameters_true" if partly else "ddp",
        precision=_FABRIC_PRECISION[job.precision],
    )
    fabric.launch()
    return fabric


def _read(job: Job, fabric: lightning_fabric.Fabric, console: Console) -> tuple[Samples, tuple[str, ...]]:
    # The first process builds the cache; the others wait and find it built.
    if not fabric.is_global_zero:
        fabric.barrier()
    configuration = job.configuration
    modalities = configuration.model.modalities
    samples, skipped = read_logs(job.data, modalities, configuration.data, job.cache, job.skip_bad, console)
    if fabric.is_global_zero:
        fabric.barrier()
    return samples, tuple(sorted(path.name for path in skipped))
