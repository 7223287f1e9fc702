"""Training adds altered copies of each comment, but the published model is a plain scikit-learn Pipeline."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SAMPLE
from hypothesis import given
from hypothesis import strategies as st
from joblib import Memory
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline

from pmip.model.artifact import dumps
from pmip.model.lookups import Lookup
from pmip.model.reading import read
from pmip.training import augmentation
from pmip.training.augmentation import Augmented, copies_of, with_copies
from pmip.training.comments import read_comments
from pmip.training.data import local_files

COMMENTS = ["Check out my channel", "I love this song", "free gifts at www.shop.com/gifts please visit"]


def pipeline(classifier: Any) -> Pipeline:
    return Pipeline([("features", TfidfVectorizer()), ("classifier", classifier)])


def sample() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    comments = read_comments(local_files(SAMPLE[:1]))
    return comments["CONTENT"].to_numpy(), comments["CLASS"].to_numpy()


def test_copies_stand_behind_the_comments_and_count_less() -> None:
    """Each comment gets two copies, which have its label and half of its weight."""
    texts, labels, weights = with_copies(COMMENTS, [1, 0, 1], 0.5)
    assert texts[:3] == COMMENTS
    assert texts[3:] == [copy for comment in COMMENTS for copy in copies_of(comment)]
    assert labels.tolist() == [1, 0, 1, 1, 1, 0, 0, 1, 1]
    assert weights.tolist() == [1.0] * 3 + [0.5] * 6


def test_one_copy_is_glued_and_one_is_misspelt() -> None:
    """One copy has no spaces, the other is misspelt, and both are the same when they are made again."""
    glued, misspelt = copies_of(COMMENTS[0])
    assert glued == "Checkoutmychannel"
    assert misspelt != COMMENTS[0]
    assert len(misspelt.split()) == 4
    copies_of.cache_clear()
    assert copies_of(COMMENTS[0]) == (glued, misspelt)


def test_of_many_comments_a_part_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many comments, a sample from all of them is copied, and a second call copies the same sample."""
    monkeypatch.setattr(augmentation, "COPIED_AT_MOST", 10)
    comments = [f"comment number {number}" for number in range(100)]
    texts, labels, weights = with_copies(comments, list(range(100)), 0.5)
    assert len(texts) == len(labels) == len(weights) == 120
    assert len(set(labels[100:])) == 10
    assert max(labels[100:]) > 50
    assert texts == with_copies(comments, list(range(100)), 0.5)[0]


@given(st.text(st.characters()))
def test_any_text_can_be_copied(comment: str) -> None:
    """Any text can be copied, and no copy is more than twice as long as the text."""
    assert all(len(copy) <= 2 * len(comment) for copy in copies_of(comment))


@pytest.mark.parametrize(
    "link", ["www.shop.com/gifts", "http://a.b/gifts", '<a href="http://c.d">', "mail@gifts.de</a>"]
)
def test_links_stay_whole(link: str) -> None:
    """A copy keeps each link and mail address of its comment unchanged, wherever it stands in the text."""
    comment = 'look<br />www.shop.com/gifts (see>http://a.b/gifts) <a href="http://c.d">mail@gifts.de</a> gifts gifts'
    for number in range(20):
        assert all(link in copy for copy in copies_of(f"{comment} {number}"))


def test_its_parameters_are_those_of_a_pipeline() -> None:
    """A search sets the steps' parameters by their usual names, and clones keep `copy_weight` and `share`."""
    model = Augmented(pipeline(LogisticRegression()).steps, copy_weight=0.1, share=0.2)
    other = clone(model).set_params(classifier__C=7)
    assert (other.get_params()["classifier__C"], other.copy_weight, other.share) == (7, 0.1, 0.2)
    assert model.get_params()["classifier__C"] == 1.0


def test_the_plain_pipeline_was_fitted_to_comments_and_copies() -> None:
    """The published pipeline equals a pipeline that was fitted to the comments and their copies by hand."""
    comments, y = sample()
    model = Augmented(pipeline(LogisticRegression()).steps).fit(comments, y)
    texts, labels, weights = with_copies(comments, y, 0.5)
    expected = pipeline(LogisticRegression()).fit(texts, labels, classifier__sample_weight=weights)
    assert type(model.plain()) is Pipeline
    assert np.array_equal(model.plain().predict_proba(comments), expected.predict_proba(comments))


def test_a_search_with_memory_has_the_same_scores(tmp_path: Path) -> None:
    """A search with `memory` has the same scores, but fits the features once a fold instead of once a candidate."""
    comments, y = sample()
    search = GridSearchCV(Augmented(pipeline(LogisticRegression()).steps), {"classifier__C": [0.1, 1.0, 10.0]}, cv=2)
    expected = search.fit(comments, y).cv_results_["mean_test_score"]
    search.set_params(estimator__memory=Memory(tmp_path, verbose=0)).fit(comments, y)
    assert np.array_equal(search.cv_results_["mean_test_score"], expected)
    assert len([*tmp_path.rglob("output.pkl")]) == 3  # two folds, and all comments


def test_no_model_learns_from_the_copy_of_a_comment_that_it_is_asked_about() -> None:
    """In cross-validation, no copy of a test comment is in the training set, so no model can remember its label."""
    generator = np.random.default_rng(0)
    comments = np.array([f"word{number}" for number in range(60)])
    y = generator.integers(2, size=60)
    probability = cross_val_predict(Augmented(pipeline(MultinomialNB()).steps), comments, y, method="predict_proba")
    assert len(np.unique(probability[:, 1].round(9))) <= 5  # one for each fold: its prior, because all words are new


def test_english_stop_words_are_read_as_data() -> None:
    """A model with English stop words is read as data and gives the same probabilities as scikit-learn."""
    comments, y = sample()
    words = Pipeline([("features", TfidfVectorizer(stop_words="english")), ("classifier", LogisticRegression())])
    fitted = Augmented(words.steps).fit(comments, y).plain()
    lookup = Lookup.from_plain(read(dumps(fitted)))
    assert [lookup.spam_probability(text) for text in comments] == pytest.approx(fitted.predict_proba(comments)[:, 1])
