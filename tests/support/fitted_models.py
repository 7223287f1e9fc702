"""Pipelines with random settings, drawn by Hypothesis, and the formats in which people save a model."""

import io
import json
import pickle
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pmip import text
from pmip.errors import NotReadableError
from pmip.model.lookups import Lookup
from pmip.model.reading import read
from pmip.steps import CommentFeatures

SNIPPETS = ["free", "song", "the", " ", "  ", "\n\t", "CHECK", "ch4nn3l", "é", "e\u0301", "İ", "ß", "!!", "\ud800", "."]
SNIPPETS += ["http://x.co/ab", "люблю", "曲", "😍", "Ａ", "㎒", "<br />", "&amp;", "2:19", "a", "b", "\u2028", "\x1f"]
SNIPPET_LISTS = st.lists(st.sampled_from(SNIPPETS), max_size=12)
COMMENTS = SNIPPET_LISTS.map("".join) | SNIPPET_LISTS.map(" ".join) | st.text(st.characters(), max_size=30)
VOCABULARY = ["free", "song", "the song", "fr", " f", "f", "zz", "é", "check"]
DEFAULT_PATTERN = r"(?u)\b\w\w+\b"
ANALYZERS = [
    found
    for name, found in vars(text).items()
    if callable(found) and getattr(found, "__annotations__", {}).get("return") == list[str] and name != "tokens"
]


def joblib_dumps(model: Any, compress: Any = 0) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=compress)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Any], bytes]] = {
    f"joblib {how}": lambda model, how=how: joblib_dumps(model, how)
    for how in (0, 3, "zlib", "gzip", "bz2", "lzma", "xz")
}
WRITERS |= {f"pickle {n}": lambda model, n=n: pickle.dumps(model, n) for n in range(2, 6)}


@st.composite
def vectorizers(draw: st.DrawFn) -> tuple[TfidfVectorizer, bool]:
    """Draw the settings of a vectorizer, also ignored ones, and return it with whether pmip can read it."""
    choices: dict[str, list[Any]] = {
        "analyzer": ["word", "word", "char", "char_wb", *ANALYZERS],
        "preprocessor": [None, None, text.normalised],
        "lowercase": [True, False],
        "strip_accents": [None, "ascii", "unicode"],
        "stop_words": [None, None, None, ["free", "the"], "english"],
        "token_pattern": [DEFAULT_PATTERN] * 5 + [r"\w+| \S"],
        "tokenizer": [None, None, text.token_ngrams],
        "ngram_range": [(1, 1), (1, 2), (2, 5), (1, 3), (3, 3), (4, 10), (4, 11)],
        "binary": [False, True],
        "sublinear_tf": [False, True],
        "norm": ["l2", "l1", None],
        "use_idf": [True, False],
        "min_df": [1, 2],
        "vocabulary": [None, None, VOCABULARY, set(VOCABULARY)],
    }
    chosen = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
    # Without smoothing, a term of a given vocabulary that is in no comment would have an infinite weight.
    vectorizer = TfidfVectorizer(**chosen, smooth_idf=bool(chosen["vocabulary"]) or draw(st.booleans()))
    odd_words = chosen["stop_words"] == "english" or not (
        chosen["tokenizer"] or chosen["token_pattern"] == DEFAULT_PATTERN
    )
    is_odd = chosen["ngram_range"][1] > 10 or (chosen["analyzer"] == "word" and odd_words)
    return vectorizer, callable(chosen["analyzer"]) or not is_odd


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Pipeline, bool]:
    """Draw a pipeline of one vectorizer or a weighted union, and return it with whether pmip can read it."""
    features, readable = draw(vectorizers())
    if draw(st.booleans()):
        more, more_readable = draw(vectorizers())
        named = {
            "first": features,
            "inner": FeatureUnion(
                [("more", more)], transformer_weights={"more": draw(st.sampled_from([0.5, np.float64(2)]))}
            ),
            "comment": CommentFeatures(weight=draw(st.sampled_from([-0.3, 0, 2.0]))),
            "no": "drop",
        }
        names = draw(st.permutations([*named]))
        features = FeatureUnion([(name, named[name]) for name in names], transformer_weights={"first": 3.0, "inner": 2})
        readable = readable and more_readable
    sgd = SGDClassifier(
        loss="log_loss",
        alpha=0.01,
        max_iter=5,
        tol=None,
        average=draw(st.booleans()),
        random_state=np.random.RandomState(0),
    )
    logistic = LogisticRegression(tol=0.1, C=30.0, fit_intercept=draw(st.booleans()), class_weight={0: 1.0, 1: 2.0})
    return Pipeline([("features", features), ("classifier", draw(st.sampled_from([logistic, sgd])))]), readable


def check(model: Pipeline, readable: bool, write: Callable[[Any], bytes], corpus: list[str], others: list[str]) -> None:
    """Fit and save a pipeline; compare its answers with those of the model that pmip reads, or expect a refusal."""
    try:
        model.fit(corpus, [0, 1, 0, 1, 1, 0])
    except ValueError as error:
        assume("vocabulary" not in str(error) and "no terms remain" not in str(error).lower())
        raise
    content, asked = write(model), corpus + others
    if not readable:
        with pytest.raises(NotReadableError, match=r"'s (stop_words|token_pattern|ngram_range)"):
            read(content)
        return
    plain = read(content)
    assert json.loads(json.dumps(plain)) == plain
    lookup = Lookup.from_plain(plain)
    expected, log_odds = model.predict_proba(asked)[:, 1].tolist(), model.decision_function(asked).tolist()
    assert [lookup.spam_probability(comment) for comment in asked] == pytest.approx(expected, rel=0, abs=1e-12)
    assert [lookup.log_odds(comment) for comment in asked] == pytest.approx(log_odds, rel=1e-12, abs=1e-9)
