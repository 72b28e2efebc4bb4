"""Generators that another process can import, for the tests of `smvae_core.processes`."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

BLOCK = bytes(300_000)
"""More than a pipe holds."""


class TwoWords(Exception):
    """An error that cannot be sent to another process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} {other}")


def squares(count: int, end: BaseException | None = None) -> Generator[int, None, str]:
    for n in range(count):
        yield n * n
    if end is not None:
        raise end
    return f"{count} squares by {os.getpid()}"


def two_words() -> Generator[int, None, None]:
    yield 1
    raise TwoWords("bad", "luck")


def killed(after: int) -> Generator[bytes, None, None]:
    for _ in range(after):
        yield BLOCK
    os.kill(os.getpid(), signal.SIGKILL)


def endless(open_file: Path, folder: Path | None = None) -> Generator[bytes, None, None]:
    """Yield more than a pipe holds again and again while a file exists; each time leaves a file of its own."""
    open_file.write_text(str(os.getpid()))
    n = 0
    try:
        while True:
            if folder is not None:
                (folder / str(n)).touch()
            yield BLOCK
            n += 1
    finally:
        open_file.unlink()
