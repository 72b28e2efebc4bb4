"""The account of bags that were turned into logs, as a table for the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table

from smvae_ros.bags.contents import left_out
from smvae_ros.replay.account import BagAccount, ModalityAccount, in_words

_SHORT = 10
"""Rows of a trajectory that is worth a hint, if the others are no longer."""


def account_table(accounts: Sequence[BagAccount]) -> Table:
    """Return a row for each modality, over all bags."""
    table = Table("modality", title="what became of the messages")
    for heading in ("in the bags" if len(accounts) > 1 else "in the bag", "used", "dropped", "in rows", "Hz", "gaps"):
        table.add_column(heading, justify="right")
    for name, found in _by_modality(accounts).items():
        table.add_row(
            escape(name),
            *(
                f"{sum(counts):,}"
                for counts in (
                    [modality.messages for modality in found],
                    [modality.used for modality in found],
                    [sum(modality.dropped.values()) for modality in found],
                    [modality.rows for modality in found],
                )
            ),
            _rates(found),
            _gaps(found),
        )
    return table


def drop_lines(accounts: Sequence[BagAccount]) -> list[str]:
    """Return for each modality why messages were dropped, over all bags."""
    lines = []
    for name, found in _by_modality(accounts).items():
        dropped: Counter[str] = Counter()
        for modality in found:
            dropped.update(modality.dropped)
        if dropped:
            topics = ", ".join(dict.fromkeys(modality.topic for modality in found))
            lines.append(f"{name} on {topics}: dropped {in_words(dropped)}")
    return lines


def bag_lines(account: BagAccount) -> list[str]:
    """Return what to know about one bag: sets, rows, trajectories, and channels that were left out."""
    trajectories = len(account.trajectories)
    lines = [
        f"{account.bag}: {account.sets:,} sets, {account.rows:,} rows in {trajectories:,} "
        f"{'trajectory' if trajectories == 1 else 'trajectories'}; ended by {in_words(account.splits)}"
    ]
    lines += [f"{account.bag}: {sentence}" for sentence in left_out(account.foreign)]
    lines += [
        f"{account.bag}: {name} comes more rarely than its timeout, which was taken as {seconds:g} s; give the node "
        f"streams.{name}.timeout: {seconds:g}"
        for name, seconds in account.timeouts.items()
    ]
    return [*lines, *_stretched(account), *_rare(account)]


def _stretched(account: BagAccount) -> Iterator[str]:
    """Return what to do about windows of a stream that is slower than the settings say."""
    for name, modality in account.modalities.items():
        if modality.rate and modality.dropped.get("stretched", 0) > modality.messages / 2:
            yield (
                f"{account.bag}: {name} comes at {modality.rate:.4g} Hz, more slowly than its period says, so its "
                f"windows span too much time; give streams.{name}.period: {1 / modality.rate:.3g}"
            )


def _rare(account: BagAccount) -> Iterator[str]:
    """Return what to do about modalities that come more rarely than the sets, and so cut trajectories to pieces."""
    if not account.seconds or account.rows > _SHORT * len(account.trajectories):
        return
    for name, modality in account.modalities.items():
        if modality.used and modality.rate and modality.rate < 0.9 * account.sets / account.seconds:
            yield (
                f"{account.bag}: {name} comes at {modality.rate:.3g} Hz, more rarely than the sets, so trajectories "
                f"are short; let each message hold until the next one: streams.{name}.hold: {2 / modality.rate:.2g}"
            )


def _by_modality(accounts: Sequence[BagAccount]) -> dict[str, list[ModalityAccount]]:
    names = dict.fromkeys(name for account in accounts for name in account.modalities)
    return {name: [account.modalities[name] for account in accounts if name in account.modalities] for name in names}


def _rates(found: Sequence[ModalityAccount]) -> str:
    rates = [modality.rate for modality in found if modality.rate is not None]
    if not rates:
        return "–"
    low, high = f"{min(rates):.3g}", f"{max(rates):.3g}"
    return low if low == high else f"{low} to {high}"


def _gaps(found: Sequence[ModalityAccount]) -> str:
    gaps = sum(modality.gaps for modality in found)
    longest = max(modality.longest_gap for modality in found)
    return f"{gaps:,}, to {longest:.1f} s" if gaps else "none"
