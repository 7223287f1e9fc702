"""A stated share of spam changes the probabilities of every classifier that supports it."""

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from pmip.training import spam_share
from pmip.training.augmentation import Augmented

TEXTS = np.array([f"{word} {number}" for number in range(60) for word in ("song", "free", "nice", "song free")])
LABELS = np.tile([0, 1, 0, 1], 60)


def fitted(classifier: Any, share: float | None) -> Any:
    return Augmented([("features", CountVectorizer()), ("classifier", classifier)], share=share).fit(TEXTS, LABELS)


def log_odds(model: Any) -> np.ndarray[Any, Any]:
    probability = model.predict_proba(TEXTS)[:, 1]
    return np.asarray(np.log(probability / (1 - probability)))


@pytest.mark.parametrize(
    ("classifier", "trained"),
    [
        (LogisticRegression(), 0.5),
        (LogisticRegression(class_weight={0: 1, 1: 3}), 0.75),
        (SGDClassifier(loss="log_loss", class_weight="balanced", random_state=0), 0.5),
    ],
)
def test_log_odds_are_shifted_by_the_difference_of_the_shares(classifier: Any, trained: float) -> None:
    """A linear classifier's log-odds all shift by the difference between the stated share and the trained one."""
    expected = np.log(0.15 / 0.85) - np.log(trained / (1 - trained))
    assert log_odds(fitted(classifier, 0.15)) - log_odds(fitted(classifier, None)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "classifier", [MultinomialNB(), CalibratedClassifierCV(LinearSVC()), RandomForestClassifier(10, random_state=0)]
)
def test_other_classifiers_are_fitted_with_class_weights(classifier: Any) -> None:
    """Any other classifier gives smaller probabilities of spam when the stated share is smaller."""
    few, as_is = (fitted(classifier, share).predict_proba(TEXTS)[:, 1].mean() for share in (0.1, None))
    assert few < as_is


@pytest.mark.parametrize(
    ("classifier", "name"),
    [
        (LogisticRegression(), "sample_weight"),
        (GridSearchCV(LogisticRegression(), {}), "sample_weight"),
        (make_pipeline(MultinomialNB()), "multinomialnb__sample_weight"),
        (KNeighborsClassifier(), ""),
    ],
)
def test_weights_go_to_the_classifiers_that_support_them(classifier: Any, name: str) -> None:
    """A classifier without sample weights can be fitted, but does not support a stated share of spam."""
    assert spam_share.weight_parameter(classifier) == name
    assert spam_share.is_supported(classifier) == bool(name)
    assert fitted(classifier, None).predict_proba(TEXTS).shape == (240, 2)


def test_weighted_comments_have_the_share() -> None:
    """Comments are weighted to the stated share with a mean of 1; comments of one class all keep the weight 1."""
    weights = spam_share.comment_weights(np.array([0, 0, 1, 1]), 0.1)
    assert weights == pytest.approx([1.8, 1.8, 0.2, 0.2])
    assert spam_share.comment_weights(np.array([1, 1]), 0.1).tolist() == [1, 1]
    assert spam_share.shifted(np.array([0.5, 0.9]), 0.5, 0.1) == pytest.approx([0.1, 0.5])
