"""The protocol that every format of data on disk follows. Imports no torch."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from smvae_core.errors import SMVAEError


class LogError(SMVAEError):
    """Data that are missing, damaged, or not in the layout of their format."""


@dataclass(frozen=True)
class Trajectory:
    """The files of one trajectory; of data without time, the files of one part of the data set.

    Attributes:
        name: unique in its data set.
        parts: (part number, file), ascending.
    """

    name: str
    parts: tuple[tuple[int, Path], ...]

    @property
    def runs(self) -> list[list[Path]]:
        """Files without a missing part between them: time is continuous within each run."""
        runs: list[list[Path]] = []
        previous = None
        for number, path in self.parts:
            if previous is None or number != previous + 1:
                runs.append([])
            runs[-1].append(path)
            previous = number
        return runs


class Reader(Protocol):
    """A function that reads one file."""

    def __call__(self, path: Path, keys: Collection[str]) -> dict[str, np.ndarray]:
        """Return those of `keys` that the file has, each (T, ...), all of one length.

        Raises:
            LogError: the file is damaged; the sentence begins with its path.
        """
        ...


def _no_file(path: Path) -> Path | None:
    return None


class Format(NamedTuple):
    """The functions that read one format. They are module-level functions, so that reading processes can receive them.

    Attributes:
        find: returns the trajectories of a folder or raises LogError.
        read: reads one file.
        beside: returns another file that `read` looks at, or None. When that file changes, the cache reads both again.
    """

    find: Callable[[Path], list[Trajectory]]
    read: Reader
    beside: Callable[[Path], Path | None] = _no_file
