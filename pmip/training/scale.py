"""Scaling of a training run: all cores or a Dask cluster, and limited memory for very many comments."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from socket import create_connection
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pmip.errors import ClusterError, TrainingDataError
from pmip.model.artifact import loaded_software, software
from pmip.training import evaluation
from pmip.training.augmentation import Augmented, fit_weighted, with_copies

SECONDS_TO_CONNECT = 10
SECONDS_TO_ANSWER = 60
LOOKS_WITHOUT_WORKERS, SECONDS_BETWEEN_LOOKS = 3, 5  # a worker that is started again has this time to return
MANY = 50_000  # comments; for more, steps whose cost grows faster than the number are done differently
ROWS_A_PART = 20_000
BYTES_A_COMMENT = 2_500  # of all processes; a million comments of the benchmark needed 2.34 GB in all
MEMORY_OF_CONTAINER = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroups 2 and 1


def require_memory(comments: int, available: int | None = None) -> None:
    """Raise `TrainingDataError` if so many comments do not fit into `available` bytes, by default this machine's."""
    available = _memory() if available is None else available
    if comments > available // BYTES_A_COMMENT:
        raise TrainingDataError(
            f"{comments:,} comments need about {comments * BYTES_A_COMMENT / 1e9:.0f} GB of memory; the "
            f"{available / 1e9:.1f} GB here fit {available // BYTES_A_COMMENT:,} comments: give the run more memory or "
            "fewer comments"
        )


def _memory() -> int:
    """Return the bytes of memory of this machine, or of the container if it may use less."""
    amounts = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in MEMORY_OF_CONTAINER:
        with suppress(OSError, ValueError):  # another version of cgroups, or "max"
            amounts.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(amounts)


@contextmanager
def workers(step: str, scheduler: str = "") -> Iterator[None]:
    """Let joblib use all cores within this context, or the cluster of a Dask scheduler; print the step's duration.

    Raise `ClusterError` if the workers of the cluster cannot do the work.
    """
    print(f"{step} started", file=sys.stderr)  # noqa: T201 - the progress of a notebook
    started = time.perf_counter()
    if scheduler:
        with _cluster(scheduler):
            yield
    else:
        try:
            with parallel_config("loky", n_jobs=-1):
                yield
        finally:  # otherwise the workers keep the old code of the package when somebody edits it between two cells
            get_reusable_executor().shutdown()
    print(f"{step}: {time.perf_counter() - started:.1f} s", file=sys.stderr)  # noqa: T201


@contextmanager
def _cluster(scheduler: str) -> Iterator[None]:
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
        create_connection((address.hostname or "", address.port or 0), SECONDS_TO_CONNECT).close()
        with warnings.catch_warnings(action="ignore"):  # of other versions, which are compared below
            return Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=True)
    except ImportError as error:
        raise ClusterError("DASK_SCHEDULER needs 'bash scripts/install.sh train,dask'") from error
    except (OSError, ValueError) as error:
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
    for name, found in by_worker.items():
        if found != expected:
            raise ClusterError(
                f"the Dask worker {name} {_difference(found, expected)}; "
                "start all workers anew, from the image or the code of this run"
            )
    return list(by_worker)


def _difference(found: dict[str, str] | Exception, expected: dict[str, str]) -> str:
    if isinstance(found, Exception):
        return f"cannot import pmip ({found})"
    differences = [
        f"{name} {found.get(name)}, not {value}" for name, value in expected.items() if found.get(name) != value
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


def fit(model: Augmented, comments: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any]) -> Pipeline:
    """Return the plain pipeline of a model, fitted to all comments and to the copies of some or all of them.

    If there are very many comments, the features are fitted to a sample of whole groups, and all cores transform all
    comments to 32-bit features. The classifier is always fitted to all comments.
    """
    if len(comments) <= MANY:
        return clone(model).fit(comments, labels).pipeline_
    pipeline = clone(model.pipeline)
    features, classifier = pipeline["features"], pipeline["classifier"]
    chosen = evaluation.sample(groups, MANY)
    features.fit(comments[chosen], labels[chosen])
    texts, classes, weights = with_copies(comments, labels, model.weight)
    parts = (texts[start : start + ROWS_A_PART] for start in range(0, len(texts), ROWS_A_PART))
    transformed = Parallel(n_jobs=-1)(delayed(_transformed)(features, part) for part in parts)
    fit_weighted(classifier, _stacked(transformed), classes, weights)
    for attribute in {"coef_", "intercept_"} & vars(classifier).keys():
        setattr(classifier, attribute, getattr(classifier, attribute).astype(np.float64))
    return pipeline


def _transformed(features: Any, comments: list[str]) -> Any:
    return features.transform(comments).astype(np.float32)


def _stacked(parts: list[Any]) -> Any:
    """Concatenate the parts; empty their list meanwhile, so that the memory never holds them twice."""
    if not hasattr(parts[0], "indptr"):
        return np.concatenate(parts)
    ends = np.cumsum([0, *(part.nnz for part in parts)])
    width, rows = parts[0].shape[1], np.concatenate([np.diff(part.indptr) for part in parts])
    data, indices = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
    for start, end in reversed(list(pairwise(ends))):
        part = parts.pop()
        data[start:end], indices[start:end] = part.data, part.indices
    return csr_matrix((data, indices, np.concatenate([[0], np.cumsum(rows)])), shape=(len(rows), width))
