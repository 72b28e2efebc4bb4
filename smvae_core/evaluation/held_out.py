"""The samples of a folder that a checkpoint is judged on: all, or those that its training held out."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape

from smvae_core.checkpoint import Metadata
from smvae_core.configuration import DataConfiguration
from smvae_core.data.formats.protocol import LogError
from smvae_core.data.logs import read_logs
from smvae_core.data.samples import Samples
from smvae_core.data.splits import SPLITS, at_most


def read_logs_to_judge(
    metadata: Metadata, data: Path, held_out: bool, cache: Path | None, skip_bad: bool, console: Console
) -> tuple[Samples, Samples | None]:
    """Return the samples to judge a checkpoint on, and the other samples of the same folder, if there are any.

    Args:
        held_out: `data` holds the checkpoint's own training data; judge on the samples that training held out.

    Raises:
        LogError: as `read_logs`; or the checkpoint held out nothing that is there.
    """
    record, modalities = metadata.training, metadata.model.modalities
    configuration = record.configuration.data if record else DataConfiguration()
    if not held_out:
        configuration = configuration.model_copy(update={"missing": {}})
    samples = read_logs(data, modalities, configuration, cache, skip_bad, console).samples
    if not held_out:
        if record and record.data == samples.told(data):
            console.print(
                f"{escape(str(data))} looks like the training data of the model; --held-out judges on the samples that "
                "it was not trained on",
                soft_wrap=True,
            )
        return samples, None
    if record and not record.held_out:
        seen, unseen = SPLITS[configuration.split](samples, configuration.held_out, configuration.seed)
        seen = at_most(seen, configuration.most)
        if len(seen) != record.samples:
            raise LogError(
                f"{data}: expected the data that the checkpoint was trained on, {record.samples} training samples, "
                f"found {len(seen)}"
            )
        return unseen, seen
    names = record.held_out if record else ()
    tested = np.isin(np.array(samples.names)[samples.trajectory], names)
    if not tested.any() or tested.all():
        raise LogError(
            f"{data}: expected the logs that the checkpoint was trained on, of which it held out "
            f"{', '.join(names) or 'no trajectory'}; found {', '.join(samples.names[:5])}"
        )
    seen = at_most(samples.select(np.flatnonzero(~tested)), configuration.most)
    return samples.select(np.flatnonzero(tested)), seen
