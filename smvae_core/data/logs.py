"""The samples of a folder of logs, as a configuration or a checkpoint asks for them, through the cache."""

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from smvae_core.checkpoint import Metadata
from smvae_core.data.cache import Absent, CachedLogs, cache_folder, cached_samples
from smvae_core.data.samples import Samples
from smvae_core.data.vision_touch import LogError, Trajectory, find_trajectories
from smvae_core.modality import Modality
from smvae_core.progress import progress_bar


def read_logs(
    data: Path,
    modalities: Sequence[Modality],
    missing: Mapping[str, Sequence[str]],
    cache: Path | None,
    skip_bad: bool,
    console: Console,
) -> CachedLogs:
    """All samples of a folder of logs, with a bar while the cache is built; files that are left out are told.

    Args:
        missing: trajectory name, or a pattern, to the modalities to be taken as missing from it.
        cache: folder for caches; None puts it beside the logs.

    Raises:
        LogError: as `cached_samples`; or a pattern fits no trajectory.
    """
    trajectories = find_trajectories(data)
    folder, absent = cache_folder(data, modalities, cache), declared_missing(trajectories, missing)
    with progress_bar(console) as bar:
        task = bar.add_task("reading logs", total=sum(len(t.parts) for t in trajectories), figures="")
        found = cached_samples(trajectories, modalities, folder, absent, skip_bad, lambda path: bar.advance(task))
    for reason in found.skipped.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
    return found


def read_logs_to_judge(
    metadata: Metadata, data: Path, held_out: bool, cache: Path | None, skip_bad: bool, console: Console
) -> tuple[Samples, Samples | None]:
    """The samples to judge a checkpoint on, and others of the same folder where there are any.

    Args:
        held_out: `data` holds the checkpoint's own training logs; judge on those that it held out.

    Raises:
        LogError: as `read_logs`; or the checkpoint held out nothing that is there.
    """
    record, modalities = metadata.training, metadata.model.modalities
    missing = record.configuration.data.missing if held_out and record else {}
    samples = read_logs(data, modalities, missing, cache, skip_bad, console).samples
    if not held_out:
        return samples, None
    names = record.held_out if record else ()
    unseen = np.isin(np.array(samples.names)[samples.trajectory], names)
    if not unseen.any() or unseen.all():
        raise LogError(
            f"{data}: expected the logs that the checkpoint was trained on, of which it held out "
            f"{', '.join(names) or 'no trajectory'}; found {', '.join(samples.names[:5])}"
        )
    return samples.select(np.flatnonzero(unseen)), samples.select(np.flatnonzero(~unseen))


def declared_missing(trajectories: Sequence[Trajectory], missing: Mapping[str, Sequence[str]]) -> Absent:
    """Trajectory name to the modalities that are declared missing for it.

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
