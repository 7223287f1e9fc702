"""Training side: texts are counted once, however many models are then fitted on some of them and asked about others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.base import clone
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from pmip.steps import CheapFeatures

Rows = NDArray[np.intp]


class Counts:
    """What features see in each of the texts; a row is a text."""

    def __init__(self, features: FeatureUnion, texts: Sequence[str]) -> None:
        weights, rows = features.transformer_weights or {}, np.asarray(texts, dtype=object)
        self._parts = [(weights.get(name, 1.0), _part(part, rows)) for name, part in features.transformer_list]

    def learnt_from(self, rows: Rows) -> csr_matrix:
        """Return the features of all texts, as they are when fitted to the texts of these rows alone."""
        return hstack([part.learnt_from(rows) * weight for weight, part in self._parts], format="csr")


class _NGrams:
    """The n-grams of a TF-IDF vectorizer: which of them count, and how much, follows from the rows."""

    def __init__(self, vectorizer: TfidfVectorizer, texts: NDArray[Any]) -> None:
        self._min_df: int = vectorizer.min_df
        weighing = ("norm", "use_idf", "smooth_idf", "sublinear_tf")
        self._weighing = {name: getattr(vectorizer, name) for name in weighing}
        self._counts = CountVectorizer.fit_transform(clone(vectorizer).set_params(min_df=1), texts)

    def learnt_from(self, rows: Rows) -> csr_matrix:
        known_in = np.bincount(self._counts[rows].indices, minlength=self._counts.shape[1])
        counts = self._counts[:, np.flatnonzero(known_in >= self._min_df)]
        return TfidfTransformer(**self._weighing).fit(counts[rows]).transform(counts)


class _Fixed:
    """Features that learn nothing."""

    def __init__(self, transformer: CheapFeatures, texts: NDArray[Any]) -> None:
        self._values = transformer.transform(texts)

    def learnt_from(self, rows: Rows) -> csr_matrix:  # noqa: ARG002
        return self._values


class _Anew:
    """All others: fitted anew each time."""

    def __init__(self, transformer: Any, texts: NDArray[Any]) -> None:
        self._transformer, self._texts = transformer, texts

    def learnt_from(self, rows: Rows) -> csr_matrix:
        return csr_matrix(clone(self._transformer).fit(self._texts[rows]).transform(self._texts))


def _part(transformer: Any, texts: NDArray[Any]) -> _NGrams | _Fixed | _Anew:
    match transformer:
        case CheapFeatures():
            return _Fixed(transformer, texts)
        case TfidfVectorizer(min_df=int(), max_df=1.0, max_features=None, vocabulary=None):
            return _NGrams(transformer, texts)
    return _Anew(transformer, texts)
