"""The results folder of a replay, read back for the report."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from smvae_core.errors import SMVAEError, explain
from smvae_ros.replay.summary import ReplaySummary, Timing

Record = TypeVar("Record", bound=BaseModel)

SET = "set"
"""The key of errors predicted from the whole set; other errors have the subset as their key."""


class ReportError(SMVAEError):
    """Results that cannot be read, or a page that cannot be written."""


@dataclass(frozen=True)
class Sets:
    """The rows of sets.parquet: N sets, in the order in which they went out. NaN where there is nothing.

    Attributes:
        seconds: receive time at which the set went out, from the bag's start, (N,).
        jumps: times, as `seconds`, at which the stamps jumped back.
        wait_ms: time from the reference's arrival until the set went out, (N,).
        present: by modality, whether the set held it, (N,) bool.
        age_ms: by modality, how much older than the set's stamp its sample was, (N,).
        trust: by modality, 0 to 1, (N,); no modality where the checkpoint cannot tell.
        distrusted: by modality, whether it was distrusted, (N,) bool; likewise.
        errors: by modality and by the subset it was predicted from, mean squared error in model units, (N,).
        seen, predicted, without: by modality, images apart, physical units, (N, C): recorded values, values predicted
            from the set, and values predicted from the set without that modality.
        memory_age: seconds from the newest observation in memory to the set, NaN where nothing was remembered, (N,).
        attention_of_memory: weight of memory in the set, (N,).
    """

    seconds: np.ndarray
    jumps: list[float]
    reason: np.ndarray
    wait_ms: np.ndarray
    spread_ms: np.ndarray
    present: dict[str, np.ndarray]
    age_ms: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]
    trust: dict[str, np.ndarray]
    distrusted: dict[str, np.ndarray]
    mean: np.ndarray
    errors: dict[str, dict[str, np.ndarray]]
    seen: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    without: dict[str, np.ndarray]
    memory_age: np.ndarray
    attention_of_memory: np.ndarray

    def subsets(self) -> np.ndarray:
        """Return the modalities of each set, joined by `+`, (N,) of str."""
        names = list(self.present)
        code = sum(self.present[name].astype(int) << i for i, name in enumerate(names))
        codes, place = np.unique(code, return_inverse=True)
        words = ["+".join(name for i, name in enumerate(names) if c >> i & 1) for c in codes.tolist()]
        subsets: np.ndarray = np.array(words, object)[place]
        return subsets


@dataclass(frozen=True)
class Pictures:
    """The K moments of pictures.npz.

    Attributes:
        seconds: see `Sets`, (K,).
        shown: inputs of the predictions: `all`, `without_rgb`, …
        used: by entry of `shown`, the input modalities at each moment, joined by `+`.
        recorded: by modality, whether there is a picture of that moment, (K,) bool.
        seen: by modality, uint8 (K, H, W, 3) or metres (K, H, W).
        predicted: by modality and entry of `shown`, predictions in the same form.
        uncertainty: by modality and entry of `shown`, standard deviation in the same units, (K, H, W).
    """

    seconds: np.ndarray
    shown: list[str]
    used: dict[str, list[str]]
    recorded: dict[str, np.ndarray]
    seen: dict[str, np.ndarray]
    predicted: dict[str, dict[str, np.ndarray]]
    uncertainty: dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Results:
    """The content of a results folder; `pictures` and `timing` are None where the replay left none."""

    summary: ReplaySummary
    sets: Sets
    pictures: Pictures | None
    timing: Timing | None

    @property
    def names(self) -> list[str]:
        """Names of the modalities, in the model's order."""
        return list(self.summary.modalities)

    @property
    def cameras(self) -> list[str]:
        """Names of the modalities that are images."""
        return [name for name in self.names if name not in self.sets.seen]

    @property
    def force(self) -> str | None:
        """Name of the modality whose first three values are a force in newtons, guessed by message, topic or name."""
        for name, values in self.sets.seen.items():
            stream = self.summary.settings.streams[name]
            words = f"{name} {stream.topic} {stream.message}".lower()
            if values.shape[1] == 6 and ("wrench" in words or "force" in words):
                return name
        return None


def read_results(folder: Path) -> Results:
    """Read the results of `smvae replay` in a folder.

    Raises:
        ReportError: a file is missing, damaged, or lacks what the page needs.
    """
    summary = read_summary(folder / "summary.json", ReplaySummary)
    timing = folder / "timing.json"
    path = folder / "sets.parquet"
    try:
        sets = _sets(pq.read_table(path), list(summary.modalities), summary.extent.begin_ns)
        path = folder / "pictures.npz"
        pictures = _pictures(path) if path.exists() else None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror or error})") from None
    except KeyError as error:
        raise ReportError(f"{path}: expected {error}, found none") from None
    except (ValueError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise ReportError(f"{path}: expected the results of `smvae replay`, found: {error}") from None
    return Results(summary, sets, pictures, read_summary(timing, Timing) if timing.exists() else None)


def read_summary(path: Path, kind: type[Record]) -> Record:
    """Read a JSON file of `smvae_ros.replay.summary`.

    Raises:
        ReportError: the file is missing or holds something else.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise ReportError(f"{path}: {explain(error)}") from None


def _sets(table: pa.Table, names: list[str], begin_ns: int) -> Sets:
    if not table.num_rows:
        raise ValueError("no set")
    seconds = (table["log_ns"].to_numpy() - begin_ns) / 1e9
    vectors = {name: _vectors(table, name) for name in names if f"seen_{name}" in table.column_names}
    told = [
        name
        for name in names
        if f"distrusted_{name}" in table.column_names and table[f"distrusted_{name}"].null_count < table.num_rows
    ]
    return Sets(
        seconds=seconds,
        jumps=seconds[1:][np.diff(table["epoch"].to_numpy()) != 0].tolist(),
        reason=np.array(table["reason"].to_pylist(), object),
        wait_ms=_column(table, "wait_ns") / 1e6,
        spread_ms=_column(table, "spread_ns") / 1e6,
        present={name: table[f"present_{name}"].to_numpy() for name in names},
        age_ms={name: _column(table, f"age_{name}") * 1e3 for name in names},
        attention={name: _column(table, f"attention_{name}") for name in names},
        trust={name: _column(table, f"trust_{name}") for name in told},
        distrusted={name: _column(table, f"distrusted_{name}") == 1.0 for name in told},
        mean=_lists(table, "mean"),
        errors={name: _errors(table, name) for name in names},
        seen={name: seen for name, (seen, _, _) in vectors.items()},
        predicted={name: predicted for name, (_, predicted, _) in vectors.items()},
        without={name: without for name, (_, _, without) in vectors.items()},
        memory_age=_column_if_any(table, "memory_age"),
        attention_of_memory=_column_if_any(table, "attention_of_memory"),
    )


def _errors(table: pa.Table, name: str) -> dict[str, np.ndarray]:
    start = f"error_{name}_from_"
    return {c.removeprefix(start): _column(table, c) for c in table.column_names if c.startswith(start)}


def _column(table: pa.Table, name: str) -> np.ndarray:
    column: np.ndarray = table[name].cast(pa.float64()).to_numpy()
    return column


def _column_if_any(table: pa.Table, name: str) -> np.ndarray:
    """Return a column that results of an older version lack; then NaN."""
    return _column(table, name) if name in table.column_names else np.full(table.num_rows, np.nan)


def _vectors(table: pa.Table, name: str) -> list[np.ndarray]:
    """Return recorded, predicted, and predicted without the modality, each (N, C), even if null throughout."""
    found = [_lists(table, column) for column in (f"seen_{name}", f"predicted_{name}", f"predicted_{name}_without")]
    width = max(rows.shape[1] for rows in found)
    return [rows if rows.shape[1] else np.full((len(rows), width), np.nan) for rows in found]


def _lists(table: pa.Table, name: str) -> np.ndarray:
    """Return a column of lists of C as (N, C); a null is a row of NaN, and a column of nulls is (N, 0)."""
    column = table[name].combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.drop_null().flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else len(values) // max(valid.sum(), 1)
    rows = np.full((len(valid), width), np.nan)
    rows[valid] = values.reshape(int(valid.sum()), width)
    return rows


def _pictures(path: Path) -> Pictures | None:
    with np.load(path) as file:
        content = {key: file[key] for key in file.files}
    shown = content["shown"].tolist()
    names = [key.removeprefix("seen_") for key in content if key.startswith("seen_")]
    if not names or not len(content["seconds"]):
        return None
    return Pictures(
        seconds=content["seconds"],
        shown=shown,
        used={s: content[f"used_{s}"].tolist() for s in shown},
        recorded={name: content[f"recorded_{name}"] for name in names},
        seen={name: content[f"seen_{name}"] for name in names},
        predicted={name: {s: content[f"predicted_{name}_from_{s}"] for s in shown} for name in names},
        uncertainty={name: {s: content[f"uncertainty_{name}_from_{s}"] for s in shown} for name in names},
    )
