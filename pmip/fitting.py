"""Training side: fits features and classifier on any number of comments, in memory that is bounded a comment."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.sparse import csr_matrix
from sklearn.pipeline import Pipeline

from pmip import near_duplicates
from pmip.parallel import each

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
    features.fit(texts[near_duplicates.sample(lesson["group"].to_numpy(), MANY)])
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
