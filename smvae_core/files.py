"""Safe writing of files: atomically, and after checking that the folder can be written to."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from smvae_core.errors import SMVAEError
from smvae_core.interrupts import uninterrupted


class FolderError(SMVAEError):
    """A folder that cannot be written to."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by a rename: a reader, or a crash, sees the old content or the new, never a part.

    Raises:
        OSError: the file cannot be written; the old content stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        uninterrupted(),
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file,
    ):
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def files_below(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders, each once, without those whose name begins with a dot.

    Links to folders are followed. A link to a file that is there, too, is left out.

    Raises:
        OSError: a folder cannot be read.
    """
    found: dict[Path, Path] = {}
    visited: set[Path] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if (whole := here.resolve()) in visited:
            continue
        visited.add(whole)
        for path in sorted(here.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                # Links wait for the end, so that files are named after the folder that holds them.
                waiting.insert(0 if path.is_symlink() else len(waiting), path)
                continue
            file = path.resolve() if path.is_symlink() else whole / path.name
            if file not in found or found[file].is_symlink():
                found[file] = path
    return sorted(found.values())


@contextmanager
def none_left_empty(folder: Path) -> Iterator[None]:
    """Remove the folder and those above it, if they are made inside and are empty at the end, as after Ctrl-C."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in missing:
            with suppress(OSError):  # the folder holds results, or was not made
                path.rmdir()


def writable(folder: Path) -> None:
    """Make the folder, and make sure before long work that its results can be written there.

    Raises:
        FolderError: the folder cannot be made or written to.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn every OSError inside into a FolderError.

    Raises:
        FolderError: the folder cannot be written to.
    """
    try:
        yield
    except OSError as error:
        raise FolderError(f"{folder}: expected a folder to write to, found none ({error.strerror})") from None
