"""Counting once: the same features as by fitting to the texts, whatever rows are known."""

from typing import Any

import numpy as np
import pytest
from conftest import SAMPLE
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline

from pmip import steps, text
from pmip.training.comments import read_comments
from pmip.training.counting import Counts
from pmip.training.data import local_files

FEATURES = {
    "words and cheap features": FeatureUnion(
        [
            ("words", TfidfVectorizer(analyzer=text.word_ngrams, sublinear_tf=True, min_df=2)),
            ("characters", TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), binary=True, min_df=3)),
            ("cheap", steps.CheapFeatures()),
        ],
        transformer_weights={"words": 2.0},
    ),
    "without a norm and idf": FeatureUnion([("words", TfidfVectorizer(norm=None, use_idf=False))]),
    "a limited vocabulary": FeatureUnion(
        [("words", TfidfVectorizer(max_features=50)), ("cheap", steps.CheapFeatures())]
    ),
    "main directions": FeatureUnion([("words", make_pipeline(TfidfVectorizer(), TruncatedSVD(5, random_state=0)))]),
}


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
def test_it_is_as_if_fitted_to_the_texts(features: Any) -> None:
    """Each column of each row, of those that are known and of the others."""
    texts = read_comments(local_files(SAMPLE[:2]))["CONTENT"].to_numpy()
    rows = np.flatnonzero(np.arange(len(texts)) % 3)
    learnt = Counts(features, texts).learnt_from(rows)
    expected = csr_matrix(features.fit(texts[rows]).transform(texts))
    assert learnt.shape == expected.shape
    assert abs(learnt - expected).max() < 1e-12
