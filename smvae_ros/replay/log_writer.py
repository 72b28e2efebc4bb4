"""Rows into trajectories, and trajectories into log files."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import numpy as np

from smvae_core.data.log_file import STEPS_PER_FILE, write_log
from smvae_ros.replay.account import ALONE, TrajectoryAccount
from smvae_ros.replay.spacings import LONGEST_GAP
from smvae_ros.synchronizer.set_synchronizer import SampleSet

_AHEAD = 25
"""Rows on either side whose spacing tells what is usual at a row."""

NO_MODALITY = "no modality could be used"


@dataclass(frozen=True)
class Row:
    """A set as a row of a log.

    Attributes:
        sample_set: the set, without its messages.
        values: by key of the log, the content of one step; empty if nothing of the set could be used.
        rejected: by modality, why its messages could not be used.
    """

    sample_set: SampleSet
    values: Mapping[str, np.ndarray]
    rejected: Mapping[str, str]


class LogWriter:
    """A writer of rows, in order, into trajectories of files with `STEPS_PER_FILE` steps.

    A trajectory ends where other modalities come or go, where time jumps back, and at a gap: a time of more than
    `LONGEST_GAP` times the usual spacing of the sets around it. A set alone between two ends makes no trajectory.

    Args:
        following: keys whose value belongs to the next row: commands that are given after the observation.
        settle: called for each row, in order, with the reason why it was not written; None if it was.

    Attributes:
        files: files written so far.
        trajectories: trajectories ended so far.
        splits: why trajectories ended.
    """

    def __init__(
        self, out: Path, name: str, following: Sequence[str], settle: Callable[[Row, str | None], None]
    ) -> None:
        self.files: list[Path] = []
        self.trajectories: list[TrajectoryAccount] = []
        self.splits: Counter[str] = Counter()
        self._out, self._name, self._following, self._settle = out, name, following, settle
        self._ahead: deque[Row] = deque()
        self._spacings: deque[int] = deque(maxlen=2 * _AHEAD)
        self._newest: SampleSet | None = None
        self._trajectory: list[Row] = []
        self._rows = self._parts = 0
        self._before: Row | None = None
        self._command: dict[str, np.ndarray] = {}
        self._begin_ns = 0

    def add(self, row: Row) -> None:
        """Add the next row."""
        newest, self._newest = self._newest, row.sample_set
        if newest is not None and newest.epoch == row.sample_set.epoch:
            self._spacings.append(row.sample_set.stamp_ns - newest.stamp_ns)
        self._ahead.append(row)
        if len(self._ahead) > _AHEAD:
            self._place(self._ahead.popleft())

    def close(self) -> None:
        """Write the rows that are still open."""
        while self._ahead:
            self._place(self._ahead.popleft())
        self._end("end of the bag")

    def _place(self, row: Row) -> None:
        if self._before is not None and (reason := self._split(self._before, row)):
            self._end(reason)
        if not row.values:
            self._settle(row, NO_MODALITY)
            return
        if self._before is None:
            self._begin_ns = row.sample_set.stamp_ns
        self._trajectory.append(row)
        self._before = row
        if len(self._trajectory) == STEPS_PER_FILE:
            self._write()

    def _split(self, before: Row, row: Row) -> str | None:
        """Return why a trajectory ends between two rows; None if it goes on."""
        if row.sample_set.epoch != before.sample_set.epoch:
            return "time jumped back"
        if not row.values:
            return NO_MODALITY
        lost, new = before.values.keys() - row.values.keys(), row.values.keys() - before.values.keys()
        if lost or new:
            words = [f"{' + '.join(sorted(lost))} went"] if lost else []
            words += [f"{' + '.join(sorted(new))} came"] if new else []
            return ", ".join(words)
        changed = sorted(key for key in row.values if row.values[key].shape != before.values[key].shape)
        if changed:
            return f"{' + '.join(changed)} changed its shape"
        usual_ns = median(self._spacings) if self._spacings else 0
        if row.sample_set.stamp_ns - before.sample_set.stamp_ns > LONGEST_GAP * usual_ns > 0:
            return "a gap"
        return None

    def _end(self, reason: str) -> None:
        """End the trajectory, if there is one."""
        if self._before is None:
            return
        self.splits[reason] += 1
        if self._parts == 0 and len(self._trajectory) == 1:
            self._settle(self._trajectory[0], ALONE)
        else:
            self._write()
            self.trajectories.append(
                TrajectoryAccount(
                    name=f"{self._name}_{len(self.trajectories)}",
                    rows=self._rows,
                    begin_ns=self._begin_ns,
                    end_ns=self._before.sample_set.stamp_ns,
                    ended=reason,
                )
            )
        self._trajectory, self._before = [], None
        self._rows = self._parts = 0
        self._command = {}

    def _write(self) -> None:
        """Write the open rows as one file."""
        if not self._trajectory:
            return
        start = datetime.fromtimestamp(self._begin_ns // 1_000_000_000, timezone.utc)
        path = self._out / (
            f"{start:%Y%m%d_%H%M%S}_{self._name}_{len(self.trajectories)}_{self._parts}_{STEPS_PER_FILE}.h5"
        )
        write_log(path, [self._shifted(row) for row in self._trajectory])
        for row in self._trajectory:
            self._settle(row, None)
        self.files.append(path)
        self._rows += len(self._trajectory)
        self._trajectory, self._parts = [], self._parts + 1

    def _shifted(self, row: Row) -> dict[str, np.ndarray]:
        """Return a row's values, with those of `following` keys from the row before."""
        values = dict(row.values)
        for key in self._following:
            if key in values:
                # No command is known before the first set; the trainer leaves out the command of that row.
                values[key] = self._command.get(key, np.zeros_like(row.values[key]))
                self._command[key] = row.values[key]
        return values
