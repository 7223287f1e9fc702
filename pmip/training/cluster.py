"""The Dask cluster of a training run: its software is the one of this machine, and what is lost is said."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import create_connection
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

from joblib import parallel_config

from pmip.errors import ClusterError
from pmip.model.artifact import loaded_software, software

SECONDS_TO_CONNECT = 10
SECONDS_TO_ANSWER = 60
LOOKS_WITHOUT_WORKERS, SECONDS_BETWEEN_LOOKS = 3, 5  # a worker that is started again has this time to return


@contextmanager
def cluster(scheduler: str) -> Iterator[None]:
    """Let joblib use the workers of a cluster, whose software is compared with this machine's before and after."""
    client = _client(scheduler)
    ended, names = Event(), list[str]()
    with client:
        try:
            names = _require_same_software(client, scheduler)
            Thread(target=_close_without_workers, args=(client, ended), daemon=True).start()
            with parallel_config("dask", n_jobs=-1, wait_for_workers_timeout=SECONDS_TO_CONNECT):
                yield
            _require_same_software(client, scheduler)  # a worker may have joined meanwhile
        except Exception as error:  # what joblib and Dask raise depends on the moment at which a part is lost
            if isinstance(error, ClusterError) or not (lost := _lost(scheduler, names)):
                raise
            raise ClusterError(f"{lost}; start the cluster again, then run the step again") from error
        finally:
            ended.set()


def _client(scheduler: str) -> Any:
    try:
        from distributed import Client

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a lost connection is told by a ClusterError
        address = urlsplit(scheduler)
        with create_connection((address.hostname or "", address.port or 0), SECONDS_TO_CONNECT) as connection:
            connection.recv(1)  # a scheduler speaks first, and Client would wait forever for a server that is silent
        with warnings.catch_warnings(action="ignore"):  # of other versions, which are compared below
            return Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=True)
    except ImportError as error:
        raise ClusterError("DASK_SCHEDULER needs 'bash scripts/install.sh train,dask'") from error
    except (OSError, ValueError, MemoryError) as error:  # MemoryError: another server's words, read as a length
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler}; give an address such as tcp://10.0.0.1:8786"
        ) from error


def _require_same_software(client: Any, scheduler: str) -> list[str]:
    """Return the addresses of the workers; raise `ClusterError` if one has other software than this machine.

    A worker with another `pmip.text` would train another model, and joblib would wait forever for one without pmip.
    """
    try:
        by_worker = client.run(loaded_software, on_error="return", callback_timeout=SECONDS_TO_ANSWER)
    except TimeoutError as error:
        raise ClusterError(f"a worker of {scheduler} does not answer within {SECONDS_TO_ANSWER} s") from error
    if not by_worker:
        raise ClusterError(f"the Dask scheduler {scheduler} has no workers")
    expected = software()
    for name, actual in by_worker.items():
        if actual != expected:
            raise ClusterError(
                f"the Dask worker {name} {_difference(actual, expected)}; "
                "start all workers anew, from the image or the code of this run"
            )
    return list(by_worker)


def _difference(actual: dict[str, str] | Exception, expected: dict[str, str]) -> str:
    if isinstance(actual, Exception):
        return f"cannot import pmip ({actual})"
    differences = [
        f"{name} {actual.get(name)}, not {value}" for name, value in expected.items() if actual.get(name) != value
    ]
    return f"has {', '.join(differences)}"


def _close_without_workers(client: Any, ended: Event) -> None:
    """Close the client once all workers are lost, because joblib would wait forever for new ones."""
    patience = LOOKS_WITHOUT_WORKERS
    while patience and not ended.wait(SECONDS_BETWEEN_LOOKS):
        workers = None
        with suppress(Exception):  # the scheduler is lost too, or the client is closed
            workers = client.ncores()
        patience = LOOKS_WITHOUT_WORKERS if workers else patience - 1
    if not patience:
        client.close()


def _lost(scheduler: str, names: list[str]) -> str:
    """Return a sentence about the part of the cluster that is lost; blank if all of it answers."""
    try:
        from distributed import Client

        with Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=False) as client:
            left = client.scheduler_info(n_workers=-1)["workers"]
    except OSError:
        return f"the Dask scheduler {scheduler} does not answer any more"
    lost = [name for name in names if name not in left]
    return (
        f"{len(lost)} of {len(names)} workers of the Dask scheduler {scheduler} are lost ({', '.join(lost[:3])})"
        if lost
        else ""
    )
