"""Look-ups in the exported model give the pipeline's own probabilities, and say where they come from."""

import json
import math
import pickle
import subprocess
import sys
import tracemalloc
from random import Random
from typing import Any

import pytest
from conftest import ROOT, SAMPLE
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pmip.model.export import export
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.errors import ArtifactError
from pmip.model.artifact import GOLDEN_COMMENTS
from pmip.model.lookups import Lookup
from pmip.steps import CheapFeatures
from pmip.training.comments import read_comments
from pmip.training.data import local_files

SNIPPETS = ["free", "song", "the", " ", "  ", "\n\t", "CHECK", "ch4nn3l", "é", "e\u0301", "İ", "ß", "!!", "\ud800", "."]
SNIPPETS += ["http://x.co/ab", "люблю", "曲", "😍", "Ａ", "㎒", "<br />", "&amp;", "2:19", "a", "b", "\u2028", "\x1f"]
SNIPPET_LISTS = st.lists(st.sampled_from(SNIPPETS), max_size=12)
COMMENTS = SNIPPET_LISTS.map("".join) | SNIPPET_LISTS.map(" ".join) | st.text(st.characters(), max_size=30)
LABELS = [0, 1, 0, 1, 1, 0]
VOCABULARY = ["free", "song", "the song", "fr", " f", "f", "zz", "é", "check"]


@st.composite
def vectorizers(draw: st.DrawFn) -> TfidfVectorizer:
    """Draw the settings of a vectorizer; those that its analyzer ignores too."""
    choices: dict[str, list[Any]] = {
        "analyzer": ["word", "word", "char", "char_wb", text.word_ngrams, text.consonant_ngrams],
        "preprocessor": [None, None, text.normalise],
        "lowercase": [True, False],
        "strip_accents": [None, "ascii", "unicode"],
        "stop_words": [None, "english", ["free", "the"]],
        "token_pattern": [r"(?u)\b\w\w+\b", r"\w+| \S", r"(\w)\w*"],
        "tokenizer": [None, None, text.tokens],
        "ngram_range": [(1, 1), (1, 2), (2, 5), (1, 3), (3, 3), (4, 40)],
        "binary": [False, True],
        "sublinear_tf": [False, True],
        "norm": ["l2", "l1", None],
        "use_idf": [True, False],
        "min_df": [1, 2],
        "vocabulary": [None, None, VOCABULARY],
    }
    chosen = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
    # Without smoothing a given term that never came would weigh infinitely much.
    return TfidfVectorizer(**chosen, smooth_idf=bool(chosen["vocabulary"]) or draw(st.booleans()))


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    """Draw a pipeline of one vectorizer, or of several with weights and cheap features beside them."""
    features = draw(vectorizers())
    if draw(st.booleans()):
        inner = FeatureUnion([("more", draw(vectorizers()))], transformer_weights={"more": 0.5})
        named = {
            "first": features,
            "inner": inner,
            "cheap": CheapFeatures(weight=draw(st.sampled_from([-0.3, 0, 2.0]))),
            "no": "drop",
        }
        names = draw(st.permutations([*named]))
        features = FeatureUnion([(name, named[name]) for name in names], transformer_weights={"first": 3.0, "inner": 2})
    sgd = SGDClassifier(loss="log_loss", alpha=0.01, max_iter=5, tol=None, average=draw(st.booleans()))
    logistic = LogisticRegression(tol=0.1, C=30.0, fit_intercept=draw(st.booleans()))
    return Pipeline([("features", features), ("classifier", draw(st.sampled_from([logistic, sgd])))])


def read_back(model: Pipeline) -> Lookup:
    """Send a model through pickle and its export through JSON, as it goes to a worker."""
    return Lookup.from_plain(json.loads(json.dumps(export(pickle.loads(pickle.dumps(model))))))


@pytest.mark.filterwarnings("ignore:The parameter:UserWarning", "ignore:Your stop_words:UserWarning")
@settings(max_examples=300, deadline=None)
@given(pipelines(), st.lists(COMMENTS, min_size=6, max_size=6), st.lists(COMMENTS, min_size=1, max_size=5))
def test_it_answers_as_the_pipeline_does(model: Pipeline, corpus: list[str], comments: list[str]) -> None:
    """Whatever the settings, the texts it learned from and those it scores, the probabilities are the pipeline's."""
    try:
        model.fit(corpus, LABELS)
    except ValueError as error:
        assume("vocabulary" not in str(error) and "no terms remain" not in str(error).lower())
        raise
    lookup, asked = read_back(model), corpus + comments
    assert [lookup.spam_probability(comment) for comment in asked] == pytest.approx(
        model.predict_proba(asked)[:, 1].tolist(), rel=0, abs=1e-12
    )
    assert [lookup.log_odds(comment) for comment in asked] == pytest.approx(
        model.decision_function(asked).tolist(), rel=1e-12, abs=1e-9
    )


@pytest.fixture(scope="module")
def model() -> Pipeline:
    """Fit a pipeline such as the notebook's on the bundled sample."""
    words = TfidfVectorizer(analyzer=text.word_ngrams, sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), preprocessor=text.normalise, sublinear_tf=True, min_df=2
    )
    features = FeatureUnion([("words", words), ("characters", characters), ("cheap", CheapFeatures())])
    comments = read_comments(local_files(SAMPLE))
    pipeline = Pipeline([("features", features), ("classifier", LogisticRegression(C=100, solver="liblinear"))])
    return pipeline.fit(comments["CONTENT"], comments["CLASS"])


@pytest.fixture(scope="module")
def lookup(model: Pipeline) -> Lookup:
    """Read that pipeline's export."""
    return read_back(model)


@pytest.mark.parametrize("repeated", ["free ", "ab", "check out my channel ", "a1 b2 c3 ", "!", "😍"])
def test_long_comments_lose_no_digits(model: Pipeline, lookup: Lookup, repeated: str) -> None:
    """Thousands of repeats give the pipeline's probability too."""
    comment = repeated * (10_000 // len(repeated))
    assert lookup.spam_probability(comment) == pytest.approx(model.predict_proba([comment])[0, 1], rel=0, abs=1e-12)


@given(COMMENTS)
def test_a_comment_seen_before_scores_the_same(lookup: Lookup, comment: str) -> None:
    """What is remembered of words changes no digit."""
    assert lookup.spam_probability(comment) == lookup.spam_probability(comment)


@given(COMMENTS | st.sampled_from(GOLDEN_COMMENTS))
def test_an_explanation_adds_up(lookup: Lookup, comment: str) -> None:
    """The intercept and the contributions sum to the log-odds; largest first, and nothing that adds nothing."""
    intercept, contributions = lookup.explain(comment)
    sizes = [abs(contribution) for _, contribution in contributions]
    assert intercept + math.fsum(value for _, value in contributions) == pytest.approx(
        lookup.log_odds(comment), abs=1e-9
    )
    assert sizes == sorted(sizes, reverse=True)
    assert all(sizes)


def test_an_explanation_is_readable(lookup: Lookup) -> None:
    """Words and pairs stand as they are, runs of characters in quotes, cheap features by their names."""
    names = {name for name, _ in lookup.explain("Check out my ch4nn3l http://a.com")[1]}
    assert {"channel", "check out", "<url>", '"chan"', '" ch"', "has url", "log length"} <= names


@pytest.mark.parametrize(
    ("log_odds", "probability"), [(1000.0, 1.0), (-1000.0, 0.0), (0.0, 0.5), (-50.0, math.exp(-50))]
)
def test_extreme_odds_give_probabilities(log_odds: float, probability: float) -> None:
    """No log-odds overflows, and small probabilities keep their digits."""
    assert Lookup.from_plain({"intercept": log_odds, "parts": []}).spam_probability("") == pytest.approx(probability)


def test_a_worker_needs_no_numpy(model: Pipeline, lookup: Lookup) -> None:
    """A process that reads the export and scores has imported neither numpy nor scikit-learn."""
    script = """if True:
        import json, sys
        from pmip.model.lookups import Lookup
        print(Lookup.from_plain(json.load(sys.stdin)).spam_probability("Check it out this free stuff"))
        print(*({"numpy", "scipy", "sklearn", "joblib"} & sys.modules.keys()))
    """
    command, plain = [sys.executable, "-c", script], json.dumps(export(model))
    run = subprocess.run(command, input=plain, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == f"{lookup.spam_probability('Check it out this free stuff')}\n\n"


def test_what_it_remembers_is_bounded(model: Pipeline) -> None:
    """Neither ever new words nor very long ones fill the memory."""
    plain = export(model)
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
    """Data that is no export is an error that says so."""
    with pytest.raises(ArtifactError, match="cannot be read"):
        Lookup.from_plain(plain)
