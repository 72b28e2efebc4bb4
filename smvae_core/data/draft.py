"""A first look at a folder of robot data: what it holds, and a configuration to train on it."""

import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import yaml

from smvae_core.configuration import Configuration
from smvae_core.data.formats.protocol import DataSet, Feature, LogError
from smvae_core.data.formats.registry import FORMATS, recognise

FEATURE_COLUMNS = ("feature", "per step", "type", "from", "to", "modality, or why it cannot be used")
"""The heads of the columns of `feature_rows`."""

# Longer vectors are rarely measurements; images of features or whole maps are.
_LONGEST_VECTOR = 512
_SQUASHED = 2.0


def describe(data: Path) -> DataSet:
    """Return what a folder of robot data holds.

    Raises:
        LogError: the folder holds no robot data, or data of several formats.
    """
    look = FORMATS[recognise(data)].describe
    assert look is not None  # every format that is recognised describes its data
    return look(data)


def feature_rows(found: DataSet) -> list[tuple[str, ...]]:
    """Return one row for each feature, for a table with the heads `FEATURE_COLUMNS`."""
    names = _names(found)
    return [
        (
            feature.key,
            "×".join(map(str, feature.shape)) or "1",
            feature.dtype,
            _number(feature.low),
            _number(feature.high),
            names.get(feature.key) or _problem(feature),
        )
        for feature in found.features
    ]


def summary(found: DataSet) -> str:
    """Return one line about a data set: its format, its size and its rate."""
    rate = f", {found.rate:g} steps a second" if found.rate else ""
    return f"{found.path}: {found.format}, {found.trajectories} trajectories, {found.steps} steps{rate}"


def draft(found: DataSet) -> str:
    """Return a configuration, as YAML with comments, that trains on every feature that can be used.

    Raises:
        LogError: no feature can be used.
    """
    names = _names(found)
    if not names:
        problems = "; ".join(f"{feature.key} {_problem(feature)}" for feature in found.features)
        raise LogError(
            f"{found.path}: expected a picture, depth or numbers to learn from, found: {problems or 'nothing'}"
        )
    usable = [feature for feature in found.features if feature.key in names]
    modalities = [_modality(feature, names[feature.key], found) for feature in usable]
    data: dict[str, object] = {"format": found.format}
    content = {
        "model": {"size": "compact", "latent": 32, "modalities": modalities},
        "data": data,
        "training": {"epochs": 100, "batch_size": 32},
    }
    Configuration.model_validate(content)
    lines = [
        f"# Drafted from {summary(found)}.",
        "# A modality is one kind of observation: remove those that the model should not learn.",
        "# `source` is the key in the data. `pairs: same` takes the entry of the observation's own step, `following`",
        "# that of the next step (for commands that are logged with the observation that they led to).",
        *(f"# Not used: {f.key}, {_problem(f)}." for f in found.features if f.key not in names),
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110),
    ]
    return "\n".join(lines)


def _modality(feature: Feature, name: str, found: DataSet) -> dict[str, object]:
    following = feature.key in FORMATS[found.format].following
    entry: dict[str, object] = {"name": name, "source": feature.key, "pairs": "following" if following else "same"}
    if feature.kind == "picture":
        return entry | {"preprocessing": {"kind": "rgb"}, "network": "image", "likelihood": "bernoulli"}
    if feature.kind == "grey":
        return entry | {"preprocessing": {"kind": "grey"}, "network": "image", "likelihood": "bernoulli"}
    if feature.kind == "depth":
        record: dict[str, object] = {"kind": "depth"}
        if feature.high is not None and feature.high > 0:
            record["max_depth"] = float(f"{1.05 * feature.high:.2g}")
        return entry | {"preprocessing": record, "network": "image", "likelihood": "bernoulli"}
    if feature.kind == "window":
        window, channels = feature.shape
        largest = max(abs(feature.low or 0.0), abs(feature.high or 0.0))
        # tanh(x / scale) bends at `scale`: half of the largest value keeps the extremes apart.
        scale = float(f"{largest / _SQUASHED:.2g}") if largest > 0 and math.isfinite(largest) else 1.0
        record = {"kind": "force", "window": _window(window), "scale": [scale] * channels}
        return entry | {"preprocessing": record, "network": "sequence", "likelihood": "normal", "scale": 0.1}
    record = {"kind": "vector", "size": feature.shape[0]}
    return entry | {"preprocessing": record, "network": "vector", "likelihood": "normal", "scale": 0.1}


def _window(length: int) -> int:
    """Return the largest multiple of 16 up to `length`, as sequence networks need; shorter windows are filled up."""
    return max(length // 16, 1) * 16


def _names(found: DataSet) -> dict[str, str]:
    """Return a short, unique name for each feature that can be used, by key."""
    usable = [feature for feature in found.features if not _problem(feature)]
    pieces = {feature.key: _pieces(feature.key) for feature in usable}
    names: dict[str, str] = {}
    for feature in usable:
        own = pieces[feature.key]
        shortest = range(1, len(own) + 1)
        candidates = ["_".join(own[-n:]) for n in shortest]
        # The command `base_action` is not called `action` where that is the key of a feature that cannot be used.
        unusable = [_pieces(other.key) for other in found.features if other.key not in pieces and "/" not in other.key]
        others = [*(p for key, p in pieces.items() if key != feature.key), *unusable]
        unique = (c for n, c in zip(shortest, candidates) if not any(o[-n:] == own[-n:] for o in others))
        names[feature.key] = _valid(next(unique, candidates[-1]), names.values())
    return names


def _pieces(key: str) -> list[str]:
    # Without accents: ö becomes o.
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", key) if not unicodedata.combining(letter))
    return [piece for piece in re.split(r"[^a-z0-9]+", plain.casefold()) if piece] or ["feature"]


def _valid(name: str, taken: Iterable[str]) -> str:
    name = name if name[0].isalpha() else f"m_{name}"
    number = 2
    unique = name
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


def _problem(feature: Feature) -> str:
    if feature.problem:
        return feature.problem
    if feature.low is not None and feature.low == feature.high:
        return "never changes"
    if feature.kind == "vector" and feature.shape[0] > _LONGEST_VECTOR:
        return f"has {feature.shape[0]} numbers per step; more than {_LONGEST_VECTOR} is too long for a vector"
    return ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
