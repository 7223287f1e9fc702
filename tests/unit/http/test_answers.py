"""The types of answers: the JSON of each type, and how a new type is declared."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmip.http.answers import ANSWER_TYPES, answer
from pmip.http.swagger import prediction_model
from pmip.model.artifact import GOLDEN_COMMENTS, Artifact
from pmip.model.scorer import Scorer
from pmip.model.verification import load

A_NEW_TYPE = """
from pathlib import Path

from pmip.config import Limits
from pmip.errors import TooLargeError
from pmip.http import answers
from pmip.http.requests import comments_of, question_in
from werkzeug.datastructures import MultiDict

answers.ANSWER_TYPES["in_percent"] = answers.AnswerType(
    "in percent",
    {"percent": 92},
    lambda scorer, comments, top: (({"percent": round(100 * p)}, p) for p in scorer.spam(comments)),
    is_explanation=True,
)
from pmip.model.artifact import Artifact
from pmip.model.verification import load
from pmip.routes import create_app

class Reloader:
    scorer = load(Artifact.read(Path("model.pkl")), "20260101T000000Z", "staging")

client = create_app(Reloader(), Limits(max_explained_chars=10)).test_client()
asked = {"path": "/predict?type=in_percent", "json": {"comments": ["free", "song"]}}
[probability, _] = client.post(**asked | {"path": "/predict?type=probability"}).json["result"]
[row, _] = client.post(**asked).json["result"]
assert row == {"percent": round(100 * probability["probability"][1])}
assert "MAX_EXPLAINED_CHARS" in client.post(**asked | {"json": {"comments": ["free songs, all"]}}).json["message"]
post = client.get("/swagger.json").json["paths"]["/predict"]["post"]
assert "in_percent" in next(item for item in post["parameters"] if item["name"] == "type")["enum"]
assert "- `in_percent`, in percent" in post["description"]
assert ", ".join(answers.ANSWER_TYPES) in client.post("/predict?type=x", json={}).json["message"]
"""


@pytest.fixture(scope="module")
def scorer(artifact: Artifact) -> Scorer:
    return load(artifact, "20260202", "prod")


@pytest.mark.parametrize("name", ANSWER_TYPES)
def test_the_document_has_each_key_of_an_answer(name: str) -> None:
    """The document declares each key of each type of answer, so that generated clients know it."""
    assert ANSWER_TYPES[name].example.keys() <= prediction_model.keys()


@given(st.lists(st.sampled_from(GOLDEN_COMMENTS) | st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_each_type_of_answer_has_its_form(scorer: Scorer, comments: list[str]) -> None:
    """The body of each type of answer is the scorer's result, and the probabilities of spam come with it."""
    expected = {
        "class": [{"class": label} for label in scorer.classes(comments)],
        "probability": [{"probability": pair} for pair in scorer.probabilities(comments)],
        "explanation": scorer.explanations(comments, 2),
    }
    for kind, rows in expected.items():
        body, spam = answer(kind, scorer, comments, 2)
        assert (json.loads(body), spam) == ({"result": rows}, scorer.spam(comments))


def test_an_answer_reads_as_in_the_documentation(scorer: Scorer) -> None:
    """The body is one line of JSON, with a space after each colon and comma, as the documentation shows it."""
    body, _ = answer("class", scorer, ["Check it out this free stuff", "I take issue with your characterization"], 0)
    assert body == b'{"result": [{"class": 1}, {"class": 0}]}\n'


def test_a_new_type_is_declared_in_one_place(artifact: Artifact, tmp_path: Path) -> None:
    """A type that is added to ANSWER_TYPES alone is served, limited, documented and named in error messages."""
    artifact.write(tmp_path)
    subprocess.run([sys.executable, "-c", A_NEW_TYPE], cwd=tmp_path, check=True, timeout=120)
