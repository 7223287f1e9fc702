"""Scaling of a training run: all cores or a Dask cluster, and limited memory for very many comments."""

import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory
from traceback import format_tb
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from joblib import Memory, Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import Pipeline

from pmip.errors import ClusterError, PmipError, TrainingRunError
from pmip.training import evaluation, spam_share
from pmip.training.augmentation import Augmented, with_copies

SECONDS_TO_CONNECT = 10
SECONDS_TO_IMPORT = 60  # an import takes long on a busy machine; a failed one answers at once
MANY = 50_000  # comments; for more, steps whose cost grows faster than the number are done differently
ROWS_A_PART = 20_000
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


@contextmanager
def workers(step: str, scheduler: str = "") -> Iterator[Memory | None]:
    """Let joblib use all cores within this context, or the cluster of a Dask scheduler; print the step's duration.

    Yield a cache for the features of a search, which ends with the step because the code may change between two; the
    machines of a cluster share none. Raise `ClusterError` if the workers of the cluster cannot do the work, and
    `TrainingRunError` if the step fails otherwise: the text of scikit-learn's errors may quote a comment.
    """
    print(f"{step} started", file=sys.stderr)  # noqa: T201 - the progress of a notebook
    started = time.perf_counter()
    with _without_texts(step), TemporaryDirectory(prefix="pmip-") as folder:
        if scheduler:
            with _cluster(scheduler):
                yield None
        else:
            with _all_cores():
                yield Memory(folder, verbose=0)
    print(f"{step}: {time.perf_counter() - started:.1f} s", file=sys.stderr)  # noqa: T201


@contextmanager
def _all_cores() -> Iterator[None]:
    try:
        with parallel_config("loky", n_jobs=-1):
            yield
    finally:  # otherwise the workers keep the old code of the package when somebody edits it between two cells
        get_reusable_executor().shutdown()


@contextmanager
def _without_texts(step: str) -> Iterator[None]:
    """Replace an error of another library by its type and place, and ignore warnings that quote such errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        try:
            yield
        except (PmipError, OSError):
            raise
        except Exception as error:
            raise TrainingRunError(f"{step} failed ({place(error)})") from None


def place(error: BaseException) -> str:
    """Return the type of an error and where it was raised, without its text."""
    frames = "".join(format_tb(error.__traceback__)) + str(error.__cause__ or "")  # the cause is joblib's, of a worker
    file, line, function = FRAME.findall(frames)[-1]
    return f"{type(error).__name__} in {'/'.join(Path(file).parts[-2:])}, line {line}, {function}"


@contextmanager
def _cluster(scheduler: str) -> Iterator[None]:
    try:
        from distributed import Client

        address = urlsplit(scheduler)
        create_connection((address.hostname or "", address.port or 0), SECONDS_TO_CONNECT).close()
        client = Client(scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=True)
    except ImportError as error:
        raise ClusterError("DASK_SCHEDULER needs 'bash scripts/install.sh train,dask'") from error
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler}; give an address such as tcp://10.0.0.1:8786"
        ) from error
    with client:
        _require_pmip(client, scheduler)
        with parallel_config("dask", n_jobs=-1, wait_for_workers_timeout=SECONDS_TO_CONNECT):
            yield


def _require_pmip(client: Any, scheduler: str) -> None:
    """Let each worker import the package, because joblib would wait forever for a worker that cannot."""
    names = list(client.scheduler_info(n_workers=-1)["workers"])
    asked = [client.submit(eval, "bool(__import__('pmip.steps'))", workers=[name], pure=False) for name in names]
    if not asked:
        raise ClusterError(f"the Dask scheduler {scheduler} has no workers")
    try:
        for answer in asked:
            answer.result(SECONDS_TO_IMPORT)
    except TimeoutError as error:
        raise ClusterError(f"a worker of {scheduler} does not answer within {SECONDS_TO_IMPORT} s") from error
    except ImportError as error:
        raise ClusterError(f"a worker of {scheduler} cannot import pmip ({error}); install it there too") from error


def fit(model: Augmented, comments: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any]) -> Pipeline:
    """Return the plain pipeline of a model, fitted to all comments and to the copies of some or all of them.

    If there are very many comments, the features are fitted to a sample of whole groups, and all cores transform all
    comments to 32-bit features. The classifier is always fitted to all comments.
    """
    if len(comments) <= MANY:
        return clone(model).fit(comments, labels).plain()
    pipeline = clone(model).plain()
    features, classifier = pipeline["features"], pipeline["classifier"]
    chosen = evaluation.sample(groups, MANY)
    print(f"the n-grams come from {chosen.sum()} comments, the classifier is fitted to all", file=sys.stderr)  # noqa: T201
    features.fit(comments[chosen], labels[chosen])
    texts, classes, weights = with_copies(comments, labels, model.copy_weight)
    parts = (texts[start : start + ROWS_A_PART] for start in range(0, len(texts), ROWS_A_PART))
    transformed = Parallel(n_jobs=-1)(delayed(_transformed)(features, part) for part in parts)
    parameters = spam_share.fit_parameters(classifier, classes, weights, model.share)
    classifier.fit(_stacked(transformed), classes, **parameters)
    for attribute in {"coef_", "intercept_"} & vars(classifier).keys():
        setattr(classifier, attribute, getattr(classifier, attribute).astype(np.float64))
    spam_share.shift(classifier, classes, weights, model.share)
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
