"""Augmentation: copies are the same every time, links stay whole, and the pipeline inside is a plain one."""

from multiprocessing import current_process
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLE
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from pmip.training import augmentation
from pmip.training.augmentation import Augmented, copies_of, weight_parameter, with_copies
from pmip.training.comments import read_comments
from pmip.training.data import local_files

COMMENTS = ["Check out my channel", "I love this song", "free gifts at www.shop.com/gifts please visit"]


def pipeline(classifier: Any) -> Pipeline:
    return Pipeline([("features", TfidfVectorizer()), ("classifier", classifier)])


def sample() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    comments = read_comments(local_files(SAMPLE[:1]))
    return comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy()


def test_copies_stand_behind_the_comments_and_count_less() -> None:
    """Each comment has two copies with its label and half its weight."""
    texts, labels, weights = with_copies(COMMENTS, [1, 0, 1], 0.5)
    assert texts[:3] == COMMENTS
    assert texts[3:] == [copy for comment in COMMENTS for copy in copies_of(comment)]
    assert labels.tolist() == [1, 0, 1, 1, 1, 0, 0, 1, 1]
    assert weights.tolist() == [1.0] * 3 + [0.5] * 6


def test_one_copy_is_glued_and_one_is_misspelt() -> None:
    """The first has no space between words, the second as many words as the comment, and they are the same again."""
    glued, misspelt = copies_of(COMMENTS[0])
    assert glued == "Checkoutmychannel"
    assert misspelt != COMMENTS[0]
    assert len(misspelt.split()) == 4
    copies_of.cache_clear()
    assert copies_of(COMMENTS[0]) == (glued, misspelt)


def test_of_many_comments_a_part_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part is drawn from all of them, and the same in every run."""
    monkeypatch.setattr(augmentation, "COPIED_AT_MOST", 10)
    comments = [f"comment number {number}" for number in range(100)]
    texts, labels, weights = with_copies(comments, list(range(100)), 0.5)
    assert len(texts) == len(labels) == len(weights) == 120
    assert len(set(labels[100:])) == 10
    assert max(labels[100:]) > 50
    assert texts == with_copies(comments, list(range(100)), 0.5)[0]


@given(st.text(st.characters()))
def test_any_text_can_be_copied(comment: str) -> None:
    """Whatever the comment, there are copies, no longer than about the comment."""
    assert all(len(copy) <= 2 * len(comment) for copy in copies_of(comment))


@pytest.mark.parametrize(
    "link", ["www.shop.com/gifts", "http://a.b/gifts", '<a href="http://c.d">', "mail@gifts.de</a>"]
)
def test_links_stay_whole(link: str) -> None:
    """A copy's link leads where the comment's does, however it stands in the text."""
    comment = 'look<br />www.shop.com/gifts (see>http://a.b/gifts) <a href="http://c.d">mail@gifts.de</a> gifts gifts'
    for number in range(20):
        assert all(link in copy for copy in copies_of(f"{comment} {number}"))


def test_its_parameters_are_those_of_the_pipeline() -> None:
    """A search names them as the pipeline does; a clone holds another pipeline of the same settings."""
    model = Augmented(pipeline(LogisticRegression()))
    other = clone(model).set_params(classifier__C=7, features__min_df=2, weight=0.1)
    assert (other.get_params()["classifier__C"], other.weight) == (7, 0.1)
    assert other.pipeline["features"].min_df == 2
    assert model.get_params()["classifier__C"] == 1.0
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        other.set_params(classifier__nothing=1)


def test_the_pipeline_inside_is_fitted_to_the_copies_too() -> None:
    """It is a plain pipeline, equal to one that was fitted to comments and copies by hand."""
    comments, y = sample()
    model = Augmented(pipeline(LogisticRegression())).fit(comments, y)
    texts, labels, weights = with_copies(comments, y, 0.5)
    expected = pipeline(LogisticRegression()).fit(texts, labels, classifier__sample_weight=weights)
    assert type(model.pipeline_) is Pipeline
    assert np.array_equal(model.predict_proba(comments), expected.predict_proba(comments))
    assert model.predict(comments).tolist() == expected.predict(comments).tolist()


def test_a_worker_fits_the_features_of_a_search_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same results as without: the next candidate of a fold's classifier finds them fitted."""
    comments, y = sample()
    search = GridSearchCV(Augmented(pipeline(LogisticRegression())), {"classifier__C": [0.1, 1.0, 10.0]}, cv=2)
    expected = search.fit(comments, y).cv_results_["mean_test_score"]
    assert len(augmentation._fitted) == 0
    monkeypatch.setattr(current_process(), "name", "LokyProcess-1")
    assert np.array_equal(search.fit(comments, y).cv_results_["mean_test_score"], expected)
    assert len(augmentation._fitted) == 3  # two folds, and all comments
    search.set_params(estimator__features__min_df=2).fit(comments[:-1], y[:-1])
    assert len(augmentation._fitted) == augmentation.MOST_FITTED
    augmentation._fitted.clear()
    Augmented(
        Pipeline(
            [("features", TfidfVectorizer(analyzer=lambda comment: comment.split())), ("classifier", MultinomialNB())]
        )
    ).fit(comments, y)
    assert len(augmentation._fitted) == 0  # what cannot be pickled has no name to be found by


def test_no_model_learns_from_the_copy_of_a_comment_that_it_is_asked_about() -> None:
    """In cross-validation a fold's copies are of its training set alone: labels cannot be remembered."""
    generator = np.random.default_rng(0)
    comments = np.array([f"word{number}" for number in range(60)])
    y = generator.integers(2, size=60)
    probability = cross_val_predict(Augmented(pipeline(MultinomialNB())), comments, y, method="predict_proba")
    assert len(np.unique(probability[:, 1].round(9))) <= 5  # one for each fold: nothing is known of any word


@pytest.mark.parametrize(
    ("classifier", "name"),
    [
        (LogisticRegression(), "classifier__sample_weight"),
        (CalibratedClassifierCV(LinearSVC()), "classifier__sample_weight"),
        (GridSearchCV(LogisticRegression(), {}), "classifier__sample_weight"),
        (make_pipeline(MultinomialNB()), "classifier__multinomialnb__sample_weight"),
        (KNeighborsClassifier(), ""),
        (GridSearchCV(KNeighborsClassifier(), {}), ""),
    ],
)
def test_weights_go_to_the_classifiers_that_take_them(classifier: Any, name: str) -> None:
    """The others learn from copies as from comments."""
    comments, y = sample()
    assert weight_parameter(pipeline(classifier)) == name
    assert Augmented(pipeline(classifier)).fit(comments, y).predict_proba(comments).shape == (len(comments), 2)
