"""Pipeline steps. Pickled models name them, so renaming or moving a step makes all older models unreadable."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, TransformerMixin

from pmip import text


class CommentFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns raw comments into the features of `pmip.text.comment_features`, each multiplied by one weight."""

    def __init__(self, weight: float = 2.0) -> None:
        self.weight = weight

    def fit(self, comments: Iterable[str], labels: object = None) -> Self:  # noqa: ARG002
        """Store the names of the features; an API whose `pmip.text` computes others refuses the model."""
        self.feature_names_ = text.COMMENT_FEATURES
        return self

    def transform(self, comments: Iterable[str]) -> csr_matrix:
        """Return a float64 matrix with a row for each comment and a column for each feature."""
        rows = [text.comment_features(comment) for comment in comments]
        values = np.array(rows, dtype=np.float64).reshape(len(rows), len(text.COMMENT_FEATURES))
        return csr_matrix(values * self.weight)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray[Any, Any]:  # noqa: ARG002
        """Return the names of the columns."""
        return np.array(text.COMMENT_FEATURES, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Return True, because it transforms without a fit, too."""
        return True
