"""Processes that are started afresh (spawned), so that they do not inherit threads, locks or a GPU."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_main() -> Iterator[None]:
    """Let processes that are spawned inside not import the main script again.

    `multiprocessing` imports the main script in every spawned process. A script without `if __name__ == "__main__":`
    would start its work a second time there, and both processes would wait for each other. The processes of this
    package need nothing of the main script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
