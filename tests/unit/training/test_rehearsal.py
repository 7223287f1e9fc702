"""The rehearsal ends a run before the search if its model could never be trained, saved or served."""

from typing import Any

import numpy as np
import pytest
from conftest import SAMPLE
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import LinearSVC

from pmip import steps, text
from pmip.errors import ArtifactError
from pmip.training import rehearsal
from pmip.training.comments import read_comments
from pmip.training.data import local_files

WORDS = TfidfVectorizer(analyzer=text.token_ngrams)
TABLE = ColumnTransformer([("text", TfidfVectorizer(), "CONTENT")])
VOTE = VotingClassifier([("lr", LogisticRegression()), ("nb", MultinomialNB())])


class Quoting(TransformerMixin, BaseEstimator):
    """A step whose error quotes a comment, as the errors of some estimators do."""

    def fit(self, comments: Any, _labels: object = None) -> None:
        raise ValueError(f"could not convert string to float: {comments[0]!r}")


def rehearse(classifier: Any, features: Any = WORDS, search_space: Any = None, share: float | None = None) -> str:
    comments = read_comments(local_files(SAMPLE[:1]))
    pipeline = Pipeline([("features", features), ("classifier", classifier)])
    X, y = comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy()  # noqa: N806
    return rehearsal.rehearse(pipeline, search_space or {}, X, y, share)


def test_the_reason_is_blank_for_a_model_that_is_read_as_data() -> None:
    """A model that is read as data gives no reason; any other model gives the name of what the API cannot read."""
    assert rehearse(LogisticRegression(), FeatureUnion([("comment", steps.CommentFeatures())]), share=0.1) == ""
    assert rehearse(SGDClassifier(loss="log_loss"), search_space=[{"classifier__alpha": [0.1]}, {}]) == ""
    nested = GridSearchCV(LogisticRegression(), {"C": [5, 20]}, cv=2)
    for other in (StackingClassifier(VOTE.estimators), CalibratedClassifierCV(LinearSVC()), MultinomialNB(), nested):
        assert f".{type(other).__name__}" in rehearse(other)
    assert rehearse(RandomForestClassifier(2), share=0.1) == (
        "the model contains sklearn.ensemble._forest.RandomForestClassifier"
    )


@pytest.mark.parametrize(
    ("classifier", "features", "space", "sentence"),
    [
        (LinearSVC(), WORDS, {}, r"LinearSVC has no predict_proba .*; use CalibratedClassifierCV\(LinearSVC\(\)\)"),
        (SGDClassifier(), WORDS, {}, 'SGDClassifier has no predict_proba .*; set loss="log_loss"'),
        (VOTE, WORDS, {}, 'VotingClassifier has no predict_proba .*; set voting="soft"'),
        (LogisticRegression(), TABLE, {}, "ColumnTransformer needs a table .* gets only the texts"),
        (LogisticRegression(), TfidfVectorizer(analyzer=lambda text: [text]), {}, "pickled .* pmip/steps.py"),
        (ComplementNB(), HashingVectorizer(), {}, "ComplementNB does not accept features below 0; set alternate_sign"),
        (HistGradientBoostingClassifier(), WORDS, {}, r"does not accept sparse features; put TruncatedSVD\(100\)"),
        (LogisticRegression(C=-1), WORDS, {}, r"cannot be fitted to the features \(InvalidParameterError in utils/"),
        (LogisticRegression(), TfidfVectorizer(min_df=9999), {}, "lower min_df, or use analyzer='char' if the texts"),
        (LogisticRegression(), TfidfVectorizer(ngram_range=(2, 1)), {}, r"cannot be fitted .*\(ValueError in feature"),
        (LogisticRegression(), WORDS, {"clf__C": [1]}, "names clf__C, .* the classifier has classifier__C, .*get_pa"),
        (LogisticRegression(), WORDS, {"classifier__C": loguniform(1, 9)}, "distribution for classifier__C.*Randomize"),
        (LogisticRegression(), WORDS, {"classifier__C": 1}, "search_space cannot be used: "),
    ],
)
def test_what_cannot_become_a_version_ends_the_run(classifier: Any, features: Any, space: Any, sentence: str) -> None:
    """A model that cannot become a version is refused with its cause and, where one is known, its remedy."""
    with pytest.raises(ArtifactError, match=sentence):
        rehearse(classifier, features, space)


def test_no_comment_is_told_by_the_text_of_an_error() -> None:
    """The error of a step is reported by its type and place, because its text may quote a comment."""
    with pytest.raises(ArtifactError) as failure:
        rehearse(LogisticRegression(), Quoting())
    assert "ValueError in training/test_rehearsal.py, line" in str(failure.value)
    assert "convert" not in str(failure.value)
    assert failure.value.__suppress_context__


def test_a_share_of_spam_needs_weights() -> None:
    """A classifier that supports no sample weights is refused by name when SPAM_SHARE is set."""
    with pytest.raises(ArtifactError, match=r"SPAM_SHARE needs .* KNeighborsClassifier does not support"):
        rehearse(KNeighborsClassifier(), share=0.1)


def test_a_pipeline_of_other_steps_is_refused() -> None:
    """A pipeline is refused if its two steps are not named 'features' and 'classifier'."""
    with pytest.raises(ArtifactError, match="the two steps 'features' and 'classifier'"):
        rehearsal.rehearse(Pipeline([("words", WORDS), ("classifier", VOTE)]), {}, np.array([]), np.array([]))
