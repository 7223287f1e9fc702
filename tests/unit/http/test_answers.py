"""The JSON of each type of answer is what `json` would write of the scorer's answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmip.http.answers import answer
from pmip.model.artifact import GOLDEN_COMMENTS, Artifact
from pmip.model.scorer import Scorer
from pmip.model.verification import load


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Scorer:
    """Load the small pipeline."""
    return load(artifact, "20260202", "prod")


@given(st.lists(st.sampled_from(GOLDEN_COMMENTS) | st.text(), max_size=4))
def test_each_type_has_its_form(scorer: Scorer, comments: list[str]) -> None:
    """Classes, probabilities and explanations, one a comment, and beside them the probabilities of spam."""
    expected = {
        "class": [{"class": label} for label in scorer.classes(comments)],
        "probability": [{"probability": pair} for pair in scorer.probabilities(comments)],
        "explanation": scorer.explanations(comments),
    }
    for kind, rows in expected.items():
        text, spam = answer(scorer, kind, comments)
        assert json.loads(text) == {"result": rows}
        assert spam == [pair[1] for pair in scorer.probabilities(comments)]
