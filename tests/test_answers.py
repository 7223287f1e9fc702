"""The JSON of each type of answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmip.answers import answer
from pmip.artifact import Artifact
from pmip.scorer import Scorer, load
from pmip.swagger import EXAMPLE


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Scorer:
    """Load the small pipeline."""
    return load(artifact, "20260101T000000Z", "staging")


@given(comments=st.lists(st.sampled_from(EXAMPLE) | st.text(), max_size=5))
def test_every_type_is_the_scorers_answer(scorer: Scorer, comments: list[str]) -> None:
    """What is put together by hand is the JSON of what the scorer says, and the probabilities are those of spam."""
    rows = {
        "class": [{"class": value} for value in scorer.classes(comments)],
        "probability": [{"probability": value} for value in scorer.probabilities(comments)],
        "explanation": scorer.explanations(comments),
    }
    spam = [pair[1] for pair in scorer.probabilities(comments)]
    for kind, expected in rows.items():
        text, probabilities = answer(scorer, kind, comments)
        assert json.loads(text) == {"result": expected}
        assert text == json.dumps({"result": expected}) + "\n"
        assert probabilities == spam
