"""Fitting: for many comments in parts, with the same result as at once but for the digits of 32 bit."""

import numpy as np
import pytest
from conftest import SAMPLE
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from pmip import fitting, steps, text
from pmip.comments import read_comments
from pmip.export import export
from pmip.training_data import local_files


def features() -> FeatureUnion:
    """Build the kind of features that the notebook uses."""
    words = TfidfVectorizer(analyzer=text.word_ngrams, sublinear_tf=True, min_df=2)
    return FeatureUnion([("words", words), ("cheap", steps.CheapFeatures())])


def test_in_parts_and_at_once_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features learnt from all comments, counted by several processes in 32 bit; coefficients end in 64 bit."""
    comments = read_comments(local_files(SAMPLE))
    texts, labels = comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy()
    everything = np.ones(len(texts), dtype=bool)
    exact = {"C": 10, "tol": 1e-6, "max_iter": 2000}
    at_once = fitting.fit(features(), LogisticRegression(**exact), texts, labels, everything)
    monkeypatch.setattr(fitting, "MANY", 100)
    monkeypatch.setattr(fitting, "COMMENTS_A_PART", 100)
    in_parts = fitting.fit(features(), LogisticRegression(**exact), texts, labels, everything)
    assert in_parts["classifier"].coef_.dtype == np.float64
    assert np.allclose(in_parts.predict_proba(texts), at_once.predict_proba(texts), atol=2e-3)
    assert len(export(in_parts)["parts"]) == 2


def test_of_many_comments_the_features_are_learnt_from_those_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocabulary is theirs; the weights are learnt from all."""
    comments = read_comments(local_files(SAMPLE[:2]))
    texts, labels = comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy()
    chosen = np.arange(len(texts)) % 2 == 0
    monkeypatch.setattr(fitting, "MANY", 100)
    model = fitting.fit(features(), LogisticRegression(C=10), texts, labels, chosen)
    assert (
        model["features"].get_params()["words"].vocabulary_
        == features().fit(texts[chosen]).get_params()["words"].vocabulary_
    )
    assert (model.predict(texts) == labels).mean() > 0.95
