"""Training side: fits features and classifier on any number of comments, in memory that is bounded a comment."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.pipeline import Pipeline

from pmip.parallel import each

MANY = 50_000  # comments; beyond, what grows faster than their number is done in another way
COMMENTS_A_PART = 20_000


def fit(features: Any, classifier: Any, comments: NDArray[Any], labels: NDArray[Any], known: NDArray[Any]) -> Pipeline:
    """Return the fitted pipeline of features and classifier.

    Of many comments, the features are learnt from those in the mask `known`, and all are counted in 32 bit by
    all cores at once. The classifier's solver must then be one that works in 32 bit, such as lbfgs.
    """
    if len(comments) <= MANY:
        return Pipeline([("features", features), ("classifier", classifier)]).fit(comments, labels)
    features.fit(comments[known])
    starts = range(0, len(comments), COMMENTS_A_PART)
    tasks = [(features, comments[start : start + COMMENTS_A_PART]) for start in starts]
    classifier.fit(_stacked(each(_counted, tasks, "features")), labels)
    for name in ("coef_", "intercept_"):
        setattr(classifier, name, getattr(classifier, name).astype(np.float64))
    return Pipeline([("features", features), ("classifier", classifier)])


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
