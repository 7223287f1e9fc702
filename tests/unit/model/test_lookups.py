"""Look-ups give the pipeline's own probabilities (test_reading.py has more models) and explain them."""

import json
import math
import tracemalloc
from random import Random
from typing import Any

import pytest
from conftest import SAMPLE
from fitted_models import COMMENTS
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.errors import ArtifactError
from pmip.model.artifact import GOLDEN_COMMENTS, dumps
from pmip.model.lookups import Lookup
from pmip.model.reading import read
from pmip.steps import CommentFeatures
from pmip.training.comments import read_comments
from pmip.training.data import local_files


@pytest.fixture(scope="module")
def model() -> Pipeline:
    """Fit a pipeline such as the notebook's on the bundled sample."""
    words = TfidfVectorizer(analyzer=text.token_ngrams, sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), preprocessor=text.normalised, sublinear_tf=True, min_df=2
    )
    features = FeatureUnion([("words", words), ("characters", characters), ("comment", CommentFeatures())])
    comments = read_comments(local_files(SAMPLE))
    pipeline = Pipeline([("features", features), ("classifier", LogisticRegression(C=100, solver="liblinear"))])
    return pipeline.fit(comments["CONTENT"], comments["CLASS"])


@pytest.fixture(scope="module")
def lookup(model: Pipeline) -> Lookup:
    return Lookup.from_plain(json.loads(json.dumps(read(dumps(model)))))


@pytest.mark.parametrize("repeated", ["free ", "ab", "check out my channel ", "a1 b2 c3 ", "!", "😍"])
def test_long_comments_lose_no_digits(model: Pipeline, lookup: Lookup, repeated: str) -> None:
    """A comment of 10,000 characters gets the pipeline's probability to within 1e-12."""
    comment = repeated * (10_000 // len(repeated))
    assert lookup.spam_probability(comment) == pytest.approx(model.predict_proba([comment])[0, 1], rel=0, abs=1e-12)


@given(COMMENTS)
def test_a_comment_seen_before_scores_the_same(lookup: Lookup, comment: str) -> None:
    """A comment that is scored again, with its words in the cache, gets exactly the same probability."""
    assert lookup.spam_probability(comment) == lookup.spam_probability(comment)


@given(COMMENTS | st.sampled_from(GOLDEN_COMMENTS))
def test_an_explanation_adds_up(lookup: Lookup, comment: str) -> None:
    """An explanation sums up to the log-odds, with the largest contributions first and none that is zero."""
    intercept, contributions = lookup.explain(comment)
    sizes = [abs(contribution) for _, contribution in contributions]
    assert intercept + math.fsum(value for _, value in contributions) == pytest.approx(
        lookup.log_odds(comment), abs=1e-9
    )
    assert sizes == sorted(sizes, reverse=True)
    assert all(sizes)


def test_an_explanation_is_readable(lookup: Lookup) -> None:
    """An explanation shows words and pairs as they are, character n-grams in quotes, and comment features by name."""
    names = {name for name, _ in lookup.explain("Check out my ch4nn3l http://a.com")[1]}
    assert {"chnl", "chck ot", '"chan"', '" ch"', "has address", "log length"} <= names


@pytest.mark.parametrize(
    ("log_odds", "probability"), [(1000.0, 1.0), (-1000.0, 0.0), (0.0, 0.5), (-50.0, math.exp(-50))]
)
def test_extreme_odds_give_probabilities(log_odds: float, probability: float) -> None:
    """Extreme log-odds give probabilities without an overflow, and small ones keep their digits."""
    assert Lookup.from_plain({"intercept": log_odds, "parts": []}).spam_probability("") == pytest.approx(probability)


def test_what_it_remembers_is_bounded(model: Pipeline) -> None:
    """The cache of words keeps within its memory limit, however many or long the words are."""
    plain = read(dumps(model))
    lookup = Lookup.from_plain(plain | {"parts": [part for part in plain["parts"] if part["analyzer"] == "char_wb"]})
    random = Random(0)
    words = ["".join(random.choices("aeionrst", k=20)) for _ in range(11_000)]
    tracemalloc.start()
    try:
        for word in words[:9_000]:
            lookup.log_odds(word)
        full, _ = tracemalloc.get_traced_memory()
        for comment in [*words[9_000:], *("".join(words[i : i + 50]) for i in range(200))]:
            lookup.log_odds(comment)
        later, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert full < 12e6
    assert later - full < 3e5


@pytest.mark.parametrize("plain", [None, [], {}, {"intercept": 0.0, "parts": [{}]}, {"intercept": 0.0, "parts": [1]}])
def test_something_else_is_refused(plain: Any) -> None:
    """Data of another form raise an ArtifactError that says that they cannot be read."""
    with pytest.raises(ArtifactError, match="cannot be read"):
        Lookup.from_plain(plain)
