"""A scorer answers as the pipeline does, in plain numbers, under the id by which it is served."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from pmip.errors import NotExplainableError
from pmip.model.artifact import GOLDEN_COMMENTS, Artifact, Metadata, pack
from pmip.model.scorer import Scorer
from pmip.model.verification import load

COMMENTS = [*GOLDEN_COMMENTS, "Check it out this free stuff", "\ud800", "a" * 10_000]


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Scorer:
    return load(artifact, "20260202", "prod")


@given(comments=st.lists(st.text(), max_size=5))
def test_any_texts_get_consistent_answers(scorer: Scorer, comments: list[str]) -> None:
    """Two probabilities of sum 1 for each comment, and spam is what is more probable."""
    rows = scorer.probabilities(comments)
    assert [sum(row) for row in rows] == [pytest.approx(1)] * len(comments)
    assert scorer.classes(comments) == [int(spam > not_spam) for not_spam, spam in rows]


def test_it_tells_when_it_was_loaded(scorer: Scorer) -> None:
    """The time is ISO 8601 in UTC."""
    loaded_at = datetime.fromisoformat(scorer.loaded_at)
    assert loaded_at.utcoffset() == timedelta(0)
    assert timedelta(0) <= datetime.now(UTC) - loaded_at < timedelta(minutes=10)


@pytest.mark.parametrize("top", [0, 3, 10_000])
def test_an_explanation_lists_the_largest_and_sums_up_the_others(scorer: Scorer, top: int) -> None:
    """What is listed and the remainder are together what is listed without a bound."""
    for whole, short in zip(scorer.explanations(COMMENTS), scorer.explanations(COMMENTS, top), strict=True):
        assert short["contributions"] == whole["contributions"][:top]
        assert whole["remainder"] == 0
        rest = sum(item["contribution"] for item in whole["contributions"][top:])
        assert short | {"contributions": [], "remainder": 0} == whole | {"contributions": []}
        assert short["remainder"] == pytest.approx(rest)


def test_a_model_that_is_not_linear_answers_by_itself() -> None:
    """Any classifier of texts serves, more slowly, and says why it cannot be explained."""
    comments, labels = ["free stuff", "nice song"] * 4, [1, 0] * 4
    bayes = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(comments, labels)
    scorer = load(pack(bayes, Metadata("20260101T000000Z")), "20260101T000000Z", "staging", trust_pickles=True)
    assert scorer.description["scorer"] == "estimator"
    assert scorer.classes(comments) == labels
    with pytest.raises(NotExplainableError, match=r"explained: the model contains sklearn\.naive_bayes\."):
        scorer.explanations(comments)
