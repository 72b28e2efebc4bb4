"""Offline evaluation: a bag through the node's own synchroniser, conversions and engine, the same way every time.

Time is the bag's log time, so nothing depends on how fast the machine is: the same bag gives the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

import smvae_core
from smvae_core.checkpoint import default_checkpoint
from smvae_core.engine import Engine, Fusion
from smvae_core.errors import SMVAEError
from smvae_core.evaluation import Evaluation, Subset, SubsetErrors, all_subsets
from smvae_core.figures import depth_picture, depth_range, picture_sheet
from smvae_core.modality import Modality
from smvae_ros.bags import BagError, bag_hash, read_bag
from smvae_ros.bindings import Binding
from smvae_ros.conversions import set_arrays
from smvae_ros.set_synchronizer import SampleSet, SetSynchronizer
from smvae_ros.settings import FusionSettings

PICTURES = 8
"""Moments on the picture sheet."""


class ReplayError(SMVAEError):
    """The results cannot be written."""


class StreamSummary(BaseModel):
    """What became of one modality's messages; see `smvae_ros.stream.StreamCounts`.

    Attributes:
        rejected: sets that had to do without it, because its messages could not be converted.
        rejected_because: the first time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str
    received: int
    used: int
    sets: int
    zero_stamp: int
    dropped: dict[str, int]
    rejected: int
    rejected_because: str | None


class ReplaySummary(BaseModel):
    """All that a replay found, and what it came from.

    Attributes:
        versions: of what computed it.
        sets_by_subset: number of sets by their modalities, joined by `+`.
        evaluation: errors of the predictions from every subset, over the sets that had all modalities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bag: str
    bag_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    versions: dict[str, str]
    device: str
    settings: FusionSettings
    streams: dict[str, StreamSummary]
    sets: int
    sets_by_reason: dict[str, int]
    sets_by_subset: dict[str, int]
    empty_ticks: int
    resets: int
    evaluation: Evaluation


def replay(
    bag: Path,
    checkpoint: Path | None,
    out: Path,
    settings: Callable[[Sequence[Modality]], FusionSettings],
    device: str = "auto",
    on_set: Callable[[], None] = lambda: None,
) -> ReplaySummary:
    """Evaluate a checkpoint on a bag.

    Writes into `out`: summary.json (`ReplaySummary`), latents.npz (a row for each set) and predictions.png. The same
    bag, checkpoint, settings and machine give the same bytes.

    Args:
        checkpoint: None takes the one that ships.
        settings: for the checkpoint's modalities; topics are resolved at the root.
        on_set: called after each set, for progress.

    Raises:
        BagError: not a bag, a topic missing, or no set that has all modalities.
        CheckpointError, EngineError, ConfigurationError: as the engine and the settings.
        ReplayError: `out` cannot be written.
    """
    checkpoint = default_checkpoint() if checkpoint is None else checkpoint
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    engine = Engine.load(checkpoint, device, backend="eager")
    chosen = settings(engine.modalities)
    synchronizer = chosen.synchronizer()
    bindings = chosen.bindings(engine.modalities)
    judge = _Judge(engine, bindings)
    with _one_thread():
        for sample_set in bag_sets(bag, bindings, chosen, synchronizer):
            judge.see(sample_set)
            on_set()
    if not judge.whole:
        found = (
            ", ".join(f"{count} of {subset or 'nothing'}" for subset, count in judge.by_subset.most_common()) or "none"
        )
        raise BagError(f"{bag}: expected sets of {' + '.join(judge.names)} to evaluate, found {found}")
    summary = ReplaySummary(
        bag=bag.resolve().name,
        bag_sha256=bag_hash(bag),
        checkpoint=checkpoint.name,
        checkpoint_sha256=sha256(checkpoint.read_bytes()).hexdigest(),
        versions={"smvae": smvae_core.__version__, "torch": torch.__version__, "numpy": np.__version__},
        device=engine.device.type,
        settings=chosen,
        streams={name: _stream_summary(name, chosen, synchronizer, judge) for name in chosen.streams},
        sets=len(judge.stamps_ns),
        sets_by_reason=dict(sorted(synchronizer.sets.items())),
        sets_by_subset=dict(judge.by_subset.most_common()),
        empty_ticks=synchronizer.empty_ticks,
        resets=synchronizer.resets,
        evaluation=judge.evaluation(),
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".replay.") as folder:
            (Path(folder) / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n")
            np.savez(Path(folder) / "latents.npz", **judge.latents())
            judge.draw(Path(folder) / "predictions.png")
            for file in Path(folder).iterdir():
                os.replace(file, out / file.name)
    except OSError as error:
        raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None
    return summary


def bag_sets(
    bag: Path, bindings: Sequence[Binding], settings: FusionSettings, synchronizer: SetSynchronizer
) -> Iterator[SampleSet]:
    """The sets that a node would make of a bag, with the log time as its clock and polled at every deadline.

    Raises:
        BagError: not a bag, damaged, or without a topic.
    """
    topics = {name: "/" + stream.topic.lstrip("/") for name, stream in settings.streams.items() if stream.enabled}
    types = {binding.modality.name: binding.type for binding in bindings}
    for modality, log_ns, stamp_ns, message in read_bag(bag, topics, types):
        while (due_ns := synchronizer.next_deadline()) is not None and due_ns <= log_ns:
            yield from synchronizer.poll(due_ns)
        yield from synchronizer.add(modality, stamp_ns, message, log_ns)
    while (due_ns := synchronizer.next_deadline()) is not None:
        yield from synchronizer.poll(due_ns)


@dataclass(frozen=True)
class _Moment:
    seconds: float
    seen: dict[str, np.ndarray]
    predicted: dict[Subset, dict[str, np.ndarray]]


@dataclass
class _Judge:
    """Runs the engine on each set and keeps what the results need; memory grows by a latent for each set, no more."""

    engine: Engine
    bindings: tuple[Binding, ...]
    stamps_ns: list[int] = field(default_factory=list)
    by_subset: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    rejected_because: dict[str, str] = field(default_factory=dict)
    whole: int = 0

    def __post_init__(self) -> None:
        self.names = tuple(modality.name for modality in self.engine.modalities)
        self._subsets = all_subsets(self.names)
        self._squared = np.zeros((len(self._subsets), len(self.names)))
        self._trivial = np.zeros(len(self.names))
        self._epochs: list[int] = []
        self._fusions: list[Fusion] = []
        self._moments: list[_Moment] = []
        self._spacing = 1
        self._images = [m for m in self.engine.modalities if m.preprocessing.kind in ("rgb", "depth")]
        sight = {m.name for m in self._images}
        without = [{m.name} for m in self._images] + [sight]
        shown = [self.names, *(tuple(name for name in self.names if name not in left_out) for left_out in without)]
        self._shown = [subset for subset in dict.fromkeys(shown) if subset]

    def see(self, sample_set: SampleSet) -> None:
        arrays, rejected = set_arrays(self.bindings, sample_set)
        self.rejected.update(rejected.keys())
        self.rejected_because = rejected | self.rejected_because
        # As the node does, alone and without predictions: to the bit what it would publish.
        fusion = self.engine.infer(arrays)
        self.stamps_ns.append(sample_set.stamp_ns)
        self._epochs.append(sample_set.epoch)
        self._fusions.append(fusion)
        self.by_subset["+".join(fusion.modalities)] += 1
        if len(arrays) == len(self.names):
            self._score(sample_set.stamp_ns, arrays)

    def _score(self, stamp_ns: int, arrays: dict[str, np.ndarray]) -> None:
        fusions = dict(zip(self._subsets, self.engine.infer_subsets(arrays, self._subsets, self.names)))
        for column, name in enumerate(self.names):
            self._trivial[column] += _mean_square(arrays[name] - self.engine.mean[name])
            for row, fusion in enumerate(fusions.values()):
                self._squared[row, column] += _mean_square(arrays[name] - fusion.predictions[name])
        if self.whole % self._spacing == 0:
            shown = {subset: fusions[subset].predictions for subset in self._shown}
            self._moments.append(_Moment((stamp_ns - self.stamps_ns[0]) / 1e9, arrays, shown))
            if len(self._moments) == 4 * PICTURES:
                self._moments = self._moments[::2]
                self._spacing *= 2
        self.whole += 1

    def evaluation(self) -> Evaluation:
        errors = [
            SubsetErrors(
                subset=subset,
                samples=self.whole,
                mse=dict(zip(self.names, (squared / self.whole).tolist())),
                share=dict(zip(self.names, (squared / self._trivial.clip(min=1e-12)).tolist())),
            )
            for subset, squared in zip(self._subsets, self._squared)
        ]
        return Evaluation(samples=self.whole, subsets=tuple(errors))

    def latents(self) -> dict[str, np.ndarray]:
        return {
            "modalities": np.array(self.names),
            "stamp_ns": np.array(self.stamps_ns, np.int64),
            "epoch": np.array(self._epochs, np.int64),
            "present": np.array([[name in fusion.modalities for name in self.names] for fusion in self._fusions]),
            "mean": np.stack([fusion.mean for fusion in self._fusions]),
            "log_variance": np.stack([fusion.log_variance for fusion in self._fusions]),
            "attention": np.array(
                [[f.attention.get(name, 0.0) for name in self.names] for f in self._fusions], np.float32
            ),
        }

    def draw(self, path: Path) -> None:
        places = np.unique(np.linspace(0, len(self._moments) - 1, PICTURES).round().astype(int))
        moments = [self._moments[place] for place in places]
        rows: dict[str, list[np.ndarray]] = {}
        for modality in self._images:
            name = modality.name
            seen = [modality.to_physical(moment.seen[name]) for moment in moments]
            rows[f"camera saw: {name}"] = seen
            for subset in self._shown:
                predicted = [modality.to_physical(moment.predicted[subset][name]) for moment in moments]
                rows[f"{name} predicted from\n{' + '.join(subset)}"] = predicted
            if modality.preprocessing.kind == "depth":
                limits = depth_range(np.stack(seen))
                for label in [label for label in rows if label.endswith(f": {name}") or label.startswith(f"{name} ")]:
                    rows[label] = [depth_picture(metres, *limits) for metres in rows[label]]
        if rows:
            picture_sheet(path, rows, [f"{moment.seconds:.1f} s" for moment in moments])


@contextmanager
def _one_thread() -> Iterator[None]:
    # The number of threads changes the last bits of a sum; for networks this small it hardly changes the time.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stream_summary(name: str, settings: FusionSettings, synchronizer: SetSynchronizer, judge: _Judge) -> StreamSummary:
    counts = synchronizer.counts[name]
    return StreamSummary(
        topic=settings.streams[name].topic,
        received=counts.received,
        used=counts.used,
        sets=counts.sets,
        zero_stamp=counts.zero_stamp,
        dropped=dict(sorted(counts.dropped.items())),
        rejected=judge.rejected[name],
        rejected_because=judge.rejected_because.get(name),
    )


def _mean_square(difference: np.ndarray) -> float:
    return float(np.mean(np.square(difference, dtype=np.float64)))
