"""The node's last words: what became of its sets, as the summary of a session or of a replayed bag."""

from __future__ import annotations

from smvae_ros.node.diagnostics import Statistics
from smvae_ros.synchronizer.set_synchronizer import SetSynchronizer


def farewell(statistics: Statistics, synchronizer: SetSynchronizer | None) -> str:
    """One line: latents, sets, the share of them that each modality was in, latency, what was unheard or dropped.

    Args:
        synchronizer: None where the node was not active; only the latents are told then.
    """
    words = f"farewell after {statistics.published} latents"
    if synchronizer is None:
        return words
    if sets := sum(synchronizer.sets.values()):
        shares = ", ".join(f"{name} in {count.sets / sets:.0%}" for name, count in synchronizer.counts.items())
        words += f" of {sets} sets: {shares}"
    if statistics.published:
        p50, p99 = (1e3 * statistics.percentile("latency", percent) for percent in (50, 99))
        words += f"; latency p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    if statistics.unheard:
        words += f"; {statistics.unheard} sets not run, as nobody listened"
    if statistics.skipped:
        words += f"; {statistics.skipped} sets skipped"
    dropped = [
        f"{name} {count} {reason}"
        for name, counts in synchronizer.counts.items()
        for reason, count in sorted(counts.dropped.items())
        if count
    ]
    return words + (f"; dropped: {', '.join(dropped)}" if dropped else "")
