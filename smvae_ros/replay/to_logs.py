"""Logs from bags: the sets of a bag, written as Vision&Touch logs to train on.

The sets are those that the node makes, so the model trains on what it will see when it runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from smvae_core.data.log_file import STEPS_PER_FILE, write_log
from smvae_core.errors import SMVAEError
from smvae_core.modality import Modality
from smvae_core.preprocessing import Preprocessing, PreprocessingError
from smvae_ros.bags.reading import BagError, open_bag
from smvae_ros.conversions.arrays import ConversionError, raw_array
from smvae_ros.conversions.bindings import Binding
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.summary import WhatIf
from smvae_ros.settings import FusionSettings, nanoseconds
from smvae_ros.synchronizer.set_synchronizer import SampleSet

LONGEST_GAP = 5
"""Longest gap within a trajectory, in ticks."""

_FOLLOWING = "action"


class LogWriteError(SMVAEError):
    """Logs that cannot be written."""


def write_logs(
    bag: Path,
    modalities: Sequence[Modality],
    settings: FusionSettings,
    out: Path,
    on_set: Callable[[], None] = lambda: None,
    name: str | None = None,
) -> list[Path]:
    """Write each stretch of a bag over which the same modalities arrived as a trajectory, in files of 50 steps.

    A single set between two gaps makes no trajectory and is left out. A bag is written whole or not at all.

    A log has the keys that the modalities name as their `source`: images (T, size, size, 3), uint8; depth (T, size,
    size, 1), float32, metres, 0 for no reading; windows (T, window, C) and vectors (T, C), float32, physical units. An
    `action` stands one step later than its set, as in Vision&Touch logs.

    Args:
        settings: how sets are made; topics are resolved at the root.
        on_set: called after each set, for progress.
        name: name of the trajectories; by default the bag's own.

    Returns:
        The files written.

    Raises:
        BagError: not a bag, a topic is missing, or no two sets follow each other.
        ConfigurationError: a message cannot bring its modality.
        LogWriteError: logs of that name exist, or `out` cannot be written.
    """
    name = name or bag.resolve().stem
    refuse_overwriting(out, [name])
    bindings = settings.bindings(modalities)
    topics = {name: topic for name, topic in settings.root_topics().items() if settings.streams[name].enabled}
    types = {binding.modality.name: binding.recorded for binding in bindings}
    made = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out, prefix=".log.") as folder, open_bag(bag, topics, types) as opened:
            writer = _Writer(Path(folder), name, nanoseconds(settings.tick) * LONGEST_GAP)
            no_faults = Faults(WhatIf(), modalities)
            for recorded in RecordedSets(opened, settings.synchronizer(), settings.synchronizer_streams(), no_faults):
                sample_set = recorded.sample_set
                writer.add(sample_set.epoch, sample_set.stamp_ns, _row(bindings, sample_set))
                on_set()
            writer.end_trajectory()
            if not writer.files:
                raise BagError(f"{bag}: expected sets to write, found none")
            return [file.replace(out / file.name) for file in writer.files]
    except OSError as error:
        raise LogWriteError(f"{out}: the logs cannot be written ({error.strerror or error})") from None
    finally:
        if made:
            with suppress(OSError):  # the folder is not empty
                out.rmdir()


def refuse_overwriting(out: Path, names: Iterable[str]) -> None:
    """Check, before long work, that a folder has no logs of bags of these names; their steps would mix.

    Raises:
        LogWriteError: the folder has such logs.
    """
    if not out.is_dir():
        return
    files = sorted(file.name for file in out.glob("*.h5"))
    for name in names:
        of_bag = re.compile(rf"\d+_\d+_{re.escape(name)}_\d+_\d+_{STEPS_PER_FILE}\.h5")
        there = next((file for file in files if of_bag.fullmatch(file)), None)
        if there is not None:
            raise LogWriteError(
                f"{out}: expected no logs of a bag named {name}, found {there}; give another folder or remove them"
            )


class _Writer:
    """Writer of rows into trajectories, and of trajectories into files."""

    def __init__(self, out: Path, name: str, longest_gap_ns: int) -> None:
        self.files: list[Path] = []
        self._out, self._name, self._longest_gap_ns = out, name, longest_gap_ns
        self._trajectories = 0
        self._kind: tuple[object, ...] | None = None
        self._stamp_ns = self._start_ns = 0
        self._command: np.ndarray | None = None
        self._rows: list[Mapping[str, np.ndarray]] = []
        self._parts = 0

    def add(self, epoch: int, stamp_ns: int, row: Mapping[str, np.ndarray]) -> None:
        if not row:
            self.end_trajectory()
            return
        kind = (epoch, *((key, values.shape) for key, values in row.items()))
        if kind != self._kind or stamp_ns > self._stamp_ns + self._longest_gap_ns:
            self.end_trajectory()
            self._kind, self._start_ns = kind, stamp_ns
        following = row.get(_FOLLOWING)
        if following is not None:
            # No command is known before the first set; the trainer leaves out the command of that row.
            row = {**row, _FOLLOWING: np.zeros_like(following) if self._command is None else self._command}
        self._command, self._stamp_ns = following, stamp_ns
        self._rows.append(row)
        if len(self._rows) == STEPS_PER_FILE:
            self._write()

    def end_trajectory(self) -> None:
        if len(self._rows) > 1 or (self._rows and self._parts):
            self._write()
        if self._parts:
            self._trajectories += 1
        self._begin()

    def _begin(self) -> None:
        self._kind, self._command = None, None
        self._stamp_ns = self._start_ns = 0
        self._rows, self._parts = [], 0

    def _write(self) -> None:
        start = datetime.fromtimestamp(self._start_ns // 1_000_000_000, timezone.utc)
        path = self._out / (
            f"{start:%Y%m%d_%H%M%S}_{self._name}_{self._trajectories}_{self._parts}_{STEPS_PER_FILE}.h5"
        )
        write_log(path, self._rows)
        self.files.append(path)
        self._rows, self._parts = [], self._parts + 1


def _row(bindings: Iterable[Binding], sample_set: SampleSet) -> dict[str, np.ndarray]:
    """Return the content of a set by the keys of a log; modalities whose messages cannot be used are left out."""
    row = {}
    for binding in bindings:
        samples = sample_set.samples.get(binding.modality.name)
        if samples is not None:
            with suppress(ConversionError, PreprocessingError):
                raw = raw_array(binding, [sample.data for sample in samples])
                row[binding.modality.source] = _logged(binding.modality.preprocessing, raw)
    return row


def _logged(preprocessing: Preprocessing, raw: np.ndarray) -> np.ndarray:
    """Return images at the model's size, so that logs are small and give the model what the node would."""
    if preprocessing.kind in ("rgb", "grey"):
        pixels: np.ndarray = preprocessing.resized(raw).transpose(1, 2, 0)
        return pixels
    if preprocessing.kind == "depth":
        metres: np.ndarray = preprocessing.apply(raw).transpose(1, 2, 0) * np.float32(preprocessing.max_depth)
        return metres
    return raw
