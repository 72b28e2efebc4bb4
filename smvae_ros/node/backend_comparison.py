"""The comparison of back ends beside the sets that the node fuses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from smvae_core.errors import SMVAEError

if TYPE_CHECKING:  # torch takes seconds to import; a node that waits to be configured does without
    from smvae_core.inference.engine import Engine

_LATEST_S = 3.0
"""Wait at most so long for `begin`: without a set there is time to compare anyway."""
_log = logging.getLogger(__name__)


class BackendComparison:
    """A thread that waits for `begin`, compares the back ends of an engine, and lets the engine take the fastest.

    The first latent comes sooner if nothing else wants the processor until then.

    Args:
        engine: runs sets meanwhile.
        on_worker: runs a step on the thread that uses the engine; raises an SMVAEError once that thread is stopped.
        chosen: called once the fastest back end is taken.
    """

    def __init__(
        self, engine: Engine, on_worker: Callable[[Callable[[], None]], None], chosen: Callable[[Engine], None]
    ) -> None:
        self._engine, self._on_worker, self._chosen = engine, on_worker, chosen
        self._begin, self._cancelled = threading.Event(), False
        self._thread = threading.Thread(target=self._compare, name="comparison")
        self._thread.start()

    def begin(self) -> None:
        """Compare now."""
        self._begin.set()

    def cancel(self) -> None:
        """Build no more back ends, and take none. Does not wait."""
        self._cancelled = True
        self._begin.set()

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _compare(self) -> None:
        self._begin.wait(_LATEST_S)
        if self._cancelled:
            return
        try:
            take = self._engine.compare(lambda: self._cancelled)
            if self._cancelled:
                return
            self._on_worker(take)
        except SMVAEError as error:
            if not self._cancelled:
                _log.warning(f"the back ends could not be compared: {error}")
            return
        except Exception as error:  # what runs goes on running
            _log.warning(f"the back ends could not be compared: {type(error).__name__}: {error}")
            return
        self._chosen(self._engine)
