"""Logs from bags: the sets of a bag, written as Vision&Touch logs to train on, with an account of every message.

The sets are those that the node makes, so the model trains on what it will see when it runs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from smvae_core.data.log_file import JOINTS, STEPS_PER_FILE
from smvae_core.errors import SMVAEError
from smvae_core.files import none_left_empty
from smvae_core.modality import Modality
from smvae_core.preprocessing import Preprocessing, PreprocessingError
from smvae_ros.bags.reading import Bag, BagError, open_bag
from smvae_ros.conversions.arrays import raw_array
from smvae_ros.conversions.bindings import Binding
from smvae_ros.conversions.errors import ConversionError
from smvae_ros.replay.account import DAMAGED, NO_SET, UNREAD, BagAccount, ModalityAccount
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.log_keys import check_keys
from smvae_ros.replay.log_writer import LogWriter, Row
from smvae_ros.replay.samples import Samples
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.slow_streams import slow_timeouts
from smvae_ros.replay.summary import WhatIf
from smvae_ros.replay.usage import MOST_REASONS, OTHER, Usage
from smvae_ros.settings import FusionSettings
from smvae_ros.synchronizer.set_synchronizer import Sample, SampleSet, SetSynchronizer

ACCOUNT = "account"
"""Attribute of a log with the account of its bag, as JSON; `NAME.account.json` beside the logs has more."""


class LogWriteError(SMVAEError):
    """Logs that cannot be written."""


@dataclass(frozen=True)
class WrittenLogs:
    """The files of a bag, and the account of its messages."""

    files: list[Path]
    account: BagAccount


def write_logs(
    bag: Path,
    modalities: Sequence[Modality],
    settings: FusionSettings,
    out: Path,
    on_set: Callable[[], None] = lambda: None,
    name: str | None = None,
) -> WrittenLogs:
    """Write each stretch of a bag over which the same modalities arrived as a trajectory, in files of 50 steps.

    A set alone between two gaps makes no trajectory. A stream that is slower than its timeout gets a longer one, which
    the account tells, because the node needs it as well. A bag is written whole or not at all. The account of the bag
    goes into the attributes of each log and into `NAME.account.json` beside them.

    A log has the keys that the modalities name as their `source`: images (T, size, size, 3), uint8; depth (T, size,
    size, 1), float32, metres, 0 for no reading; windows (T, window, C) and vectors (T, C), float32, physical units. The
    entry of a modality with `pairs: following` stands one step later than its set, as an `action` does by custom.

    Args:
        settings: how sets are made; topics are resolved at the root.
        on_set: called after each set, for progress.
        name: name of the trajectories; by default the bag's own.

    Raises:
        BagError: not a bag, a topic is missing, or no two sets follow each other.
        ConfigurationError: a message cannot bring its modality, or modalities share a key.
        LogWriteError: logs of that name exist, or `out` cannot be written.
    """
    name = name or bag.resolve().stem
    refuse_overwriting(out, [name])
    check_keys(modalities)
    bindings = settings.bindings(modalities)
    topics = {name: topic for name, topic in settings.root_topics().items() if settings.streams[name].enabled}
    types = {binding.modality.name: binding.recorded for binding in bindings}
    try:
        with none_left_empty(out):
            out.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=out, prefix=_prefix(name)) as folder, open_bag(bag, topics, types) as opened:
                timeouts = slow_timeouts(opened, topics, settings)
                streams = {modality: {"timeout": seconds} for modality, seconds in timeouts.items()}
                followed = settings.changed({"streams": streams}) if streams else settings
                conversion = _Conversion(opened, modalities, bindings, followed, Path(folder), name)
                conversion.run(on_set)
                account = conversion.account(topics, timeouts)
                if not conversion.files:
                    raise BagError(f"{bag}: expected sets to write, found none; {account.fates()}")
                _attach(account, conversion.joints, conversion.files)
                told = Path(folder) / _account_name(name)
                told.write_text(account.model_dump_json(indent=2) + "\n")
                files = [file.replace(out / file.name) for file in conversion.files]
                told.replace(out / told.name)
                return WrittenLogs(files, account)
    except OSError as error:
        raise LogWriteError(f"{out}: the logs cannot be written ({error.strerror or error})") from None


def refuse_overwriting(out: Path, names: Iterable[str]) -> None:
    """Check, before long work, that a folder has no logs of bags of these names; their steps would mix.

    Raises:
        LogWriteError: the folder has such logs.
    """
    for name in names:
        there = next((file.name for file in files_of(out, name) if file.suffix == ".h5"), None)
        if there is not None:
            raise LogWriteError(
                f"{out}: expected no logs of a bag named {name}, found {there}; give another folder or remove them"
            )


def files_of(out: Path, name: str) -> list[Path]:
    """Return the logs of a bag of this name in a folder, and the file of its account."""
    of_bag = re.compile(rf"\d+_\d+_{re.escape(name)}_\d+_\d+_{STEPS_PER_FILE}\.h5|{re.escape(_account_name(name))}")
    return sorted(file for file in out.iterdir() if of_bag.fullmatch(file.name)) if out.is_dir() else []


def unfinished(out: Path, name: str) -> list[Path]:
    """Return the folders in which logs of a bag of this name were being written when the process was killed."""
    return [folder for folder in out.iterdir() if folder.name.startswith(_prefix(name))] if out.is_dir() else []


def _prefix(name: str) -> str:
    return f".log.{name}."


def _account_name(name: str) -> str:
    return f"{name}.account.json"


class _Conversion:
    """One bag on its way into logs: the sets, the rows that they become, and what becomes of every message."""

    def __init__(
        self,
        bag: Bag,
        modalities: Sequence[Modality],
        bindings: Sequence[Binding],
        settings: FusionSettings,
        folder: Path,
        name: str,
    ) -> None:
        self._bag, self._name = bag, name
        self._samples = Samples(bag, bindings)
        self._synchronizer: SetSynchronizer = settings.synchronizer()
        no_faults = Faults(WhatIf(), modalities)
        self._sets = RecordedSets(self._samples, self._synchronizer, settings.synchronizer_streams(), no_faults)
        self._usage = Usage([binding.modality.name for binding in bindings])
        self._rows: Counter[str] = Counter()
        self._writer = LogWriter(folder, name, [m.source for m in modalities if m.follows], self._settle)
        self._seen = 0

    @property
    def files(self) -> list[Path]:
        """The log files."""
        return self._writer.files

    @property
    def joints(self) -> dict[str, tuple[str, ...]]:
        """The names of the joints, in the order of the numbers in the logs, by key."""
        return {binding.modality.source: binding.joints for binding in self._samples.bindings if binding.joints}

    def run(self, on_set: Callable[[], None]) -> None:
        """Write all sets."""
        for recorded in self._sets:
            self._writer.add(_row(self._samples.bindings, recorded.sample_set))
            self._seen += 1
            on_set()
        self._writer.close()
        self._usage.close()

    def account(self, topics: dict[str, str], timeouts: dict[str, float]) -> BagAccount:
        """Return what became of every message."""
        begin_ns, end_ns = self._bag.begin_ns, self._bag.end_ns
        return BagAccount(
            bag=self._name,
            modalities={name: self._modality(name, topic) for name, topic in topics.items()},
            damage=tuple(self._bag.damage),
            foreign=dict(self._bag.foreign),
            sets=self._seen,
            rows=sum(trajectory.rows for trajectory in self._writer.trajectories),
            splits=dict(self._writer.splits.most_common()),
            trajectories=tuple(self._writer.trajectories),
            timeouts=timeouts,
            seconds=0.0 if begin_ns is None or end_ns is None else (end_ns - begin_ns) / 1e9,
        )

    def _settle(self, row: Row, reason: str | None) -> None:
        self._usage.settle(row.sample_set, row.rejected, reason)
        if reason is None:
            self._rows.update(name for name in row.sample_set.samples if name not in row.rejected)

    def _modality(self, name: str, topic: str) -> ModalityAccount:
        counts = self._synchronizer.counts[name]
        dropped = Counter(self._usage.dropped[name])
        dropped.update({NO_SET if reason == "unused" else reason: count for reason, count in counts.dropped.items()})
        dropped[NO_SET] += counts.received - counts.used - sum(counts.dropped.values())
        dropped[DAMAGED] += self._bag.damaged[topic]
        for reason, count in self._samples.unusable[name].items():
            dropped[reason if reason in dropped or len(dropped) < MOST_REASONS else OTHER] += count
        read = self._sets.recorded[name] + self._bag.damaged[topic] + self._samples.unusable[name].total()
        recorded = self._bag.recorded_messages.get(topic)
        dropped[UNREAD] = max(0, (recorded or 0) - read)
        spacings = self._sets.spacings[name]
        usual_ns = spacings.usual_ns()
        return ModalityAccount(
            topic=topic,
            publishers=self._bag.publishers[name],
            recorded=recorded,
            messages=read + dropped[UNREAD],
            used=self._usage.used[name],
            rows=self._rows[name],
            dropped={reason: count for reason, count in dropped.most_common() if count},
            rate=None if usual_ns is None else round(1e9 / usual_ns, 2),
            gaps=spacings.gaps(),
            longest_gap=spacings.longest_ns / 1e9,
            mixed=self._samples.turns[name].reason,
        )


def _attach(account: BagAccount, joints: Mapping[str, Sequence[str]], files: Iterable[Path]) -> None:
    """Put the account and the names of joints into the attributes of the logs.

    The account goes without the list of trajectories, which may be long, and without topics, so that the same samples
    from other topics give the same bytes.
    """
    text = account.model_dump_json(exclude={"trajectories": True, "modalities": {"__all__": {"topic"}}})
    for file in files:
        with h5py.File(file, "r+") as log:
            log.attrs[ACCOUNT] = text
            for key, names in joints.items():
                if key in log:
                    log[key].attrs[JOINTS] = list(names)


def _row(bindings: Iterable[Binding], sample_set: SampleSet) -> Row:
    """Return the content of a set by the keys of a log, without the modalities whose messages cannot be used."""
    values, rejected = {}, {}
    for binding in bindings:
        modality = binding.modality
        samples = sample_set.samples.get(modality.name)
        if samples is not None:
            try:
                raw = raw_array(binding, [sample.data for sample in samples])
                values[modality.source] = _logged(modality.preprocessing, raw)
            except (ConversionError, PreprocessingError) as error:
                rejected[modality.name] = str(error).removeprefix(f"{modality.name}: ")
    stamps = {
        name: tuple(Sample(sample.stamp_ns, None) for sample in samples) for name, samples in sample_set.samples.items()
    }
    return Row(sample_set._replace(samples=stamps), values, rejected)


def _logged(preprocessing: Preprocessing, raw: np.ndarray) -> np.ndarray:
    """Return images at the model's size, so that logs are small and give the model what the node would."""
    if preprocessing.kind in ("rgb", "grey"):
        pixels: np.ndarray = preprocessing.resized(raw).transpose(1, 2, 0)
        return pixels
    if preprocessing.kind == "depth":
        metres: np.ndarray = preprocessing.apply(raw).transpose(1, 2, 0) * np.float32(preprocessing.max_depth)
        return metres
    return raw
