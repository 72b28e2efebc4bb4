"""The bags that a command was given, each with a name of its own, and the names of a replay's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from smvae_core.data.formats.hdf5 import is_hdf5
from smvae_core.data.formats.lerobot_meta import INFO
from smvae_core.data.formats.registry import data_files
from smvae_ros.bags.reading import BagError, find_bags, is_bag

SETS = "sets.parquet"
"""The file with a row for each set, in the results of a replay."""

FUSION_BAG = "fusion"
"""The folder of the bag with latents and predictions, in the results of a replay."""


def named_bags(paths: Sequence[Path], between: str = "/") -> dict[str, Path]:
    """Return all bags in the paths by name, which is the bag's path from the folder that was given.

    Bags of one name get the folders above them in their names as well. A bag that is given twice, or by a link beside
    it, counts once. A bag among the results of `smvae replay --write-bag` counts only where it is given itself.

    Args:
        between: text between the folders in a name.

    Raises:
        BagError: a folder holds no bag.
    """
    found: dict[Path, tuple[Path, Path]] = {}
    for path in paths:
        bags = [bag for bag in find_bags(path) if bag == path or not _is_result(bag)]
        if not bags:
            raise BagError(f"{path}: expected a rosbag2 or a folder of them, found none")
        for bag in bags:
            whole = bag.resolve()
            relative = bag.relative_to(path) if bag.is_relative_to(path) and bag != path else Path(whole.name)
            if whole not in found or found[whole][0].is_symlink():
                found[whole] = bag, relative
    named: dict[str, Path] = {}
    for parts, (bag, _) in zip(_told_apart(list(found.values())), found.values()):
        name = parts.replace("/", between)
        label, number = name, 2
        while label in named:
            label, number = f"{name}_{number}", number + 1
        named[label] = bag
    return named


def is_recorded(path: Path) -> bool:
    """Return whether a path is a bag, and not a folder or a file of data to train on.

    Raises:
        BagError: there is no such path, or it is a folder of several bags, or of bags and data.
    """
    if not path.exists():
        raise BagError(f"{path}: no such file or folder; expected a rosbag2, or data to train on")
    if path.is_file():
        return not is_hdf5(path)
    bags = find_bags(path)
    data = data_files(path) if bags and path.is_dir() else []
    if is_bag(path):  # its logs may stand in a folder below it
        data = [file for file in data if file.parent == path or file == path / INFO]
    if bags and data:
        raise BagError(
            f"{path}: expected a bag or data to train on, found both ({bags[0].name} and {data[0].relative_to(path)}); "
            "give each a folder of its own"
        )
    if len(bags) > 1:
        names = ", ".join(bag.name for bag in bags)
        raise BagError(f"{path}: expected one bag, found {len(bags)} ({names}); name one of them")
    return bool(bags)


def _is_result(bag: Path) -> bool:
    return bag.name == FUSION_BAG and (bag.parent / SETS).exists()


def _told_apart(bags: Sequence[tuple[Path, Path]]) -> list[str]:
    """Return for each bag its path from the folder that was given, with as many folders above as make it unique."""
    wholes = [bag.resolve().with_name(_stem(bag)) for bag, _ in bags]
    lengths = [len(relative.parts) for _, relative in bags]
    while True:
        names = [str(Path(*whole.parts[-length:])) for whole, length in zip(wholes, lengths)]
        times = Counter(names)
        longer = [
            n for n, whole in enumerate(wholes) if times[names[n]] > 1 and wholes.count(whole) == 1
            and lengths[n] < len(whole.parts) - 1
        ]  # fmt: skip
        if not longer:
            return names
        for n in longer:
            lengths[n] += 1


def _stem(bag: Path) -> str:
    name = bag.resolve().name
    return name if bag.is_dir() else name.partition(".")[0]
