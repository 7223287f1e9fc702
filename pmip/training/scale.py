"""Training side: many fits at once, on all cores of this machine or on a Dask cluster, with a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.sparse import csr_matrix
from sklearn.pipeline import Pipeline
from tqdm import tqdm

from pmip.errors import ClusterError
from pmip.training import evaluation

SECONDS_TO_CONNECT = 10
SECONDS_TO_IMPORT = 60  # a worker that cannot says so at once; one that can needs long on a busy machine


def each(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], description: str, scheduler: str = ""
) -> list[Any]:
    """Return what the function returns for each task, in the order of the tasks.

    `scheduler` is the address of a Dask scheduler; raises `ClusterError` when its workers cannot do the work.
    """
    results = []
    with _workers(scheduler), tqdm(total=len(tasks), desc=description, unit="fit", mininterval=0) as bar:
        for result in Parallel(n_jobs=-1, return_as="generator")(delayed(function)(*task) for task in tasks):
            results.append(result)
            bar.update()
    return results


@contextmanager
def _workers(scheduler: str) -> Iterator[None]:
    if scheduler:
        with _cluster(scheduler):
            yield
        return
    try:
        yield
    finally:  # workers that lived on would know the package as it was, whatever is edited between two cells
        get_reusable_executor().shutdown()


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
        with parallel_config("dask", wait_for_workers_timeout=SECONDS_TO_CONNECT):
            yield


def _require_pmip(client: Any, scheduler: str) -> None:
    """Ask each worker to import the package: joblib would wait for ever for one that cannot."""
    from distributed import wait

    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    asked = [client.submit(eval, "bool(__import__('pmip.steps'))", workers=[name], pure=False) for name in workers]
    if not asked:
        raise ClusterError(f"the Dask scheduler {scheduler} has no workers")
    try:
        wait(asked, timeout=SECONDS_TO_IMPORT)
        client.gather(asked)
    except TimeoutError as error:
        raise ClusterError(f"a worker of {scheduler} does not answer within {SECONDS_TO_IMPORT} s") from error
    except ImportError as error:
        raise ClusterError(f"a worker of {scheduler} cannot import pmip ({error}); install it there too") from error


MANY = 50_000  # rows; beyond, what grows faster than their number is done in another way
ROWS_A_PART = 20_000


def fit(features: Any, classifier: Any, lesson: DataFrame) -> Pipeline:
    """Return the pipeline of features and classifier, fitted on a lesson with CONTENT, CLASS, weight and group.

    Of many rows, the features are learnt from those of groups that are chosen by a hash, and all are counted in 32 bit
    by all cores at once. The classifier's solver must then be one that works in 32 bit, such as lbfgs.
    """
    pipeline = Pipeline([("features", features), ("classifier", classifier)])
    if len(lesson) <= MANY:
        return pipeline.fit(lesson["CONTENT"], lesson["CLASS"], classifier__sample_weight=lesson["weight"])
    texts = lesson["CONTENT"].to_numpy()
    features.fit(texts[evaluation.sample(lesson["group"].to_numpy(), MANY)])
    tasks = [(features, texts[start : start + ROWS_A_PART]) for start in range(0, len(texts), ROWS_A_PART)]
    counted = _stacked(each(_counted, tasks, "features"))
    classifier.fit(counted, lesson["CLASS"], sample_weight=lesson["weight"])
    for name in ("coef_", "intercept_"):
        setattr(classifier, name, getattr(classifier, name).astype(np.float64))
    return pipeline


def _counted(features: Any, comments: NDArray[Any]) -> csr_matrix:
    counted = features.transform(comments).astype(np.float32)
    counted.indices = counted.indices.astype(np.int32)
    return counted


def _stacked(parts: list[csr_matrix]) -> csr_matrix:
    """Put parts below each other and empty their list on the way, so that they are never held twice."""
    ends = np.cumsum([0, *(part.nnz for part in parts)])
    width, rows = parts[0].shape[1], np.concatenate([np.diff(part.indptr) for part in parts])
    data, indices = np.empty(ends[-1], np.float32), np.empty(ends[-1], np.int32)
    for start, end in reversed(list(pairwise(ends))):
        part = parts.pop()
        data[start:end], indices[start:end] = part.data, part.indices
    return csr_matrix((data, indices, np.concatenate([[0], np.cumsum(rows)])), shape=(len(rows), width))
