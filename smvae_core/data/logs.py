"""Entry point: read a folder of data, as a configuration describes it, through the cache."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from smvae_core.configuration import DataConfiguration
from smvae_core.data.cache import Absent, CachedLogs, cache_folder, cached_samples, is_outdated
from smvae_core.data.formats.protocol import Format, LogError, Trajectory
from smvae_core.data.formats.registry import FORMATS, find_trajectories
from smvae_core.data.samples import Samples, reasons
from smvae_core.modality import Modality
from smvae_core.progress import progress_bar


def read_logs(
    data: Path,
    modalities: Sequence[Modality],
    configuration: DataConfiguration,
    cache: Path | None,
    skip_bad: bool,
    console: Console,
) -> CachedLogs:
    """Return all samples of a folder. Progress, and the files that are left out, go to the console.

    Args:
        configuration: the format of the data, and the modalities that count as missing.
        cache: folder for caches; None puts it beside the data.

    Raises:
        LogError: as `cached_samples`; or a pattern of `configuration.missing` fits no trajectory.
    """
    form = FORMATS[configuration.format]
    trajectories = find_trajectories(data, configuration.format)
    modalities = [_paired(m, form) for m in modalities]
    folder, absent = cache_folder(data, modalities, cache), declared_missing(trajectories, configuration.missing)
    if is_outdated(folder, modalities):
        console.print(
            f"{folder}: this cache is of an earlier version, which did not keep how much of each sample is valid; "
            "reading the data again",
            markup=False,
            soft_wrap=True,
        )
    with progress_bar(console) as bar:
        task = bar.add_task("reading data", total=sum(len(t.parts) for t in trajectories), figures="")
        found = cached_samples(
            trajectories,
            modalities,
            folder,
            absent,
            skip_bad,
            lambda path: bar.advance(task),
            form=form,
        )
    for reason in reasons(found.skipped):
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
    for sentence in _lacking(found.samples, absent):
        console.print(sentence, markup=False, soft_wrap=True)
    return found


def _lacking(samples: Samples, absent: Absent) -> list[str]:
    """Return a sentence on each modality that some trajectories lack, unless a configuration declares it missing."""
    sentences, trajectories = [], np.unique(samples.trajectory)
    for column, modality in enumerate(samples.modalities):
        having = np.unique(samples.trajectory[samples.available[:, column]])
        without = [samples.names[i] for i in np.setdiff1d(trajectories, having)]
        without = [name for name in without if modality.name not in absent.get(name, ())]
        if without and len(having):
            sentences.append(
                f"{modality.name}: {len(without)} of {len(trajectories)} trajectories have no sample of it that can be "
                f"used ('{modality.source}'), as {without[0]}; they are used without it"
            )
    return sentences


def _paired(modality: Modality, form: Format) -> Modality:
    if modality.pairs is not None:
        return modality
    pairs = "following" if modality.source in form.following else "same"
    return modality.model_copy(update={"pairs": pairs})


def declared_missing(trajectories: Sequence[Trajectory], missing: Mapping[str, Sequence[str]]) -> Absent:
    """Return the modalities that a configuration declares missing, by name of the trajectory.

    Args:
        missing: patterns of names of trajectories, each with its modalities.

    Raises:
        LogError: a pattern fits no trajectory.
    """
    absent: dict[str, frozenset[str]] = {}
    for pattern, modalities in missing.items():
        names = fnmatch.filter([trajectory.name for trajectory in trajectories], pattern)
        if not names:
            raise LogError(
                f"data.missing: expected patterns that fit a trajectory, as {trajectories[0].name}, found '{pattern}'"
            )
        for name in names:
            absent[name] = absent.get(name, frozenset()) | frozenset(modalities)
    return absent
