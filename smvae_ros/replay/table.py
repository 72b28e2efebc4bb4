"""sets.parquet, the table that a replay writes: one row for each set.

| column | type | |
|---|---|---|
| `stamp_ns` | int64 | stamp of the set |
| `epoch` | int64 | how often time had jumped back |
| `log_ns` | int64 | receive time at which the set went out; `BagExtent.begin_ns` is the bag's start |
| `reason` | string | complete, deadline, tick or overflow |
| `wait_ns` | int64 | from the arrival of the reference until the set went out |
| `spread_ns` | int64 | from the oldest to the youngest of the newest samples |
| `present_<m>` | bool | in the set, and usable |
| `age_<m>` | float64 | how much older than the stamp (s), null where absent |
| `attention_<m>` | float32 | 0 where absent |
| `trust_<m>` | float32 | 0 to 1, also of what was dropped; null where it is absent, or the checkpoint cannot tell |
| `distrusted_<m>` | bool | whether it is distrusted, whatever its policy; null where the checkpoint cannot tell |
| `attention_of_memory` | float32 | 0 without memory |
| `memory_age` | float64 | from the newest observation in memory to the stamp (s), null where nothing was remembered |
| `mean`, `log_variance` | list<float32>[L] | the posterior of what the set held |
| `error_<m>_from_set` | float32 | mean squared error against what was recorded, model units; null where nothing was |
| `error_<m>_from_<subset>` | float32 | the same from a subset (`rgb+force`); null where the set lacked part of it |
| `seen_<m>` | list<float32> | newest recorded sample, physical units; null where there is none |
| `predicted_<m>` | list<float32> | the same, predicted from the set |
| `predicted_<m>_without` | list<float32> | the same, predicted from the set without m; null where nothing was left |

Images have none of the last three columns. The subsets are those of `replayed_subsets`; errors of images from them are
null in the sets that `SubsetRate` leaves out.

The file's metadata holds `modalities`, `bag_sha256`, `checkpoint_sha256` and `settings_sha256`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from smvae_core.modality import Modality
from smvae_ros.replay.subsets import replayed_subsets

_ROWS = 1024


class SetTable:
    """A table that is written group by group, in constant memory. A context manager.

    Args:
        latent: number of dimensions of z.
        origin: metadata of the file besides the modalities.
    """

    def __init__(self, path: Path, modalities: Sequence[Modality], latent: int, origin: Mapping[str, str]) -> None:
        names = ",".join(modality.name for modality in modalities)
        self._schema = table_schema(modalities, latent).with_metadata({"modalities": names, **origin})
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> SetTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def write(self, row: dict[str, Any]) -> None:
        """Add a row; a missing column is null."""
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def table_schema(modalities: Sequence[Modality], latent: int) -> pa.Schema:
    """Return the columns, in their order."""
    names = [modality.name for modality in modalities]
    subsets = replayed_subsets(modalities)
    distribution = pa.list_(pa.float32(), latent)
    columns: list[tuple[str, pa.DataType]] = [
        ("stamp_ns", pa.int64()),
        ("epoch", pa.int64()),
        ("log_ns", pa.int64()),
        ("reason", pa.string()),
        ("wait_ns", pa.int64()),
        ("spread_ns", pa.int64()),
    ]
    for name in names:
        columns += [
            (f"present_{name}", pa.bool_()),
            (f"age_{name}", pa.float64()),
            (f"attention_{name}", pa.float32()),
            (f"trust_{name}", pa.float32()),
            (f"distrusted_{name}", pa.bool_()),
        ]
    columns += [("attention_of_memory", pa.float32()), ("memory_age", pa.float64())]
    columns += [("mean", distribution), ("log_variance", distribution)]
    for name in names:
        columns.append((f"error_{name}_from_set", pa.float32()))
        columns += [(f"error_{name}_from_{'+'.join(subset)}", pa.float32()) for subset in subsets]
    for modality in modalities:
        if modality.network != "image":
            name = modality.name
            # The lists have no fixed size: pyarrow cannot read back a null among lists of size one.
            numbers = pa.list_(pa.float32())
            columns += [
                (column, numbers) for column in (f"seen_{name}", f"predicted_{name}", f"predicted_{name}_without")
            ]
    return pa.schema(columns)
