"""A results folder as `smvae replay` leaves it, filled with made-up figures of a known course.

rgb is out from 20 % to 30 % of the bag, force from 50 % to 55 %; the contact is in the last 4 of every 10 seconds.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from smvae_core.modality import vision_touch_modalities
from smvae_core.scores import Evaluation, SubsetErrors
from smvae_core.subsets import all_subsets
from smvae_ros.replay.summary import BagExtent, ReplaySummary, StreamSummary, Timing, WhatIf
from smvae_ros.replay.table import table_schema
from smvae_ros.settings import default_settings

MODALITIES = vision_touch_modalities()
NAMES = tuple(modality.name for modality in MODALITIES)
RATE, LATENT = 25.0, 16
BEGIN_NS = 1_700_000_000_000_000_000
SHOWN = {
    "all": NAMES,
    "without_rgb": ("depth", "force", "action"),
    "without_depth": ("rgb", "force", "action"),
    "without_vision": ("force", "action"),
}
TRIVIAL = {"rgb": 0.02, "depth": 0.03, "force": 0.5, "action": 0.2}


def write_results(
    folder: Path, sets: int = 750, moments: int = 24, names: tuple[str, ...] = NAMES, **changes: Any
) -> Path:
    """Write summary.json, sets.parquet, pictures.npz and timing.json.

    Args:
        names: of the robot's modalities, the first of `NAMES` left out; without a camera there are no pictures.
        changes: of the summary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    t = (np.arange(sets) + 1) / RATE
    share = np.arange(sets) / sets
    present = {name: np.ones(sets, bool) for name in NAMES}
    present["rgb"] &= ~((share >= 0.2) & (share < 0.3))
    present["force"] &= ~((share >= 0.5) & (share < 0.55))
    columns = _columns(t, present, random)
    schema = table_schema([modality for modality in MODALITIES if modality.name in names], LATENT)
    pq.write_table(pa.table({name: columns[name] for name in schema.names}, schema=schema), folder / "sets.parquet")
    if "rgb" in names:
        _write_pictures(folder / "pictures.npz", t, present, moments, random)
    summary = _summary(t, present, columns["reason"]).model_dump()
    summary["modalities"] = names
    summary["streams"] = {name: summary["streams"][name] for name in names}
    summary["evaluation"]["subsets"] = [
        row for row in summary["evaluation"]["subsets"] if set(row["subset"]) <= set(names)
    ]
    changed = ReplaySummary.model_validate(summary | changes)
    (folder / "summary.json").write_text(changed.model_dump_json())
    timing = Timing(
        wall_seconds=2.0,
        bag_seconds_per_wall_second=t[-1] / 2,
        inference_median_s=0.004,
        inference_p99_s=0.009,
        inference_sets=200,
    )
    (folder / "timing.json").write_text(timing.model_dump_json())
    return folder


def quality(name: str, subset: tuple[str, ...]) -> float:
    """Return the made-up NMSE."""
    return 0.08 + 0.12 * (len(NAMES) - len(subset)) + (0.0 if name in subset else 0.1 + 0.6 * (subset == ("action",)))


def _columns(t: np.ndarray, present: dict[str, np.ndarray], random: np.random.Generator) -> dict[str, Any]:
    sets = len(t)
    contact = (t % 10) > 6
    whole = np.all(list(present.values()), axis=0)
    latent = np.sin(t[:, None] * (1 + np.arange(LATENT) / 5)) + random.normal(0, 0.1, (sets, LATENT))
    latent[:, 0] += 3 * contact
    columns: dict[str, Any] = {
        "stamp_ns": BEGIN_NS + (t * 1e9).astype(np.int64) - 20_000_000,
        "epoch": np.zeros(sets, np.int64),
        "log_ns": BEGIN_NS + (t * 1e9).astype(np.int64),
        "reason": np.where(whole, "complete", "deadline"),
        "wait_ns": random.gamma(3.0, 4e6, sets).clip(max=5e7).astype(np.int64),
        "spread_ns": random.gamma(2.0, 3e6, sets).astype(np.int64),
        "attention_of_memory": np.zeros(sets, np.float32),
        "memory_age": pa.nulls(sets, pa.float64()),
        "mean": _nested(latent, fixed=True),
        "log_variance": _nested(np.full((sets, LATENT), -2.0), fixed=True),
    }
    count = np.sum(list(present.values()), axis=0)
    for name in NAMES:
        columns[f"present_{name}"] = present[name]
        columns[f"age_{name}"] = pa.array(random.uniform(0, 0.02, sets), mask=~present[name])
        columns[f"attention_{name}"] = np.where(present[name], 1.0 / count, 0.0).astype(np.float32)
        columns[f"trust_{name}"] = pa.array(np.ones(sets, np.float32), mask=~present[name])
        columns[f"distrusted_{name}"] = np.zeros(sets, bool)
        for subset in all_subsets(NAMES):
            held = np.all([present[n] for n in subset], axis=0)
            error = (quality(name, subset) * TRIVIAL[name] * random.gamma(3.0, 1 / 3, sets)).astype(np.float32)
            columns[f"error_{name}_from_{'+'.join(subset)}"] = pa.array(error, mask=~held)
        lost = np.array([quality(name, tuple(n for n in NAMES if present[n][i])) for i in range(sets)])
        columns[f"error_{name}_from_set"] = (lost * TRIVIAL[name] * random.gamma(3.0, 1 / 3, sets)).astype(np.float32)
    for name, width in (("force", 6), ("action", 4)):
        seen = 3 * np.sin(t[:, None] * np.arange(1, width + 1)) + 12 * contact[:, None] * (np.arange(width) == 2)
        columns[f"seen_{name}"] = _nested(seen, present[name])
        columns[f"predicted_{name}"] = _nested(seen * 0.9 + random.normal(0, 0.3, seen.shape))
        columns[f"predicted_{name}_without"] = _nested(seen * 0.5 + random.normal(0, 0.6, seen.shape))
    return columns


def _nested(rows: np.ndarray, valid: np.ndarray | None = None, fixed: bool = False) -> pa.Array:
    lists = [row if valid is None or valid[i] else None for i, row in enumerate(rows.astype(np.float32))]
    return pa.array(lists, pa.list_(pa.float32(), rows.shape[1] if fixed else -1))


def _summary(t: np.ndarray, present: dict[str, np.ndarray], reason: np.ndarray) -> ReplaySummary:
    sets = len(t)
    held = ["+".join(name for name in NAMES if present[name][i]) for i in range(sets)]
    rows = []
    for subset in all_subsets(NAMES):
        nmse = {name: quality(name, subset) for name in NAMES}
        samples = int(np.all([present[name] for name in subset], axis=0).sum())
        mse = {name: nmse[name] * TRIVIAL[name] for name in NAMES}
        rows.append(SubsetErrors(subset=subset, samples=samples, mse=mse, nmse=nmse))
    settings = default_settings(MODALITIES)
    return ReplaySummary(
        bag="peg_insertion",
        bag_sha256="a" * 64,
        checkpoint="peg_insertion.safetensors",
        checkpoint_sha256="b" * 64,
        settings_sha256="c" * 64,
        versions={"smvae": "0.1.0", "torch": "2.13.0", "numpy": "2.2.6"},
        device="cpu",
        settings=settings,
        what_if=WhatIf(),
        extent=BagExtent(
            whole=True, damage=(), begin_ns=BEGIN_NS, seconds=t[-1], recorded_seconds=t[-1], messages=4 * sets
        ),
        warnings=(),
        modalities=NAMES,
        streams={
            name: StreamSummary(
                topic=settings.streams[name].topic,
                recorded=sets,
                publishers=1,
                lag_s=(0.001, 0.02),
                received=sets,
                used=int(present[name].sum()),
                sets=int(present[name].sum()),
                zero_stamp=0,
                dropped={"late": 3, "unused": int(sets - present[name].sum())},
                rejected=0,
                rejected_because=None,
            )
            for name in NAMES
        },
        sets=sets,
        sets_by_reason={word: int(np.sum(reason == word)) for word in ("complete", "deadline")},
        sets_by_subset={word: held.count(word) for word in sorted(set(held), key=held.count, reverse=True)},
        empty_ticks=0,
        resets=0,
        evaluation=Evaluation(samples=sets, subsets=tuple(rows)),
    )


def _write_pictures(
    path: Path, t: np.ndarray, present: dict[str, np.ndarray], moments: int, random: np.random.Generator
) -> None:
    rows = np.linspace(0, len(t) - 1, moments).round().astype(int)
    y, x = np.mgrid[:64, :64] / 63
    place = t[rows, None, None]
    blob = np.exp(-(((x - 0.5 - 0.3 * np.sin(place)) ** 2 + (y - 0.5 - 0.3 * np.cos(place)) ** 2) / 0.02))
    ground = np.broadcast_to(np.stack([60 + 0 * x, 90 + 60 * x, 160 - 80 * y], -1), (moments, 64, 64, 3))
    seen = {
        "rgb": ground * (1 - blob[..., None]) + np.array([240, 200, 60]) * blob[..., None],
        "depth": 1.2 - 0.5 * blob + 0.2 * y,
    }
    content: dict[str, Any] = {"seconds": t[rows], "row": rows, "shown": np.array(list(SHOWN))}
    for key, names in SHOWN.items():
        content[f"used_{key}"] = np.array(["+".join(name for name in names if present[name][row]) for row in rows])
    for name, truth in seen.items():
        kind, unit = (np.uint8, 255.0) if name == "rgb" else (np.float32, 1.0)
        content[f"recorded_{name}"] = present[name][rows]
        kept = present[name][rows].reshape(-1, *[1] * (truth.ndim - 1))
        content[f"seen_{name}"] = (truth * kept).astype(kind)
        mean = truth.mean(axis=0, keepdims=True)
        for worse, key in enumerate(SHOWN):
            mixed = truth + (mean - truth) * worse / 5 + random.normal(0, 0.01 * unit, truth.shape)
            content[f"predicted_{name}_from_{key}"] = np.clip(mixed, 0, 255).astype(kind)
            spread = unit * 0.03 * (worse + 1) * (0.2 + blob)
            content[f"uncertainty_{name}_from_{key}"] = spread.astype(np.float32)
    np.savez(path, **content)


def lie(folder: Path, name: str, start: float, end: float) -> None:
    """Let a modality be distrusted for some seconds of results that are written already."""
    table = pq.read_table(folder / "sets.parquet")
    t = (np.arange(len(table)) + 1) / RATE
    during = (t >= start) & (t < end)
    trust = np.where(during, 0.1, np.clip(0.5 + 2.0 * (start - t), 0.5, 1.0))
    trust = np.where(t >= end, 1.0, trust).astype(np.float32)
    for column, values in ((f"trust_{name}", pa.array(trust)), (f"distrusted_{name}", pa.array(during))):
        table = table.set_column(table.column_names.index(column), column, values)
    pq.write_table(table, folder / "sets.parquet")
