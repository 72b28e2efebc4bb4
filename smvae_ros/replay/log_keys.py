"""The keys of a log: one place for each modality."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from smvae_core.errors import ConfigurationError
from smvae_core.modality import Modality


def check_keys(modalities: Sequence[Modality]) -> None:
    """Check that each modality has a key of its own in a log, so that none overwrites another.

    Raises:
        ConfigurationError: two modalities have one source; the source of one is a folder above that of another; or a
            source is no key of an HDF5 file.
    """
    pieces = {modality.name: _pieces(modality.source) for modality in modalities}
    for modality in modalities:
        if not pieces[modality.name] or "\0" in modality.source:
            raise ConfigurationError(f"{modality.name}: expected a key of a log as source, found {modality.source!r}")
    for one, other in combinations(modalities, 2):
        mine, theirs = pieces[one.name], pieces[other.name]
        if mine == theirs:
            raise ConfigurationError(
                f"{one.name} and {other.name}: expected a source for each, because a log keeps one modality under a "
                f"key, found '{other.source}' for both; give one of them another source, as '{other.name}'"
            )
        shorter = min(len(mine), len(theirs))
        if mine[:shorter] == theirs[:shorter]:
            raise ConfigurationError(
                f"{one.name} and {other.name}: expected sources of which none is a folder of the other, found "
                f"'{one.source}' and '{other.source}'; give one of them another source, as '{other.name}'"
            )


def _pieces(source: str) -> list[str]:
    """Return the names on the way to a key, as HDF5 reads it."""
    return [piece for piece in source.split("/") if piece not in ("", ".")]
