"""The folder of a bag: its storage files, and where they and metadata.yaml contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from smvae_ros.bags.metadata import BagMetadata

STORAGE = re.compile(r".*\.(mcap|db3)(\.zstd)?")
"""Names of storage files."""


def storage_files(folder: Path) -> list[Path]:
    """Return the .mcap and .db3 files of a folder, `bag_10` after `bag_9`."""
    files = [file for file in folder.iterdir() if file.is_file() and STORAGE.fullmatch(file.name)]
    return sorted(
        files,
        key=lambda file: [
            (part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", file.name)
        ],
    )


def each_once(files: Iterable[Path]) -> list[Path]:
    """Leave out links to a file that is there, too."""
    found: dict[Path, Path] = {}
    for file in files:
        found.setdefault(file.resolve(), file)
    return list(found.values())


def wrong_metadata(path: Path, metadata: BagMetadata | None) -> list[str]:
    """Return why the files must be read without the metadata: they count nothing, or name a file more than once."""
    if metadata is None:
        return []
    if not (metadata.files and any(metadata.messages.values())) and storage_files(path):
        return ["metadata.yaml names no file, or counts no message; the files are read without it"]
    names: dict[Path, list[str]] = {}
    for name in metadata.files:
        names.setdefault((path / name).resolve(), []).append(name)
    return [
        f"{', '.join(dict.fromkeys(same))}: metadata.yaml names one file {len(same)} times; it is read once"
        for same in names.values()
        if len(same) > 1
    ]


def unnamed_files(path: Path, metadata: BagMetadata | None) -> list[str]:
    """Return a sentence on each file of a bag's folder that its metadata does not name, so that it is not read."""
    if metadata is None:
        return []
    named = {name.removesuffix(".zstd") for name in metadata.files}
    return [
        f"{file.name}: is not read, because metadata.yaml does not name it"
        for file in storage_files(path)
        if file.name.removesuffix(".zstd") not in named
    ]


def folder_damage(folder: Path, metadata: BagMetadata | None, reason: str) -> list[str]:
    """Return what is wrong with the folder of a bag that did not open; its files are looked at one by one."""
    if metadata is not None:
        return [f"{name}: is missing" for name in metadata.files if not (folder / name).is_file()]
    if (folder / "metadata.yaml").exists():
        return [f"metadata.yaml: cannot be read ({reason})"]
    numbers = [int(match[1]) for file in storage_files(folder) if (match := re.search(r"_(\d+)\.", file.name))]
    missing = sorted(set(range(max(numbers, default=-1) + 1)) - set(numbers))
    gap = f"; of its files number {', '.join(map(str, missing))} is missing" if missing else ""
    return [f"metadata.yaml is missing: the recorder did not come to its end{gap}"]
