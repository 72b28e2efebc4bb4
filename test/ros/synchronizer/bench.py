"""A synchroniser on a clock that each call moves, and streams for its tests. Times are milliseconds."""

from __future__ import annotations

from dataclasses import replace

from smvae_ros.synchronizer.set_synchronizer import SampleSet, SetSynchronizer, Stream

MS = 1_000_000
START = 1_000_000

CAMERA = Stream("rgb", tolerance_ns=20 * MS, timeout_ns=300 * MS, depth=8, period_ns=40 * MS, ordered=True)
DEPTH = replace(CAMERA, name="depth")
FORCE = Stream(
    "force", tolerance_ns=20 * MS, timeout_ns=200 * MS, depth=64, window=4, least=4, period_ns=4 * MS, ordered=True
)
ACTION = replace(CAMERA, name="action", hold_ns=100 * MS)


class Bench:
    """A synchroniser that keeps its sets and is polled at each of its deadlines."""

    def __init__(
        self,
        *streams: Stream,
        reference: str | None = "rgb",
        max_wait: float = 50,
        tick: float = 50,
        future: float = 100,
    ) -> None:
        self.synchronizer = SetSynchronizer(
            streams,
            reference=reference,
            max_wait_ns=int(max_wait * MS),
            tick_ns=int(tick * MS),
            future_ns=int(future * MS),
        )
        self.sets: list[SampleSet] = []

    def poll_until(self, now: float) -> None:
        while (due_ns := self.synchronizer.next_deadline()) is not None and due_ns <= (START + now) * MS:
            self.sets += self.synchronizer.poll(due_ns)

    def add(self, modality: str, stamp: float, now: float | None = None) -> list[SampleSet]:
        now = stamp if now is None else now
        self.poll_until(now)
        new = self.synchronizer.add(
            modality, int((START + stamp) * MS), f"{modality}@{stamp:g}", int((START + now) * MS)
        )
        self.sets += new
        return new

    def contents(self) -> list[dict[str, list[str]]]:
        return [
            {name: [sample.data for sample in samples] for name, samples in one.samples.items()} for one in self.sets
        ]

    def stamps(self) -> list[float]:
        return [one.stamp_ns / MS - START for one in self.sets]

    def dropped(self, modality: str) -> dict[str, int]:
        return dict(self.synchronizer.counts[modality].dropped)
