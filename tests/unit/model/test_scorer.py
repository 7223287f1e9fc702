"""A scorer answers as the pipeline does, in plain numbers."""

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
    """Each comment gets two probabilities with the sum 1, and the class that is more probable."""
    rows = scorer.probabilities(comments)
    assert [sum(row) for row in rows] == [pytest.approx(1)] * len(comments)
    assert scorer.classes(comments) == [int(spam > not_spam) for not_spam, spam in rows]


def test_it_tells_when_it_was_loaded(scorer: Scorer) -> None:
    """A scorer gives the time at which it was loaded as ISO 8601 in UTC."""
    loaded_at = datetime.fromisoformat(scorer.loaded_at)
    assert loaded_at.utcoffset() == timedelta(0)
    assert timedelta(0) <= datetime.now(UTC) - loaded_at < timedelta(minutes=10)


@pytest.mark.parametrize("top", [0, 3, 10_000])
def test_an_explanation_lists_the_largest_and_sums_up_the_others(scorer: Scorer, top: int) -> None:
    """A short explanation lists the largest contributions and gives the sum of all others as the remainder."""
    for whole, short in zip(scorer.explanations(COMMENTS), scorer.explanations(COMMENTS, top), strict=True):
        assert short["contributions"] == whole["contributions"][:top]
        assert whole["remainder"] == 0
        rest = sum(item["contribution"] for item in whole["contributions"][top:])
        assert short | {"contributions": [], "remainder": 0} == whole | {"contributions": []}
        assert short["remainder"] == pytest.approx(rest)


def test_a_model_that_is_not_linear_answers_by_itself() -> None:
    """A trusted model of another class scores comments itself, and an explanation is refused with the reason."""
    comments, labels = ["free stuff", "nice song"] * 4, [1, 0] * 4
    bayes = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(comments, labels)
    scorer = load(pack(bayes, Metadata("20260101T000000Z")), "20260101T000000Z", "staging", trust_pickles=True)
    assert scorer.description["scorer"] == "estimator"
    assert scorer.classes(comments) == labels
    with pytest.raises(NotExplainableError, match=r"explained: the model contains sklearn\.naive_bayes\."):
        scorer.explanations(comments)
