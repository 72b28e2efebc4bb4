"""The cache: every step of a folder of data, preprocessed, in one memory-mapped table on disk.

A cache folder holds one plain binary file per column, and `manifest.json`, which names the rows of each file of data.
Rows are written first and enter the manifest afterwards, by a rename. Whatever stops a build, the manifest names only
whole rows, and the next build continues from there. A file that has changed gets new rows. The name of the cache folder
is a digest of the data folder and of the preprocessing, so each combination has a folder of its own.
"""

import fcntl
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from smvae_core.data.columns import Chunk, Column, columns
from smvae_core.data.formats.protocol import Format, LogError, Reader, Trajectory
from smvae_core.data.formats.vision_touch import VISION_TOUCH
from smvae_core.data.samples import BadLogs, Samples, inconsistent, samples_of
from smvae_core.data.writer import column_file, start, stop, write_rows
from smvae_core.modality import Modality
from smvae_core.processes import can_have_children, without_main

_FORMAT = 2
# Each write of the manifest writes all of it, so the number of writes per build is limited.
_MANIFEST_EVERY, _MANIFEST_TIMES = 256, 32
_FILES_A_WORKER = 8
# Files that a process receives at once: on a busy machine each hand-over waits for its turn.
_FILES_AT_ONCE = 8

Absent = Mapping[str, frozenset[str]]
"""The modalities that count as missing, by name of the trajectory."""
_Identity = tuple[int, int]


class CacheError(LogError):
    """A cache folder that cannot be written."""


class _Entry(BaseModel):
    """The entry of one part of the data: its identity and its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    mtime_ns: int
    absent: tuple[str, ...]
    first: NonNegativeInt
    steps: PositiveInt
    lacking: tuple[str, ...]


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = _FORMAT
    files: dict[str, _Entry] = {}

    @property
    def rows(self) -> int:
        return max((entry.first + entry.steps for entry in self.files.values()), default=0)


class CachedLogs(NamedTuple):
    """The samples, and for each file that was left out the reason."""

    samples: Samples
    skipped: dict[Path, str]


def cache_folder(logs: Path, modalities: Sequence[Modality], place: Path | None) -> Path:
    """Return the cache folder of these data: in `place`, or beside the data if that is None."""
    described = [
        {
            "source": m.source,
            "preprocessing": m.preprocessing.model_dump(mode="json", exclude=_open_keys(m)),
            **_named(c),
        }
        for m, c in zip(modalities, columns(modalities))
    ]
    beside = logs.parent if logs.is_file() else logs
    key = json.dumps([_FORMAT, str(logs.resolve()), described], sort_keys=True)
    return (place or beside / ".smvae_cache") / hashlib.sha256(key.encode()).hexdigest()[:16]


def is_outdated(folder: Path, modalities: Sequence[Modality]) -> bool:
    """Return whether a cache was written by an earlier version, which did not keep how much of each sample is valid."""
    return (folder / "manifest.json").exists() and not all(column_file(folder, c).exists() for c in columns(modalities))


def cached_samples(
    trajectories: Sequence[Trajectory],
    modalities: Sequence[Modality],
    folder: Path,
    absent: Absent = MappingProxyType({}),
    skip_bad: bool = False,
    on_part: Callable[[Path], None] = lambda path: None,
    workers: int | None = None,
    form: Format = VISION_TOUCH,
) -> CachedLogs:
    """Return the samples of trajectories from the cache, after adding the files that it lacks.

    Args:
        folder: from `cache_folder`.
        skip_bad: leave out files that cannot be used, instead of raising.
        on_part: called after each part that had to be read, for progress.
        workers: number of reading processes; by default at most one per processor, fewer for few files.
        form: the format of the data.

    Raises:
        BadLogs: files cannot be used.
        LogError: no file can be used.
        CacheError: the folder cannot be written to.
    """
    paths = {path: absent.get(t.name, frozenset()) for t in trajectories for _, path in t.parts}
    table = columns(modalities)
    try:
        with _locked(folder):
            manifest = _read_manifest(folder, table)
            keys = _keys(paths)
            entries = {path: manifest.files.get(keys[path]) for path in paths}
            identities = _identities(paths, form)
            stale = {p: paths[p] for p, e in entries.items() if e is None or not _is(e, identities[p], paths[p])}
            results = _written(folder, table, manifest.rows, tuple(modalities), stale, workers, form.read)
            bad = _build(folder, table, manifest, stale, keys, identities, results, on_part)
            arrays = {column.name: _mapped(folder, column, manifest.rows) for column in table}
    except OSError as error:
        raise CacheError(
            f"{folder}: the cache cannot be written ({error.strerror}); name another place with --cache"
        ) from None
    except BrokenProcessPool:
        raise CacheError(f"{folder}: a process that read logs was killed; what was read so far is kept") from None
    good = {path: manifest.files[keys[path]] for path in paths if path not in bad}
    chunks = {path: Chunk(e.first, e.steps, frozenset(e.lacking)) for path, e in good.items()}
    bad |= (unlike := inconsistent(trajectories, chunks))
    if bad and not skip_bad:
        raise BadLogs(bad, len(paths))
    chunks = {path: chunk for path, chunk in chunks.items() if path not in unlike}
    kept = [t for t in trajectories if any(path in chunks for _, path in t.parts)]
    if not kept:
        raise LogError(f"expected at least one whole log, found {len(bad)} files and none that can be used")
    return CachedLogs(samples_of(kept, modalities, chunks, arrays), bad)


def _build(
    folder: Path,
    table: Sequence[Column],
    manifest: _Manifest,
    stale: Mapping[Path, frozenset[str]],
    keys: Mapping[Path, str],
    identities: Mapping[Path, _Identity],
    results: Generator[tuple[Path, Chunk | str], None, None],
    on_part: Callable[[Path], None],
) -> dict[Path, str]:
    """Add the stale files to the table and the manifest; return the sentence for each that cannot be used."""
    if not stale:
        return {}
    bad: dict[Path, str] = {}
    every = max(_MANIFEST_EVERY, len(stale) // _MANIFEST_TIMES)
    try:
        for done, (path, result) in enumerate(results, start=1):
            if isinstance(result, str):
                bad[path] = result
            else:
                size, mtime_ns = identities[path]
                manifest.files[keys[path]] = _Entry(
                    size=size,
                    mtime_ns=mtime_ns,
                    absent=tuple(sorted(stale[path])),
                    first=result.first,
                    steps=result.steps,
                    lacking=tuple(sorted(result.lacking)),
                )
            on_part(path)
            if done % every == 0:
                _write_manifest(folder, table, manifest)
    finally:
        results.close()
        _write_manifest(folder, table, manifest)
    return bad


def _written(
    folder: Path,
    table: Sequence[Column],
    rows: int,
    modalities: tuple[Modality, ...],
    stale: dict[Path, frozenset[str]],
    workers: int | None,
    read: Reader,
) -> Generator[tuple[Path, Chunk | str], None, None]:
    """Yield each stale file after writing its rows, with the rows or the reason why it cannot be used."""
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), -(-len(stale) // _FILES_A_WORKER))
    if not can_have_children():
        workers = 1
    context = multiprocessing.get_context("spawn")
    arguments = (folder, table, modalities, context.Value("q", rows), read)
    if workers <= 1:
        start(*arguments)
        try:
            yield from map(write_rows, stale.items())
        finally:
            stop()
        return
    with ProcessPoolExecutor(workers, context, start, arguments) as pool:
        try:
            with without_main():
                results = pool.map(write_rows, stale.items(), chunksize=_FILES_AT_ONCE)
            yield from results
        finally:
            pool.shutdown(cancel_futures=True)


def _write_manifest(folder: Path, table: Sequence[Column], manifest: _Manifest) -> None:
    for column in table:
        with open(column_file(folder, column), "ab") as file:
            if file.tell() < manifest.rows * column.row_bytes:
                file.truncate(manifest.rows * column.row_bytes)
            os.fsync(file.fileno())
    part = folder / ".manifest.json.part"
    with part.open("w") as file:
        file.write(manifest.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / "manifest.json")


def _read_manifest(folder: Path, table: Sequence[Column]) -> _Manifest:
    """Return the manifest, or an empty one if it is missing, damaged or wasteful; the table is then removed."""
    try:
        manifest = _Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        manifest = _Manifest()
    sizes = [column_file(folder, c).stat().st_size if column_file(folder, c).exists() else 0 for c in table]
    whole = all(size >= manifest.rows * column.row_bytes for size, column in zip(sizes, table))
    used = sum(entry.steps for entry in manifest.files.values())
    if whole and manifest.format == _FORMAT and manifest.rows <= 2 * used:
        return manifest
    # Damaged, or most rows belong to files that have changed since. Processes that have the old table open keep it.
    for path in (folder / "manifest.json", *(column_file(folder, column) for column in table)):
        path.unlink(missing_ok=True)
    return _Manifest()


def _mapped(folder: Path, column: Column, rows: int) -> np.ndarray:
    if not rows:
        return np.zeros((0, *column.shape), column.dtype)
    return np.memmap(column_file(folder, column), column.dtype, "r", shape=(rows, *column.shape))


def _is(entry: _Entry, identity: _Identity, absent: frozenset[str]) -> bool:
    return (entry.size, entry.mtime_ns, entry.absent) == (*identity, tuple(sorted(absent)))


def _keys(paths: Collection[Path]) -> dict[Path, str]:
    """Return the name of each part in the manifest: its path in the folder that holds all parts."""
    folder = os.path.commonpath([path.parent for path in paths]) if paths else ""
    return {path: path.relative_to(folder).as_posix() for path in paths}


def _identities(paths: Iterable[Path], form: Format) -> dict[Path, _Identity]:
    """Return size and time of change of each part; the sums, if it is read from several files."""
    # A file of many episodes is looked at once.
    states = cache(os.stat)

    def identity(path: Path) -> _Identity:
        try:
            found = [states(file) for file in form.files(path)]
        except OSError:
            # For example a dangling link, or a folder that may not be read; reading it reports the error.
            return -1, -1
        return sum(s.st_size for s in found), sum(s.st_mtime_ns for s in found)

    return {path: identity(path) for path in paths}


def _open_keys(modality: Modality) -> set[str]:
    return {"offset", "scale", "limit"} if modality.preprocessing.kind == "vector" else set()


def _named(column: Column) -> dict[str, str]:
    return {"name": column.name, "dtype": np.dtype(column.dtype).name}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder: one process builds at a time, others wait and find the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
