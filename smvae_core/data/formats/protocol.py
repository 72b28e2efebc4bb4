"""The protocol that every format of data on disk follows. Imports no torch."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from smvae_core.errors import SMVAEError


class LogError(SMVAEError):
    """Data that are missing, damaged, or not in the layout of their format."""


@dataclass(frozen=True)
class Trajectory:
    """The parts of one trajectory; of data without time, the parts of one section of the data set.

    A part is a file, or an episode in a file that holds several. Its path is then that of the file (or of the data
    set) with the name of the episode behind it: `demo.hdf5/demo_3`. Such a path does not exist on disk.

    Attributes:
        name: unique in its data set.
        parts: (part number, path), ascending.
    """

    name: str
    parts: tuple[tuple[int, Path], ...]

    @property
    def runs(self) -> list[list[Path]]:
        """Parts without a missing part between them: time is continuous within each run."""
        runs: list[list[Path]] = []
        previous = None
        for number, path in self.parts:
            if previous is None or number != previous + 1:
                runs.append([])
            runs[-1].append(path)
            previous = number
        return runs


class Steps(Protocol):
    """The values of one key, one entry per step: an array, or frames that are decoded one after the other."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


class Reader(Protocol):
    """A function that reads one part."""

    def __call__(self, path: Path, keys: Collection[str], sizes: Mapping[str, int]) -> Mapping[str, Steps]:
        """Return those of `keys` that the part has, all of one length.

        Args:
            sizes: side of the square that the model needs, by key of a picture. A reader for which that is faster may
                return pictures of this size.

        Raises:
            LogError: the part is damaged; the sentence begins with its path. Iterating the steps may raise it too.
        """
        ...


@dataclass(frozen=True)
class Feature:
    """One key of a data set.

    Attributes:
        shape: of one step.
        low, high: the smallest and the largest value, None where they are not known.
        kind: what a model can make of it: `picture` (uint8 RGB), `grey` (uint8), `depth` (metres), `window` (samples
            since the step before), `vector`, or `none`.
        problem: why it cannot be used; empty if it can.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    low: float | None = None
    high: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class DataSet:
    """The content of a folder of data.

    Attributes:
        rate: steps a second, None where the format does not say.
        lacking: sentences on features that some of the episodes looked at lack. These are used without them.
        unusable: sentences on episodes looked at that cannot be used with the other features.
        looked_at: number of episodes looked at.
    """

    path: Path
    format: str
    trajectories: int
    steps: int
    rate: float | None
    features: tuple[Feature, ...]
    lacking: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    looked_at: int = 0


def _itself(path: Path) -> tuple[Path, ...]:
    return (path,)


class Format(NamedTuple):
    """The functions that read one format. They are module-level functions, so that reading processes can receive them.

    Attributes:
        find: returns the trajectories of a folder or raises LogError.
        read: reads one part.
        files: returns the files that `read` looks at for a part. When one changes, the cache reads the part again.
        describe: returns what a folder holds, or raises LogError; None for data without time.
        following: keys whose entry for a step is the command that led to it. The command that follows an observation is
            then the entry of the next step. In other formats, a step holds the observation and the command after it.
    """

    find: Callable[[Path], list[Trajectory]]
    read: Reader
    files: Callable[[Path], tuple[Path, ...]] = _itself
    describe: Callable[[Path], DataSet] | None = None
    following: frozenset[str] = frozenset()
