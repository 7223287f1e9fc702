"""A scorer answers as the pipeline does, in plain numbers, under the id by which it is served."""

import math
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from pmip.errors import ArtifactError, NotExplainableError
from pmip.model.artifact import GOLDEN_COMMENTS, Artifact, Metadata, pack
from pmip.model.scorer import Scorer
from pmip.model.verification import load

COMMENTS = [*GOLDEN_COMMENTS, "Check it out this free stuff", "\ud800", "a" * 10_000]


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Scorer:
    """Load the small pipeline."""
    return load(artifact, "20260202", "prod")


def test_it_answers_as_the_pipeline_does(scorer: Scorer, model: Pipeline) -> None:
    """Classes and probabilities are the model's own, in the order of the comments."""
    assert scorer.classes(COMMENTS) == model.predict(COMMENTS).tolist()
    assert scorer.probabilities(COMMENTS) == [pytest.approx(row) for row in model.predict_proba(COMMENTS).tolist()]
    assert set(scorer.classes(COMMENTS)) == {0, 1}


def test_answers_are_plain_numbers(scorer: Scorer) -> None:
    """JSON knows no numpy types."""
    assert {type(answer) for answer in scorer.classes(COMMENTS)} == {int}
    assert {type(value) for row in scorer.probabilities(COMMENTS) for value in row} == {float}


def test_no_comments_get_no_answers(scorer: Scorer) -> None:
    """An empty list is scored without asking the model, which would refuse it."""
    assert scorer.classes([]) == []
    assert scorer.probabilities([]) == []


@given(comments=st.lists(st.text(), max_size=5))
def test_any_texts_get_consistent_answers(scorer: Scorer, comments: list[str]) -> None:
    """Two probabilities of sum 1 for each comment, and spam is what is more probable."""
    rows = scorer.probabilities(comments)
    assert [sum(row) for row in rows] == [pytest.approx(1)] * len(comments)
    assert scorer.classes(comments) == [int(spam > not_spam) for not_spam, spam in rows]


def test_it_is_known_as_it_is_served(scorer: Scorer, artifact: Artifact) -> None:
    """The store's id and environment replace those of the run; the rest of the lineage stays."""
    assert artifact.metadata
    assert scorer.model_id == "20260202"
    assert scorer.metadata == artifact.metadata.known_as("20260202", "prod")
    assert (scorer.verified, scorer.kind) == (True, "compiled")


def test_without_metadata_it_is_not_verified(artifact: Artifact) -> None:
    """A model that was uploaded by hand answers, and its hash tells which file it was."""
    scorer = load(Artifact(artifact.model, None), "20260202", "staging")
    assert scorer.classes(["Check it out this free stuff"]) == [1]
    assert not scorer.verified
    assert (scorer.model_id, scorer.metadata.ENVIRONMENT) == ("20260202", "staging")
    assert scorer.metadata.sha256 == artifact.sha256


def test_it_tells_when_it_was_loaded(scorer: Scorer) -> None:
    """The time is ISO 8601 in UTC."""
    loaded_at = datetime.fromisoformat(scorer.loaded_at)
    assert loaded_at.utcoffset() == timedelta(0)
    assert timedelta(0) <= datetime.now(UTC) - loaded_at < timedelta(minutes=10)


def test_it_never_changes(scorer: Scorer) -> None:
    """Requests hold it while it is being replaced."""
    with pytest.raises(FrozenInstanceError):
        scorer.verified = False  # type: ignore[misc]


def test_a_model_that_must_not_be_served_is_not_loaded(artifact: Artifact) -> None:
    """The checks of the artifact come first."""
    with pytest.raises(ArtifactError, match="SHA-256"):
        load(Artifact(artifact.model + b"!", artifact.metadata), "20260202", "prod")


def test_an_explanation_adds_up_to_the_answer(scorer: Scorer) -> None:
    """The intercept and all contributions sum to the log-odds, the largest come first, and each comment has its own."""
    answers = scorer.explanations(COMMENTS)
    assert [answer["class"] for answer in answers] == scorer.classes(COMMENTS)
    assert [answer["probability"] for answer in answers] == scorer.probabilities(COMMENTS)
    for answer in answers:
        sizes = [abs(item["contribution"]) for item in answer["contributions"]]
        assert sizes == sorted(sizes, reverse=True)
        odds = answer["intercept"] + sum(item["contribution"] for item in answer["contributions"])
        assert 1 / (1 + math.exp(-odds)) == pytest.approx(answer["probability"][1], abs=1e-9)
    named = {item["feature"] for item in answers[COMMENTS.index("Check it out this free stuff")]["contributions"]}
    assert {"chck it", "fr stf", "log length"} <= named


@pytest.mark.parametrize("top", [0, 3, 10_000])
def test_an_explanation_lists_the_largest_and_sums_up_the_others(scorer: Scorer, top: int) -> None:
    """What is listed and the remainder are together what is listed without a bound."""
    for whole, short in zip(scorer.explanations(COMMENTS), scorer.explanations(COMMENTS, top), strict=True):
        assert short["contributions"] == whole["contributions"][:top]
        assert whole["remainder"] == 0
        rest = sum(item["contribution"] for item in whole["contributions"][top:])
        assert short | {"contributions": [], "remainder": 0} == whole | {"contributions": []}
        assert short["remainder"] == pytest.approx(rest)


@given(st.lists(st.sampled_from(GOLDEN_COMMENTS) | st.text(), max_size=4))
def test_each_type_of_answer_has_its_form(scorer: Scorer, comments: list[str]) -> None:
    """Classes, probabilities and explanations, one a comment, and beside them the probabilities of spam."""
    expected = {
        "class": [{"class": label} for label in scorer.classes(comments)],
        "probability": [{"probability": pair} for pair in scorer.probabilities(comments)],
        "explanation": scorer.explanations(comments, 2),
    }
    for kind, rows in expected.items():
        assert scorer.answers(kind, comments, 2) == (rows, scorer.spam(comments))


def test_a_model_that_is_not_linear_answers_by_itself() -> None:
    """Any classifier of texts serves, more slowly, and says why it cannot be explained."""
    comments, labels = ["free stuff", "nice song"] * 4, [1, 0] * 4
    bayes = make_pipeline(TfidfVectorizer(), MultinomialNB()).fit(comments, labels)
    scorer = load(pack(bayes, Metadata("20260101T000000Z")), "20260101T000000Z", "staging", trust_pickles=True)
    assert scorer.kind == "estimator"
    assert scorer.classes(comments) == labels
    with pytest.raises(NotExplainableError, match=r"explained: the model contains sklearn\.naive_bayes\."):
        scorer.explanations(comments)
