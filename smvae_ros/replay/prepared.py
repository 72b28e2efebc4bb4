"""A set of a bag as arrays, on its way to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smvae_core.modality import ModalityError
from smvae_ros.bags.reading import Bag
from smvae_ros.conversions.arrays import frame_id, set_arrays
from smvae_ros.conversions.bindings import Binding
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.sets import RecordedSet
from smvae_ros.synchronizer.set_synchronizer import Sample, SampleSet


@dataclass(frozen=True)
class Prepared:
    """A set without its messages.

    Attributes:
        sample_set: the set with only the newest sample of each modality, without its message.
        arrays: what reached the set and could be used, with the faults of the what-if, model units.
        truth: what the bag holds for the set's moment, model units.
        rejected: by modality, why its messages could not be used.
        frames: by modality in the set, the frame of its newest message.
        joints: by modality, the names of its joints, as far as they are known by then.
        seconds: from the bag's start to when the set went out.
        bag_seconds: length of the bag by its metadata; None without metadata.
        in_full: whether its images are predicted from every subset.
    """

    sample_set: SampleSet
    arrays: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    rejected: dict[str, str]
    frames: dict[str, str]
    joints: dict[str, tuple[str, ...]]
    seconds: float
    bag_seconds: float | None
    in_full: bool


def prepare(recorded: RecordedSet, bag: Bag, bindings: Sequence[Binding], faults: Faults, in_full: bool) -> Prepared:
    """Convert the messages of a set and of its truth to arrays."""
    sample_set = recorded.sample_set
    since_ns = sample_set.emitted_ns - (bag.begin_ns or 0)
    arrays, rejected = set_arrays(bindings, sample_set)
    others = {
        name: samples
        for name, samples in recorded.recorded.items()
        if name not in rejected and _stamps(samples) != _stamps(sample_set.samples.get(name, ()))
    }
    truth, _ = set_arrays(bindings, sample_set._replace(samples=others))
    truth |= {name: arrays[name] for name in recorded.recorded if name in arrays and name not in others}
    arrays, blank = _disturbed(arrays, recorded, bindings, faults, since_ns)
    return Prepared(
        sample_set=sample_set._replace(
            samples={name: (Sample(samples[-1].stamp_ns, None),) for name, samples in sample_set.samples.items()}
        ),
        arrays=arrays,
        truth=truth,
        rejected=rejected | blank,
        frames={
            binding.modality.name: frame_id(binding, samples[-1].data)
            for binding in bindings
            if (samples := sample_set.samples.get(binding.modality.name))
        },
        joints={binding.modality.name: binding.joints for binding in bindings},
        seconds=since_ns / 1e9,
        bag_seconds=bag.recorded_seconds,
        in_full=in_full,
    )


def _disturbed(
    arrays: dict[str, np.ndarray], recorded: RecordedSet, bindings: Sequence[Binding], faults: Faults, since_ns: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays with the faults of the what-if, and why those that carry nothing any more count as absent."""
    kept, blank = {}, {}
    for binding in bindings:
        name = binding.modality.name
        if name in arrays:
            array = faults.disturbed(name, arrays[name], recorded.sample_set.samples[name], since_ns)
            try:
                if array is not arrays[name]:  # the others have been checked
                    binding.modality.check_valid(array)
                kept[name] = array
            except ModalityError as error:
                blank[name] = str(error)
    return kept, blank


def _stamps(samples: Sequence[Sample]) -> list[int]:
    return [sample.stamp_ns for sample in samples]
