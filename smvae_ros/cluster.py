"""A Dask cluster that works on bags: one task for each, one bag at a time in each worker."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import smvae_core
from smvae_ros.jobs import ClusterError, Done, Result, Task, run_job

_RESOURCE = "smvae_bag"
"""The Dask resource of which each worker has one and each task takes one."""


@dataclass(frozen=True)
class Cluster:
    """A Dask scheduler whose workers see the same files as this machine.

    Attributes:
        address: of the scheduler, as `tcp://head:8786`, or `tls://head:8786` with the certificates that Dask's own
            configuration names.
        out: folder for the results, which the workers write.
    """

    address: str
    out: Path

    @contextmanager
    def pool(self, task: Task[Result]) -> Iterator[tuple[Executor, Callable[[str, Path], Done[Result]]]]:
        """Yield the workers and the job to give them. Dask starts a job whose worker died again, as it is configured.

        Raises:
            ClusterError: there is no scheduler at the address, or Dask is not installed.
        """
        with self._client() as client, _shared_file(self.out) as shared:
            executor = client.get_executor(resources={_RESOURCE: 1}, pure=False)
            yield executor, partial(_on_worker, task, Path.cwd(), shared, smvae_core.__version__)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Yield a Dask client whose workers take one bag at a time."""
        try:
            from distributed import Client
            from distributed.comm import connect
            from distributed.diagnostics.plugin import WorkerPlugin
            from distributed.security import Security
        except ImportError:
            raise ClusterError("--cluster: Dask is not installed; pip install 'smvae_ros[cluster]'") from None

        class OneBag(WorkerPlugin):  # type: ignore[misc]
            """Gives a worker its one unit of the resource, also if it comes later than the tasks."""

            name = _RESOURCE

            async def setup(self, worker: Any) -> None:
                await worker.set_resources(**{_RESOURCE: 1})

        async def knock() -> None:
            comm = await connect(self.address, **Security().get_connection_args("client"))
            await comm.close()

        try:
            # First, since a client that fails to begin writes a traceback when it is collected.
            asyncio.run(knock())
            client = Client(self.address, set_as_default=False)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200] or type(error).__name__
            raise ClusterError(
                f"--cluster: expected the address of a Dask scheduler, as tcp://head:8786, found {self.address} "
                f"({reason})"
            ) from None
        try:
            client.register_plugin(OneBag())
            yield client
        finally:
            client.close()


@contextmanager
def _shared_file(out: Path) -> Iterator[Path]:
    """Yield a file in the folder of results, by which workers see that it is the same folder."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out.absolute(), prefix=".cluster.") as file:
        yield Path(file.name)


def _on_worker(task: Task[Result], folder: Path, shared: Path, version: str, name: str, bag: Path) -> Done[Result]:
    """Run a job in a worker, with as many threads as the worker has; `bag` is relative to `folder`."""
    from distributed import get_worker

    here, path = f"the worker on {socket.gethostname()}", folder / bag
    if smvae_core.__version__ != version:
        found = smvae_core.__version__
        return Done(name, error=f"{bag}: {here} has smvae {found}, expected {version} as on the machine of the command")
    for seen, told in ((path, bag), (shared, shared)):
        if not seen.exists():
            return Done(name, error=f"{told}: {here} does not see it; workers need the same files (docs/scale.md)")
    done = run_job(task, get_worker().state.nthreads, name, path)
    # The sentence is the one of the machine of the command, also where that names the bag by a relative path.
    return replace(done, error=done.error and done.error.replace(str(path), str(bag)))
