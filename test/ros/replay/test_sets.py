"""The truth beside a set: what the bag holds for its moment, found as the synchroniser finds it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smvae_core.modality import vision_touch_modalities
from smvae_ros.replay.faults import Faults
from smvae_ros.replay.sets import RecordedSets
from smvae_ros.replay.summary import Fault, WhatIf
from smvae_ros.synchronizer.set_synchronizer import SetSynchronizer, Stream

MS = 1_000_000
STREAMS = [
    Stream("rgb", tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=16, ordered=True),
    Stream("depth", tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=16, ordered=True),
    Stream("force", tolerance_ns=25 * MS, timeout_ns=200 * MS, depth=500, window=8, least=8, ordered=True),
    Stream("action", tolerance_ns=25 * MS, timeout_ns=500 * MS, depth=64, hold_ns=100 * MS, ordered=True),
]
START = 1_000_000 * MS

Message = tuple[str, int, int, Any]


def recorded(messages: list[Message], what_if: WhatIf | None = None) -> list[Any]:
    class Recording(SimpleNamespace):
        def messages(self) -> Iterator[Message]:
            yield from messages

    bag = Recording(begin_ns=messages[0][1] if messages else None)
    synchronizer = SetSynchronizer(STREAMS, reference="rgb", max_wait_ns=50 * MS, tick_ns=50 * MS, future_ns=100 * MS)
    return list(RecordedSets(bag, synchronizer, STREAMS, Faults(what_if or WhatIf(), vision_touch_modalities())))


def steady(seconds: float, offset_ms: int = 0) -> list[Message]:
    """Cameras and commands every 50 ms, forces every 10 ms, received as stamped."""
    stamps = [("force", START + n * 10 * MS) for n in range(int(seconds * 100))]
    for name in ("rgb", "depth", "action"):
        stamps += [(name, START + n * 50 * MS + offset_ms * MS * (name == "depth")) for n in range(int(seconds * 20))]
    return [(name, stamp, stamp, f"{name} {stamp}") for name, stamp in sorted(stamps, key=lambda item: item[1])]


@given(
    gaps=st.lists(st.tuples(st.sampled_from([s.name for s in STREAMS]), st.integers(0, 120 * MS)), max_size=120),
)
def test_the_truth_is_what_a_set_holds_and_the_nearest_of_what_it_lacks(gaps: list[tuple[str, int]]) -> None:
    messages, now_ns = [], START
    for name, gap_ns in gaps:
        now_ns += gap_ns + 1
        messages.append((name, now_ns, now_ns, now_ns))
    depths = [stamp for name, _, stamp, _ in messages if name == "depth"]
    for one in recorded(messages, WhatIf(faults=(Fault(kind="drop", modality="depth"),))):
        stamp_ns = one.sample_set.stamp_ns
        assert one.sample_set.samples.items() <= one.recorded.items()
        near = sorted((abs(stamp - stamp_ns), stamp) for stamp in depths if abs(stamp - stamp_ns) <= 25 * MS)
        assert [sample.stamp_ns for sample in one.recorded.get("depth", ())] == [stamp for _, stamp in near[:1]]


def test_what_a_drop_takes_away_stays_the_truth() -> None:
    force = Fault(kind="drop", modality="force", start=1.0, end=2.0)
    drop = WhatIf(faults=(force, Fault(kind="drop", modality="depth")))
    clean, dropped = recorded(steady(3.0)), recorded(steady(3.0), drop)
    assert [one.sample_set.stamp_ns for one in clean] == [one.sample_set.stamp_ns for one in dropped]
    assert [one.recorded for one in clean] == [one.recorded for one in dropped]
    held = [set(one.sample_set.samples) for one in dropped]
    assert all("depth" not in names for names in held)
    assert sum("force" not in names for names in held[2:]) == pytest.approx(20, abs=2)


def test_ticks_find_the_truth_of_a_reference_that_was_dropped() -> None:
    gone = recorded(steady(3.0), WhatIf(faults=(Fault(kind="drop", modality="rgb"),)))
    assert {one.sample_set.reason for one in gone} == {"tick"} and len(gone) > 40
    assert all("rgb" not in one.sample_set.samples for one in gone)
    # The clock ticks on for a moment after the last message.
    assert all(("rgb" in one.recorded) == (one.sample_set.stamp_ns <= START + 2975 * MS) for one in gone)


def test_a_late_message_is_the_truth_of_the_set_that_went_without_it() -> None:
    late = recorded(steady(3.0), WhatIf(faults=(Fault(kind="delay", modality="depth", amount=0.2),)))
    clean = recorded(steady(3.0))
    assert all("depth" not in one.sample_set.samples for one in late)
    assert [one.recorded["depth"] for one in late] == [one.recorded["depth"] for one in clean]


def test_after_time_jumped_back_the_truth_is_of_the_new_pass() -> None:
    first = steady(2.0)
    second = [(name, log_ns + 3000 * MS, stamp_ns, f"again {m}") for name, log_ns, stamp_ns, m in first]
    sets = recorded(first + second)
    assert {one.sample_set.epoch for one in sets} == {0, 1}
    for one in sets:
        texts = [sample.data for samples in one.recorded.values() for sample in samples]
        assert texts and all(text.startswith("again") == (one.sample_set.epoch == 1) for text in texts)
