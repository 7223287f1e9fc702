"""Where the work is done: on all cores or on a Dask cluster, and for very many comments in bounded memory."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pmip.errors import ClusterError
from pmip.training import evaluation
from pmip.training.augmentation import Augmented, weight_parameter, with_copies

SECONDS_TO_CONNECT = 10
SECONDS_TO_IMPORT = 60  # a worker that cannot says so at once; one that can needs long on a busy machine
MANY = 50_000  # comments; beyond, what grows faster than their number is done in another way
ROWS_A_PART = 20_000


@contextmanager
def workers(step: str, scheduler: str = "") -> Iterator[None]:
    """Do all work that joblib shares out within this context on all cores, or on the cluster of a Dask scheduler.

    Prints the name of the step and its seconds. Raises `ClusterError` when the cluster's workers cannot do the work.
    """
    print(f"{step} …", file=sys.stderr)  # noqa: T201 - the progress of a notebook
    started = time.perf_counter()
    if scheduler:
        with _cluster(scheduler):
            yield
    else:
        try:
            with parallel_config("loky", n_jobs=-1):
                yield
        finally:  # workers that lived on would know the package as it was, whatever is edited between two cells
            get_reusable_executor().shutdown()
    print(f"{step}: {time.perf_counter() - started:.1f} s", file=sys.stderr)  # noqa: T201


@contextmanager
def _cluster(scheduler: str) -> Iterator[None]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError("DASK_SCHEDULER needs 'bash scripts/install.sh train,dask'") from error
    try:
        address = urlsplit(scheduler)
        create_connection((address.hostname or "", address.port or 0), SECONDS_TO_CONNECT).close()
        client = Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=True)
    except (OSError, ValueError) as error:
        raise ClusterError(f"no Dask scheduler answers at {scheduler}; such as tcp://10.0.0.1:8786") from error
    with client:
        _require_pmip(client, scheduler)
        with parallel_config("dask", n_jobs=-1, wait_for_workers_timeout=SECONDS_TO_CONNECT):
            yield


def _require_pmip(client: Any, scheduler: str) -> None:
    """Ask each worker to import the package: joblib would wait for ever for one that cannot."""
    from distributed import wait

    names = list(client.scheduler_info(n_workers=-1)["workers"])
    asked = [client.submit(eval, "bool(__import__('pmip.steps'))", workers=[name], pure=False) for name in names]
    if not asked:
        raise ClusterError(f"the Dask scheduler {scheduler} has no workers")
    try:
        wait(asked, timeout=SECONDS_TO_IMPORT)
        client.gather(asked)
    except TimeoutError as error:
        raise ClusterError(f"a worker of {scheduler} does not answer within {SECONDS_TO_IMPORT} s") from error
    except ImportError as error:
        raise ClusterError(f"a worker of {scheduler} cannot import pmip ({error}); install it there too") from error


def fit(model: Augmented, comments: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any]) -> Pipeline:
    """Return the plain pipeline of a model, fitted to all comments and to copies of at most a part of them.

    Of many comments, the features are learnt from those of groups that are chosen by a hash, and all comments become
    features of 32 bit by all cores at once. The classifier then learns from all of them.
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
    name = weight_parameter(classifier)
    classifier.fit(_stacked(transformed), classes, **({name: weights} if name else {}))
    for attribute in ("coef_", "intercept_"):
        if hasattr(classifier, attribute):
            setattr(classifier, attribute, getattr(classifier, attribute).astype(np.float64))
    return pipeline


def _transformed(features: Any, comments: list[str]) -> Any:
    found = features.transform(comments).astype(np.float32)
    if hasattr(found, "indices"):
        found.indices = found.indices.astype(np.int32)
    return found


def _stacked(parts: list[Any]) -> Any:
    """Put parts below each other and empty their list on the way, so that they are never held twice."""
    if not hasattr(parts[0], "indptr"):
        return np.concatenate(parts)
    ends = np.cumsum([0, *(part.nnz for part in parts)])
    width, rows = parts[0].shape[1], np.concatenate([np.diff(part.indptr) for part in parts])
    data, indices = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
    for start, end in reversed(list(pairwise(ends))):
        part = parts.pop()
        data[start:end], indices[start:end] = part.data, part.indices
    return csr_matrix((data, indices, np.concatenate([[0], np.cumsum(rows)])), shape=(len(rows), width))
