"""Scaling of a training run: all cores or a Dask cluster, and limited memory for very many comments."""

import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_tb
from typing import Any

import numpy as np
from joblib import Memory, Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.pipeline import Pipeline

from pmip.errors import PmipError, TrainingDataError, TrainingRunError
from pmip.training import evaluation, spam_share
from pmip.training.augmentation import Augmented, with_copies
from pmip.training.cluster import cluster

MANY = 50_000  # comments; for more, steps whose cost grows faster than the number are done differently
ROWS_A_PART = 20_000
BYTES_A_COMMENT = 2_500  # of all processes; a million comments of the benchmark needed 2.34 GB in all
MEMORY_OF_CONTAINER = ("memory.max", "memory/memory.limit_in_bytes")  # of cgroups 2 and 1
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')


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
def workers(step: str, scheduler: str = "", *, cached: bool = True) -> Iterator[Memory | None]:
    """Let joblib use all cores within this context, or the cluster of a Dask scheduler; print the step's duration.

    If `cached`, yield a cache for the features of a search, which ends with the step because the code may change
    between two; the machines of a cluster share none. Raise `ClusterError` if the workers of the cluster cannot do the
    work, and `TrainingRunError` if the step fails otherwise: the text of scikit-learn's errors may quote a comment.
    """
    print(f"{step} started", file=sys.stderr)  # noqa: T201 - the progress of a notebook
    started = time.perf_counter()
    with _without_texts(step):
        if scheduler:
            with cluster(scheduler):
                yield None
        elif cached:
            with TemporaryDirectory(prefix="pmip-") as folder, _all_cores():
                yield Memory(folder, verbose=0)
        else:
            with _all_cores():
                yield None
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
