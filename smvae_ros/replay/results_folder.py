"""The folder of a replay's results: filled whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smvae_core.errors import SMVAEError
from smvae_core.files import none_left_empty
from smvae_ros.bags.naming import FUSION_BAG, SETS
from smvae_ros.bags.reading import is_bag
from smvae_ros.replay.pictures import SHEET_NAME

_UNFINISHED = ".replay."


class ReplayError(SMVAEError):
    """The results cannot be written."""


def refuse_occupied(out: Path) -> None:
    """Check that results may go to `out`, before long work.

    Raises:
        ReplayError: `out` is a file or a bag.
    """
    if out.exists() and not out.is_dir():
        raise ReplayError(f"{out}: expected a folder or nothing, found a file")
    if is_bag(out):
        raise ReplayError(f"{out}: expected a folder for the results, found a bag")


def clear_unfinished(out: Path) -> None:
    """Remove what a replay that was killed left in its folder."""
    for left in out.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    with suppress(OSError):  # there is none, or it holds results
        out.rmdir()


@contextmanager
def results_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into; its content moves to `out` at the end. After an error nothing is left.

    Raises:
        ReplayError: `out` cannot be written.
    """
    try:
        with none_left_empty(out):
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out, prefix=_UNFINISHED) as folder:
                yield Path(folder)
                _move(Path(folder), out)
    except OSError as error:
        raise ReplayError(f"{out}: cannot be written ({error.strerror})") from None


def _move(folder: Path, out: Path) -> None:
    """Move results into place, and remove files of an earlier replay that would be mistaken for results of this one."""
    new = {result.name for result in folder.iterdir()}
    old = {FUSION_BAG, SHEET_NAME} - new if (out / SETS).exists() else set()
    for name in sorted(new | old):
        if is_bag(out / name):
            shutil.rmtree(out / name)
        elif name in old and (out / name).is_file():
            (out / name).unlink()
        if name in new:
            os.replace(folder / name, out / name)
