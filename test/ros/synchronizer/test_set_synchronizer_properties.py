"""Properties of the synchroniser for any samples in any order, against a slow and obvious implementation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from smvae_ros.synchronizer.set_synchronizer import SampleSet, SetSynchronizer, Stream

MS = 1_000_000
START = 1_000_000_000_000
# A coarse grid, so that stamps, tolerances, periods and deadlines coincide often.
GRID = 5 * MS
DELAY = 40 * MS
TOLERANCE = 25 * MS
MAX_WAIT = DELAY + TOLERANCE + 1

Arrival = tuple[int, str, int]
"""now_ns, modality, stamp_ns."""


@dataclass(frozen=True)
class Case:
    streams: tuple[Stream, ...]
    stamps: dict[str, list[int]]

    def arrivals(self, draw: st.DrawFn) -> list[Arrival]:
        """Each sample up to DELAY after its stamp; in a stream declared ordered none overtakes another."""
        arrivals: list[Arrival] = []
        for stream in self.streams:
            stamps = self.stamps[stream.name]
            delays = draw(st.lists(st.integers(0, DELAY // GRID), min_size=len(stamps), max_size=len(stamps)))
            times = [stamp + delay * GRID for stamp, delay in zip(stamps, delays)]
            if stream.ordered:
                times = list(accumulate(times, max))
            arrivals += [(now, stream.name, stamp) for now, stamp in zip(times, stamps)]
        arrivals = sorted(draw(st.permutations(arrivals)), key=lambda one: one[0])
        in_order = {
            stream.name: sorted(one for one in arrivals if one[1] == stream.name)
            for stream in self.streams
            if stream.ordered
        }
        return [in_order[one[1]].pop(0) if one[1] in in_order else one for one in arrivals]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    streams, stamps = [], {}
    for name in ("rgb", "depth", "force", "action"):
        period = draw(st.sampled_from((0, 1, 2, 4, 8)))
        gaps = draw(st.lists(st.integers(max(period, 1), period + draw(st.sampled_from((1, 12)))), max_size=12))
        window = draw(st.integers(2, 4)) if name == "force" else 1
        streams.append(
            Stream(
                name,
                tolerance_ns=TOLERANCE,
                timeout_ns=100_000 * MS,
                depth=32,
                window=window,
                least=draw(st.integers(1, window)),
                hold_ns=draw(st.sampled_from((0, 12 * GRID))) if name == "action" else 0,
                period_ns=period * GRID,
                ordered=draw(st.booleans()),
            )
        )
        stamps[name] = [START + stamp * GRID for stamp in accumulate(gaps, initial=draw(st.integers(0, 12)))][1:]
    return Case(tuple(streams), stamps)


def run(
    case: Case, arrivals: list[Arrival], reference: str | None = "rgb", polls: Sequence[int] = ()
) -> tuple[list[SampleSet], SetSynchronizer]:
    synchronizer = SetSynchronizer(
        case.streams, reference=reference, max_wait_ns=MAX_WAIT, tick_ns=50 * MS, future_ns=0
    )
    sets: list[SampleSet] = []
    events: list[tuple[int, str, int]] = sorted(arrivals + [(now, "", 0) for now in polls], key=lambda event: event[0])
    for now, modality, stamp in events:
        sets += synchronizer.add(modality, stamp, stamp, now) if modality else synchronizer.poll(now)
    while (due := synchronizer.next_deadline()) is not None and due < START + 10_000 * MS:
        sets += synchronizer.poll(due)
    return sets, synchronizer


def contents(sets: list[SampleSet]) -> list[tuple[int, dict[str, list[int]]]]:
    return [
        (one.stamp_ns, {name: [sample.stamp_ns for sample in samples] for name, samples in one.samples.items()})
        for one in sets
    ]


def oracle(case: Case) -> list[tuple[int, dict[str, list[int]]]]:
    """Everything has arrived; each reference in turn looks through all samples."""
    sets = []
    last_used = {stream.name: 0 for stream in case.streams}
    for reference in case.stamps["rgb"]:
        chosen = {"rgb": [reference]}
        for stream in case.streams[1:]:
            samples, last = case.stamps[stream.name], last_used[stream.name]
            back = max(stream.tolerance_ns, stream.hold_ns)
            if stream.window > 1:
                window = [stamp for stamp in samples if stamp <= reference][-stream.window :]
                stretched = 0 < 4 * stream.period_ns * (len(window) - 1) < window[-1] - window[0] if window else False
                present = len(window) >= stream.least and not stretched
                if present and window[-1] >= reference - back and window[-1] > last:
                    chosen[stream.name] = window
            else:
                usable = [stamp for stamp in samples if stamp > last or (stream.hold_ns and stamp == last)]
                usable = [stamp for stamp in usable if reference - back <= stamp <= reference + stream.tolerance_ns]
                if usable:
                    chosen[stream.name] = [min(usable, key=lambda stamp: (abs(stamp - reference), stamp))]
            if stream.name in chosen:
                last_used[stream.name] = chosen[stream.name][-1]
        sets.append((reference, chosen))
    return sets


@settings(max_examples=400, deadline=None)
@given(cases(), st.data())
def test_any_arrival_order_within_the_wait_gives_the_sets_of_the_obvious_implementation(
    case: Case, data: st.DataObject
) -> None:
    sets, _ = run(case, case.arrivals(data.draw))
    assert contents(sets) == oracle(case)


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_every_sample_is_used_or_dropped_for_a_reason_or_held(case: Case, data: st.DataObject) -> None:
    arrivals = data.draw(st.lists(st.sampled_from(case.arrivals(data.draw) or [(START, "rgb", START)]), max_size=60))
    jumps = data.draw(
        st.lists(
            st.sampled_from((0, 0, 0, 7 * MS, -30 * MS, -2000 * MS, 3000 * MS)),
            min_size=len(arrivals),
            max_size=len(arrivals),
        )
    )
    streams = tuple(replace(stream, timeout_ns=150 * MS, depth=max(3, stream.window)) for stream in case.streams)
    synchronizer = SetSynchronizer(streams, reference="rgb", max_wait_ns=MAX_WAIT, tick_ns=50 * MS, future_ns=MS)
    sets: list[SampleSet] = []
    for (now, modality, stamp), jump in zip(arrivals, jumps):
        sets += synchronizer.add(modality, stamp, stamp, now + jump)
        for stream in streams:
            counts = synchronizer.counts[stream.name]
            assert counts.received == counts.used + sum(counts.dropped.values()) + synchronizer.held(stream.name)
            assert synchronizer.held(stream.name) <= stream.depth
    assert sum(counts.received for counts in synchronizer.counts.values()) == len(arrivals)
    for stream in streams:
        seen = {(one.epoch, sample.stamp_ns) for one in sets for sample in one.samples.get(stream.name, ())}
        assert synchronizer.counts[stream.name].used == len(seen)
        assert synchronizer.counts[stream.name].sets == sum(stream.name in one.samples for one in sets)
    order = [(one.epoch, one.stamp_ns) for one in sets]
    assert order == sorted(set(order)), "set stamps strictly increase within an epoch"
    assert sum(synchronizer.sets.values()) == len(sets)


@settings(max_examples=200, deadline=None)
@given(cases(), st.sampled_from(("rgb", None)), st.data())
def test_when_and_how_often_it_is_polled_changes_nothing(
    case: Case, reference: str | None, data: st.DataObject
) -> None:
    mortal = Case(
        tuple(replace(stream, timeout_ns=data.draw(st.sampled_from((30, 80, 200))) * MS) for stream in case.streams),
        case.stamps,
    )
    arrivals = mortal.arrivals(data.draw)
    polls = data.draw(st.lists(st.integers(0, 900).map(lambda ms: START + ms * MS), max_size=30))
    rarely, _ = run(mortal, arrivals, reference)
    often, _ = run(mortal, arrivals, reference, polls)
    assert [one._replace(emitted_ns=0) for one in rarely] == [one._replace(emitted_ns=0) for one in often]


@settings(max_examples=200, deadline=None)
@given(cases(), st.data())
def test_no_set_waits_longer_than_it_may_when_it_is_polled_in_time(case: Case, data: st.DataObject) -> None:
    arrivals = case.arrivals(data.draw)
    synchronizer = SetSynchronizer(case.streams, reference="rgb", max_wait_ns=10 * MS, tick_ns=50 * MS, future_ns=0)
    sets: list[SampleSet] = []
    for now, modality, stamp in arrivals:
        while (due := synchronizer.next_deadline()) is not None and due <= now:
            sets += synchronizer.poll(due)
        sets += synchronizer.add(modality, stamp, stamp, now)
    while (due := synchronizer.next_deadline()) is not None and due < START + 10_000 * MS:
        sets += synchronizer.poll(due)
    assert all(one.emitted_ns - one.opened_ns <= 10 * MS for one in sets)
    assert len(sets) == len(case.stamps["rgb"]) - sum(synchronizer.counts["rgb"].dropped.values())
