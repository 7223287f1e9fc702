"""Fitting: for many comments in parts, with the same result as at once but for the digits of 32 bit."""

import numpy as np
import pandas as pd
import pytest
from conftest import SAMPLE
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion

from pmip import steps, text
from pmip.model.artifact import dumps
from pmip.model.reading import read
from pmip.training import evaluation, scale
from pmip.training.comments import read_comments
from pmip.training.data import local_files


def features() -> FeatureUnion:
    """Build the kind of features that the notebook uses."""
    words = TfidfVectorizer(analyzer=text.word_ngrams, sublinear_tf=True, min_df=2)
    return FeatureUnion([("words", words), ("cheap", steps.CheapFeatures())])


def lesson() -> pd.DataFrame:
    """Prepare some comments, of which every third counts less."""
    comments = read_comments(local_files(SAMPLE))
    weight = np.where(np.arange(len(comments)) % 3, 1.0, 0.2)
    return comments.assign(weight=weight, group=evaluation.groups(comments["CONTENT"]))


def test_in_parts_and_at_once_give_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features learnt from all comments, counted by several processes in 32 bit; coefficients end in 64 bit."""
    exact = {"C": 10, "tol": 1e-6, "max_iter": 2000}
    at_once = scale.fit(features(), LogisticRegression(**exact), lesson())
    monkeypatch.setattr(scale, "MANY", 100)
    monkeypatch.setattr(scale, "ROWS_A_PART", 100)
    monkeypatch.setattr(evaluation, "sample", lambda groups, _: np.ones(len(groups), dtype=bool))
    in_parts = scale.fit(features(), LogisticRegression(**exact), lesson())
    assert in_parts["classifier"].coef_.dtype == np.float64
    texts = lesson()["CONTENT"]
    assert np.allclose(in_parts.predict_proba(texts), at_once.predict_proba(texts), atol=2e-3)
    assert len(read(dumps(in_parts))["parts"]) == 2


def test_of_many_comments_the_features_are_learnt_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocabulary is theirs, whole groups of near-duplicates chosen by hash; the weights are learnt from all."""
    known = lesson()
    chosen = evaluation.sample(known["group"].to_numpy(), 200)
    monkeypatch.setattr(scale, "MANY", 200)
    model = scale.fit(features(), LogisticRegression(C=10), known)
    of_chosen = features().fit(known["CONTENT"][chosen]).get_params()["words"].vocabulary_
    assert model["features"].get_params()["words"].vocabulary_ == of_chosen
    assert (model.predict(known["CONTENT"]) == known["CLASS"]).mean() > 0.9
